/* Inputs and outputs of the emulated board: words in the page it shares with its world. */
#include "at24c.h"
#include "board.h"
#include "mps2.h"
#include "registers.h"
#include "startup.h"
#include "world.h"

static uint8_t wanted_rising, wanted_falling;
static uint32_t pulse_at, pulse_width;
static volatile enum { PULSE_NONE, PULSE_WAITING, PULSE_HIGH } pulse;

int16_t board_adc(uint8_t channel)
{
    return channel < WORLD_ADC_CHANNELS ? (int16_t)WORLD->adc[channel] : (int16_t)-1;
}

void board_heater(uint16_t value)
{
    uint32_t before = WORLD->heater;
    WORLD->heater = value;
    if ((before == 0u) != (value == 0u)) {
        if (value != 0u) {
            WORLD->heater_on = board_ticks();
        } else {
            WORLD->heater_off_pass = WORLD->passes;
            WORLD->heater_off = board_ticks();
        }
    }
}

void board_dac(uint8_t channel, uint16_t value)
{
    if (channel < WORLD_DAC_CHANNELS) {
        WORLD->dac[channel] = value;
    }
}

void board_digital(uint16_t levels)
{
    WORLD->digital = levels & 0xFFu;
}

uint16_t board_digital_in(void)
{
    return (uint16_t)(WORLD->inputs & 0xFFu);
}

void startup_outputs_off(void)
{
    board_heater(0);
    for (uint8_t channel = 0; channel < WORLD_DAC_CHANNELS; channel++) {
        WORLD->dac[channel] = 0;
    }
    WORLD->digital = 0;
    WORLD->trigger = 0;
}

/* ---- captured edges: stamped by the world, as capture hardware stamps them */

void board_capture(uint8_t rising, uint8_t falling)
{
    wanted_rising = rising;
    wanted_falling = falling;
}

uint32_t board_capture_overruns(void)
{
    return WORLD->overrun;
}

void capture_interrupt(void)
{
    uint32_t tail = WORLD->tail;
    while (tail != WORLD->head) {
        uint32_t ticks = WORLD->edges[tail % WORLD_EDGES].ticks;
        uint32_t what = WORLD->edges[tail % WORLD_EDGES].what;
        uint8_t channel = (uint8_t)(what & 7u);
        bool rising = (what & 0x100u) != 0u;
        uint32_t wanted = rising ? wanted_rising : wanted_falling;
        if (((wanted >> channel) & 1u) != 0u) {
            app_capture(channel, rising, ticks);
        }
        tail++;
        WORLD->tail = tail;
    }
}

/* ---- trigger output: the one-shot timer stands in for a compare output */

static void pulse_after(uint32_t ticks)
{
    DUAL_CTRL(1) = DUAL_CTRL_32BIT | DUAL_CTRL_ONESHOT | DUAL_CTRL_INT;
    DUAL_LOAD(1) = ticks;
    DUAL_CTRL(1) = DUAL_CTRL_32BIT | DUAL_CTRL_ONESHOT | DUAL_CTRL_INT | DUAL_CTRL_ENABLE;
}

bool board_trigger(uint8_t channel, uint32_t at, uint32_t width)
{
    uint32_t before = cortex_mask_core();
    uint32_t ahead = at - board_ticks();
    bool good = channel == 0u && pulse == PULSE_NONE && ahead - 1u < 0x7FFFFFFFu;
    if (good) {
        pulse_at = at;
        pulse_width = width != 0u ? width : 1u;
        pulse = PULSE_WAITING;
        pulse_after(ahead);
    }
    cortex_unmask_core(before);
    return good;
}

void board_trigger_off(void)
{
    uint32_t before = cortex_mask_core();
    DUAL_CTRL(1) = 0;
    DUAL_INTCLEAR(1) = 1;
    pulse = PULSE_NONE;
    WORLD->trigger = 0;
    cortex_unmask_core(before);
}

void trigger_interrupt(void)
{
    DUAL_INTCLEAR(1) = 1;
    if (pulse == PULSE_WAITING) {
        WORLD->trigger = 1;
        WORLD->trigger_ticks = pulse_at;
        WORLD->trigger_seen = board_ticks();
        WORLD->triggers++;
        pulse = PULSE_HIGH;
        pulse_after(pulse_width);
    } else if (pulse == PULSE_HIGH) {
        WORLD->trigger = 0;
        pulse = PULSE_NONE;
        app_triggered(0, pulse_at);
    }
}

/* ---- the EEPROM's two lines; the emulated bus needs no pauses. Each holder's memory has an address of its own: the
   one that is plugged in is the one that is called. */

uint8_t at24c_device(void)
{
    return (uint8_t)(0x50u + (WORLD->holder & 7u));
}

void at24c_scl(bool high)
{
    if (high) {
        SBCON_SET = SBCON_SCL;
    } else {
        SBCON_CLEAR = SBCON_SCL;
    }
}

void at24c_sda(bool high)
{
    if (high) {
        SBCON_SET = SBCON_SDA;
    } else {
        SBCON_CLEAR = SBCON_SDA;
    }
}

bool at24c_sda_is_high(void)
{
    return (SBCON_SET & SBCON_SDA) != 0u;
}
