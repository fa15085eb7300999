/* Commands: found, allowed or not, carried out once, answered. */
#include "command.h"

static const struct command_table *const command_tables[] = {
    &session_commands, &stream_commands, &heater_commands, &output_commands, &profile_commands, &teds_commands,
};

static const struct command *command_find(uint8_t type)
{
    for (size_t i = 0; i < sizeof command_tables / sizeof command_tables[0]; i++) {
        for (size_t k = 0; k < command_tables[i]->n; k++) {
            if (command_tables[i]->commands[k].type == type) {
                return &command_tables[i]->commands[k];
            }
        }
    }
    return NULL;
}

static enum refusal command_allowed(const struct command *command, struct call *call)
{
    const struct safety *safety = &call->app->safety;
    if (command->access == MSG_ACCESS_QUERY || command->access == MSG_ACCESS_SAFE) {
        return REFUSAL_NONE;
    }
    if (safety->session == 0u) {
        return REFUSAL_NO_SESSION;
    }
    if (safety->read_only) {
        return REFUSAL_READ_ONLY;
    }
    if (command->access == MSG_ACCESS_IDLE && safety->state != STATE_SAFE && safety->state != STATE_FAULT) {
        return command_refuse(call, REFUSAL_STATE, STATE_SAFE);
    }
    if (command->access == MSG_ACCESS_DRIVE && !safety_may_be_on(safety)) {
        return command_refuse(call, REFUSAL_STATE, STATE_ARMED);
    }
    return REFUSAL_NONE;
}

static enum refusal command_run(const struct command *command, struct call *call)
{
    uint32_t before = board_critical_begin();
    call->now = clock_now(&call->app->clock);
    enum refusal reason = command_allowed(command, call);
    if (reason == REFUSAL_NONE) {
        reason = command->run(call);
        app_settle(call->app, call->now);
    }
    board_critical_end(before);
    return reason;
}

static void command_refused(struct call *call, enum refusal reason)
{
    struct app *self = call->app;
    self->counters.refused++;
    struct msg_refused refused = {
        .command = call->in->type, .reason = (uint8_t)reason, .state = self->safety.state, .detail = call->detail};
    call->out->type = MSG_REFUSED;
    call->out->size = (uint8_t)msg_refused_pack(&refused, call->out->payload);
}

static void command_answer(struct app *self, const struct frame *reply)
{
    if (!link_send(&self->link, reply)) {
        self->counters.tx_dropped++; /* remembered: the host's repetition gets it */
    }
}

void command_dispatch(struct app *self)
{
    struct frame *in = &self->in;
    if (in->type >= 0x80u) {
        return; /* a reply, from a line that echoes: answering would never end */
    }
    struct call call = {.app = self, .in = in, .out = &self->out};
    call.out->flags = 0;
    call.out->type = in->type | 0x80u;
    call.out->sequence = in->sequence;
    call.out->channel = in->channel;
    call.out->size = 0;
    const struct command *command = command_find(in->type);
    if (command == NULL) {
        command_refused(&call, REFUSAL_UNKNOWN);
        command_answer(self, call.out);
        return;
    }
    if (!command->fresh) {
        const struct frame *remembered = NULL;
        enum replay_verdict verdict = replay_check(&self->replay, in, &remembered);
        if (verdict == REPLAY_STALE) { /* answered: silence would be taken for a dead board */
            self->counters.stale++;
            command_refused(&call, REFUSAL_STALE);
            command_answer(self, call.out);
            return;
        }
        if (verdict == REPLAY_REPEATED) {
            self->counters.replayed++;
            *call.out = *remembered;
            call.out->flags |= MSG_FLAG_REPLAYED;
            command_answer(self, call.out);
            return;
        }
    }
    enum refusal reason = command_run(command, &call);
    if (reason != REFUSAL_NONE) {
        command_refused(&call, reason);
    }
    if (!command->fresh) {
        replay_keep(&self->replay, in, call.out);
    }
    if (!command->silent || reason != REFUSAL_NONE) {
        command_answer(self, call.out);
    }
}
