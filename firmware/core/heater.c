/* The specimen heater: setpoint ramp, control loop, limits, slew, time on. */
#include "heater.h"
#include <float.h>
#include <string.h>

#define HEATER_GAIN_MAX 1e9f
#define HEATER_FELT 5.0f /* K above the coldest: more than a thermometer scatters */

void heater_init(struct heater *heater, const struct msg_teds *teds)
{
    memset(heater, 0, sizeof *heater);
    heater->config.ambient = 296150;
    heater->config.output_max = teds->output_max;
    heater->config.temperature_max = teds->temperature_max;
    heater->config.on_time_max = teds->on_time_max;
}

static bool heater_gain(float gain) { return gain >= 0.0f && gain <= HEATER_GAIN_MAX; }

bool heater_configure(struct heater *heater, const struct msg_heater_config *config, const struct msg_teds *teds)
{
    if (!heater_gain(config->kp) || !heater_gain(config->ki) || !heater_gain(config->kd) ||
        !heater_gain(config->feed_forward) || config->ambient < 0 || config->temperature_max <= 0) {
        return false;
    }
    heater->config = *config;
    if (heater->config.output_max > teds->output_max) {
        heater->config.output_max = teds->output_max;
    }
    if (heater->config.temperature_max > teds->temperature_max) {
        heater->config.temperature_max = teds->temperature_max;
    }
    uint32_t longest = teds->on_time_max;
    if (longest != 0u && (config->on_time_max == 0u || config->on_time_max > longest)) {
        heater->config.on_time_max = longest;
    }
    return true;
}

void heater_off(struct heater *heater)
{
    heater->mode = HEATER_MODE_OFF;
    heater->wanted = 0;
    heater->output = 0.0f;
    heater->setpoint = 0;
    heater->target = 0;
    pid_reset(&heater->pid);
}

static void heater_on(struct heater *heater, enum heater_mode mode, uint64_t now)
{
    if (heater->mode == HEATER_MODE_OFF) {
        heater->on_ticks = now;
        heater->coldest = FLT_MAX;
        heater->felt_ticks = now;
    }
    if (heater->mode != (uint8_t)mode) {
        pid_reset(&heater->pid);
    }
    heater->mode = (uint8_t)mode;
}

void heater_open_loop(struct heater *heater, uint16_t output, uint64_t now)
{
    heater_on(heater, HEATER_MODE_OPEN_LOOP, now);
    heater->wanted = output;
}

void heater_closed_loop(struct heater *heater, int32_t setpoint, uint32_t rate, int32_t measured, uint64_t now)
{
    int32_t from = heater->mode == HEATER_MODE_CLOSED_LOOP ? heater->setpoint : measured;
    heater_on(heater, HEATER_MODE_CLOSED_LOOP, now);
    heater->from = from;
    heater->from_ticks = now;
    heater->target = setpoint;
    heater->rate = rate;
    heater->setpoint = rate == 0u ? setpoint : from;
}

void heater_follow(struct heater *heater, int32_t setpoint)
{
    heater->rate = 0;
    heater->target = setpoint;
    heater->setpoint = setpoint;
}

static void heater_ramp(struct heater *heater, const struct clock *clock, uint64_t now)
{
    if (heater->rate == 0u) {
        heater->setpoint = heater->target;
        return;
    }
    uint64_t elapsed = now - heater->from_ticks;
    uint64_t way = heater->target > heater->from ? (uint64_t)((int64_t)heater->target - heater->from)
                                                 : (uint64_t)((int64_t)heater->from - heater->target);
    /* In two parts, so that a slow ramp of days does not overflow. */
    uint64_t moved = elapsed / clock->rate * heater->rate + elapsed % clock->rate * heater->rate / clock->rate;
    if (moved >= way) {
        heater->setpoint = heater->target;
    } else {
        heater->setpoint = heater->target > heater->from ? (int32_t)(heater->from + (int64_t)moved)
                                                         : (int32_t)(heater->from - (int64_t)moved);
    }
}

/* Against the coldest and not against a while ago: a setpoint out of reach is no broken loop. */
static void heater_feel(struct heater *heater, uint64_t now, float kelvin)
{
    heater->coldest = kelvin < heater->coldest ? kelvin : heater->coldest;
    bool most = heater->mode == HEATER_MODE_CLOSED_LOOP && heater->output > 0.0f &&
                heater->output >= (float)heater->config.output_max;
    if (!most || kelvin - heater->coldest >= HEATER_FELT) {
        heater->felt_ticks = now;
    }
}

uint16_t heater_pass(struct heater *heater, const struct clock *clock, uint64_t now, float kelvin, float dt)
{
    if (heater->mode == HEATER_MODE_OFF) {
        heater->output = 0.0f;
        return 0;
    }
    const struct msg_heater_config *config = &heater->config;
    float high = (float)config->output_max;
    if (config->slew != 0u) {
        float rise = heater->output + (float)config->slew * dt;
        high = rise < high ? rise : high;
    }
    if (heater->mode == HEATER_MODE_OPEN_LOOP) {
        float wanted = (float)heater->wanted;
        heater->output = wanted < high ? wanted : high;
    } else {
        heater_ramp(heater, clock, now);
        struct pid_gains gains = {config->kp, config->ki, config->kd};
        float setpoint = (float)heater->setpoint * 1e-3f;
        float above = setpoint - (float)config->ambient * 1e-3f;
        float forward = above > 0.0f ? config->feed_forward * above : 0.0f;
        heater->output = pid_step(&heater->pid, &gains, setpoint, kelvin, forward, dt, 0.0f, high);
    }
    heater_feel(heater, now, kelvin);
    return (uint16_t)(heater->output + 0.5f);
}

bool heater_on_too_long(const struct heater *heater, const struct clock *clock, uint64_t now)
{
    if (heater->mode == HEATER_MODE_OFF || heater->config.on_time_max == 0u) {
        return false;
    }
    return now - heater->on_ticks >= (uint64_t)heater->config.on_time_max * clock->rate;
}

bool heater_loop_is_broken(const struct heater *heater, const struct clock *clock, uint64_t now)
{
    return heater->mode == HEATER_MODE_CLOSED_LOOP && heater->config.loop_break != 0u &&
           now - heater->felt_ticks >= (uint64_t)heater->config.loop_break * clock->rate;
}
