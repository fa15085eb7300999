/* Pulses for a detector, at exact ticks: handed to the board one at a time. */
#include "trigger.h"
#include "board.h"
#include <string.h>

#define TRIGGER_NEAR (UINT64_C(1) << 30) /* ticks ahead that a board can be asked for */

void triggers_init(struct triggers *triggers, struct counters *counters)
{
    triggers_off(triggers);
    triggers->counters = counters;
}

void triggers_off(struct triggers *triggers) { memset(triggers->channel, 0, sizeof triggers->channel); }

static void trigger_ask(struct triggers *triggers, uint8_t channel, uint64_t now)
{
    struct trigger *trigger = &triggers->channel[channel];
    if (trigger->left == 0u || trigger->asked) {
        return;
    }
    if (trigger->next <= now) { /* late: skip to the first that lies ahead */
        uint64_t late = trigger->left > 1u ? (now - trigger->next) / trigger->period + 1u : 1u;
        uint32_t skipped = late < trigger->left ? (uint32_t)late : trigger->left;
        triggers->counters->pulses_missed += skipped;
        trigger->left -= skipped;
        trigger->next += (uint64_t)skipped * trigger->period;
    }
    if (trigger->left > 0u && trigger->next - now < TRIGGER_NEAR) {
        trigger->asked = board_trigger(channel, (uint32_t)trigger->next, trigger->width);
    }
}

bool trigger_set(struct triggers *triggers, uint8_t channel, const struct msg_trigger *command, uint64_t now)
{
    struct trigger *trigger = &triggers->channel[channel];
    if (command->width == 0u || command->count == 0u || command->ticks <= now ||
        command->width > (uint32_t)TRIGGER_NEAR || (command->count > 1u && command->period <= command->width)) {
        return false;
    }
    *trigger = (struct trigger){
        .next = command->ticks, .width = command->width, .period = command->period, .left = command->count};
    trigger_ask(triggers, channel, now);
    if (!trigger->asked && trigger->next - now < TRIGGER_NEAR) { /* its tick passed meanwhile */
        *trigger = (struct trigger){0};
        return false;
    }
    return true;
}

void triggers_pass(struct triggers *triggers, uint64_t now)
{
    for (uint8_t i = 0; i < TRIGGER_CHANNELS; i++) {
        trigger_ask(triggers, i, now);
    }
}

uint32_t trigger_fired(struct triggers *triggers, uint8_t channel, uint64_t now)
{
    struct trigger *trigger = &triggers->channel[channel];
    if (!trigger->asked) {
        return 0;
    }
    trigger->asked = false;
    trigger->left--;
    trigger->next += trigger->period;
    trigger_ask(triggers, channel, now); /* at once: the next may be less than a pass away */
    return trigger->left;
}
