/* Which instant a sampling interrupt stands for: the one before and a whole number of periods, however late it came. */
#ifndef SAMPLING_H
#define SAMPLING_H

#include <stdbool.h>
#include <stdint.h>

#include "clock.h"

struct sampling {
    uint32_t instant; /* tick of the last one */
    uint32_t period;  /* ticks; 0: stopped */
};

/*
 * Whether an instant is due; then `instant` is it. Tick counter and sampling timer run from one clock but are
 * not read at once: an eighth of a period is forgiven. An interrupt that was kept waiting is followed at once by
 * the next one, which then comes too early: its instant has not come, and must not be reckoned backwards, for
 * the grid does not divide the counter's range.
 */
static inline bool sampling_due(struct sampling *sampling, uint32_t now)
{
    uint32_t since = now - sampling->instant;
    if (!ticks_after(now, sampling->instant) || since < sampling->period - sampling->period / 8u) {
        return false;
    }
    sampling->instant += (since + sampling->period / 8u) / sampling->period * sampling->period;
    return true;
}

#endif
