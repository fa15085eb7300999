/* The host board: the core as a program, for tests and for a desk without a board.

   insitu-mcu (--pty | --tcp PORT) [--link PATH] [--once] [--world FILE] [--eeprom FILE] [--ppm N] [--start TICKS]

   It prints "ready pty PATH" or "ready tcp PORT" and runs until it is ended, with --once until the TCP peer has
   gone. Its counter begins at --start (default: 10 s before it wraps) and runs by --ppm fast. The memory of another
   holder is the file FILE-1, where there is one; which is plugged in, its world says. A main loop that hangs ends
   the program with status 3 and everything off: its watchdog. It counts half a second of the program's computing: a
   machine that has no time for it for so long is no hang, and what that does to the lease the core sees itself. */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700
#include "board.h"
#include "messages_gen.h"
#include "posix.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define PASS_TICKS (POSIX_TICK_RATE / 1000u)
#define WATCHDOG_US 500000
#define STOOD_TICKS (POSIX_TICK_RATE / 20u) /* so late a pass was held up by the machine */
#define CATCH_UP 16u                        /* reads then: more than a host says before it waits for an answer */

static struct board_facts facts = {
    .name = "posix",
    .tick_rate = POSIX_TICK_RATE,
    .capabilities = CAPABILITY_ADC | CAPABILITY_CAPTURE | CAPABILITY_HEATER | CAPABILITY_DAC | CAPABILITY_DIGITAL |
                    CAPABILITY_TRIGGER | CAPABILITY_EEPROM | CAPABILITY_WATCHDOG | CAPABILITY_TEST,
    .reset_cause = RESET_CAUSE_POWER,
    .adc_channels = WORLD_ADC_CHANNELS,
    .capture_channels = 4,
    .dac_channels = WORLD_DAC_CHANNELS,
    .digital_outputs = 8,
    .digital_inputs = 8,
    .trigger_channels = 1,
    .adc_full_counts = 32767,
    .adc_full_scale = 3300000,
};

static uint64_t host_start; /* ns */
static uint64_t first_tick = 0x100000000u - 10u * POSIX_TICK_RATE;
static int64_t ppm;
static volatile sig_atomic_t ended;

const struct board_facts *board_facts(void) { return &facts; }

static uint64_t posix_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t posix_now(void)
{
    uint64_t us = (posix_ns() - host_start) / 1000u;
    return first_tick + us + (uint64_t)((int64_t)us * ppm / 1000000);
}

uint32_t board_ticks(void) { return (uint32_t)posix_now(); }

/* One thread, and no interrupts in it: nothing to keep out. */
uint32_t board_critical_begin(void) { return 0; }

void board_critical_end(uint32_t before) { (void)before; }

void board_watchdog_feed(void)
{
    const struct itimerval half_second = {.it_value = {.tv_usec = WATCHDOG_US}};
    (void)setitimer(ITIMER_PROF, &half_second, NULL);
}

static void posix_signal(int number)
{
    if (number == SIGPROF) {
        world_outputs_off();
        _exit(3);
    }
    ended = 1;
}

static void posix_signals(void)
{
    struct sigaction action = {.sa_handler = posix_signal};
    (void)sigaction(SIGPROF, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

static uint32_t posix_boot(void)
{
    uint32_t boot = (uint32_t)posix_ns() ^ (uint32_t)getpid() << 16;
    int source = open("/dev/urandom", O_RDONLY);
    if (source >= 0) {
        (void)!read(source, &boot, sizeof boot);
        (void)close(source);
    }
    return boot != 0u ? boot : 1u;
}

/* A control pass at its time; one that was missed is not made up for: the core measures what passed. */
static void posix_pass(uint64_t now, uint64_t *next)
{
    volatile struct world *world = world_page();
    if (now < *next || world->hang == 2u) {
        return;
    }
    *next += PASS_TICKS;
    if (*next <= now) {
        *next = now + PASS_TICKS;
    }
    world->passes = world->passes + 1u;
    world->ticks = (uint32_t)now;
    app_tick_1khz();
}

/* Where the machine let this process stand, what came meanwhile is heard before the pass judges how long nobody spoke:
 * a board never stands. False where the program is to end. */
static bool posix_catch_up(uint64_t now, uint64_t next, bool once)
{
    for (unsigned left = now < next + STOOD_TICKS ? 0u : CATCH_UP; left > 0u; left--) {
        if (!wire_serve(once)) {
            return false;
        }
        app_poll();
    }
    return true;
}

static int posix_run(bool once)
{
    volatile struct world *world = world_page();
    uint64_t next = posix_now() + PASS_TICKS;
    while (ended == 0) {
        uint64_t now = posix_now();
        if (!posix_catch_up(now, next, once)) {
            break;
        }
        posix_pass(now, &next);
        world_serve(now);
        app_poll();
        while (world->hang == 1u) { /* a test of the watchdog */
        }
        if (wire_has_bytes()) {
            continue;
        }
        now = posix_now();
        uint64_t wait = world_wait(now, next > now ? next - now : 0u);
        struct timespec timeout = {.tv_nsec = (long)wait * 1000};
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(wire_descriptor(), &readable);
        if (pselect(wire_descriptor() + 1, &readable, NULL, NULL, &timeout, NULL) > 0 && !wire_serve(once)) {
            break;
        }
    }
    world_outputs_off();
    return 0;
}

static int posix_usage(void)
{
    (void)fputs("usage: insitu-mcu (--pty | --tcp PORT) [--link PATH] [--once] [--world FILE] [--eeprom FILE] "
                "[--ppm N] [--start TICKS]\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    const char *world = NULL;
    const char *eeprom = NULL;
    const char *link = NULL;
    long port = -1;
    bool pty = false;
    bool once = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--pty") == 0) {
            pty = true;
            continue;
        }
        if (strcmp(argv[i], "--once") == 0) {
            once = true;
            continue;
        }
        if (value == NULL) {
            return posix_usage();
        }
        i++;
        if (strcmp(argv[i - 1], "--tcp") == 0) {
            port = strtol(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--link") == 0) {
            link = value;
        } else if (strcmp(argv[i - 1], "--world") == 0) {
            world = value;
        } else if (strcmp(argv[i - 1], "--eeprom") == 0) {
            eeprom = value;
        } else if (strcmp(argv[i - 1], "--ppm") == 0) {
            ppm = strtol(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--start") == 0) {
            first_tick = strtoull(value, NULL, 0);
        } else {
            return posix_usage();
        }
    }
    if (pty == (port >= 0) || port > 65535) {
        return posix_usage();
    }
    host_start = posix_ns();
    facts.boot = posix_boot();
    if (!world_open(world) || !eeprom_open(eeprom)) {
        perror("insitu-mcu: world or EEPROM file");
        return 1;
    }
    world_outputs_off();
    world_page()->passes = 0;
    world_page()->boots = world_page()->boots + 1u;
    posix_signals();
    app_init();
    world_page()->magic = WORLD_MAGIC;
    if (!(pty ? wire_open_pty(link) : wire_open_tcp((uint16_t)port))) {
        perror("insitu-mcu: wire");
        return 1;
    }
    return posix_run(once);
}
