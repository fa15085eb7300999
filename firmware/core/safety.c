/* May anything be on? The states, the host's lease, arming, latched faults. */
#include "safety.h"
#include <string.h>

static void safety_go(struct safety *safety, enum state state, uint64_t now)
{
    if (safety->state != (uint8_t)state) {
        safety->state = (uint8_t)state;
        events_add(safety->events, EVENT_KIND_STATE, 0, (int32_t)state, now);
    }
}

void safety_init(struct safety *safety, uint32_t seed, struct counters *counters, struct events *events)
{
    memset(safety, 0, sizeof *safety);
    safety->state = STATE_INIT;
    safety->random = seed != 0u ? seed : 1u;
    safety->counters = counters;
    safety->events = events;
}

static void safety_forget_nonces(struct safety *safety) { memset(safety->nonces, 0, sizeof safety->nonces); }

bool safety_session(struct safety *safety, uint32_t session, bool read_only, uint64_t now)
{
    safety->read_only = read_only;
    if (session == safety->session) {
        return false;
    }
    safety->session = session;
    safety->counted = false;
    safety->alive = false; /* another host's heartbeats don't count for this one */
    safety_make_safe(safety, now);
    return true;
}

bool safety_heartbeat(struct safety *safety, uint32_t session, uint32_t count, uint64_t now)
{
    bool newer = !safety->counted || ticks_after(count, safety->count);
    if (session == 0u || session != safety->session || safety->read_only || !newer) {
        return false;
    }
    safety->alive = true;
    safety->counted = true;
    safety->count = count;
    safety->renewed = now;
    return true;
}

uint32_t safety_nonce(struct safety *safety, uint64_t now)
{
    uint32_t x = safety->random; /* xorshift32: never 0, each value once in 2^32 */
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    safety->random = x;
    safety->nonces[1] = safety->nonces[0];
    safety->nonces[0] = (struct safety_nonce){.value = x, .ticks = now};
    return x;
}

static bool safety_fresh(const struct safety *safety, const struct clock *clock, uint32_t nonce, uint64_t now)
{
    for (size_t i = 0; i < 2u; i++) {
        if (nonce != 0u && safety->nonces[i].value == nonce) {
            return now - safety->nonces[i].ticks <= clock_of_ms(clock, MSG_NONCE_MS);
        }
    }
    return false;
}

enum refusal safety_arm(struct safety *safety, const struct clock *clock, uint32_t nonce, enum refusal hindrance,
                        uint64_t now)
{
    bool fresh = safety_fresh(safety, clock, nonce, now);
    if (fresh) {
        safety_forget_nonces(safety); /* good once */
    }
    if (safety->state != STATE_SAFE) {
        return REFUSAL_STATE;
    }
    if (!fresh) {
        return REFUSAL_NONCE;
    }
    if (safety_lease(safety, clock, now) == 0u) {
        return REFUSAL_LEASE;
    }
    if (hindrance != REFUSAL_NONE) {
        return hindrance;
    }
    safety_go(safety, STATE_ARMED, now);
    return REFUSAL_NONE;
}

void safety_make_safe(struct safety *safety, uint64_t now)
{
    safety_forget_nonces(safety);
    if (safety->state != STATE_FAULT) {
        safety_go(safety, STATE_SAFE, now);
    }
}

void safety_fault(struct safety *safety, enum fault fault, int32_t value, uint64_t now)
{
    if (safety->state == STATE_FAULT) {
        return;
    }
    safety->fault = (uint8_t)fault;
    safety->fault_ticks = now;
    safety->fault_value = value;
    safety->counters->faults++;
    safety_forget_nonces(safety);
    events_add(safety->events, EVENT_KIND_FAULT, 0, (int32_t)fault, now);
    safety_go(safety, STATE_FAULT, now);
}

void safety_clear(struct safety *safety, uint64_t now)
{
    safety->fault = FAULT_NONE;
    safety_go(safety, STATE_SAFE, now);
}

void safety_activity(struct safety *safety, bool running, uint64_t now)
{
    if (safety_may_be_on(safety)) {
        safety_go(safety, running ? STATE_RUN : STATE_ARMED, now);
    }
}

uint16_t safety_lease(struct safety *safety, const struct clock *clock, uint64_t now)
{
    uint64_t lease = clock_of_ms(clock, MSG_LEASE_MS);
    if (!safety->alive || now - safety->renewed >= lease) {
        safety->alive = false;
        return 0;
    }
    uint64_t left = (lease - (now - safety->renewed)) * 1000u / clock->rate;
    return left > 0u ? (uint16_t)left : 1u;
}
