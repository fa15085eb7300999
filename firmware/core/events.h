/* What happened, in order: boot, states, faults, profiles, triggers. */
#ifndef EVENTS_H
#define EVENTS_H
#include "counters.h"
#include <stdbool.h>

#define EVENTS_QUEUE 16u /* a power of two */

struct events {
    struct msg_event queue[EVENTS_QUEUE];
    uint32_t head; /* counts up for ever: the number of the next event */
    uint32_t tail;
    struct counters *counters;
};

void events_init(struct events *events, struct counters *counters);
/* From any context; the oldest goes where there is no room. */
void events_add(struct events *events, enum event_kind kind, uint8_t channel, int32_t value, uint64_t ticks);
/* Main loop: true where there is one to send; fills the payload. */
bool events_next(struct events *events, uint8_t *payload, uint8_t *size);

#endif
