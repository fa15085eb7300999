/* The device's time: the board's 32-bit counter, extended to 64 bits. */
#include "clock.h"
#include "board.h"

void clock_init(struct clock *clock, uint32_t rate)
{
    clock->now = board_ticks();
    clock->rate = rate;
}

uint64_t clock_now(struct clock *clock)
{
    uint32_t before = board_critical_begin();
    /* The counter is read inside: a value read before an interrupt moved `now` on would look like a wrap. */
    clock->now += board_ticks() - (uint32_t)clock->now;
    uint64_t now = clock->now;
    board_critical_end(before);
    return now;
}

uint64_t clock_extend(const struct clock *clock, uint32_t ticks)
{
    uint32_t before = board_critical_begin();
    uint64_t now = clock->now;
    board_critical_end(before);
    int32_t away = (int32_t)(ticks - (uint32_t)now);
    return now + (uint64_t)(int64_t)away;
}

uint64_t clock_of_ms(const struct clock *clock, uint64_t ms) { return ms * clock->rate / 1000u; }
