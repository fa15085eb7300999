/* A board in memory whose clock moves when told. */
#include "stepped_board.h"
#include "crc.h"
#include "repack_gen.h"
#include <string.h>

#define STEPPED_PASS 1000u
#define STEPPED_UNSEEN 1100000u /* ticks that an exchange between two looks at the same bytes may go unseen */

struct stepped stepped;

static struct board_facts facts = {
    .name = "stepped",
    .tick_rate = 1000000,
    .capabilities = CAPABILITY_ADC | CAPABILITY_CAPTURE | CAPABILITY_HEATER | CAPABILITY_DAC | CAPABILITY_DIGITAL |
                    CAPABILITY_TRIGGER | CAPABILITY_EEPROM | CAPABILITY_WATCHDOG | CAPABILITY_TEST,
    .adc_channels = 8,
    .capture_channels = 4,
    .dac_channels = 2,
    .digital_outputs = 8,
    .digital_inputs = 8,
    .trigger_channels = 2,
    .adc_full_counts = 32767,
    .adc_full_scale = 3300000,
};

static uint8_t to_core[STEPPED_WIRE];
static uint32_t to_core_head, to_core_tail;
static uint8_t from_core[STEPPED_WIRE];
static uint32_t from_core_head, from_core_tail;
static uint64_t next_pass, next_sample;
static uint64_t exchanged; /* since when another holder is there than the one in force; 0: it is the same */
static bool was_armed;
static uint32_t sample_period;
static struct {
    bool waiting;
    uint64_t at;
    uint64_t end;
} pulses[2];

const struct board_facts *board_facts(void) { return &facts; }

uint32_t board_ticks(void) { return (uint32_t)stepped.ticks; }

int board_rx(uint32_t *arrived)
{
    if (to_core_head == to_core_tail) {
        return -1;
    }
    *arrived = board_ticks();
    return to_core[to_core_tail++ % STEPPED_WIRE];
}

size_t board_tx(const uint8_t *bytes, size_t n)
{
    size_t taken = n < stepped.tx_room ? n : stepped.tx_room;
    for (size_t i = 0; i < taken; i++) {
        from_core[from_core_head++ % STEPPED_WIRE] = bytes[i];
    }
    if (from_core_head - from_core_tail > STEPPED_WIRE) {
        from_core_tail = from_core_head - STEPPED_WIRE;
    }
    return taken;
}

uint32_t board_rx_overruns(void) { return 0; }

int16_t board_adc(uint8_t channel) { return stepped.adc[channel & 15u]; }

uint32_t board_sampling(uint32_t period)
{
    sample_period = period;
    next_sample = stepped.ticks + period;
    return period;
}

static void stepped_on(bool on)
{
    if (on && !safety_may_be_on(&app.safety)) {
        stepped.violations++;
    }
}

void board_heater(uint16_t value)
{
    stepped_on(value != 0u);
    if (value != 0u && stepped.heater == 0u) {
        stepped.heater_on_ticks = stepped.ticks;
    }
    if (value == 0u && stepped.heater != 0u) {
        stepped.heater_off_ticks = stepped.ticks;
        stepped.passes_at_off = app.counters.passes;
    }
    stepped.heater = value;
}

void board_dac(uint8_t channel, uint16_t value)
{
    stepped_on(value != 0u);
    stepped.dac[channel & 3u] = value;
}

void board_digital(uint16_t levels)
{
    stepped_on(levels != 0u);
    stepped.digital = levels;
}

uint16_t board_digital_in(void) { return stepped.inputs; }

bool board_trigger(uint8_t channel, uint32_t at, uint32_t width)
{
    uint32_t ahead = at - (uint32_t)stepped.ticks;
    stepped_on(true);
    if (channel > 1u || pulses[channel].waiting || ahead > 0x7fffffffu) {
        return false;
    }
    pulses[channel].at = stepped.ticks + ahead;
    pulses[channel].end = pulses[channel].at + width;
    pulses[channel].waiting = true;
    return true;
}

void board_trigger_off(void)
{
    pulses[0].waiting = false;
    pulses[1].waiting = false;
    stepped.pulse = false;
}

void board_capture(uint8_t rising, uint8_t falling)
{
    stepped.rising = rising;
    stepped.falling = falling;
}

uint32_t board_capture_overruns(void) { return 0; }

bool board_eeprom_read(uint16_t at, uint8_t *bytes, size_t n)
{
    if (stepped.eeprom_broken || at + n > TEDS_SIZE) {
        return false;
    }
    memcpy(bytes, stepped.eeprom + at, n);
    return true;
}

bool board_eeprom_write(uint16_t at, const uint8_t *bytes, size_t n)
{
    if (stepped.eeprom_broken || at + n > TEDS_SIZE || n > TEDS_PAGE) {
        return false;
    }
    if (stepped.eeprom_writes_left > 0u && --stepped.eeprom_writes_left == 0u) {
        stepped.eeprom_broken = true;
    }
    memcpy(stepped.eeprom + at, bytes, n);
    return true;
}

void board_watchdog_feed(void) { stepped.fed++; }

uint32_t board_critical_begin(void) { return stepped.critical++; }

void board_critical_end(uint32_t before)
{
    stepped.critical--;
    if (stepped.critical != before) {
        stepped.violations++;
    }
}

