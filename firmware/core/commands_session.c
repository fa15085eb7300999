/* Commands: who is there, what time is it, is the host alive, may anything be on. */
#include "command.h"
#include "control.h"
#include <string.h>

static enum refusal session_hello(struct call *call)
{
    struct app *self = call->app;
    const struct board_facts *facts = board_facts();
    COMMAND_TAKE(call, hello, hello);
    if (hello.session == 0u) {
        return REFUSAL_RANGE;
    }
    if (safety_session(&self->safety, hello.session, hello.schema != MSG_SCHEMA, call->now)) {
        replay_reset(&self->replay);
        app_stop_streams(self);
        profile_stop(&self->profile);
    }
    struct msg_hello_reply reply = {
        .schema = MSG_SCHEMA,
        .build = BUILD_ID,
        .boot = facts->boot,
        .session = self->safety.session,
        .reset_cause = facts->reset_cause,
        .state = self->safety.state,
        .teds = self->teds.state,
        .read_only = self->safety.read_only ? 1u : 0u,
        .tick_rate = facts->tick_rate,
        .capabilities = facts->capabilities,
        .adc_channels = facts->adc_channels,
        .capture_channels = facts->capture_channels,
        .dac_channels = facts->dac_channels,
        .digital_outputs = facts->digital_outputs,
        .digital_inputs = facts->digital_inputs,
        .trigger_channels = facts->trigger_channels,
        .adc_full_counts = facts->adc_full_counts,
        .adc_full_scale = facts->adc_full_scale,
        .control_period = CONTROL_PERIOD_US,
    };
    for (size_t i = 0; i < sizeof reply.board && facts->name[i] != '\0'; i++) {
        reply.board[i] = (uint8_t)facts->name[i];
    }
    call->out->size = (uint8_t)msg_hello_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal session_time(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, time, asked);
    struct msg_time_reply reply = {
        .t1 = asked.t1,
        .nonce = asked.nonce,
        .received = clock_extend(&self->clock, self->link.rx_ticks),
        .sent = clock_now(&self->clock),
        .ahead = (uint16_t)link_waiting(&self->link),
        .tick_rate = self->clock.rate,
        .boot = board_facts()->boot,
    };
    call->out->size = (uint8_t)msg_time_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal session_heartbeat(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, heartbeat, beat);
    bool renewed = safety_heartbeat(&self->safety, beat.session, beat.count, call->now);
    struct msg_heartbeat_reply reply = {
        .count = beat.count,
        .renewed = renewed ? 1u : 0u,
        .state = self->safety.state,
        .fault = self->safety.fault,
        .profile = self->profile.state,
        .nonce = renewed ? safety_nonce(&self->safety, call->now) : 0u,
        .ticks = call->now,
        .temperature = sensor_millikelvin(&self->sensor),
        .output = self->outputs.heater,
    };
    call->out->size = (uint8_t)msg_heartbeat_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal session_status(struct call *call)
{
    struct app *self = call->app;
    if (call->in->size != MSG_STATUS_SIZE) {
        return REFUSAL_MALFORMED;
    }
    struct msg_status_reply reply = {
        .ticks = call->now,
        .measured = self->last_pass,
        .state = self->safety.state,
        .fault = self->safety.fault,
        .fault_ticks = self->safety.fault_ticks,
        .fault_value = self->safety.fault_value,
        .lease_left = safety_lease(&self->safety, &self->clock, call->now),
        .teds = self->teds.state,
        .mode = self->heater.mode,
        .sensor = self->sensor.wrong,
        .temperature = sensor_millikelvin(&self->sensor),
        .setpoint = self->heater.setpoint,
        .output = self->outputs.heater,
        .digital_out = self->outputs.digital,
        .digital_in = board_digital_in(),
        .profile = self->profile.state,
        .segment = self->profile.segment,
        .temperature_max = self->heater.config.temperature_max,
        .output_max = self->heater.config.output_max,
        .holder = self->teds.holder,
    };
    call->out->size = (uint8_t)msg_status_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal session_state_reply(struct call *call)
{
    struct msg_safe_reply reply = {.state = call->app->safety.state};
    call->out->size = (uint8_t)msg_safe_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal session_arm(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, arm, arm);
    enum refusal hindrance = app_hindrance(self, &call->detail);
    if (hindrance == REFUSAL_NONE && arm.holder != self->teds.holder) {
        hindrance = REFUSAL_HOLDER; /* the host's setpoints, curve and certificate are another one's */
        call->detail = self->teds.state;
    }
    uint16_t in_force = interlocks_checksum(&self->interlocks);
    if (hindrance == REFUSAL_NONE && arm.interlocks != in_force) {
        hindrance = REFUSAL_UNPROTECTED; /* after a reset there are none: nothing is on until the host has set its own */
        call->detail = in_force;
    }
    enum refusal refused = safety_arm(&self->safety, &self->clock, arm.nonce, hindrance, call->now);
    return refused == REFUSAL_NONE ? session_state_reply(call) : refused;
}

static enum refusal session_safe(struct call *call)
{
    safety_make_safe(&call->app->safety, call->now); /* whatever the payload is */
    app_shut(call->app);
    return session_state_reply(call);
}

static enum refusal session_clear_fault(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, clear_fault, clear);
    if (self->safety.state != STATE_FAULT) {
        return command_refuse(call, REFUSAL_STATE, STATE_FAULT);
    }
    if (clear.fault != self->safety.fault) {
        return command_refuse(call, REFUSAL_RANGE, self->safety.fault);
    }
    enum refusal hindrance = app_hindrance(self, &call->detail);
    if (hindrance != REFUSAL_NONE) {
        return hindrance;
    }
    bool sensor = (clear.fault >= FAULT_SENSOR_OPEN && clear.fault <= FAULT_SENSOR_RATE) || clear.fault == FAULT_ADC_DEAD;
    if ((sensor && self->sensor.wrong != FAULT_NONE) || self->over > 0u) {
        return command_refuse(call, REFUSAL_SENSOR, sensor_millikelvin(&self->sensor));
    }
    safety_clear(&self->safety, call->now);
    return session_state_reply(call);
}

static enum refusal session_counters(struct call *call)
{
    struct app *self = call->app;
    if (call->in->size != MSG_COUNTERS_SIZE) {
        return REFUSAL_MALFORMED;
    }
    self->counters.rx_overrun = board_rx_overruns();
    self->counters.edges_overrun = board_capture_overruns();
    call->out->size = (uint8_t)msg_counters_reply_pack(&self->counters, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal session_fault_now(struct call *call)
{
    safety_fault(&call->app->safety, FAULT_COMMANDED, 0, call->now);
    app_shut(call->app);
    return session_state_reply(call);
}

static enum refusal session_read(struct call *call)
{
    if (call->in->size != MSG_READ_SIZE) {
        return REFUSAL_MALFORMED;
    }
    struct msg_read_reply reply = {.ticks = call->now, .n = board_facts()->adc_channels};
    for (uint8_t i = 0; i < reply.n && i < MSG_READ_REPLY_COUNTS_MAX; i++) {
        reply.counts[i] = board_adc(i);
    }
    call->out->size = (uint8_t)msg_read_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static const struct command session_table[] = {
    {MSG_HELLO_RULES, session_hello},
    {MSG_TIME_RULES, session_time},
    {MSG_HEARTBEAT_RULES, session_heartbeat},
    {MSG_STATUS_RULES, session_status},
    {MSG_ARM_RULES, session_arm},
    {MSG_SAFE_RULES, session_safe},
    {MSG_CLEAR_FAULT_RULES, session_clear_fault},
    {MSG_COUNTERS_RULES, session_counters},
    {MSG_FAULT_NOW_RULES, session_fault_now},
    {MSG_READ_RULES, session_read},
};
COMMAND_TABLE(session);
