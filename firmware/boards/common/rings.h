/* Bytes between the link's interrupt and the main loop: one writer and one reader each, no lock. */
#ifndef RINGS_H
#define RINGS_H

#include <stdbool.h>
#include <stdint.h>

#define RING_SIZE 1024u /* a power of two; holds a full window of commands */

/* Towards the main loop, each byte with the tick it came in. */
struct rx_ring {
    volatile uint32_t head; /* counts up for ever; only the interrupt writes it */
    volatile uint32_t tail; /* only the main loop writes it */
    volatile uint32_t overruns;
    volatile uint32_t ticks[RING_SIZE];
    volatile uint8_t bytes[RING_SIZE];
};

/* Towards the wire. */
struct tx_ring {
    volatile uint32_t head; /* only the main loop writes it */
    volatile uint32_t tail; /* only the interrupt writes it */
    volatile uint8_t bytes[RING_SIZE];
};

static inline void rx_ring_put(struct rx_ring *ring, uint8_t byte, uint32_t ticks)
{
    uint32_t head = ring->head;
    if (head - ring->tail >= RING_SIZE) {
        ring->overruns++;
        return;
    }
    ring->bytes[head % RING_SIZE] = byte;
    ring->ticks[head % RING_SIZE] = ticks;
    ring->head = head + 1u;
}

static inline bool rx_ring_is_empty(const struct rx_ring *ring)
{
    return ring->head == ring->tail;
}

/* Answers the byte and when it came, or -1. */
static inline int rx_ring_get(struct rx_ring *ring, uint32_t *ticks)
{
    uint32_t tail = ring->tail;
    if (ring->head == tail) {
        return -1;
    }
    int byte = ring->bytes[tail % RING_SIZE];
    *ticks = ring->ticks[tail % RING_SIZE];
    ring->tail = tail + 1u;
    return byte;
}

/* Takes what there is room for; answers how much. */
static inline uint32_t tx_ring_put(struct tx_ring *ring, const uint8_t *bytes, uint32_t n)
{
    uint32_t head = ring->head;
    uint32_t room = RING_SIZE - (head - ring->tail);
    uint32_t taken = n < room ? n : room;
    for (uint32_t i = 0; i < taken; i++) {
        ring->bytes[(head + i) % RING_SIZE] = bytes[i];
    }
    ring->head = head + taken;
    return taken;
}

static inline bool tx_ring_is_empty(const struct tx_ring *ring)
{
    return ring->head == ring->tail;
}

/* Only when it is not empty. */
static inline uint8_t tx_ring_get(struct tx_ring *ring)
{
    uint32_t tail = ring->tail;
    uint8_t byte = ring->bytes[tail % RING_SIZE];
    ring->tail = tail + 1u;
    return byte;
}

#endif
