/* A profile: ramps, steps and pulses down to 1 ms, run on the device's clock. */
#ifndef PROFILE_H
#define PROFILE_H
#include "clock.h"
#include "messages_gen.h"

#define PROFILE_SEGMENTS 64u
#define PROFILE_LONGEST_MS (7u * 24u * 3600u * 1000u) /* of a segment: so that 64 of them fit into 64-bit ticks */

struct profile {
    struct msg_segment segments[PROFILE_SEGMENTS];
    struct msg_profile_begin head;
    uint8_t channel;        /* DAC */
    uint8_t loaded;
    uint16_t digital;       /* outputs that some value drives */
    uint8_t state;          /* enum profile_state */
    uint8_t edge_channel;   /* ON_EDGE */
    bool edge_wanted;       /* ON_EDGE, not AT_TICK */
    bool edge_rising;
    uint64_t start;         /* tick at which the run in hand began; an edge that is waited for comes later */
    int32_t aside;          /* ticks from a pass to the middle between two of them, counted from the start */
    uint64_t before_ms;     /* durations of this run's segments before the present one */
    uint32_t runs;          /* finished */
    uint8_t segment;
    int32_t from;           /* value where the segment began */
    int32_t value;          /* now */
};

void profile_begin(struct profile *profile, const struct msg_profile_begin *head, uint8_t channel);
/* Takes segments in order; false where they are out of order or wrong, such as a ramp of digital outputs. */
bool profile_load(struct profile *profile, uint8_t first, uint8_t n, const struct msg_segment *segments);
/* Largest and smallest value of the whole. */
void profile_bounds(const struct profile *profile, int32_t *least, int32_t *most);
void profile_start_at(struct profile *profile, uint64_t ticks);
void profile_start_on_edge(struct profile *profile, uint8_t channel, bool rising, uint64_t now);
/* A captured edge may start it. */
void profile_edge(struct profile *profile, uint8_t channel, bool rising, uint64_t ticks);
void profile_stop(struct profile *profile);
/* One control pass; true where `value` is to be put out. */
bool profile_pass(struct profile *profile, const struct clock *clock, uint64_t now);

static inline bool profile_busy(const struct profile *profile)
{
    return profile->state == PROFILE_STATE_WAITING || profile->state == PROFILE_STATE_RUNNING;
}

/* True where it drives the heater, or waits to. */
static inline bool profile_heats(const struct profile *profile)
{
    return profile_busy(profile) && (profile->head.target == PROFILE_TARGET_TEMPERATURE ||
                                     profile->head.target == PROFILE_TARGET_OUTPUT);
}

#endif
