/* Captured edges as a stream: an interrupt queues them, the main loop sends them in blocks. */
#ifndef CAPTURES_H
#define CAPTURES_H
#include "counters.h"
#include <stdbool.h>

#define CAPTURES_QUEUE 256u /* a power of two */
#define CAPTURES_PATIENCE_MS 2u /* an edge waits so long for others to fill its block */

struct captures {
    uint32_t head;      /* counts up for ever: the index of the next edge */
    uint32_t tail;
    uint32_t waiting;   /* ticks at which the oldest was queued */
    bool running;
    uint32_t number;    /* of the next block sent */
    uint32_t limit;     /* credit */
    uint32_t dropped;
    uint32_t overruns;  /* the board's, when the stream began */
    struct counters *counters;
    struct msg_edge queue[CAPTURES_QUEUE];
};

void captures_init(struct captures *captures, struct counters *counters);
/* Ends the stream; what was captured and not sent is dropped and counted. */
void captures_clear(struct captures *captures);
void captures_start(struct captures *captures, uint32_t credit);
/* No more edges; what was captured can still be sent. */
void captures_stop(struct captures *captures);
/* Interrupt: queues an edge; the oldest goes where there is no room. */
void captures_add(struct captures *captures, uint8_t channel, bool rising, uint64_t ticks);
/* Main loop: true where a block may be sent; fills the payload. */
bool captures_next(struct captures *captures, uint32_t tick_rate, uint8_t *payload, uint8_t *size);

#endif
