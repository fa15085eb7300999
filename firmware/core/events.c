/* What happened, in order. */
#include "events.h"
#include "board.h"
#include <string.h>

void events_init(struct events *events, struct counters *counters)
{
    memset(events, 0, sizeof *events);
    events->counters = counters;
}

void events_add(struct events *events, enum event_kind kind, uint8_t channel, int32_t value, uint64_t ticks)
{
    uint32_t before = board_critical_begin();
    if (events->head - events->tail >= EVENTS_QUEUE) {
        events->tail++;
        events->counters->events_dropped++;
    }
    events->queue[events->head % EVENTS_QUEUE] = (struct msg_event){
        .number = events->head, .ticks = ticks, .kind = (uint8_t)kind, .channel = channel, .value = value};
    events->head++;
    board_critical_end(before);
}

bool events_next(struct events *events, uint8_t *payload, uint8_t *size)
{
    uint32_t before = board_critical_begin();
    bool ready = events->head != events->tail;
    if (ready) {
        *size = (uint8_t)msg_event_pack(&events->queue[events->tail % EVENTS_QUEUE], payload);
        events->tail++;
    }
    board_critical_end(before);
    return ready;
}
