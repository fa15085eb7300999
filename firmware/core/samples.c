/* Analogue inputs as a stream: every sample is sent, counted as dropped or counted as missed. */
#include "samples.h"
#include "board.h"
#include "clock.h"
#include <stddef.h>
#include <string.h>

void samples_init(struct samples *samples, struct counters *counters)
{
    memset(samples, 0, offsetof(struct samples, blocks)); /* interrupts may be masked: not the whole of it */
    samples->blocks[0].n = 0;
    samples->counters = counters;
}

uint8_t samples_start(struct samples *samples, uint16_t mask, uint32_t period, uint32_t credit, uint32_t tick_rate)
{
    samples_clear(samples);
    samples->mask = mask;
    for (uint32_t i = 0; i < 16u; i++) {
        samples->channels = (uint8_t)(samples->channels + ((uint32_t)mask >> i & 1u));
    }
    uint32_t most = MSG_SAMPLES_COUNTS_MAX / samples->channels;
    uint32_t soon = tick_rate / 1000u * SAMPLES_BLOCK_MS / period;
    uint32_t instants = soon < most ? soon : most;
    samples->per_block = (uint8_t)(instants > 0u ? instants : 1u);
    samples->period = period;
    samples->running = true;
    samples->limit = credit;
    samples->first = true;
    return samples->per_block;
}

static struct samples_block *samples_open(struct samples *samples)
{
    return &samples->blocks[samples->head % SAMPLES_BLOCKS];
}

/* Closes the block being filled; drops the oldest where the ring is full. */
static void samples_close(struct samples *samples)
{
    if (samples_open(samples)->n == 0u) {
        return;
    }
    samples->head++;
    if (samples->head - samples->tail >= SAMPLES_BLOCKS) {
        uint8_t lost = samples->blocks[samples->tail % SAMPLES_BLOCKS].n;
        samples->dropped += lost;
        samples->counters->samples_dropped += lost;
        samples->tail++;
    }
    samples_open(samples)->n = 0;
}

void samples_clear(struct samples *samples)
{
    samples_close(samples);
    for (; samples->tail != samples->head; samples->tail++) {
        samples->counters->samples_dropped += samples->blocks[samples->tail % SAMPLES_BLOCKS].n;
    }
    samples_init(samples, samples->counters);
}

void samples_stop(struct samples *samples)
{
    samples_close(samples);
    samples->running = false;
}

/* Instants between the last and this one that were not taken. */
static uint32_t samples_gap(const struct samples *samples, uint32_t ticks)
{
    uint32_t since = ticks - samples->last;
    if (samples->first || since < samples->period + samples->period / 2u) {
        return 0;
    }
    return (since + samples->period / 2u) / samples->period - 1u;
}

void samples_take(struct samples *samples, uint64_t ticks)
{
    if (!samples->running) {
        return;
    }
    uint32_t gap = samples_gap(samples, (uint32_t)ticks);
    if (gap > 0u) {
        samples_close(samples);
        samples->missed += gap * samples->channels;
        samples->counters->samples_missed += gap * samples->channels;
    }
    struct samples_block *block = samples_open(samples);
    if (block->n == 0u) {
        block->ticks = ticks;
        block->missed = samples->missed;
        block->flags = (uint8_t)(gap > 0u ? SAMPLE_FLAG_GAP | SAMPLE_FLAG_LATE : 0);
    }
    uint32_t left = samples->mask;
    for (uint8_t channel = 0; left != 0u; channel++, left >>= 1) {
        if ((left & 1u) != 0u && block->n < MSG_SAMPLES_COUNTS_MAX) {
            block->counts[block->n++] = board_adc(channel);
        }
    }
    samples->counters->samples += samples->channels;
    samples->instants++;
    samples->first = false;
    samples->last = (uint32_t)ticks;
    if (block->n >= samples->per_block * samples->channels) {
        samples_close(samples);
    }
}

bool samples_next(struct samples *samples, uint8_t *payload, uint8_t *size)
{
    uint32_t before = board_critical_begin();
    bool ready = samples->head != samples->tail && ticks_after(samples->limit, samples->number);
    if (ready) {
        const struct samples_block *block = &samples->blocks[samples->tail % SAMPLES_BLOCKS];
        uint32_t lost = samples->dropped + block->missed; /* all that was dropped lies before the oldest */
        uint8_t gap = lost != samples->told ? SAMPLE_FLAG_GAP : 0;
        uint8_t *p = payload;
        wire_put_u32(&p, samples->number);
        wire_put_u64(&p, block->ticks);
        wire_put_u32(&p, samples->period);
        wire_put_u16(&p, samples->mask);
        wire_put_u32(&p, lost);
        wire_put_u8(&p, block->flags | gap);
        wire_put_u8(&p, block->n);
        for (size_t i = 0; i < block->n; i++) {
            wire_put_i16(&p, block->counts[i]);
        }
        *size = (uint8_t)(p - payload);
        samples->told = lost;
        samples->tail++;
        samples->number++;
    }
    board_critical_end(before);
    return ready;
}
