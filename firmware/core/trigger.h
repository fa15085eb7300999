/* Pulses for a detector, at exact ticks. */
#ifndef TRIGGER_H
#define TRIGGER_H
#include "clock.h"
#include "messages_gen.h"

#define TRIGGER_CHANNELS 2u

struct trigger {
    uint64_t next;
    uint32_t width;
    uint32_t period;
    uint32_t left;      /* pulses to come */
    uint32_t missed;    /* could not be asked for in time */
    bool asked;         /* the board has the next one */
};

struct triggers {
    struct trigger channel[TRIGGER_CHANNELS];
};

/* False where the pulses can't be: no width, no end before the next begins, too late. */
bool trigger_set(struct trigger *trigger, const struct msg_trigger *command, uint64_t now);
/* Forgets all. The board's own are taken back by board_trigger_off(). */
void triggers_off(struct triggers *triggers);
bool triggers_busy(const struct triggers *triggers);
/* One control pass: asks the board for pulses that come near. */
void triggers_pass(struct triggers *triggers, uint64_t now);
/* The board has begun one; returns how many are still to come. */
uint32_t trigger_fired(struct triggers *triggers, uint8_t channel, uint64_t now);

#endif
