/* The whole instrument: main loop and interrupts. */
#include "app.h"
#include "command.h"
#include "control.h"
#include <string.h>

#define APP_BYTES_A_POLL 512u
#define APP_FRAMES_A_POLL 4u
#define APP_SAMPLING_PATIENCE_MS 200u
#define APP_EEPROM_MS 1u /* of a poll, where it is urgent: what is received meanwhile waits in the board's ring */

struct app app;

void app_init(void)
{
    struct app *self = &app;
    const struct board_facts *facts = board_facts();
    memset(self, 0, sizeof *self);
    outputs_close(&self->outputs);
    clock_init(&self->clock, facts->tick_rate);
    link_init(&self->link, &self->counters);
    replay_reset(&self->replay);
    events_init(&self->events, &self->counters);
    safety_init(&self->safety, facts->boot ^ BUILD_ID, &self->counters, &self->events);
    samples_init(&self->samples, &self->counters);
    captures_init(&self->captures, &self->counters);
    telemetry_init(&self->telemetry, &self->counters);
    interlocks_init(&self->interlocks);
    sensor_reset(&self->sensor);
    triggers_init(&self->triggers, &self->counters);
    teds_init(&self->teds, &self->counters);
    heater_init(&self->heater, &self->teds.record);
    self->last_pass = clock_now(&self->clock);
    events_add(&self->events, EVENT_KIND_BOOT, 0, facts->reset_cause, self->last_pass);
    safety_make_safe(&self->safety, self->last_pass);
    if (self->teds.state == TEDS_STATE_DAMAGED) {
        safety_fault(&self->safety, FAULT_TEDS_DAMAGED, 0, self->last_pass);
    }
}

void app_shut(struct app *self)
{
    outputs_close(&self->outputs);
    heater_off(&self->heater);
    profile_stop(&self->profile);
    triggers_off(&self->triggers);
}

void app_settle(struct app *self, uint64_t now)
{
    if (safety_may_be_on(&self->safety)) {
        bool runs = self->heater.mode != HEATER_MODE_OFF || profile_busy(&self->profile);
        outputs_open(&self->outputs);
        safety_activity(&self->safety, runs, now);
    } else if (self->outputs.open) {
        app_shut(self);
    }
    if (self->profile.state != self->profile_told) {
        self->profile_told = self->profile.state;
        events_add(&self->events, EVENT_KIND_PROFILE, self->profile.channel, self->profile.state, now);
        app_want_edges(self); /* of the one it waits for, as long as it waits */
    }
}

enum refusal app_hindrance(const struct app *self, int32_t *detail)
{
    if (self->teds.state != TEDS_STATE_VALID && self->teds.state != TEDS_STATE_BLANK) {
        *detail = self->teds.state;
        return REFUSAL_TEDS;
    }
    *detail = self->interlock_fault;
    return self->interlock_fault != FAULT_NONE ? REFUSAL_INTERLOCK : REFUSAL_NONE;
}

void app_want_edges(const struct app *self)
{
    uint32_t rising = self->capture_rising;
    uint32_t falling = self->capture_falling;
    if (self->profile.state == PROFILE_STATE_WAITING && self->profile.edge_wanted) {
        uint32_t bit = 1u << self->profile.edge_channel;
        rising |= self->profile.edge_rising ? bit : 0u;
        falling |= self->profile.edge_rising ? 0u : bit;
    }
    board_capture((uint8_t)rising, (uint8_t)falling);
}

void app_stop_streams(struct app *self)
{
    (void)board_sampling(0);
    samples_clear(&self->samples);
    captures_clear(&self->captures);
    telemetry_clear(&self->telemetry);
    self->capture_rising = 0;
    self->capture_falling = 0;
    app_want_edges(self);
}

/* Whether the frame is to be decided on the holder that is there now, and not on the one of a second ago. Where
   something may be on it is refused anyway, and nothing that keeps the lease waits for it. */
static bool app_must_look(const struct app *self)
{
    return (self->in.type == MSG_ARM || self->in.type == MSG_TEDS_COMMIT) && !safety_may_be_on(&self->safety);
}

static void app_receive(struct app *self)
{
    uint32_t frames = 0;
    if (self->waiting) {
        if (self->teds.checking) {
            return;
        }
        self->waiting = false;
        command_dispatch(self);
        frames++;
    }
    for (uint32_t i = 0; i < APP_BYTES_A_POLL && frames < APP_FRAMES_A_POLL; i++) {
        uint32_t arrived = 0;
        int byte = board_rx(&arrived);
        if (byte < 0) {
            return;
        }
        if (link_receive(&self->link, (uint8_t)byte, arrived, &self->in)) {
            if (app_must_look(self)) {
                teds_check(&self->teds);
                self->waiting = true;
                return;
            }
            command_dispatch(self);
            frames++;
        }
    }
}

