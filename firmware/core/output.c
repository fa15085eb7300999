/* The only way to the output pins: closed unless something may be on. */
#include "output.h"

void outputs_close(struct outputs *outputs)
{
    outputs->open = false;
    outputs->heater = 0;
    outputs->digital = 0;
    board_heater(0);
    board_digital(0);
    board_trigger_off();
    for (uint8_t i = 0; i < OUTPUT_DACS; i++) {
        outputs->dac[i] = 0;
        if (i < board_facts()->dac_channels) {
            board_dac(i, 0);
        }
    }
}

void outputs_open(struct outputs *outputs) { outputs->open = true; }

void outputs_heater(struct outputs *outputs, uint16_t value)
{
    if (outputs->open) {
        outputs->heater = value;
        board_heater(value);
    }
}

void outputs_dac(struct outputs *outputs, uint8_t channel, uint16_t value)
{
    if (outputs->open && channel < OUTPUT_DACS && channel < board_facts()->dac_channels) {
        outputs->dac[channel] = value;
        board_dac(channel, value);
    }
}

void outputs_digital(struct outputs *outputs, uint16_t mask, uint16_t levels)
{
    if (outputs->open) {
        uint32_t there = ((uint32_t)1u << board_facts()->digital_outputs) - 1u;
        uint32_t kept = outputs->digital & (uint32_t)~mask;
        outputs->digital = (uint16_t)((kept | (levels & mask)) & there);
        board_digital(outputs->digital);
    }
}
