/* The host board's inputs and outputs: words in a page shared with its world, laid out as the MPS2 board's. */
#define _DEFAULT_SOURCE
#include "board.h"
#include "posix.h"
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORLD_BACKLOG 20000u /* ticks; samples due for longer were missed: their values are gone */

static volatile struct world *page;
static uint8_t wanted_rising, wanted_falling;
static uint64_t sample_next;
static uint32_t sample_period;
static bool pulse_waiting, pulse_high;
static uint64_t pulse_at, pulse_end;

bool world_open(const char *path)
{
    void *memory = MAP_FAILED;
    if (path == NULL) {
        memory = mmap(NULL, sizeof(struct world), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    } else {
        int file = open(path, O_RDWR | O_CREAT, 0600);
        if (file >= 0 && lseek(file, 0, SEEK_END) < (off_t)sizeof(struct world)) {
            (void)!ftruncate(file, (off_t)sizeof(struct world));
        }
        if (file >= 0) {
            memory = mmap(NULL, sizeof(struct world), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            (void)close(file);
        }
    }
    if (memory == MAP_FAILED) {
        return false;
    }
    page = memory;
    return true;
}

volatile struct world *world_page(void) { return page; }

void world_outputs_off(void)
{
    page->heater = 0;
    page->digital = 0;
    page->trigger = 0;
    for (uint32_t i = 0; i < WORLD_DAC_CHANNELS; i++) {
        page->dac[i] = 0;
    }
}

int16_t board_adc(uint8_t channel)
{
    int32_t counts = channel < WORLD_ADC_CHANNELS ? (int32_t)page->adc[channel] : -1;
    int32_t full = board_facts()->adc_full_counts;
    return (int16_t)(counts < 0 ? -1 : counts < full ? counts : full);
}

void board_heater(uint16_t value)
{
    uint32_t before = page->heater;
    page->heater = value;
    if ((before == 0u) != (value == 0u)) {
        if (value != 0u) {
            page->heater_on = board_ticks();
        } else {
            page->heater_off_pass = page->passes;
            page->heater_off = board_ticks();
        }
    }
}

void board_dac(uint8_t channel, uint16_t value)
{
    if (channel < WORLD_DAC_CHANNELS) {
        page->dac[channel] = value;
    }
}

void board_digital(uint16_t levels) { page->digital = levels; }

uint16_t board_digital_in(void) { return (uint16_t)(page->inputs & 0xffu); }

void board_capture(uint8_t rising, uint8_t falling)
{
    wanted_rising = rising;
    wanted_falling = falling;
}

uint32_t board_capture_overruns(void) { return page->overrun; }

uint32_t board_sampling(uint32_t period)
{
    sample_period = period;
    sample_next = posix_now() + period;
    return period;
}

bool board_trigger(uint8_t channel, uint32_t at, uint32_t width)
{
    uint64_t now = posix_now();
    uint32_t ahead = at - (uint32_t)now;
    if (channel != 0u || pulse_waiting || pulse_high || ahead > 0x7fffffffu) {
        return false;
    }
    pulse_at = now + ahead;
    pulse_end = pulse_at + width;
    pulse_waiting = true;
    return true;
}

void board_trigger_off(void)
{
    pulse_waiting = false;
    pulse_high = false;
    page->trigger = 0;
}

static void world_edges(void)
{
    while (page->tail != page->head) {
        uint32_t ticks = page->edges[page->tail % WORLD_EDGES].ticks;
        uint32_t what = page->edges[page->tail % WORLD_EDGES].what;
        bool rising = (what & 0x100u) != 0u;
        uint32_t wanted = rising ? wanted_rising : wanted_falling;
        if ((wanted >> (what & 7u) & 1u) != 0u) {
            app_capture((uint8_t)(what & 7u), rising, ticks);
        }
        page->tail = page->tail + 1u;
    }
}

static void world_samples(uint64_t now)
{
    if (sample_period == 0u || now < sample_next) {
        return;
    }
    if (now - sample_next > WORLD_BACKLOG) {
        sample_next += (now - sample_next) / sample_period * sample_period;
    }
    while (sample_period != 0u && sample_next <= now) {
        app_sample((uint32_t)sample_next);
        sample_next += sample_period;
    }
}

static void world_pulse(uint64_t now)
{
    if (pulse_waiting && now >= pulse_at) {
        pulse_waiting = false;
        pulse_high = true;
        page->trigger = 1;
        page->trigger_ticks = (uint32_t)pulse_at;
        page->trigger_seen = (uint32_t)now;
        page->triggers = page->triggers + 1u;
    }
    if (pulse_high && now >= pulse_end) {
        pulse_high = false;
        page->trigger = 0;
        app_triggered(0, (uint32_t)pulse_at);
    }
}

void world_serve(uint64_t now)
{
    world_edges();
    world_samples(now);
    world_pulse(now);
}

uint64_t world_wait(uint64_t now, uint64_t longest)
{
    uint64_t until = now + longest;
    if (pulse_waiting && pulse_at < until) {
        until = pulse_at;
    }
    if (pulse_high && pulse_end < until) {
        until = pulse_end;
    }
    return until > now ? until - now : 0u; /* samples keep until the next pass: their instants are known */
}
