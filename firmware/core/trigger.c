/* Pulses for a detector, at exact ticks: handed to the board one at a time. */
#include "trigger.h"
#include "board.h"
#include <string.h>

#define TRIGGER_NEAR (UINT64_C(1) << 30) /* ticks ahead that a board can be asked for */

bool trigger_set(struct trigger *trigger, const struct msg_trigger *command, uint64_t now)
{
    if (command->width == 0u || command->count == 0u || command->ticks <= now ||
        command->width > (uint32_t)TRIGGER_NEAR || (command->count > 1u && command->period <= command->width)) {
        return false;
    }
    *trigger = (struct trigger){
        .next = command->ticks, .width = command->width, .period = command->period, .left = command->count};
    return true;
}

void triggers_off(struct triggers *triggers) { memset(triggers, 0, sizeof *triggers); }

bool triggers_busy(const struct triggers *triggers)
{
    return triggers->channel[0].left > 0u || triggers->channel[1].left > 0u;
}

static void trigger_skip(struct trigger *trigger)
{
    trigger->left--;
    trigger->next += trigger->period;
}

static void trigger_ask(struct trigger *trigger, uint8_t channel, uint64_t now)
{
    if (trigger->left == 0u || trigger->asked) {
        return;
    }
    if (trigger->next <= now) { /* late: skip to the first that lies ahead */
        uint64_t late = trigger->left > 1u ? (now - trigger->next) / trigger->period + 1u : 1u;
        uint32_t skipped = late < trigger->left ? (uint32_t)late : trigger->left;
        trigger->missed += skipped;
        trigger->left -= skipped;
        trigger->next += (uint64_t)skipped * trigger->period;
    }
    if (trigger->left > 0u && trigger->next - now < TRIGGER_NEAR) {
        trigger->asked = board_trigger(channel, (uint32_t)trigger->next, trigger->width);
    }
}

void triggers_pass(struct triggers *triggers, uint64_t now)
{
    for (uint8_t i = 0; i < TRIGGER_CHANNELS; i++) {
        trigger_ask(&triggers->channel[i], i, now);
    }
}

uint32_t trigger_fired(struct triggers *triggers, uint8_t channel, uint64_t now)
{
    struct trigger *trigger = &triggers->channel[channel < TRIGGER_CHANNELS ? channel : 0u];
    if (!trigger->asked) {
        return 0;
    }
    trigger->asked = false;
    trigger_skip(trigger);
    trigger_ask(trigger, channel, now); /* at once: the next may be less than a pass away */
    return trigger->left;
}