void stepped_start(uint64_t ticks, uint32_t boot)
{
    facts.boot = boot;
    stepped.ticks = ticks;
    stepped.critical = 0;
    stepped.violations = 0;
    stepped.pulses = 0;
    stepped.fed = 0;
    to_core_tail = to_core_head;
    from_core_tail = from_core_head;
    sample_period = 0;
    next_pass = ticks + STEPPED_PASS;
    exchanged = 0;
    was_armed = false;
    app_init();
}

/* Nobody arms with another holder than the one that is there, and nothing is on for longer than it takes to see it. */
static void stepped_holder(void)
{
    bool other = stepped.eeprom_broken || memcmp(stepped.eeprom, app.teds.image, TEDS_SIZE) != 0;
    bool armed = safety_may_be_on(&app.safety);
    exchanged = !other ? 0u : exchanged == 0u ? stepped.ticks : exchanged;
    if (armed && other && (!was_armed || stepped.ticks - exchanged > STEPPED_UNSEEN)) {
        stepped.violations++;
    }
    was_armed = armed;
}

void stepped_check(void)
{
    stepped_holder();
    bool on = stepped.heater != 0u || stepped.digital != 0u || stepped.dac[0] != 0u || stepped.dac[1] != 0u ||
              stepped.pulse || pulses[0].waiting || pulses[1].waiting;
    stepped_on(on);
    if (stepped.critical != 0u || stepped.heater > app.teds.record.output_max ||
        (stepped.heater != 0u && app.safety.state != STATE_RUN)) {
        stepped.violations++;
    }
}

static void stepped_pulses(void)
{
    for (uint8_t i = 0; i < 2u; i++) {
        if (pulses[i].waiting && stepped.ticks >= pulses[i].at) {
            pulses[i].waiting = false;
            stepped.pulses++;
            stepped.pulse_ticks = pulses[i].at;
            app_triggered(i, (uint32_t)pulses[i].at);
        }
    }
}

/* The next tick at which something happens, at most `end`. */
static uint64_t stepped_next(uint64_t end)
{
    uint64_t next = next_pass < end ? next_pass : end;
    if (sample_period != 0u && next_sample < next) {
        next = next_sample;
    }
    for (size_t i = 0; i < 2u; i++) {
        if (pulses[i].waiting && pulses[i].at < next) {
            next = pulses[i].at;
        }
    }
    return next > stepped.ticks ? next : stepped.ticks;
}

void stepped_advance(uint64_t ticks)
{
    uint64_t end = stepped.ticks + ticks;
    app_poll();
    while (stepped.ticks < end) {
        stepped.ticks = stepped_next(end);
        stepped_pulses();
        if (sample_period != 0u && stepped.ticks >= next_sample) {
            next_sample += sample_period;
            app_sample((uint32_t)stepped.ticks);
        }
        if (stepped.ticks >= next_pass) {
            next_pass += STEPPED_PASS;
            if (!stepped.passes_stop) {
                app_tick_1khz();
            }
            app_poll();
        }
        stepped_check();
    }
    do { /* a command that waits for the EEPROM is answered: the main loop is quicker than a pass */
        app_poll();
    } while (app.waiting && !stepped.passes_stop && app.teds.doubts == 0u);
    stepped_check();
}

void stepped_send(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n && to_core_head - to_core_tail < STEPPED_WIRE; i++) {
        to_core[to_core_head++ % STEPPED_WIRE] = bytes[i];
    }
}

size_t stepped_take(uint8_t *bytes, size_t room)
{
    size_t n = 0;
    while (n < room && from_core_tail != from_core_head) {
        bytes[n++] = from_core[from_core_tail++ % STEPPED_WIRE];
    }
    return n;
}

void stepped_capture(uint8_t channel, bool rising, uint64_t ticks)
{
    uint32_t wanted = rising ? stepped.rising : stepped.falling;
    if ((wanted >> channel & 1u) != 0u) {
        app_capture(channel, rising, (uint32_t)ticks);
    }
}

const struct app *stepped_app(void) { return &app; }

uint8_t stepped_state(void) { return app.safety.state; }

bool stepped_waits(void) { return app.waiting; }

int stepped_repack(uint8_t type, const uint8_t *payload, size_t size, uint8_t *to)
{
    return repack(type, payload, size, to);
}

int stepped_repack_teds(const uint8_t *payload, size_t size, uint8_t *to)
{
    struct msg_teds teds;
    return msg_teds_unpack(&teds, payload, size) ? (int)msg_teds_pack(&teds, to) : -1;
}

size_t stepped_frame(uint8_t type, uint8_t sequence, uint8_t channel, const uint8_t *payload, size_t size, uint8_t *to)
{
    uint8_t plain[FRAME_MAX] = {MSG_VERSION << 4, type, sequence, channel};
    size = size < MSG_PAYLOAD_MAX ? size : MSG_PAYLOAD_MAX;
    memcpy(plain + MSG_HEADER_SIZE, payload, size);
    size += MSG_HEADER_SIZE;
    uint16_t crc = crc_add(CRC_START, plain, size);
    plain[size++] = (uint8_t)(crc & 0xffu);
    plain[size++] = (uint8_t)(crc >> 8);
    size_t n = cobs_encode(plain, size, to);
    to[n++] = 0;
    return n;
}
