/* Commands: profiles, and pulses for a detector. */
#include "command.h"

/* What a profile may drive, and how far; `most` of digital outputs is all bits there are. */
static enum refusal profile_limits(const struct app *self, int32_t *least, int32_t *most)
{
    const struct board_facts *facts = board_facts();
    const struct msg_teds *teds = &self->teds.record;
    bool heater = (facts->capabilities & (uint32_t)CAPABILITY_HEATER) != 0u;
    bool sensor = self->sensor.known && self->sensor.wrong == FAULT_NONE;
    *least = 0;
    switch (self->profile.head.target) {
    case PROFILE_TARGET_TEMPERATURE:
        *least = teds->temperature_min;
        *most = self->heater.config.temperature_max;
        return !heater ? REFUSAL_NO_CAPABILITY : !sensor ? REFUSAL_SENSOR : REFUSAL_NONE;
    case PROFILE_TARGET_OUTPUT:
        *most = self->heater.config.output_max;
        return !heater                                           ? REFUSAL_NO_CAPABILITY
               : teds->sensor != SENSOR_KIND_NONE && !sensor ? REFUSAL_SENSOR
                                                                 : REFUSAL_NONE;
    case PROFILE_TARGET_DAC:
        *most = (int32_t)MSG_FULL_OUTPUT;
        return self->profile.channel < facts->dac_channels ? REFUSAL_NONE : REFUSAL_NO_CAPABILITY;
    default:
        *most = (int32_t)(((uint32_t)1u << facts->digital_outputs) - 1u);
        return REFUSAL_NONE;
    }
}

static enum refusal profile_begin_command(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, profile_begin, begin);
    if (profile_busy(&self->profile)) {
        return REFUSAL_BUSY;
    }
    if (begin.target > PROFILE_TARGET_DIGITAL || begin.count == 0u || begin.count > PROFILE_SEGMENTS) {
        return command_refuse(call, REFUSAL_RANGE, (int32_t)PROFILE_SEGMENTS);
    }
    profile_begin(&self->profile, &begin, call->in->channel);
    return REFUSAL_NONE;
}

static enum refusal profile_segments(struct call *call)
{
    struct app *self = call->app;
    struct msg_profile_segments *load = &self->segments;
    if (!msg_profile_segments_unpack(load, call->in->payload, call->in->size)) {
        return REFUSAL_MALFORMED;
    }
    if (profile_busy(&self->profile)) {
        return REFUSAL_BUSY;
    }
    if (!profile_load(&self->profile, load->first, load->n, load->segments)) {
        return command_refuse(call, REFUSAL_RANGE, self->profile.loaded);
    }
    struct msg_profile_segments_reply reply = {.state = self->profile.state, .loaded = self->profile.loaded};
    call->out->size = (uint8_t)msg_profile_segments_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal profile_start(struct call *call)
{
    struct app *self = call->app;
    struct profile *profile = &self->profile;
    COMMAND_TAKE(call, profile_start, start);
    if (profile_busy(profile)) {
        return REFUSAL_BUSY;
    }
    if (profile->state != PROFILE_STATE_READY && profile->state != PROFILE_STATE_DONE) {
        return command_refuse(call, REFUSAL_INCOMPLETE, profile->loaded);
    }
    int32_t least = 0;
    int32_t most = 0;
    int32_t lowest = 0;
    int32_t highest = 0;
    enum refusal hindrance = profile_limits(self, &least, &most);
    if (hindrance != REFUSAL_NONE) {
        return command_refuse(call, hindrance, self->sensor.wrong);
    }
    profile_bounds(profile, &lowest, &highest);
    if (lowest < least || highest > most) {
        return command_refuse(call, REFUSAL_RANGE, lowest < least ? least : most);
    }
    uint32_t bits = (uint32_t)profile->head.start;
    for (uint8_t i = 0; i < profile->loaded; i++) {
        bits |= (uint32_t)profile->segments[i].value;
    }
    profile->digital = (uint16_t)(bits & 0xffffu);
    if (start.start == START_NOW) {
        profile_start_at(profile, call->now);
    } else if (start.start == START_AT_TICK && start.ticks > call->now) {
        profile_start_at(profile, start.ticks);
    } else if (start.start == START_ON_EDGE && call->in->channel < board_facts()->capture_channels) {
        profile_start_on_edge(profile, call->in->channel, start.rising != 0u, call->now);
    } else {
        return REFUSAL_RANGE;
    }
    struct msg_profile_start_reply reply = {.state = profile->state};
    call->out->size = (uint8_t)msg_profile_start_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal profile_stop_command(struct call *call)
{
    struct app *self = call->app;
    struct profile *profile = &self->profile;
    if (profile_busy(profile) || profile->state == PROFILE_STATE_DONE) {
        switch (profile->head.target) {
        case PROFILE_TARGET_TEMPERATURE:
        case PROFILE_TARGET_OUTPUT:
            heater_off(&self->heater);
            outputs_heater(&self->outputs, 0);
            break;
        case PROFILE_TARGET_DAC:
            outputs_dac(&self->outputs, profile->channel, 0);
            break;
        default:
            outputs_digital(&self->outputs, profile->digital, 0);
            break;
        }
    }
    profile_stop(profile);
    struct msg_profile_stop_reply reply = {.state = profile->state};
    call->out->size = (uint8_t)msg_profile_stop_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal profile_trigger(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, trigger, trigger);
    uint8_t channel = call->in->channel;
    if (channel >= board_facts()->trigger_channels || channel >= TRIGGER_CHANNELS) {
        return command_refuse(call, REFUSAL_NO_CAPABILITY, board_facts()->trigger_channels);
    }
    if (self->triggers.channel[channel].left > 0u) {
        return REFUSAL_BUSY;
    }
    return trigger_set(&self->triggers, channel, &trigger, call->now) ? REFUSAL_NONE : REFUSAL_RANGE;
}

static const struct command profile_table[] = {
    {MSG_PROFILE_BEGIN_RULES, profile_begin_command},
    {MSG_PROFILE_SEGMENTS_RULES, profile_segments},
    {MSG_PROFILE_START_RULES, profile_start},
    {MSG_PROFILE_STOP_RULES, profile_stop_command},
    {MSG_TRIGGER_RULES, profile_trigger},
};
COMMAND_TABLE(profile);
