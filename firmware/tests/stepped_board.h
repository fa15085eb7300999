/* A board in memory whose clock moves when told: for tests in C and, by ctypes, in Python. 1 tick is 1 us. */
#ifndef STEPPED_BOARD_H
#define STEPPED_BOARD_H
#include "app.h"

#define STEPPED_WIRE 65536u

/* What the world sees and sets. */
struct stepped {
    uint64_t ticks;             /* before it is cut to 32 bits */
    int16_t adc[16];
    uint16_t inputs;
    uint8_t eeprom[TEDS_SIZE];
    bool eeprom_broken;         /* reads and writes fail */
    uint32_t eeprom_writes_left; /* then the power goes: no write does anything any more; counts down from not 0 */
    bool passes_stop;           /* no control interrupt */
    uint32_t tx_room;           /* bytes that one board_tx() takes; the wire's speed */
    uint16_t heater;
    uint16_t dac[4];
    uint16_t digital;
    bool pulse;                 /* level of the trigger output */
    uint32_t pulses;
    uint64_t pulse_ticks;       /* of the last */
    uint8_t rising;             /* edges asked for */
    uint8_t falling;
    uint32_t fed;               /* the watchdog, so often */
    uint32_t critical;          /* depth of critical sections */
    uint32_t violations;        /* outputs put on outside ARMED and RUN, or with another holder than the one that was
                                   armed with, unbalanced sections: must stay 0 */
    uint64_t heater_on_ticks;   /* when it last went on */
    uint64_t heater_off_ticks;  /* when it last went off */
    uint32_t passes_at_off;     /* control passes then */
};

extern struct stepped stepped;

/* Power on: the EEPROM, the inputs and the wire's speed stay. */
void stepped_start(uint64_t ticks, uint32_t boot);
/* Time passes: control passes, samples and pulses come at their ticks; the main loop runs once a pass. */
void stepped_advance(uint64_t ticks);
/* Bytes to the core. Those that don't fit are lost, as on a wire. */
void stepped_send(const uint8_t *bytes, size_t n);
/* Bytes of the core; returns how many. */
size_t stepped_take(uint8_t *bytes, size_t room);
void stepped_capture(uint8_t channel, bool rising, uint64_t ticks);
/* Looks at all that must always hold; counts what does not. */
void stepped_check(void);

/* For Python: sizes, states, and every message from bytes to its struct and back. */
const struct app *stepped_app(void);
uint8_t stepped_state(void);
/* Whether a command waits until the EEPROM was looked at. */
bool stepped_waits(void);
/* Unpacks a payload as a message of the type and packs it again; -1: does not fit, -2: no such type. */
int stepped_repack(uint8_t type, const uint8_t *payload, size_t size, uint8_t *to);
int stepped_repack_teds(const uint8_t *payload, size_t size, uint8_t *to);
/* One frame as the wire carries it. Returns its size, the final zero included. */
size_t stepped_frame(uint8_t type, uint8_t sequence, uint8_t channel, const uint8_t *payload, size_t size, uint8_t *to);

#endif
