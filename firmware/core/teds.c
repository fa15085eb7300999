/* What the specimen holder says of itself: a record in EEPROM, judged. */
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

void teds_to_bench(struct teds *teds, enum teds_state state)
{
    teds->record = teds_bench;
    teds->state = (uint8_t)state;
}

void teds_init(struct teds *teds, struct counters *counters)
{
    memset(teds, 0, sizeof *teds);
    teds->counters = counters;
    uint32_t boot = board_facts()->boot;
    teds->holder = boot != 0u ? boot : 1u; /* so that a number of before the reset is none of now */
    memset(teds->image, 0xff, sizeof teds->image);
    bool answers = true;
    if ((board_facts()->capabilities & (uint32_t)CAPABILITY_EEPROM) != 0u) {
        answers = board_eeprom_read(0, teds->image, TEDS_SIZE);
    }
    if (answers) {
        teds->state = (uint8_t)teds_judge(teds->image, &teds->record);
    } else { /* there may be a holder with limits: don't guess */
        counters->eeprom_errors++;
        memset(teds->image, 0xff, sizeof teds->image);
        teds_to_bench(teds, TEDS_STATE_ABSENT);
    }
    memcpy(teds->draft, teds->image, TEDS_SIZE);
}
