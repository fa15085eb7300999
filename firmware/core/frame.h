/* One message, its header taken apart. */
#ifndef FRAME_H
#define FRAME_H
#include "messages_gen.h"

struct frame {
    uint8_t flags;
    uint8_t type;
    uint8_t sequence;
    uint8_t channel;
    uint8_t size; /* of the payload */
    uint8_t payload[MSG_PAYLOAD_MAX];
};

#define FRAME_MAX (MSG_HEADER_SIZE + MSG_PAYLOAD_MAX + 2u) /* bytes before COBS */

#endif
