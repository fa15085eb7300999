/* Commands act once: what was answered lately, so that a repeated command is answered again and not done again. */
#ifndef REPLAY_H
#define REPLAY_H
#include "frame.h"
#include <stdbool.h>

enum replay_verdict { REPLAY_NEW, REPLAY_REPEATED, REPLAY_STALE };

struct replay_entry {
    uint16_t crc; /* of the command */
    struct frame reply;
};

struct replay {
    bool any;        /* a command has come in this session */
    uint8_t newest;  /* sequence */
    uint8_t seen;    /* bit i: newest - i was carried out */
    struct replay_entry entries[MSG_REPLIES_KEPT];
};

void replay_reset(struct replay *replay);
/* Says what a command is; gives the remembered reply of a repeated one. */
enum replay_verdict replay_check(const struct replay *replay, const struct frame *command, const struct frame **reply);
/* Remembers the reply of a new command. */
void replay_keep(struct replay *replay, const struct frame *command, const struct frame *reply);

#endif
