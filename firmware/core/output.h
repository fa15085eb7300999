/* The only way to the output pins: closed unless something may be on. */
#ifndef OUTPUT_H
#define OUTPUT_H
#include "board.h"

#define OUTPUT_DACS 4u

struct outputs {
    bool open;                /* ARMED or RUN */
    uint16_t heater;
    uint16_t dac[OUTPUT_DACS];
    uint16_t digital;
};

/* Everything off, and nothing can be put on until outputs_open(). */
void outputs_close(struct outputs *outputs);
void outputs_open(struct outputs *outputs);
/* These do nothing while closed. */
void outputs_heater(struct outputs *outputs, uint16_t value);
void outputs_dac(struct outputs *outputs, uint8_t channel, uint16_t value);
void outputs_digital(struct outputs *outputs, uint16_t mask, uint16_t levels);

#endif
