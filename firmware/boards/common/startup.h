/* What happens between reset and main, and what a crash leaves behind for the next boot to report. */
#ifndef STARTUP_H
#define STARTUP_H

#include <stdbool.h>
#include <stdint.h>

typedef void (*vector_t)(void);

extern uint32_t _stack_start[], _stack_end[];
extern const vector_t vectors[]; /* the board's */

void startup_reset(void);
void startup_crash(void);

/* Lies in RAM that reset does not clear; `magic` tells whether it was ever written. */
struct startup_record {
    uint32_t magic;
    uint32_t boots;     /* since power-on */
    uint32_t vector;    /* exception that crashed the last run, 1: its start gave up, 0: none */
    uint32_t address;   /* where it crashed */
    uint32_t watchdog;  /* non-zero: the watchdog's first stage barked in the last run */
};

extern struct startup_record startup_record;

/* Counts this boot; answers true after a power-on (RAM content was not ours). */
bool startup_count_boot(void);

/* Supplied by the board: switches every output off with plain register writes, from any context. */
void startup_outputs_off(void);

int main(void);

#define STARTUP_SYSTEM_VECTORS(nmi)                                                                                 \
    [0] = (vector_t)(uintptr_t)_stack_end, [1] = startup_reset, [2] = (nmi), [3] = startup_crash,                    \
    [4] = startup_crash, [5] = startup_crash, [6] = startup_crash, [11] = startup_crash, [12] = startup_crash,       \
    [14] = startup_crash, [15] = startup_crash

#endif
