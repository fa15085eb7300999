/* Commands: what is streamed, and how much of it may come. */
#include "command.h"

/* Numbers wrap, so that credit further ahead would count as past. */
static bool stream_credit_fits(uint32_t credit) { return credit <= MSG_CREDIT_MAX; }

#define STREAM_SAMPLES_MAX 20000u /* a second, all channels together */

static enum refusal stream_samples(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, samples_start, start);
    const struct board_facts *facts = board_facts();
    uint32_t channels = 0;
    for (uint32_t i = 0; i < 16u; i++) {
        channels += (uint32_t)start.mask >> i & 1u;
    }
    if (channels == 0u || (uint32_t)start.mask >> facts->adc_channels != 0u) {
        return command_refuse(call, REFUSAL_RANGE, facts->adc_channels);
    }
    if (!stream_credit_fits(start.credit)) {
        return command_refuse(call, REFUSAL_RANGE, (int32_t)MSG_CREDIT_MAX);
    }
    uint32_t shortest = (facts->tick_rate * channels + STREAM_SAMPLES_MAX - 1u) / STREAM_SAMPLES_MAX;
    if (start.period < shortest || start.period > facts->tick_rate * 10u) {
        return command_refuse(call, REFUSAL_RANGE, (int32_t)shortest);
    }
    samples_stop(&self->samples);
    uint32_t period = board_sampling(start.period);
    if (period == 0u) {
        return REFUSAL_NO_CAPABILITY;
    }
    struct msg_samples_start_reply reply = {.period = period};
    reply.per_block = samples_start(&self->samples, start.mask, period, start.credit, facts->tick_rate);
    call->out->size = (uint8_t)msg_samples_start_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal stream_captures(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, captures_start, start);
    uint8_t channels = board_facts()->capture_channels;
    if (((uint32_t)start.rising | start.falling) >> channels != 0u) {
        return command_refuse(call, REFUSAL_RANGE, channels);
    }
    if (!stream_credit_fits(start.credit)) {
        return command_refuse(call, REFUSAL_RANGE, (int32_t)MSG_CREDIT_MAX);
    }
    if (start.go_on == 0u) {
        captures_start(&self->captures, start.credit);
    } else if (!self->captures.running) {
        return REFUSAL_INCOMPLETE;
    }
    self->capture_rising = start.rising;
    self->capture_falling = start.falling;
    app_want_edges(self);
    struct msg_captures_start_reply reply = {.channels = channels};
    call->out->size = (uint8_t)msg_captures_start_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal stream_telemetry(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, telemetry_start, start);
    if (start.period == 0u) {
        return command_refuse(call, REFUSAL_RANGE, 1);
    }
    if (!stream_credit_fits(start.credit)) {
        return command_refuse(call, REFUSAL_RANGE, (int32_t)MSG_CREDIT_MAX);
    }
    telemetry_start(&self->telemetry, clock_of_ms(&self->clock, start.period), start.credit, call->now);
    return REFUSAL_NONE;
}

static enum refusal stream_stop(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, stream_stop, stop);
    struct msg_stream_stop_reply reply = {0};
    if (stop.stream == STREAM_SAMPLES) {
        (void)board_sampling(0);
        samples_stop(&self->samples);
        reply.blocks = self->samples.number;
        reply.dropped = self->samples.dropped + self->samples.missed;
    } else if (stop.stream == STREAM_CAPTURES) {
        self->capture_rising = 0;
        self->capture_falling = 0;
        app_want_edges(self);
        captures_stop(&self->captures);
        reply.blocks = self->captures.number;
        reply.dropped = self->captures.dropped;
    } else if (stop.stream == STREAM_TELEMETRY) {
        telemetry_stop(&self->telemetry);
        reply.blocks = self->telemetry.number;
        reply.dropped = self->telemetry.dropped;
    } else {
        return command_refuse(call, REFUSAL_RANGE, STREAM_TELEMETRY);
    }
    call->out->size = (uint8_t)msg_stream_stop_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal stream_credit(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, credit, credit);
    uint32_t *const limits[] = {&self->samples.limit, &self->captures.limit, &self->telemetry.limit};
    const uint32_t sent[] = {self->samples.number, self->captures.number, self->telemetry.number};
    if (credit.stream >= sizeof limits / sizeof limits[0]) {
        return command_refuse(call, REFUSAL_RANGE, STREAM_TELEMETRY);
    }
    if (ticks_after(credit.limit, *limits[credit.stream])) { /* else it was repeated, or overtaken */
        if (!stream_credit_fits(credit.limit - sent[credit.stream])) {
            return command_refuse(call, REFUSAL_RANGE, (int32_t)MSG_CREDIT_MAX);
        }
        *limits[credit.stream] = credit.limit;
    }
    return REFUSAL_NONE;
}

static const struct command stream_table[] = {
    {MSG_SAMPLES_START_RULES, stream_samples},
    {MSG_CAPTURES_START_RULES, stream_captures},
    {MSG_TELEMETRY_START_RULES, stream_telemetry},
    {MSG_STREAM_STOP_RULES, stream_stop},
    {MSG_CREDIT_RULES, stream_credit},
};
COMMAND_TABLE(stream);
