/* The heater loop as a stream: a line every so many milliseconds. */
#ifndef TELEMETRY_H
#define TELEMETRY_H
#include "counters.h"
#include <stdbool.h>

#define TELEMETRY_QUEUE 32u /* a power of two */

struct telemetry {
    uint32_t head;      /* counts up for ever */
    uint32_t tail;
    bool running;
    uint64_t period;    /* ticks */
    uint64_t next;      /* tick of the next line */
    uint32_t number;    /* of the next line sent */
    uint32_t limit;     /* credit */
    uint32_t dropped;
    struct counters *counters;
    struct msg_telemetry queue[TELEMETRY_QUEUE];
};

void telemetry_init(struct telemetry *telemetry, struct counters *counters);
/* Ends the stream; lines not sent are dropped and counted. */
void telemetry_clear(struct telemetry *telemetry);
void telemetry_start(struct telemetry *telemetry, uint64_t period, uint32_t credit, uint64_t now);
void telemetry_stop(struct telemetry *telemetry);
/* Control pass: takes a line where one is due. */
void telemetry_add(struct telemetry *telemetry, const struct msg_telemetry *line);
/* Main loop: true where a line may be sent; fills the payload. */
bool telemetry_next(struct telemetry *telemetry, uint8_t *payload, uint8_t *size);

#endif
