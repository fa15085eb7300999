/* Analogue inputs as a stream: an interrupt fills blocks, the main loop sends them, the oldest go first. */
#ifndef SAMPLES_H
#define SAMPLES_H
#include "counters.h"
#include <stdbool.h>

#define SAMPLES_BLOCKS 16u /* a power of two */
#define SAMPLES_BLOCK_MS 50u /* a block spans at most so long */

struct samples_block {
    uint64_t ticks;     /* first instant */
    uint32_t missed;    /* samples not taken since the start of the stream, before this block */
    uint8_t flags;      /* enum sample_flag */
    uint8_t n;          /* samples */
    int16_t counts[MSG_SAMPLES_COUNTS_MAX];
};

struct samples {
    uint32_t head;      /* counts up for ever */
    uint32_t tail;
    uint16_t mask;
    uint8_t channels;   /* bits in mask */
    uint8_t per_block;  /* instants */
    bool running;
    uint32_t period;    /* ticks */
    uint32_t last;      /* last instant */
    uint32_t instants;  /* taken since the start of the stream: the watchdog looks at it */
    bool first;         /* no instant yet */
    uint32_t number;    /* of the next block sent */
    uint32_t limit;     /* credit */
    uint32_t dropped;   /* samples, since the start of the stream */
    uint32_t missed;
    uint32_t told;      /* lost samples, as the last block sent had it */
    struct counters *counters;
    struct samples_block blocks[SAMPLES_BLOCKS]; /* ring; the one at head is being filled */
};

void samples_init(struct samples *samples, struct counters *counters);
/* Ends the stream; what was taken and not sent is dropped and counted. */
void samples_clear(struct samples *samples);
/* Begins anew. Returns the instants in a block. */
uint8_t samples_start(struct samples *samples, uint16_t mask, uint32_t period, uint32_t credit, uint32_t tick_rate);
/* No more samples; what was taken can still be sent. */
void samples_stop(struct samples *samples);
/* Interrupt: takes an instant. */
void samples_take(struct samples *samples, uint64_t ticks);
/* Main loop: true where a block may be sent; fills the payload. */
bool samples_next(struct samples *samples, uint8_t *payload, uint8_t *size);

#endif
