/* Commands act once: replies by sequence. Commands of one window may come out of order. */
#include "replay.h"
#include "crc.h"
#include <string.h>

static uint16_t replay_crc(const struct frame *command)
{
    uint8_t head[2] = {command->type, command->channel};
    return crc_add(crc_add(CRC_START, head, sizeof head), command->payload, command->size);
}

void replay_reset(struct replay *replay) { memset(replay, 0, sizeof *replay); }

enum replay_verdict replay_check(const struct replay *replay, const struct frame *command, const struct frame **reply)
{
    uint8_t behind = (uint8_t)(replay->newest - command->sequence);
    if (!replay->any || behind >= 128u) {
        return REPLAY_NEW;
    }
    if (behind >= MSG_REPLIES_KEPT) {
        return REPLAY_STALE;
    }
    if ((replay->seen >> behind & 1u) == 0u) {
        return REPLAY_NEW;
    }
    const struct replay_entry *entry = &replay->entries[command->sequence % MSG_REPLIES_KEPT];
    if (entry->crc != replay_crc(command)) {
        return REPLAY_STALE; /* another command under the same sequence: the host has lost count */
    }
    *reply = &entry->reply;
    return REPLAY_REPEATED;
}

void replay_keep(struct replay *replay, const struct frame *command, const struct frame *reply)
{
    uint8_t behind = (uint8_t)(replay->newest - command->sequence);
    if (!replay->any) {
        replay->newest = command->sequence;
        replay->seen = 1;
    } else if (behind >= 128u) {
        uint8_t ahead = (uint8_t)(command->sequence - replay->newest);
        replay->seen = (uint8_t)(ahead < MSG_REPLIES_KEPT ? (uint32_t)replay->seen << ahead | 1u : 1u);
        replay->newest = command->sequence;
    } else if (behind < MSG_REPLIES_KEPT) { /* replay_check() called it new, so it is */
        replay->seen = (uint8_t)(replay->seen | 1u << behind);
    }
    replay->any = true;
    struct replay_entry *entry = &replay->entries[command->sequence % MSG_REPLIES_KEPT];
    entry->crc = replay_crc(command);
    entry->reply = *reply;
}
