/* The MPS2 board as QEMU makes it: what it has, its time, watchdog, control and sampling timers. */
#include "board.h"

#include "main.h"
#include "messages_gen.h"
#include "mps2.h"
#include "registers.h"
#include "sampling.h"
#include "startup.h"
#include "world.h"

#define WATCHDOG_STAGE (CLOCK_HZ / 4u)  /* barks after 250 ms, resets after 500 ms */
#define WRAP_AFTER (CLOCK_HZ * 10u)     /* the counter wraps 10 s after the start: every longer test sees it */

static struct board_facts facts = {
    .name = "mps2-an386",
    .tick_rate = CLOCK_HZ,
    .capabilities = CAPABILITY_ADC | CAPABILITY_CAPTURE | CAPABILITY_HEATER | CAPABILITY_DAC | CAPABILITY_DIGITAL |
                    CAPABILITY_TRIGGER | CAPABILITY_EEPROM | CAPABILITY_WATCHDOG | CAPABILITY_TEST,
    .adc_channels = WORLD_ADC_CHANNELS,
    .capture_channels = 4,
    .dac_channels = WORLD_DAC_CHANNELS,
    .digital_outputs = 8,
    .digital_inputs = 8,
    .trigger_channels = 1,
    .adc_full_counts = 4095,
    .adc_full_scale = 3300000,
};

static struct sampling sampling;

const struct board_facts *board_facts(void)
{
    return &facts;
}

uint32_t board_ticks(void)
{
    return ~DUAL_VALUE(0);
}

static uint8_t why_reset(bool power_on)
{
    if (power_on) {
        return RESET_CAUSE_POWER;
    }
    if (startup_record.watchdog != 0u) {
        return RESET_CAUSE_WATCHDOG;
    }
    return startup_record.vector != 0u ? RESET_CAUSE_CRASH : RESET_CAUSE_PIN;
}

void board_start(void)
{
    bool power_on = startup_count_boot();
    facts.reset_cause = why_reset(power_on);
    startup_record.watchdog = 0;
    startup_record.vector = 0;
    facts.boot = (WORLD->entropy ^ startup_record.boots) * 2654435761u;

    DUAL_LOAD(0) = WRAP_AFTER;
    DUAL_CTRL(0) = DUAL_CTRL_ENABLE | DUAL_CTRL_32BIT;
    TIMER_RELOAD(0) = CLOCK_HZ / 1000u - 1u;
    TIMER_VALUE(0) = CLOCK_HZ / 1000u - 1u;
    TIMER_CTRL(0) = TIMER_CTRL_ENABLE | TIMER_CTRL_INT;
    WATCHDOG_LOAD = WATCHDOG_STAGE;
    WATCHDOG_CTRL = WATCHDOG_CTRL_INT | WATCHDOG_CTRL_RESET;
    link_start();
    /* The link may interrupt the core, the core's interrupts never each other. */
    nvic_enable(IRQ_UART0_RX, PRIORITY_LINK);
    nvic_enable(IRQ_UART0_TX, PRIORITY_LINK);
    nvic_enable(IRQ_CONTROL, PRIORITY_CORE);
    nvic_enable(IRQ_SAMPLING, PRIORITY_CORE);
    nvic_enable(IRQ_DUAL, PRIORITY_CORE);
    nvic_enable(WORLD_DOORBELL, PRIORITY_CORE);
    WORLD->boots = startup_record.boots;
    WORLD->passes = 0;
    WORLD->magic = WORLD_MAGIC;
}

void board_round(void)
{
    if (WORLD->hang == 1u) {
        WORLD->hang = 0;
        for (;;) {
            __asm volatile("nop");
        }
    }
    if (WORLD->hang == 3u) {
        WORLD->hang = 0;
        __asm volatile("udf #0");
    }
}

bool board_is_idle(void)
{
    return link_is_idle();
}

void control_interrupt(void)
{
    TIMER_INTCLEAR(0) = 1;
    if (WORLD->hang == 2u) {
        WORLD->hang = 0;
        for (;;) {
            __asm volatile("nop");
        }
    }
    WORLD->passes++;
    WORLD->ticks = board_ticks();
    app_tick_1khz();
}

uint32_t board_sampling(uint32_t period)
{
    uint32_t before = cortex_mask_core();
    TIMER_CTRL(1) = 0;
    TIMER_INTCLEAR(1) = 1;
    sampling.period = period;
    if (period != 0u) {
        TIMER_RELOAD(1) = period - 1u;
        TIMER_VALUE(1) = period - 1u;
        TIMER_CTRL(1) = TIMER_CTRL_ENABLE | TIMER_CTRL_INT;
        sampling.instant = board_ticks();
    }
    cortex_unmask_core(before);
    return period;
}

void sampling_interrupt(void)
{
    TIMER_INTCLEAR(1) = 1;
    if (sampling.period != 0u && sampling_due(&sampling, board_ticks())) {
        app_sample(sampling.instant);
    }
}

void board_watchdog_feed(void)
{
    WATCHDOG_INTCLEAR = 1;
}

/* The watchdog barks: nothing is on from here, and its second stage resets. */
void watchdog_interrupt(void)
{
    startup_outputs_off();
    startup_record.watchdog = 1;
    for (;;) {
        __asm volatile("nop");
    }
}
