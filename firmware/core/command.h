/* Commands: each declared beside its handler, checked and remembered in one place. */
#ifndef COMMAND_H
#define COMMAND_H
#include "app.h"

/* What a handler is given. It runs with interrupts off and must be short. */
struct call {
    struct app *app;
    const struct frame *in;
    struct frame *out;  /* header done, size 0 */
    uint64_t now;
    int32_t detail;     /* of a refusal */
};

struct command {
    uint8_t type;
    enum msg_access access;
    bool fresh;
    bool silent;
    enum refusal (*run)(struct call *call);
};

struct command_table {
    const struct command *commands;
    size_t n;
};

extern const struct command_table session_commands;
extern const struct command_table stream_commands;
extern const struct command_table heater_commands;
extern const struct command_table output_commands;
extern const struct command_table profile_commands;
extern const struct command_table teds_commands;

#define COMMAND_TABLE(name) const struct command_table name##_commands = {name##_table, sizeof name##_table / sizeof name##_table[0]}

/* Handles the frame in app->in. */
void command_dispatch(struct app *self);

/* A refusal with its detail. */
static inline enum refusal command_refuse(struct call *call, enum refusal reason, int32_t detail)
{
    call->detail = detail;
    return reason;
}

/* Takes a payload apart, or leaves the handler. */
#define COMMAND_TAKE(call, name, request)                                              \
    struct msg_##name request;                                                         \
    do {                                                                               \
        if (!msg_##name##_unpack(&(request), (call)->in->payload, (call)->in->size)) { \
            return REFUSAL_MALFORMED;                                                  \
        }                                                                              \
    } while (0)

#endif
