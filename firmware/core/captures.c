/* Captured edges as a stream: every edge is sent or counted. */
#include "captures.h"
#include "board.h"
#include "clock.h"
#include <stddef.h>
#include <string.h>

void captures_init(struct captures *captures, struct counters *counters)
{
    memset(captures, 0, offsetof(struct captures, queue)); /* interrupts may be masked: not the whole of it */
    captures->counters = counters;
}

void captures_clear(struct captures *captures)
{
    captures->counters->edges_dropped += captures->head - captures->tail;
    captures_init(captures, captures->counters);
}

void captures_start(struct captures *captures, uint32_t credit)
{
    captures_clear(captures);
    captures->limit = credit;
    captures->overruns = board_capture_overruns();
    captures->running = true;
}

void captures_stop(struct captures *captures) { captures->running = false; }

void captures_add(struct captures *captures, uint8_t channel, bool rising, uint64_t ticks)
{
    captures->counters->edges++;
    if (!captures->running) {
        return;
    }
    if (captures->head - captures->tail >= CAPTURES_QUEUE) {
        captures->tail++;
        captures->dropped++;
        captures->counters->edges_dropped++;
    }
    if (captures->head == captures->tail) {
        captures->waiting = board_ticks();
    }
    captures->queue[captures->head % CAPTURES_QUEUE] =
        (struct msg_edge){.ticks = ticks, .channel = channel, .rising = rising ? 1u : 0u};
    captures->head++;
}

bool captures_next(struct captures *captures, uint32_t tick_rate, uint8_t *payload, uint8_t *size)
{
    uint32_t before = board_critical_begin();
    uint32_t queued = captures->head - captures->tail;
    uint32_t now = board_ticks();
    bool due = queued >= MSG_CAPTURES_EDGES_MAX || now - captures->waiting >= tick_rate / 1000u * CAPTURES_PATIENCE_MS;
    bool ready = queued > 0u && (due || !captures->running) && ticks_after(captures->limit, captures->number);
    if (ready) {
        uint32_t n = queued < MSG_CAPTURES_EDGES_MAX ? queued : MSG_CAPTURES_EDGES_MAX;
        uint8_t *p = payload;
        wire_put_u32(&p, captures->number);
        wire_put_u32(&p, captures->tail);
        wire_put_u32(&p, captures->dropped);
        wire_put_u32(&p, board_capture_overruns() - captures->overruns);
        wire_put_u8(&p, (uint8_t)n);
        // cppcheck-suppress knownConditionTrueFalse ; it takes n for 0, which `queued > 0u` rules out
        for (uint32_t i = 0; i < n; i++) {
            p += msg_edge_pack(&captures->queue[(captures->tail + i) % CAPTURES_QUEUE], p);
        }
        *size = (uint8_t)(p - payload);
        captures->tail += n;
        captures->number++;
        captures->waiting = now;
    }
    board_critical_end(before);
    return ready;
}
