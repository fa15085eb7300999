/* A profile: ramps, steps and pulses down to 1 ms, run on the device's clock.
   Where a segment ends follows from the start and the durations, so that late passes add up to nothing. Passes lie
   where they like within the profile's milliseconds, and come some microseconds late where a sample or an edge is
   served first: segments end half a pass beside them, or a pulse of one pass would take two, or none. */
#include "profile.h"
#include <string.h>

void profile_begin(struct profile *profile, const struct msg_profile_begin *head, uint8_t channel)
{
    memset(profile, 0, sizeof *profile);
    profile->head = *head;
    profile->channel = channel;
    profile->state = PROFILE_STATE_LOADING;
}

bool profile_load(struct profile *profile, uint8_t first, uint8_t n, const struct msg_segment *segments)
{
    if (profile->state != PROFILE_STATE_LOADING || n == 0u || first != profile->loaded ||
        (uint32_t)first + n > profile->head.count) {
        return false;
    }
    for (uint8_t i = 0; i < n; i++) {
        if (segments[i].kind > SEGMENT_KIND_RAMP || segments[i].duration == 0u ||
            segments[i].duration > PROFILE_LONGEST_MS) {
            return false;
        }
        if (segments[i].kind == SEGMENT_KIND_RAMP && profile->head.target == PROFILE_TARGET_DIGITAL) {
            return false; /* between two patterns lie those of other valves */
        }
    }
    memcpy(profile->segments + first, segments, n * sizeof segments[0]);
    profile->loaded = (uint8_t)(first + n);
    if (profile->loaded == profile->head.count) {
        profile->state = PROFILE_STATE_READY;
    }
    return true;
}

void profile_bounds(const struct profile *profile, int32_t *least, int32_t *most)
{
    *least = profile->head.start;
    *most = profile->head.start;
    for (uint8_t i = 0; i < profile->loaded; i++) {
        int32_t value = profile->segments[i].value;
        *least = value < *least ? value : *least;
        *most = value > *most ? value : *most;
    }
}

static void profile_rewind(struct profile *profile)
{
    profile->before_ms = 0;
    profile->segment = 0;
    profile->from = profile->head.start;
}

void profile_start_at(struct profile *profile, uint64_t ticks)
{
    profile_rewind(profile);
    profile->value = profile->head.start;
    profile->runs = 0;
    profile->start = ticks;
    profile->edge_wanted = false;
    profile->state = PROFILE_STATE_WAITING;
}

void profile_start_on_edge(struct profile *profile, uint8_t channel, bool rising, uint64_t now)
{
    profile_start_at(profile, now);
    profile->edge_channel = channel;
    profile->edge_rising = rising;
    profile->edge_wanted = true;
}

void profile_edge(struct profile *profile, uint8_t channel, bool rising, uint64_t ticks)
{
    if (profile->state == PROFILE_STATE_WAITING && profile->edge_wanted && channel == profile->edge_channel &&
        rising == profile->edge_rising && ticks > profile->start) { /* one of before waited in the hardware */
        profile->edge_wanted = false;
        profile->start = ticks;
    }
}

void profile_stop(struct profile *profile)
{
    if (profile_busy(profile) || profile->state == PROFILE_STATE_DONE) {
        profile->state = PROFILE_STATE_READY;
        profile->edge_wanted = false;
    }
}

/* Goes to the segment in which `now` lies; false behind the end. */
static bool profile_seek(struct profile *profile, const struct clock *clock, uint64_t now)
{
    for (uint32_t i = 0; i < PROFILE_SEGMENTS; i++) { /* bounded: the next pass goes on */
        const struct msg_segment *segment = &profile->segments[profile->segment];
        uint64_t end_ms = profile->before_ms + segment->duration;
        if (now < profile->start + clock_of_ms(clock, end_ms)) {
            return true;
        }
        profile->from = segment->value;
        profile->value = segment->value;
        profile->before_ms = end_ms;
        profile->segment++;
        if (profile->segment < profile->head.count) {
            continue;
        }
        profile->runs++;
        if (profile->head.repeat != 0u && profile->runs >= profile->head.repeat) {
            profile->segment = (uint8_t)(profile->head.count - 1u);
            return false;
        }
        profile->start += clock_of_ms(clock, profile->before_ms);
        profile_rewind(profile);
    }
    return true;
}

/* The first pass is the first segment's, unless one was missed before it: a quarter later is no interrupt's doing. */
static int32_t profile_aside(const struct clock *clock, uint64_t late)
{
    uint64_t pass = clock_of_ms(clock, 1);
    uint64_t missed = late < pass + pass / 4u ? 0u : (late - pass / 4u) / pass;
    return (int32_t)(pass / 2u) - (int32_t)(late - missed * pass);
}

bool profile_pass(struct profile *profile, const struct clock *clock, uint64_t now)
{
    if (profile->state == PROFILE_STATE_WAITING && !profile->edge_wanted && now >= profile->start) {
        profile->aside = profile_aside(clock, now - profile->start);
        profile->state = PROFILE_STATE_RUNNING;
    }
    if (profile->state != PROFILE_STATE_RUNNING) {
        return false;
    }
    if (!profile_seek(profile, clock, now + (uint64_t)(int64_t)profile->aside)) {
        profile->state = PROFILE_STATE_DONE;
        return true;
    }
    const struct msg_segment *segment = &profile->segments[profile->segment];
    if (segment->kind == SEGMENT_KIND_STEP) {
        profile->value = segment->value;
        return true;
    }
    uint64_t begin = profile->start + clock_of_ms(clock, profile->before_ms);
    uint64_t whole = clock_of_ms(clock, segment->duration);
    uint64_t part = now > begin ? now - begin : 0u;
    if (part >= whole) {
        profile->value = segment->value; /* its last pass is behind its end */
        return true;
    }
    while (whole > 0xffffffffu) { /* a ramp of days: coarser ticks, so that the product fits */
        whole >>= 1;
        part >>= 1;
    }
    int64_t way = (int64_t)segment->value - profile->from;
    profile->value = (int32_t)(profile->from + (way < 0 ? -1 : 1) *
                     (int64_t)((uint64_t)(way < 0 ? -way : way) * part / whole));
    return true;
}
