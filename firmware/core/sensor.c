/* The specimen's thermometer: counts to temperature, and whether to believe them. */
#include "sensor.h"
#include "teds.h"
#include <string.h>

#define SENSOR_RAIL 64 /* nearer to an end of the converter than a 64th of it is no measurement */

static float sensor_polynomial(const float *c, float x) { return c[0] + x * (c[1] + x * (c[2] + x * c[3])); }

/* 4-wire: sensor and reference carry the same current, so that its value does not matter. */
static enum fault sensor_resistance(const struct msg_teds *teds, int16_t signal, int16_t reference, float *kelvin)
{
    int32_t full = board_facts()->adc_full_counts;
    int32_t end = full - full / SENSOR_RAIL;
    if (signal >= end || reference >= end || reference <= full / SENSOR_RAIL) {
        return FAULT_SENSOR_OPEN; /* no current flows, or an amplifier is at its end: a specimen would look colder */
    }
    if (signal <= full / (SENSOR_RAIL * 4)) {
        return FAULT_SENSOR_SHORT;
    }
    float ohms = teds->reference * (float)signal / ((float)reference * teds->gain);
    *kelvin = sensor_polynomial(teds->coefficients, ohms / teds->nominal - 1.0f);
    return FAULT_NONE;
}

/* An open thermocouple is pulled up by a resistor; a short at the holder can't be told from its cold junction. */
static enum fault sensor_thermocouple(const struct msg_teds *teds, int16_t signal, int16_t reference, float *kelvin)
{
    const struct board_facts *facts = board_facts();
    int32_t full = facts->adc_full_counts;
    if (signal >= full - full / SENSOR_RAIL || reference >= full - full / SENSOR_RAIL) {
        return FAULT_SENSOR_OPEN;
    }
    if (reference <= full / (SENSOR_RAIL * 4)) {
        return FAULT_SENSOR_SHORT;
    }
    float volts_per_count = (float)facts->adc_full_scale * 1e-6f / (float)full;
    float millivolts = (float)signal * volts_per_count * 1e3f / teds->gain;
    float cold = teds->cold_offset + teds->cold_slope * (float)reference * volts_per_count;
    *kelvin = cold + sensor_polynomial(teds->coefficients, millivolts);
    return FAULT_NONE;
}

static enum fault sensor_believe(const struct sensor *sensor, const struct msg_teds *teds, float kelvin,
                                 uint32_t ticks, uint32_t rate)
{
    float lowest = (float)teds->temperature_min * 1e-3f;
    if (!(kelvin >= lowest && kelvin < 1e5f)) { /* not a number is no temperature */
        return FAULT_SENSOR_RANGE;
    }
    if (teds->rate_max != 0u && sensor->known) {
        float ms = (float)(ticks - sensor->ticks) * 1e3f / (float)rate;
        float moved = kelvin > sensor->kelvin ? kelvin - sensor->kelvin : sensor->kelvin - kelvin;
        if (moved * 1e3f > (float)teds->rate_max * (ms < 1.0f ? 1.0f : ms)) {
            return FAULT_SENSOR_RATE;
        }
    }
    if (kelvin > (float)teds->temperature_max * 1e-3f * 2.0f) {
        return FAULT_SENSOR_RANGE; /* hotter than twice its limit: that is no heater's doing */
    }
    return FAULT_NONE;
}

void sensor_reset(struct sensor *sensor) { memset(sensor, 0, sizeof *sensor); }

void sensor_pass(struct sensor *sensor, const struct msg_teds *teds, int16_t signal, int16_t reference,
                 uint32_t ticks, uint32_t rate)
{
    float kelvin = 0.0f;
    enum fault seen = FAULT_NONE;
    if (teds->sensor != SENSOR_KIND_NONE && (signal < 0 || reference < 0)) {
        seen = FAULT_ADC_DEAD; /* a thermocouple would be taken for one at its cold junction's temperature */
    } else if (teds->sensor == SENSOR_KIND_RESISTANCE) {
        seen = sensor_resistance(teds, signal, reference, &kelvin);
    } else if (teds->sensor == SENSOR_KIND_THERMOCOUPLE) {
        seen = sensor_thermocouple(teds, signal, reference, &kelvin);
    } else {
        sensor_reset(sensor);
        return;
    }
    if (seen == FAULT_NONE) {
        seen = sensor_believe(sensor, teds, kelvin, ticks, rate);
    }
    sensor->suspicion = (uint8_t)seen;
    if (seen == FAULT_NONE) {
        sensor->kelvin = kelvin;
        sensor->known = true;
        sensor->ticks = ticks;
        sensor->doubts = 0;
        sensor->wrong = FAULT_NONE;
        return;
    }
    if (sensor->doubts < SENSOR_DOUBTS) {
        sensor->doubts++;
    }
    if (sensor->doubts >= SENSOR_DOUBTS) {
        sensor->wrong = (uint8_t)seen;
        sensor->known = false; /* the next believable value is a new beginning */
    }
}

int32_t sensor_millikelvin(const struct sensor *sensor)
{
    return sensor->known ? (int32_t)(sensor->kelvin * 1e3f + 0.5f) : TEDS_NO_TEMPERATURE;
}
