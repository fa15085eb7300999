/* The STM32F405 board: what it has, its time, control and sampling timers, watchdog and cause of reset. */
#include "board.h"

#include "main.h"
#include "messages_gen.h"
#include "registers.h"
#include "sampling.h"
#include "startup.h"
#include "stm32f405.h"

#define WATCHDOG_MS 250u  /* at the nominal 32 kHz; 170 to 470 ms over all parts (DS8626, table 37) */
#define SHORTEST_PERIOD 20u

static struct board_facts facts = {
    .name = "stm32f405",
    .tick_rate = TICK_HZ,
    .capabilities = CAPABILITY_ADC | CAPABILITY_CAPTURE | CAPABILITY_HEATER | CAPABILITY_DAC | CAPABILITY_DIGITAL |
                    (BOARD_QEMU ? CAPABILITY_TEST : CAPABILITY_TRIGGER | CAPABILITY_EEPROM | CAPABILITY_WATCHDOG),
    .adc_channels = 8,
    .capture_channels = 2,
    .dac_channels = 2,
    .digital_outputs = 4,
    .digital_inputs = 4,
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
    return TIM_CNT(2);
}

/* RM0090, 7.3.21. A watchdog's or a program's reset pulls the pin too: the more telling flag first. */
static uint8_t why_reset(void)
{
    uint32_t flags = RCC_CSR;
    bool crashed = startup_record.vector != 0u;
    startup_record.vector = 0;
    RCC_CSR = flags | (1u << 24);
    if ((flags & (3u << 29)) != 0u) {
        return RESET_CAUSE_WATCHDOG;
    }
    if ((flags & (1u << 28)) != 0u) {
        return crashed ? RESET_CAUSE_CRASH : RESET_CAUSE_SOFTWARE;
    }
    if ((flags & ((1u << 25) | (1u << 27))) != 0u) {
        return RESET_CAUSE_POWER;
    }
    return (flags & (1u << 26)) != 0u ? RESET_CAUSE_PIN : RESET_CAUSE_UNKNOWN;
}

static void timer_start(uint32_t timer, uint32_t prescaler, uint32_t reload)
{
    TIM_PSC(timer) = prescaler;
    TIM_ARR(timer) = reload;
    TIM_EGR(timer) = TIM_UPDATE; /* takes the prescaler over */
    TIM_SR(timer) = 0;
    TIM_CR1(timer) = TIM_CR1_CEN;
}

static void watchdog_start(void)
{
    IWDG_KR = 0xCCCCu; /* starts it, and its oscillator */
    IWDG_KR = 0x5555u;
    IWDG_PR = 3u; /* 32 kHz / 32 */
    IWDG_RLR = WATCHDOG_MS;
}

void board_start(void)
{
    (void)startup_count_boot();
    clock_start();
    facts.reset_cause = why_reset();
    pins_start();
    analog_start();
    capture_start();
    timer_start(2, TIMER_PRESCALER, 0xFFFFFFFFu);
    timer_start(4, TIMER_PRESCALER, TICK_HZ / 1000u - 1u);
    TIM_DIER(4) = TIM_UPDATE; /* after the start, which makes an update of its own */
    link_start();
    facts.boot = (clock_entropy() ^ startup_record.boots) * 2654435761u;
    /* A byte waits 11 us at most: the link may interrupt the core, the core's interrupts never each other. */
    cortex_order();
    nvic_enable(IRQ_PVD, PRIORITY_LINK);
    nvic_enable(IRQ_USART1, PRIORITY_LINK);
    nvic_enable(IRQ_TIM2, PRIORITY_EDGES);
    nvic_enable(IRQ_TIM4, PRIORITY_CORE);
    nvic_enable(IRQ_TIM5, PRIORITY_CORE);
#if BOARD_QEMU
    nvic_enable(IRQ_EXTI0, PRIORITY_CORE);
#endif
    watchdog_start();
}

void board_round(void)
{
}

bool board_is_idle(void)
{
    return link_is_idle();
}

void control_interrupt(void)
{
    TIM_SR(4) = 0;
    app_tick_1khz();
}

uint32_t board_sampling(uint32_t period)
{
    uint32_t before = cortex_mask_core();
    TIM_CR1(5) = 0;
    TIM_DIER(5) = 0;
    TIM_SR(5) = 0;
    sampling.period = period < SHORTEST_PERIOD ? 0u : period;
    if (sampling.period != 0u) {
        timer_start(5, TIMER_PRESCALER, period - 1u);
        sampling.instant = board_ticks();
        TIM_DIER(5) = TIM_UPDATE;
    }
    cortex_unmask_core(before);
    return sampling.period;
}

void sampling_interrupt(void)
{
    bool due = (TIM_SR(5) & TIM_UPDATE) != 0u; /* not so for one left pending by a stop */
    TIM_SR(5) = 0;
    if (due && sampling.period != 0u && sampling_due(&sampling, board_ticks())) {
        app_sample(sampling.instant);
    }
}

void board_watchdog_feed(void)
{
    IWDG_KR = 0xAAAAu;
}
