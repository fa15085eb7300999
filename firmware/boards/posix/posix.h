/* The parts of the host board. */
#ifndef POSIX_H
#define POSIX_H
#include "../mps2/world.h"
#include <stdbool.h>
#include <stdint.h>

#define POSIX_TICK_RATE 1000000u

/* ---- wire.c */
/* Opens the pseudo-terminal or the port and prints where it is ("ready ..."). */
bool wire_open_pty(const char *link);
bool wire_open_tcp(uint16_t port);
/* The descriptor to wait for. */
int wire_descriptor(void);
/* Takes what has come. False where the other end is gone for good (`once` was asked for). */
bool wire_serve(bool once);
bool wire_has_bytes(void);

/* ---- world.c */
bool world_open(const char *path);
volatile struct world *world_page(void);
/* Looks for captured edges, samples and trigger pulses that are due. */
void world_serve(uint64_t now);
/* Ticks until the next sample or pulse, at most `longest`. */
uint64_t world_wait(uint64_t now, uint64_t longest);
/* All outputs as they are without power. Safe in a signal handler. */
void world_outputs_off(void);

/* ---- eeprom.c */
bool eeprom_open(const char *path);

/* ---- board.c */
uint64_t posix_now(void); /* the counter, before it is cut to 32 bits */

#endif
