/* The device's time: the board's 32-bit counter, extended to 64 bits. */
#ifndef CLOCK_H
#define CLOCK_H
#include <stdbool.h>
#include <stdint.h>

struct clock {
    uint64_t now; /* as last seen; behind the counter by less than 2^31 ticks */
    uint32_t rate; /* Hz */
};

void clock_init(struct clock *clock, uint32_t rate);
/* The time now. Must be called once in 2^31 ticks at least; safe in any context. */
uint64_t clock_now(struct clock *clock);
/* The 64-bit time of a counter value at most 2^31 ticks away from now. */
uint64_t clock_extend(const struct clock *clock, uint32_t ticks);
/* Ticks of a duration; exact below 2^64 / rate. */
uint64_t clock_of_ms(const struct clock *clock, uint64_t ms);

/* True where counter value a lies after b, across a wrap too. */
static inline bool ticks_after(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }

#endif
