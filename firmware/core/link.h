/* The wire: frames out of bytes and bytes out of frames. Never blocks; survives anything on the wire. */
#ifndef LINK_H
#define LINK_H
#include "cobs.h"
#include "counters.h"
#include "frame.h"
#include <stdbool.h>

#define LINK_ENCODED_MAX COBS_MAX(FRAME_MAX)
#define LINK_TX_SIZE 2048u /* a power of two */
#define LINK_TX_RESERVE (2u * (LINK_ENCODED_MAX + 1u)) /* room kept for replies */

struct link {
    uint8_t rx[LINK_ENCODED_MAX];
    uint32_t rx_size;
    uint32_t rx_ticks;   /* when the first byte of the frame came */
    bool rx_overlong;    /* skip to the next delimiter */
    uint8_t tx[LINK_TX_SIZE];
    uint32_t tx_head;    /* counts up for ever */
    uint32_t tx_tail;
    uint8_t plain[FRAME_MAX]; /* a frame on its way to the ring; static, for the stack's sake */
    uint8_t scratch[LINK_ENCODED_MAX + 1u];
    struct counters *counters;
};

void link_init(struct link *link, struct counters *counters);
/* Takes one byte; true where it completes a good frame. */
bool link_receive(struct link *link, uint8_t byte, uint32_t ticks, struct frame *frame);
/* True where any frame can be queued and `reserve` bytes are left then. */
bool link_has_room(const struct link *link, uint32_t reserve);
/* Queues a frame; false where there is no room. */
bool link_send(struct link *link, const struct frame *frame);
/* Gives the board what it takes. */
void link_pump(struct link *link);

static inline uint32_t link_waiting(const struct link *link) { return link->tx_head - link->tx_tail; }

#endif
