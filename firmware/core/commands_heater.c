/* Commands: the specimen heater. */
#include "command.h"

/* What stands in the way of heating at all. */
static enum refusal heater_hindrance(const struct app *self)
{
    if ((board_facts()->capabilities & (uint32_t)CAPABILITY_HEATER) == 0u) {
        return REFUSAL_NO_CAPABILITY;
    }
    if (self->teds.record.sensor != SENSOR_KIND_NONE && (self->sensor.wrong != FAULT_NONE || !self->sensor.known)) {
        return REFUSAL_SENSOR;
    }
    return profile_heats(&self->profile) ? REFUSAL_BUSY : REFUSAL_NONE;
}

static enum refusal heater_config(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, heater_config, config);
    if (!heater_configure(&self->heater, &config, &self->teds.record)) {
        return REFUSAL_RANGE;
    }
    struct msg_heater_config_reply reply = {
        .output_max = self->heater.config.output_max,
        .temperature_max = self->heater.config.temperature_max,
        .on_time_max = self->heater.config.on_time_max,
    };
    call->out->size = (uint8_t)msg_heater_config_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal heater_set(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, heater_set, set);
    enum refusal hindrance = heater_hindrance(self);
    if (hindrance == REFUSAL_NONE && self->teds.record.sensor == SENSOR_KIND_NONE) {
        hindrance = REFUSAL_SENSOR;
    }
    if (hindrance != REFUSAL_NONE) {
        return command_refuse(call, hindrance, self->sensor.wrong);
    }
    if (set.setpoint < self->teds.record.temperature_min || set.setpoint > self->heater.config.temperature_max) {
        return command_refuse(call, REFUSAL_RANGE, self->heater.config.temperature_max);
    }
    heater_closed_loop(&self->heater, set.setpoint, set.rate, sensor_millikelvin(&self->sensor), call->now);
    struct msg_heater_set_reply reply = {.setpoint = set.setpoint};
    call->out->size = (uint8_t)msg_heater_set_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal heater_output(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, heater_output, set);
    enum refusal hindrance = heater_hindrance(self);
    if (hindrance != REFUSAL_NONE) {
        return command_refuse(call, hindrance, self->sensor.wrong);
    }
    if (set.output > self->heater.config.output_max) {
        return command_refuse(call, REFUSAL_RANGE, self->heater.config.output_max);
    }
    heater_open_loop(&self->heater, set.output, call->now);
    struct msg_heater_output_reply reply = {.output = set.output};
    call->out->size = (uint8_t)msg_heater_output_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal heater_switch_off(struct call *call)
{
    struct app *self = call->app;
    if (profile_heats(&self->profile)) {
        profile_stop(&self->profile);
    }
    heater_off(&self->heater);
    outputs_heater(&self->outputs, 0);
    app_settle(self, call->now);
    struct msg_heater_off_reply reply = {.state = self->safety.state};
    call->out->size = (uint8_t)msg_heater_off_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static const struct command heater_table[] = {
    {MSG_HEATER_CONFIG_RULES, heater_config},
    {MSG_HEATER_SET_RULES, heater_set},
    {MSG_HEATER_OUTPUT_RULES, heater_output},
    {MSG_HEATER_OFF_RULES, heater_switch_off},
};
COMMAND_TABLE(heater);
