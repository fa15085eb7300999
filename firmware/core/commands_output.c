/* Commands: analogue and digital outputs, inputs, interlocks. */
#include "command.h"

static bool output_is_profiled(const struct app *self, enum profile_target target)
{
    return profile_busy(&self->profile) && self->profile.head.target == (uint8_t)target;
}

static enum refusal output_dac(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, dac_set, set);
    uint8_t channel = call->in->channel;
    if (channel >= board_facts()->dac_channels) {
        return command_refuse(call, REFUSAL_NO_CAPABILITY, board_facts()->dac_channels);
    }
    if (output_is_profiled(self, PROFILE_TARGET_DAC) && self->profile.channel == channel) {
        return REFUSAL_BUSY;
    }
    outputs_dac(&self->outputs, channel, set.value);
    struct msg_dac_set_reply reply = {.value = self->outputs.dac[channel]};
    call->out->size = (uint8_t)msg_dac_set_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal output_digital(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, digital_set, set);
    if ((uint32_t)set.mask >> board_facts()->digital_outputs != 0u) {
        return command_refuse(call, REFUSAL_RANGE, board_facts()->digital_outputs);
    }
    if (output_is_profiled(self, PROFILE_TARGET_DIGITAL) && (set.mask & self->profile.digital) != 0u) {
        return command_refuse(call, REFUSAL_BUSY, self->profile.digital);
    }
    outputs_digital(&self->outputs, set.mask, set.value);
    struct msg_digital_set_reply reply = {.value = self->outputs.digital};
    call->out->size = (uint8_t)msg_digital_set_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal output_digital_get(struct call *call)
{
    if (call->in->size != MSG_DIGITAL_GET_SIZE) {
        return REFUSAL_MALFORMED;
    }
    struct msg_digital_get_reply reply = {.inputs = board_digital_in(), .outputs = call->app->outputs.digital};
    call->out->size = (uint8_t)msg_digital_get_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

/* At once: an ARM that comes before the next control pass must not be judged by the rules of before. */
static void output_look_at_interlocks(struct app *self)
{
    int32_t seen = 0;
    self->interlock_fault = (uint8_t)interlocks_pass(&self->interlocks, &seen);
}

static enum refusal output_interlock(struct call *call)
{
    COMMAND_TAKE(call, interlock_set, set);
    if (!interlocks_set(&call->app->interlocks, call->in->channel, &set.interlock)) {
        return REFUSAL_RANGE;
    }
    output_look_at_interlocks(call->app);
    return REFUSAL_NONE;
}

static enum refusal output_interlock_inputs(struct call *call)
{
    struct interlocks *interlocks = &call->app->interlocks;
    COMMAND_TAKE(call, interlock_inputs, set);
    if ((uint32_t)set.mask >> board_facts()->digital_inputs != 0u) {
        return command_refuse(call, REFUSAL_RANGE, board_facts()->digital_inputs);
    }
    interlocks->mask = set.mask;
    interlocks->level = (uint16_t)(set.level & set.mask);
    output_look_at_interlocks(call->app);
    return REFUSAL_NONE;
}

static const struct command output_table[] = {
    {MSG_DAC_SET_RULES, output_dac},
    {MSG_DIGITAL_SET_RULES, output_digital},
    {MSG_DIGITAL_GET_RULES, output_digital_get},
    {MSG_INTERLOCK_SET_RULES, output_interlock},
    {MSG_INTERLOCK_INPUTS_RULES, output_interlock_inputs},
};
COMMAND_TABLE(output);
