/* What the specimen holder says of itself: a record in EEPROM, whole, blank or damaged. */
#ifndef TEDS_H
#define TEDS_H
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
    uint16_t written;         /* bytes of the draft, while WRITING */
    uint8_t state;            /* enum teds_state */
    struct counters *counters;
};

/* Reads the EEPROM and judges it. */
void teds_init(struct teds *teds, struct counters *counters);
/* Begins to write the draft; false where its record is neither whole nor blank. */
bool teds_commit(struct teds *teds);
/* Writes one page while WRITING; main loop only. True when that was the last. */
bool teds_poll(struct teds *teds);
/* Judges 256 bytes; gives the record in force with them. */
enum teds_state teds_judge(const uint8_t *image, struct msg_teds *record);

#endif
