/* Timer 2: the tick, the edges it captures in hardware (PA0, PA1) and the trigger pulses it makes (PA2). */
#include "board.h"
#include "registers.h"
#include "stm32f405.h"

#define INPUTS 2u
#define PULSE_OUTPUT 3u /* channel of the timer */
#define SOONEST 2u      /* ticks ahead of a pulse: one whole tick is more than it takes to set the compare */

/* CCMR2: what a match does to the output */
enum on_match { ON_MATCH_HIGH = 1, ON_MATCH_LOW = 2, FORCE_LOW = 4 };

static volatile uint32_t overruns;
static uint8_t both; /* inputs captured on both edges: the pin tells which it was */
static uint8_t rising_only;
static uint32_t pulse_at, pulse_width;
static volatile enum { PULSE_NONE, PULSE_WAITING, PULSE_HIGH } pulse;

static void output(enum on_match what)
{
    TIM_CCMR2(2) = (uint32_t)what << 4;
}

void capture_start(void)
{
    TIM_CCMR1(2) = 0x3131u; /* channels 1 and 2 are inputs; an edge must last 8 clocks */
    output(FORCE_LOW);
    TIM_CCER(2) = 0x100u; /* channel 3 drives its pin */
}

static void captured(uint32_t input)
{
    bool high = (GPIO_IDR(PORT_A) & (1u << input)) != 0u;
    uint32_t ticks = TIM_CCR(2, input + 1u); /* clears CCxIF */
    if ((TIM_SR(2) & TIM_OVER(input + 1u)) != 0u) {
        TIM_SR(2) = ~TIM_OVER(input + 1u);
        overruns++;
    }
    uint32_t bit = 1u << input;
    app_capture((uint8_t)input, (both & bit) != 0u ? high : (rising_only & bit) != 0u, ticks);
}

/* What the hardware holds of the inputs that are captured. */
static void captured_all(void)
{
    for (uint32_t input = 0; input < INPUTS; input++) {
        if ((TIM_SR(2) & TIM_DIER(2) & TIM_CHANNEL(input + 1u)) != 0u) {
            captured(input);
        }
    }
}

void board_capture(uint8_t rising, uint8_t falling)
{
    uint32_t before = cortex_mask_core();
    uint32_t enable = 0x100u;
    uint32_t interrupts = 0;
    captured_all(); /* edges that were wanted when they came */
    both = rising & falling;
    rising_only = rising & (uint8_t)~falling;
    for (uint32_t input = 0; input < INPUTS; input++) {
        uint32_t bit = 1u << input;
        if (((uint32_t)(rising | falling) & bit) != 0u) {
            /* CCxE, and CCxP and CCxNP: 00 rising, 01 falling, 11 both (18.4.9) */
            uint32_t polarity = (both & bit) != 0u ? 0xAu : (rising & bit) != 0u ? 0x0u : 0x2u;
            enable |= (1u | polarity) << (4u * input);
            interrupts |= TIM_CHANNEL(input + 1u);
        }
    }
    uint32_t begun = interrupts & ~TIM_DIER(2);
    TIM_CCER(2) = enable;
    TIM_SR(2) = ~(begun | begun << 8); /* flags of long ago */
    TIM_DIER(2) = interrupts | (TIM_DIER(2) & TIM_CHANNEL(PULSE_OUTPUT));
    cortex_unmask_core(before);
}

uint32_t board_capture_overruns(void)
{
    return overruns;
}

bool board_trigger(uint8_t channel, uint32_t at, uint32_t width)
{
    uint32_t before = cortex_lock(); /* the link, too: the match must not come before all is set for it */
    bool good = channel == 0u && pulse == PULSE_NONE && at - board_ticks() - SOONEST < 0x7FFFFFFFu;
    if (good) {
        pulse_at = at;
        pulse_width = width != 0u ? width : 1u;
        pulse = PULSE_WAITING;
        TIM_CCR(2, PULSE_OUTPUT) = at;
        TIM_SR(2) = ~TIM_CHANNEL(PULSE_OUTPUT);
        TIM_DIER(2) |= TIM_CHANNEL(PULSE_OUTPUT);
        output(ON_MATCH_HIGH);
    }
    cortex_unlock(before);
    return good;
}

void trigger_force_low(void)
{
    output(FORCE_LOW);
}

void board_trigger_off(void)
{
    uint32_t before = cortex_mask_core();
    output(FORCE_LOW);
    TIM_DIER(2) &= ~TIM_CHANNEL(PULSE_OUTPUT);
    pulse = PULSE_NONE;
    cortex_unmask_core(before);
}

static void pulse_ended(void)
{
    output(FORCE_LOW);
    TIM_DIER(2) &= ~TIM_CHANNEL(PULSE_OUTPUT);
    pulse = PULSE_NONE;
    app_triggered(0, pulse_at);
}

static void pulse_interrupt(void)
{
    TIM_SR(2) = ~TIM_CHANNEL(PULSE_OUTPUT);
    if (pulse == PULSE_WAITING) {
        pulse = PULSE_HIGH;
        TIM_CCR(2, PULSE_OUTPUT) = pulse_at + pulse_width;
        output(ON_MATCH_LOW);
        if (board_ticks() - pulse_at >= pulse_width) {
            pulse_ended(); /* shorter than this interrupt took to come */
        }
    } else if (pulse == PULSE_HIGH) {
        pulse_ended();
    }
}

/* A control pass that waits comes before the next of these, however fast edges come. */
void capture_interrupt(void)
{
    captured_all();
    if ((TIM_SR(2) & TIM_DIER(2) & TIM_CHANNEL(PULSE_OUTPUT)) != 0u) {
        pulse_interrupt();
    }
}

/* Only in QEMU, which can move a pin but not a capture register: stamped here, microseconds late. */
void capture_exti_interrupt(void)
{
    uint32_t ticks = board_ticks();
    if ((EXTI_PR & 1u) != 0u) {
        EXTI_PR = 1u;
        if (((both | rising_only) & 1u) != 0u) {
            app_capture(0, true, ticks);
        }
    }
}
