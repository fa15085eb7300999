/* The EEPROM in steps of a millisecond or two: compared, read anew, written.

   A control pass interrupts a step as it interrupts all of the main loop; what a step costs is the link's time. On I2C
   at 100 kHz 8 bytes take 0.7 ms, every 31 ms: a fortieth of it. So a holder that is pulled out is missed after 31 ms
   and the doubts, and one that took its place unseen after a second. */
#include "board.h"
#include "teds.h"
#include <string.h>

#define TEDS_STEP 8u
#define TEDS_EVERY_MS 31u  /* 32 steps make a round */
#define TEDS_DOUBTS 3u     /* looks in a row that say so: a disturbed byte is no other holder */
#define TEDS_DOUBT_MS 1u   /* between them */
#define TEDS_SETTLE_MS 100u /* contacts bounce while a holder is pushed in */
#define TEDS_WRITE_MS 20u  /* a page; AT24C32: 5 ms at most (DS20006270, table 4-4) */

/* Written over the first page until all others are right: no magic, and not blank. Without power in the middle the
   area is damaged then, whatever old and new pages would make together. */
static const uint8_t teds_spoilt[TEDS_PAGE];

/* From here on another number, to be looked at from its beginning. */
static void teds_renew(struct teds *teds, uint64_t next)
{
    teds->holder = teds->holder == UINT32_MAX ? 1u : teds->holder + 1u; /* 0 is what a host says that knows none */
    teds->looked = 0;
    teds->doubts = 0;
    teds->checking = false;
    teds->next = next;
}

/* The image is whole: judge it. The host begins with it again, too: what it had prepared was for what was before. */
static void teds_settle(struct teds *teds, uint64_t now)
{
    uint32_t before = board_critical_begin();
    teds->state = (uint8_t)teds_judge(teds->image, &teds->record);
    board_critical_end(before);
    memcpy(teds->draft, teds->image, TEDS_SIZE);
    teds->written = 0;
    teds_renew(teds, now);
}

static void teds_give_up(struct teds *teds, enum teds_state state, uint64_t next)
{
    uint32_t before = board_critical_begin();
    teds_to_bench(teds, state);
    board_critical_end(before);
    teds_renew(teds, next);
}

/* True where there were enough in a row. */
static bool teds_doubted(struct teds *teds, const struct clock *clock, uint64_t now)
{
    teds->next = now + clock_of_ms(clock, TEDS_DOUBT_MS);
    return ++teds->doubts >= TEDS_DOUBTS;
}

static bool teds_compare(struct teds *teds, const struct clock *clock, uint64_t now)
{
    uint8_t seen[TEDS_STEP];
    bool answers = board_eeprom_read(teds->looked, seen, TEDS_STEP);
    bool gone = teds->state == TEDS_STATE_ABSENT;
    if (gone ? answers : !answers || memcmp(seen, teds->image + teds->looked, TEDS_STEP) != 0) {
        teds->counters->eeprom_errors += answers ? 0u : 1u;
        if (!teds_doubted(teds, clock, now)) {
            return false;
        }
        teds_give_up(teds, TEDS_STATE_READING, now + clock_of_ms(clock, TEDS_SETTLE_MS));
        return true;
    }
    teds->doubts = 0;
    teds->looked = (uint16_t)((teds->looked + TEDS_STEP) % TEDS_SIZE);
    if (teds->looked == 0u || gone) {
        teds->checking = false;
    }
    teds->next = teds->checking ? now : now + clock_of_ms(clock, TEDS_EVERY_MS);
    return false;
}

static bool teds_read_anew(struct teds *teds, const struct clock *clock, uint64_t now)
{
    if (board_eeprom_read(teds->looked, teds->image + teds->looked, TEDS_STEP)) {
        teds->doubts = 0;
        teds->looked = (uint16_t)(teds->looked + TEDS_STEP);
        if (teds->looked < TEDS_SIZE) {
            return false;
        }
        teds_settle(teds, now);
        return true;
    }
    teds->counters->eeprom_errors++;
    if (!teds_doubted(teds, clock, now)) {
        return false;
    }
    memset(teds->image, 0xff, sizeof teds->image);
    memset(teds->draft, 0xff, sizeof teds->draft);
    teds_give_up(teds, TEDS_STATE_ABSENT, now);
    return true;
}

/* A page, in as many steps as the memory takes: it does not answer while it writes. */
static bool teds_write_page(struct teds *teds, const struct clock *clock, uint64_t now)
{
    uint16_t at = (uint16_t)(teds->written % TEDS_SIZE);
    const uint8_t *page = teds->written == 0u ? teds_spoilt : teds->draft + at;
    uint8_t back[TEDS_PAGE];
    teds->sent = teds->sent || board_eeprom_write(at, page, TEDS_PAGE);
    if (teds->sent && board_eeprom_read(at, back, TEDS_PAGE)) {
        if (memcmp(page, back, TEDS_PAGE) == 0) {
            memcpy(teds->image + at, page, TEDS_PAGE);
            teds->written = (uint16_t)(teds->written + TEDS_PAGE);
            teds->sent = false;
            teds->next = now + clock_of_ms(clock, TEDS_WRITE_MS);
            if (teds->written <= TEDS_SIZE) { /* the first page comes last, too */
                return false;
            }
            teds_settle(teds, now);
            return true;
        }
    } else if (now < teds->next) {
        return false;
    }
    teds->counters->eeprom_errors++;
    teds_give_up(teds, TEDS_STATE_DAMAGED, now);
    return true;
}

bool teds_commit(struct teds *teds, const struct clock *clock, uint64_t now)
{
    struct msg_teds record;
    if (teds_judge(teds->draft, &record) == TEDS_STATE_DAMAGED) {
        return false;
    }
    teds->state = TEDS_STATE_WRITING;
    teds->written = 0;
    teds->sent = false;
    teds->next = now + clock_of_ms(clock, TEDS_WRITE_MS);
    return true;
}

void teds_check(struct teds *teds)
{
    if (teds_is_settled(teds) && (board_facts()->capabilities & (uint32_t)CAPABILITY_EEPROM) != 0u) {
        teds->checking = true;
        teds->looked = 0;
        teds->next = 0;
    }
}

bool teds_poll(struct teds *teds, const struct clock *clock, uint64_t now)
{
    if ((board_facts()->capabilities & (uint32_t)CAPABILITY_EEPROM) == 0u) {
        return false;
    }
    if (teds->state == TEDS_STATE_WRITING) {
        return teds_write_page(teds, clock, now);
    }
    if (now < teds->next) {
        return false;
    }
    return teds->state == TEDS_STATE_READING ? teds_read_anew(teds, clock, now) : teds_compare(teds, clock, now);
}
