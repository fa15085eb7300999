/* Commands: the holder's TEDS. */
#include "command.h"
#include "crc.h"
#include <string.h>

static enum refusal teds_read(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, teds_read, read);
    if (read.size > MSG_TEDS_READ_REPLY_CONTENT_MAX || (uint32_t)read.offset + read.size > TEDS_SIZE) {
        return command_refuse(call, REFUSAL_RANGE, (int32_t)TEDS_SIZE);
    }
    struct msg_teds_read_reply reply = {.state = self->teds.state, .holder = self->teds.holder, .n = read.size};
    memcpy(reply.content, self->teds.image + read.offset, read.size);
    call->out->size = (uint8_t)msg_teds_read_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static enum refusal teds_write(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, teds_write, write);
    if ((uint32_t)write.offset + write.n > TEDS_SIZE) {
        return command_refuse(call, REFUSAL_RANGE, (int32_t)TEDS_SIZE);
    }
    if (!teds_is_settled(&self->teds)) {
        return REFUSAL_BUSY;
    }
    memcpy(self->teds.draft + write.offset, write.content, write.n);
    return REFUSAL_NONE;
}

static enum refusal teds_commit_command(struct call *call)
{
    struct app *self = call->app;
    COMMAND_TAKE(call, teds_commit, commit);
    if ((board_facts()->capabilities & (uint32_t)CAPABILITY_EEPROM) == 0u) {
        return REFUSAL_NO_CAPABILITY;
    }
    if (!teds_is_settled(&self->teds)) {
        return REFUSAL_BUSY;
    }
    if (commit.holder != self->teds.holder) { /* else one holder would get another one's record */
        return command_refuse(call, REFUSAL_HOLDER, self->teds.state);
    }
    if (self->teds.state == TEDS_STATE_ABSENT) {
        return command_refuse(call, REFUSAL_TEDS, TEDS_STATE_ABSENT);
    }
    uint16_t crc = crc_add(CRC_START, self->teds.draft, TEDS_SIZE);
    if (crc != commit.checksum) {
        return command_refuse(call, REFUSAL_CHECKSUM, crc);
    }
    if (!teds_commit(&self->teds, &self->clock, call->now)) {
        return REFUSAL_TEDS;
    }
    struct msg_teds_commit_reply reply = {.state = self->teds.state};
    call->out->size = (uint8_t)msg_teds_commit_reply_pack(&reply, call->out->payload);
    return REFUSAL_NONE;
}

static const struct command teds_table[] = {
    {MSG_TEDS_READ_RULES, teds_read},
    {MSG_TEDS_WRITE_RULES, teds_write},
    {MSG_TEDS_COMMIT_RULES, teds_commit_command},
};
COMMAND_TABLE(teds);
