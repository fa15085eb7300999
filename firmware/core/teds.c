/* What the specimen holder says of itself: a record in EEPROM, whole, blank or damaged. */
#include "teds.h"
#include "board.h"
#include "crc.h"
#include <string.h>

/* Without a holder's record: a bench, a lamp, a finger. Ten per cent, 60 degC, one minute, no thermometer. */
static const struct msg_teds teds_bench = {
    .magic = TEDS_MAGIC,
    .version = 1,
    .model = "bench",
    .sensor = SENSOR_KIND_NONE,
    .gain = 1.0f,
    .reference = 1.0f,
    .nominal = 1.0f,
    .temperature_min = 0,
    .temperature_max = 333150,
    .output_max = MSG_FULL_OUTPUT / 10u,
    .on_time_max = 60,
};

static bool teds_plausible(const struct msg_teds *record)
{
    uint8_t channels = board_facts()->adc_channels;
    if (record->magic != TEDS_MAGIC || record->version != 1u || record->sensor > SENSOR_KIND_THERMOCOUPLE ||
        record->temperature_min < 0 || record->temperature_max <= record->temperature_min) {
        return false;
    }
    if (record->sensor == SENSOR_KIND_NONE) {
        return true;
    }
    const float numbers[] = {
        record->gain, record->reference, record->nominal, record->coefficients[0], record->coefficients[1],
        record->coefficients[2], record->coefficients[3], record->cold_offset, record->cold_slope,
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (!(numbers[i] > -1e9f && numbers[i] < 1e9f)) { /* not a number fails too */
            return false;
        }
    }
    return record->gain > 1e-6f && record->nominal > 1e-6f && record->reference > 1e-6f &&
           record->sensor_channel < channels && record->reference_channel < channels &&
           record->sensor_channel != record->reference_channel;
}

enum teds_state teds_judge(const uint8_t *image, struct msg_teds *record)
{
    size_t blank = 0;
    while (blank < MSG_TEDS_SIZE + 2u && image[blank] == 0xffu) {
        blank++;
    }
    uint16_t crc = (uint16_t)(image[MSG_TEDS_SIZE] | (uint16_t)(image[MSG_TEDS_SIZE + 1u] << 8));
    if (blank < MSG_TEDS_SIZE + 2u && crc_add(CRC_START, image, MSG_TEDS_SIZE) == crc &&
        msg_teds_unpack(record, image, MSG_TEDS_SIZE) && teds_plausible(record)) {
        return TEDS_STATE_VALID;
    }
    *record = teds_bench;
    return blank == MSG_TEDS_SIZE + 2u ? TEDS_STATE_BLANK : TEDS_STATE_DAMAGED;
}

void teds_init(struct teds *teds, struct counters *counters)
{
    memset(teds, 0, sizeof *teds);
    teds->counters = counters;
    memset(teds->image, 0xff, sizeof teds->image);
    bool read = true;
    if ((board_facts()->capabilities & (uint32_t)CAPABILITY_EEPROM) != 0u) {
        read = board_eeprom_read(0, teds->image, TEDS_SIZE);
    }
    teds->state = (uint8_t)teds_judge(teds->image, &teds->record);
    if (!read) {
        counters->eeprom_errors++;
        teds->state = TEDS_STATE_DAMAGED; /* there may be a holder with limits: don't guess */
        teds->record = teds_bench;
    }
    memcpy(teds->draft, teds->image, TEDS_SIZE);
}

bool teds_commit(struct teds *teds)
{
    struct msg_teds record;
    if (teds_judge(teds->draft, &record) == TEDS_STATE_DAMAGED) {
        return false;
    }
    teds->state = TEDS_STATE_WRITING;
    teds->written = 0;
    return true;
}

bool teds_poll(struct teds *teds)
{
    if (teds->state != TEDS_STATE_WRITING) {
        return false;
    }
    if (teds->written < TEDS_SIZE) {
        uint8_t back[TEDS_PAGE];
        const uint8_t *page = teds->draft + teds->written;
        bool good = board_eeprom_write(teds->written, page, TEDS_PAGE) &&
                    board_eeprom_read(teds->written, back, TEDS_PAGE) && memcmp(page, back, TEDS_PAGE) == 0;
        if (good) {
            memcpy(teds->image + teds->written, page, TEDS_PAGE);
            teds->written = (uint16_t)(teds->written + TEDS_PAGE);
            return false;
        }
        teds->counters->eeprom_errors++;
        uint32_t before = board_critical_begin();
        teds->record = teds_bench;
        teds->state = TEDS_STATE_DAMAGED;
        board_critical_end(before);
        return true;
    }
    uint32_t before = board_critical_begin();
    teds->state = (uint8_t)teds_judge(teds->image, &teds->record);
    board_critical_end(before);
    return true;
}
