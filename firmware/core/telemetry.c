/* The heater loop as a stream: a line every so many milliseconds. */
#include "telemetry.h"
#include "board.h"
#include "clock.h"
#include <stddef.h>
#include <string.h>

void telemetry_init(struct telemetry *telemetry, struct counters *counters)
{
    memset(telemetry, 0, offsetof(struct telemetry, queue)); /* interrupts may be masked: not the whole of it */
    telemetry->counters = counters;
}

void telemetry_clear(struct telemetry *telemetry)
{
    telemetry->counters->telemetry_dropped += telemetry->head - telemetry->tail;
    telemetry_init(telemetry, telemetry->counters);
}

void telemetry_start(struct telemetry *telemetry, uint64_t period, uint32_t credit, uint64_t now)
{
    telemetry_clear(telemetry);
    telemetry->period = period;
    telemetry->next = now;
    telemetry->limit = credit;
    telemetry->running = true;
}

void telemetry_stop(struct telemetry *telemetry) { telemetry->running = false; }

void telemetry_add(struct telemetry *telemetry, const struct msg_telemetry *line)
{
    if (!telemetry->running || line->ticks < telemetry->next) {
        return;
    }
    telemetry->next += telemetry->period;
    if (telemetry->next <= line->ticks) {
        telemetry->next = line->ticks + telemetry->period; /* no bursts after a late pass */
    }
    if (telemetry->head - telemetry->tail >= TELEMETRY_QUEUE) {
        telemetry->tail++;
        telemetry->dropped++;
        telemetry->counters->telemetry_dropped++;
    }
    telemetry->queue[telemetry->head % TELEMETRY_QUEUE] = *line;
    telemetry->head++;
}

bool telemetry_next(struct telemetry *telemetry, uint8_t *payload, uint8_t *size)
{
    uint32_t before = board_critical_begin();
    bool ready = telemetry->head != telemetry->tail && ticks_after(telemetry->limit, telemetry->number);
    if (ready) {
        struct msg_telemetry *line = &telemetry->queue[telemetry->tail % TELEMETRY_QUEUE];
        line->number = telemetry->number;
        line->dropped = telemetry->dropped;
        *size = (uint8_t)msg_telemetry_pack(line, payload);
        telemetry->tail++;
        telemetry->number++;
    }
    board_critical_end(before);
    return ready;
}
