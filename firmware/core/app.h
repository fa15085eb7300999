/* The whole instrument: what there is, and how its parts meet. */
#ifndef APP_H
#define APP_H
#include "board.h"
#include "captures.h"
#include "clock.h"
#include "counters.h"
#include "events.h"
#include "heater.h"
#include "interlock.h"
#include "link.h"
#include "output.h"
#include "profile.h"
#include "replay.h"
#include "safety.h"
#include "samples.h"
#include "sensor.h"
#include "teds.h"
#include "telemetry.h"
#include "trigger.h"

#ifndef BUILD_ID
#define BUILD_ID 0u
#endif

struct app {
    struct clock clock;
    struct counters counters;
    struct link link;
    struct replay replay;
    struct safety safety;
    struct events events;
    struct teds teds;
    struct sensor sensor;
    struct heater heater;
    struct interlocks interlocks;
    struct outputs outputs;
    struct profile profile;
    struct triggers triggers;
    struct samples samples;
    struct captures captures;
    struct telemetry telemetry;

    uint64_t last_pass;         /* ticks */
    uint8_t interlock_fault;    /* enum fault: as the last pass found it */
    uint8_t over;               /* passes in a row that were too hot */
    uint8_t profile_told;       /* state in the last event */
    uint8_t capture_rising;     /* edges the stream wants */
    uint8_t capture_falling;
    uint32_t fed_pass;          /* control passes when the watchdog was fed last */
    uint32_t fed_instants;      /* sampling instants then */
    uint64_t fed_sampling;      /* when they were last seen to move on */
    bool waiting;               /* the frame `in` waits until the EEPROM was compared; nothing is received meanwhile */

    struct frame in;            /* static, for the stack's sake */
    struct frame out;
    struct msg_profile_segments segments;
};

/* The one there is; tests look into it. */
extern struct app app;

/* Everything that can be on goes off. */
void app_shut(struct app *self);
/* Brings outputs, states and events into line after a command or a pass. */
void app_settle(struct app *self, uint64_t now);
/* What stands in the way of arming, beside nonce and lease; and its detail. */
enum refusal app_hindrance(const struct app *self, int32_t *detail);
/* Tells the board which edges stream and profile want. */
void app_want_edges(const struct app *self);
/* Ends all streams. */
void app_stop_streams(struct app *self);

#endif
