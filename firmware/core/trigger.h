/* Pulses for a detector, at exact ticks. */
#ifndef TRIGGER_H
#define TRIGGER_H
#include "clock.h"
#include "counters.h"

#define TRIGGER_CHANNELS 2u

struct trigger {
    uint64_t next;
    uint32_t width;
    uint32_t period;
    uint32_t left;      /* pulses to come */
    bool asked;         /* the board has the next one */
};

struct triggers {
    struct trigger channel[TRIGGER_CHANNELS];
    struct counters *counters;
};

void triggers_init(struct triggers *triggers, struct counters *counters);
/* False where the pulses can't be: no width, no end before the next begins, too late for the board. */
bool trigger_set(struct triggers *triggers, uint8_t channel, const struct msg_trigger *command, uint64_t now);
/* Forgets all. The board's own are taken back by board_trigger_off(). */
void triggers_off(struct triggers *triggers);
/* One control pass: asks the board for pulses that come near. */
void triggers_pass(struct triggers *triggers, uint64_t now);
/* The board has begun one; returns how many are still to come. */
uint32_t trigger_fired(struct triggers *triggers, uint8_t channel, uint64_t now);

#endif