/* The next block of a stream, by urgency; false where nothing waits. */
static bool app_next_block(struct app *self)
{
    struct frame *out = &self->out;
    if (events_next(&self->events, out->payload, &out->size)) {
        out->type = MSG_EVENT;
    } else if (captures_next(&self->captures, self->clock.rate, out->payload, &out->size)) {
        out->type = MSG_CAPTURES;
    } else if (telemetry_next(&self->telemetry, out->payload, &out->size)) {
        out->type = MSG_TELEMETRY;
    } else if (samples_next(&self->samples, out->payload, &out->size)) {
        out->type = MSG_SAMPLES;
    } else {
        return false;
    }
    out->flags = 0;
    out->sequence = 0;
    out->channel = 0;
    return true;
}

static void app_stream(struct app *self)
{
    for (uint32_t i = 0; i < APP_FRAMES_A_POLL; i++) {
        if (!link_has_room(&self->link, LINK_TX_RESERVE) || !app_next_block(self)) {
            return;
        }
        (void)link_send(&self->link, &self->out);
    }
}

/* Fed only when the control pass and the sampling have moved on since the last time; here, so the main loop has too. */
static void app_feed(struct app *self)
{
    uint32_t before = board_critical_begin();
    uint32_t passes = self->counters.passes;
    uint32_t instants = self->samples.instants;
    bool sampling = self->samples.running;
    uint32_t period = self->samples.period;
    board_critical_end(before);
    uint64_t now = clock_now(&self->clock);
    if (!sampling || instants != self->fed_instants) {
        self->fed_instants = instants;
        self->fed_sampling = now;
    }
    uint64_t patience = clock_of_ms(&self->clock, APP_SAMPLING_PATIENCE_MS) + 4u * (uint64_t)period;
    if (passes != self->fed_pass && now - self->fed_sampling < patience) {
        self->fed_pass = passes;
        board_watchdog_feed();
    }
}

/* Another holder, none, or the same with another record: its limits are in force, and nothing is on with them that
   was put on with those of before. */
static void app_exchange(struct app *self)
{
    uint32_t before = board_critical_begin();
    uint64_t now = clock_now(&self->clock);
    events_add(&self->events, EVENT_KIND_TEDS, 0, self->teds.state, now);
    if (safety_may_be_on(&self->safety)) {
        safety_fault(&self->safety, FAULT_HOLDER, self->teds.state, now);
    } else if (self->teds.state == TEDS_STATE_DAMAGED) {
        safety_fault(&self->safety, FAULT_TEDS_DAMAGED, self->teds.written, now);
    }
    app_settle(self, now);
    heater_init(&self->heater, &self->teds.record);
    sensor_reset(&self->sensor);
    board_critical_end(before);
}

static void app_look_at_holder(struct app *self)
{
    uint64_t now = clock_now(&self->clock);
    uint64_t until = now + clock_of_ms(&self->clock, APP_EEPROM_MS);
    do {
        if (teds_poll(&self->teds, &self->clock, now)) {
            app_exchange(self);
        }
        now = clock_now(&self->clock);
    } while (now < until && teds_is_urgent(&self->teds, now));
}

void app_poll(void)
{
    struct app *self = &app;
    app_receive(self);
    app_look_at_holder(self);
    app_stream(self);
    link_pump(&self->link);
    app_feed(self);
}

void app_tick_1khz(void) { control_pass(&app); }

void app_sample(uint32_t ticks) { samples_take(&app.samples, clock_extend(&app.clock, ticks)); }

void app_capture(uint8_t channel, bool rising, uint32_t ticks)
{
    struct app *self = &app;
    uint64_t when = clock_extend(&self->clock, ticks);
    profile_edge(&self->profile, channel, rising, when);
    uint32_t wanted = rising ? self->capture_rising : self->capture_falling;
    if (channel < 8u && (wanted >> channel & 1u) != 0u) {
        captures_add(&self->captures, channel, rising, when);
    } else {
        self->counters.edges++;
    }
}

void app_triggered(uint8_t channel, uint32_t ticks)
{
    struct app *self = &app;
    uint64_t now = clock_now(&self->clock);
    uint32_t left = trigger_fired(&self->triggers, channel, now);
    int32_t told = left > (uint32_t)INT32_MAX ? INT32_MAX : (int32_t)left;
    events_add(&self->events, EVENT_KIND_TRIGGER, channel, told, clock_extend(&self->clock, ticks));
}
