/* What the specimen holder says of itself: a record in EEPROM. Judged at the start, compared ever after, since a
   holder may be exchanged under power: whole, blank, damaged or gone. */
#ifndef TEDS_H
#define TEDS_H
#include "clock.h"
#include "counters.h"
#include <stdbool.h>

#define TEDS_SIZE 256u    /* bytes of EEPROM; behind record and checksum free for the user */
#define TEDS_PAGE 16u     /* written at a time */
#define TEDS_MAGIC 0x53444554u
#define TEDS_NO_TEMPERATURE (-1)

struct teds {
    uint8_t image[TEDS_SIZE]; /* as in the EEPROM */
    uint8_t draft[TEDS_SIZE]; /* as prepared by the host */
    struct msg_teds record;   /* in force: of the EEPROM, or bench mode's */
    uint32_t holder;          /* number of what is in force: another one after each change */
    uint16_t written;         /* bytes, while WRITING */
    uint16_t looked;          /* bytes compared in this round, or read while READING */
    uint8_t state;            /* enum teds_state */
    uint8_t doubts;           /* looks in a row that found it otherwise */
    bool checking;            /* compares without pause */
    bool sent;                /* WRITING: the page is with the memory, not read back yet */
    uint64_t next;            /* when to look again; WRITING: when to give up */
    struct counters *counters;
};

/* Reads the EEPROM and judges it. */
void teds_init(struct teds *teds, struct counters *counters);
/* Begins to write the draft; false where its record is neither whole nor blank. */
bool teds_commit(struct teds *teds, const struct clock *clock, uint64_t now);
/* Begins to compare all of the EEPROM, now; over when `checking` is false again. */
void teds_check(struct teds *teds);
/* One small step; main loop only. True where the state has changed: `holder` is another one. */
bool teds_poll(struct teds *teds, const struct clock *clock, uint64_t now);
/* Judges 256 bytes; gives the record in force with them. */
enum teds_state teds_judge(const uint8_t *image, struct msg_teds *record);
/* Bench mode's limits, in this state. */
void teds_to_bench(struct teds *teds, enum teds_state state);

/* Whether a step is wanted at once, because a command waits for the end or there are no limits until then. */
static inline bool teds_is_urgent(const struct teds *teds, uint64_t now)
{
    return (teds->checking || teds->state == TEDS_STATE_READING) && now >= teds->next;
}

static inline bool teds_is_settled(const struct teds *teds)
{
    return teds->state != TEDS_STATE_WRITING && teds->state != TEDS_STATE_READING;
}

#endif
