/* The wire: frames out of bytes and bytes out of frames. */
#include "link.h"
#include "board.h"
#include "crc.h"
#include <string.h>

void link_init(struct link *link, struct counters *counters)
{
    memset(link, 0, sizeof *link);
    link->counters = counters;
}

static bool link_decode(struct link *link, struct frame *frame)
{
    int size = cobs_decode(link->rx, link->rx_size);
    if (size < (int)(MSG_HEADER_SIZE + 2u) || size > (int)FRAME_MAX || link->rx[0] >> 4 != MSG_VERSION) {
        link->counters->rx_framing++;
        return false;
    }
    size_t body = (size_t)size - 2u;
    uint16_t sent = (uint16_t)(link->rx[body] | (uint16_t)(link->rx[body + 1u] << 8));
    if (crc_add(CRC_START, link->rx, body) != sent) {
        link->counters->rx_checksum++;
        return false;
    }
    frame->flags = link->rx[0] & 15u;
    frame->type = link->rx[1];
    frame->sequence = link->rx[2];
    frame->channel = link->rx[3];
    frame->size = (uint8_t)(body - MSG_HEADER_SIZE);
    memcpy(frame->payload, link->rx + MSG_HEADER_SIZE, frame->size);
    link->counters->rx_frames++;
    return true;
}

bool link_receive(struct link *link, uint8_t byte, uint32_t ticks, struct frame *frame)
{
    link->counters->rx_bytes++;
    if (byte != 0u) {
        if (link->rx_size == 0u) {
            link->rx_ticks = ticks;
        }
        if (link->rx_size < sizeof link->rx) {
            link->rx[link->rx_size++] = byte;
        } else {
            link->rx_overlong = true;
        }
        return false;
    }
    bool good = false;
    if (link->rx_overlong) {
        link->counters->rx_framing++;
    } else if (link->rx_size > 0u) { /* zeros in a row are no frames: they wake a line up */
        good = link_decode(link, frame);
    }
    link->rx_size = 0;
    link->rx_overlong = false;
    return good;
}

bool link_has_room(const struct link *link, uint32_t reserve)
{
    return LINK_TX_SIZE - link_waiting(link) >= LINK_ENCODED_MAX + 1u + reserve;
}

bool link_send(struct link *link, const struct frame *frame)
{
    uint8_t *plain = link->plain;
    plain[0] = (uint8_t)(MSG_VERSION << 4 | (frame->flags & 15u));
    plain[1] = frame->type;
    plain[2] = frame->sequence;
    plain[3] = frame->channel;
    memcpy(plain + MSG_HEADER_SIZE, frame->payload, frame->size);
    size_t size = MSG_HEADER_SIZE + frame->size;
    uint16_t crc = crc_add(CRC_START, plain, size);
    plain[size++] = (uint8_t)(crc & 0xffu);
    plain[size++] = (uint8_t)(crc >> 8);
    size_t encoded = cobs_encode(plain, size, link->scratch);
    link->scratch[encoded++] = 0;
    if (LINK_TX_SIZE - link_waiting(link) < encoded) {
        return false;
    }
    for (size_t i = 0; i < encoded; i++) {
        link->tx[(link->tx_head + i) % LINK_TX_SIZE] = link->scratch[i];
    }
    link->tx_head += (uint32_t)encoded;
    link->counters->tx_frames++;
    return true;
}

void link_pump(struct link *link)
{
    while (link_waiting(link) > 0u) {
        uint32_t at = link->tx_tail % LINK_TX_SIZE;
        uint32_t run = LINK_TX_SIZE - at; /* up to the end of the ring */
        if (run > link_waiting(link)) {
            run = link_waiting(link);
        }
        size_t taken = board_tx(link->tx + at, run);
        link->tx_tail += (uint32_t)taken;
        if (taken < run) {
            return;
        }
    }
}
