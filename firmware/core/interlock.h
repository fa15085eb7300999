/* What must hold for anything to be on: watched signals and digital inputs. Needs no host. */
#ifndef INTERLOCK_H
#define INTERLOCK_H
#include "board.h"
#include "messages_gen.h"

#define INTERLOCK_COUNT 4u
#define INTERLOCK_WINDOW 32u

struct interlock {
    struct msg_interlock rule;
    int16_t past[INTERLOCK_WINDOW]; /* ring of the last counts */
    uint8_t filled;
    uint8_t at;                     /* where the next one goes */
    uint8_t wrong;                  /* passes in a row */
    int16_t seen;                   /* last count */
};

struct interlocks {
    struct interlock analogue[INTERLOCK_COUNT];
    uint16_t mask;      /* digital inputs that count */
    uint16_t level;     /* how they must be */
    uint16_t input;     /* as last seen */
};

void interlocks_init(struct interlocks *interlocks);
/* Sets one; false where the rule is out of range, or such that nothing could trip it. */
bool interlocks_set(struct interlocks *interlocks, uint8_t which, const struct msg_interlock *rule);
/* Of all of them, as ARM brings it. */
uint16_t interlocks_checksum(const struct interlocks *interlocks);
/* One control pass. Returns the fault to latch, and what was seen. */
enum fault interlocks_pass(struct interlocks *interlocks, int32_t *seen);

#endif
