/* May anything be on? The states, the host's lease, arming, latched faults. Decides; switches nothing. */
#ifndef SAFETY_H
#define SAFETY_H
#include "clock.h"
#include "counters.h"
#include "events.h"

struct safety_nonce {
    uint32_t value; /* 0: none */
    uint64_t ticks; /* when it was given */
};

struct safety {
    uint8_t state;          /* enum state */
    uint8_t fault;          /* enum fault, latched */
    uint64_t fault_ticks;
    int32_t fault_value;
    uint32_t session;       /* 0: none */
    bool read_only;         /* host and firmware have different definitions */
    bool alive;             /* the lease has not run out */
    bool counted;           /* a heartbeat came in this session */
    uint32_t count;         /* of the last heartbeat */
    uint64_t renewed;       /* when it came */
    struct safety_nonce nonces[2];
    uint32_t random;        /* state of the generator of nonces */
    struct counters *counters;
    struct events *events;
};

void safety_init(struct safety *safety, uint32_t seed, struct counters *counters, struct events *events);
/* A host says hello: true where the session is a new one (everything goes off then). */
bool safety_session(struct safety *safety, uint32_t session, bool read_only, uint64_t now);
/* True where it renewed the lease. */
bool safety_heartbeat(struct safety *safety, uint32_t session, uint32_t count, uint64_t now);
/* A new nonce; the one before stays good. */
uint32_t safety_nonce(struct safety *safety, uint64_t now);
/* SAFE to ARMED; `hindrance` is what else stands in the way. */
enum refusal safety_arm(struct safety *safety, const struct clock *clock, uint32_t nonce, enum refusal hindrance,
                        uint64_t now);
/* Everything off, from any state but FAULT, which stays. */
void safety_make_safe(struct safety *safety, uint64_t now);
/* Latches a fault; the first one stays. */
void safety_fault(struct safety *safety, enum fault fault, int32_t value, uint64_t now);
void safety_clear(struct safety *safety, uint64_t now);
/* ARMED or RUN, whether something runs or not. */
void safety_activity(struct safety *safety, bool running, uint64_t now);
/* Left of the lease in ms; looks whether it has run out. */
uint16_t safety_lease(struct safety *safety, const struct clock *clock, uint64_t now);

static inline bool safety_may_be_on(const struct safety *safety)
{
    return safety->state == STATE_ARMED || safety->state == STATE_RUN;
}

#endif
