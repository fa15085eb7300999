/* Which instant a sampling interrupt stands for: the one before and a whole number of periods, however late it came. */
#ifndef SAMPLING_H
#define SAMPLING_H

#include <stdint.h>

struct sampling {
    uint32_t instant; /* tick of the last one */
    uint32_t period;  /* ticks; 0: stopped */
};

/* Tick counter and sampling timer run from one clock but are not read at once: an eighth of a period is forgiven. */
static inline uint32_t sampling_next(struct sampling *sampling, uint32_t now)
{
    uint32_t periods = (now - sampling->instant + sampling->period / 8u) / sampling->period;
    sampling->instant += (periods != 0u ? periods : 1u) * sampling->period;
    return sampling->instant;
}

#endif
