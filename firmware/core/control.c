/* One pass of the control loop, each millisecond: look, decide, act. In the timer interrupt, so that nothing the
   main loop does can hold it up. */
#include "control.h"

#define CONTROL_DT_MAX 0.05f     /* s; a longer pause is not integrated over */
#define CONTROL_LATE_MS 250u     /* without a pass for so long, nobody knows what the specimen did */
#define CONTROL_OVER_PASSES 2u   /* too hot in a row */

/* What is wrong now, if anything may be on; the first in this order is latched. */
static enum fault control_judge(struct app *self, uint64_t now, uint64_t since, int32_t *seen)
{
    if (self->interlock_fault != FAULT_NONE) {
        return (enum fault)self->interlock_fault;
    }
    *seen = sensor_millikelvin(&self->sensor);
    bool heats = self->heater.mode != HEATER_MODE_OFF || profile_heats(&self->profile);
    if (heats && self->sensor.wrong != FAULT_NONE) {
        return (enum fault)self->sensor.wrong;
    }
    if (self->over >= CONTROL_OVER_PASSES) {
        return FAULT_OVER_TEMPERATURE;
    }
    if (heater_loop_is_broken(&self->heater, &self->clock, now)) {
        return FAULT_LOOP_BREAK;
    }
    *seen = 0;
    if (safety_lease(&self->safety, &self->clock, now) == 0u) {
        return FAULT_LEASE;
    }
    if (since > clock_of_ms(&self->clock, CONTROL_LATE_MS)) {
        return FAULT_CONTROL_LATE;
    }
    return heater_on_too_long(&self->heater, &self->clock, now) ? FAULT_ON_TIME : FAULT_NONE;
}

static void control_profile(struct app *self, uint64_t now)
{
    struct profile *profile = &self->profile;
    if (!profile_pass(profile, &self->clock, now)) {
        return;
    }
    int32_t value = profile->value;
    switch (profile->head.target) {
    case PROFILE_TARGET_TEMPERATURE:
        if (self->heater.mode != HEATER_MODE_CLOSED_LOOP) {
            heater_closed_loop(&self->heater, value, 0, value, now);
        }
        heater_follow(&self->heater, value);
        break;
    case PROFILE_TARGET_OUTPUT:
        heater_open_loop(&self->heater, (uint16_t)value, now);
        break;
    case PROFILE_TARGET_DAC:
        outputs_dac(&self->outputs, profile->channel, (uint16_t)value);
        break;
    default:
        outputs_digital(&self->outputs, profile->digital, (uint16_t)value);
        break;
    }
}

static void control_telemetry(struct app *self, uint64_t now)
{
    struct msg_telemetry line = {
        .ticks = now,
        .temperature = sensor_millikelvin(&self->sensor),
        .setpoint = self->heater.setpoint,
        .output = self->outputs.heater,
        .state = self->safety.state,
        .mode = self->heater.mode,
    };
    telemetry_add(&self->telemetry, &line);
}

void control_pass(struct app *self)
{
    uint64_t now = clock_now(&self->clock);
    uint64_t since = now - self->last_pass;
    self->last_pass = now;
    self->counters.passes++;
    if (since * 2u > clock_of_ms(&self->clock, 3u)) {
        self->counters.passes_late++;
    }

    const struct msg_teds *teds = &self->teds.record;
    int32_t seen = 0;
    self->interlock_fault = (uint8_t)interlocks_pass(&self->interlocks, &seen);
    if (teds->sensor != SENSOR_KIND_NONE) {
        sensor_pass(&self->sensor, teds, board_adc(teds->sensor_channel), board_adc(teds->reference_channel),
                    (uint32_t)now, self->clock.rate);
    }
    bool hot = self->sensor.known && sensor_millikelvin(&self->sensor) > self->heater.config.temperature_max;
    self->over = (uint8_t)(!hot ? 0u : self->over < CONTROL_OVER_PASSES ? self->over + 1u : self->over);

    if (safety_may_be_on(&self->safety)) {
        enum fault fault = control_judge(self, now, since, &seen);
        if (fault != FAULT_NONE) {
            safety_fault(&self->safety, fault, seen, now);
        }
    }
    app_settle(self, now); /* off now, where it must be */
    if (safety_may_be_on(&self->safety)) {
        float dt = (float)since / (float)self->clock.rate;
        control_profile(self, now);
        outputs_heater(&self->outputs, heater_pass(&self->heater, &self->clock, now, self->sensor.kelvin,
                                                   dt < CONTROL_DT_MAX ? dt : CONTROL_DT_MAX));
        triggers_pass(&self->triggers, now);
        app_settle(self, now);
    }
    control_telemetry(self, now);
}
