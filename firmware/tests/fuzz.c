/* Random messages against the whole core: it must not crash or hang, and nothing may be on that must not be.

   Built alone: fuzz MESSAGES [SEED], or fuzz - FILE... to run inputs that libFuzzer found. Built for libFuzzer
   (-DLIBFUZZER): each input is a list of messages, whose checksums are made right, so that it need not find them. */
#include "crc.h"
#include "stepped_board.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FUZZ_SESSION 0x12345678u

static uint8_t sequence;
static uint32_t beats;

static void fuzz_send(uint8_t type, uint8_t channel, const uint8_t *payload, size_t size)
{
    uint8_t wire[LINK_ENCODED_MAX + 1u];
    stepped_send(wire, stepped_frame(type, sequence++, channel, payload, size, wire));
}

static void fuzz_hello(void)
{
    uint8_t payload[MSG_HELLO_SIZE];
    struct msg_hello hello = {.session = FUZZ_SESSION, .schema = MSG_SCHEMA};
    fuzz_send(MSG_HELLO, 0, payload, msg_hello_pack(&hello, payload));
    beats = 0;
}

static void fuzz_beat(void)
{
    uint8_t payload[MSG_HEARTBEAT_SIZE];
    struct msg_heartbeat beat = {.session = FUZZ_SESSION, .count = ++beats};
    fuzz_send(MSG_HEARTBEAT, 0, payload, msg_heartbeat_pack(&beat, payload));
}

/* The fuzzer sees the nonce that the core has given, as a host would, and knows its interlocks. */
static void fuzz_arm(void)
{
    uint8_t payload[MSG_ARM_SIZE];
    struct msg_arm arm = {.nonce = app.safety.nonces[0].value, .interlocks = interlocks_checksum(&app.interlocks), .holder = app.teds.holder};
    fuzz_send(MSG_ARM, 0, payload, msg_arm_pack(&arm, payload));
}

enum fuzz_holder { FUZZ_BLANK, FUZZ_HOLDER, FUZZ_DAMAGED, FUZZ_NONE };

/* Another holder is plugged in, whatever the board is doing. */
static void fuzz_exchange(enum fuzz_holder holder)
{
    const struct msg_teds record = {
        .magic = TEDS_MAGIC, .version = 1, .model = "fuzz", .sensor = SENSOR_KIND_NONE, .temperature_max = 400000,
        .output_max = 20000};
    stepped.eeprom_broken = holder == FUZZ_NONE;
    memset(stepped.eeprom, 0xff, sizeof stepped.eeprom);
    if (holder == FUZZ_HOLDER || holder == FUZZ_DAMAGED) {
        size_t size = msg_teds_pack(&record, stepped.eeprom);
        uint16_t crc = crc_add(CRC_START, stepped.eeprom, size);
        stepped.eeprom[size] = (uint8_t)(crc & 0xffu);
        stepped.eeprom[size + 1u] = (uint8_t)(crc >> 8);
        stepped.eeprom[7] ^= holder == FUZZ_DAMAGED ? 1u : 0u;
    }
}

static void fuzz_power_on(void)
{
    memset(&stepped, 0, sizeof stepped);
    memset(stepped.eeprom, 0xff, sizeof stepped.eeprom);
    stepped.tx_room = 512;
    stepped_start(0xfff00000u, 7);
    fuzz_hello();
}

static void fuzz_judge(void)
{
    if (stepped.violations != 0u) {
        (void)fprintf(stderr, "fuzz: %u violations in state %u\n", stepped.violations, app.safety.state);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    fuzz_power_on();
    while (n >= 4u) {
        size_t size = bytes[3] < n - 4u ? bytes[3] : n - 4u;
        if (bytes[0] == 0xf0u) {
            fuzz_beat();
        } else if (bytes[0] == 0xf1u) {
            fuzz_arm();
        } else if (bytes[0] == 0xf2u) {
            stepped_send(bytes + 4, size); /* noise */
        } else if (bytes[0] == 0xf3u) {
            stepped.adc[bytes[1] & 7u] = (int16_t)(bytes[2] << 7);
        } else if (bytes[0] == 0xf4u) {
            fuzz_exchange((enum fuzz_holder)(bytes[1] & 3u));
        } else {
            fuzz_send(bytes[0], bytes[1], bytes + 4, size);
        }
        stepped_advance((uint64_t)(bytes[2] & 15u) * 500u);
        bytes += 4u + size;
        n -= 4u + size;
    }
    fuzz_judge();
    return 0;
}

#ifndef LIBFUZZER

static uint64_t state;

static uint32_t fuzz_random(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* Sizes that a command may have, so that most messages get past the first check. */
static const uint8_t sizes[64] = {
    [MSG_ARM] = MSG_ARM_SIZE, [MSG_CLEAR_FAULT] = 1, [MSG_SAMPLES_START] = 10, [MSG_CAPTURES_START] = 7,
    [MSG_TELEMETRY_START] = 6, [MSG_STREAM_STOP] = 1, [MSG_CREDIT] = 5, [MSG_HEATER_CONFIG] = 34,
    [MSG_HEATER_SET] = 8, [MSG_HEATER_OUTPUT] = 2, [MSG_DAC_SET] = 2, [MSG_DIGITAL_SET] = 4,
    [MSG_INTERLOCK_SET] = 6, [MSG_INTERLOCK_INPUTS] = 4, [MSG_PROFILE_BEGIN] = 8, [MSG_PROFILE_SEGMENTS] = 11,
    [MSG_PROFILE_START] = 10, [MSG_TRIGGER] = 20, [MSG_TEDS_READ] = 3, [MSG_TEDS_WRITE] = 19, [MSG_TEDS_COMMIT] = MSG_TEDS_COMMIT_SIZE,
    [MSG_HEARTBEAT] = 8, [MSG_TIME] = 12,
};

/* Small numbers are likelier to be a channel, a bit, a count that is taken. */
static void fuzz_fill(uint8_t *payload, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        payload[i] = (uint8_t)(fuzz_random(3) == 0u ? fuzz_random(256) : fuzz_random(4) * (i & 1u ? 0u : 1u));
    }
}

static void fuzz_message(void)
{
    uint8_t payload[MSG_PAYLOAD_MAX];
    uint32_t kind = fuzz_random(100);
    if (kind < 5u) {
        fuzz_beat();
        stepped_advance(0);
        fuzz_arm();
    } else if (kind < 10u) {
        fuzz_beat();
    } else if (kind < 11u) {
        fuzz_hello();
    } else if (kind < 14u) {
        size_t size = fuzz_random(sizeof payload);
        fuzz_fill(payload, size);
        stepped_send(payload, size); /* noise */
    } else if (kind < 20u) {
        fuzz_fill(payload, sizeof payload);
        fuzz_send((uint8_t)fuzz_random(256), (uint8_t)fuzz_random(5), payload, fuzz_random(MSG_PAYLOAD_MAX + 1u));
    } else {
        uint8_t type = (uint8_t)fuzz_random(64);
        if (type == MSG_FAULT_NOW && fuzz_random(20) != 0u) {
            type = MSG_DIGITAL_SET;
        }
        fuzz_fill(payload, sizeof payload);
        if (type == MSG_CLEAR_FAULT) {
            payload[0] = app.safety.fault;
        } else if (type == MSG_PROFILE_SEGMENTS) {
            payload[0] = app.profile.loaded;
            payload[1] = 1;
            payload[2] &= 1u;
        } else if (type == MSG_HEATER_OUTPUT) {
            payload[1] &= 15u;
        }
        fuzz_send(type, (uint8_t)fuzz_random(3), payload, sizes[type]);
    }
}

static void fuzz_world(void)
{
    for (size_t i = 0; i < 8u; i++) {
        if (fuzz_random(50) == 0u) {
            stepped.adc[i] = (int16_t)fuzz_random(32768);
        }
    }
    if (fuzz_random(200) == 0u) {
        stepped.inputs = (uint16_t)fuzz_random(256);
    }
    if (fuzz_random(100) == 0u) {
        stepped.tx_room = fuzz_random(3) == 0u ? 0u : 512u; /* the host does not read */
    }
    if (fuzz_random(1000) == 0u) {
        fuzz_exchange((enum fuzz_holder)fuzz_random(4));
    } else if (fuzz_random(50) == 0u && (stepped.eeprom_broken || app.teds.state == TEDS_STATE_DAMAGED)) {
        fuzz_exchange(FUZZ_HOLDER); /* somebody sees to it */
    }
    if (fuzz_random(4) == 0u) {
        stepped_capture((uint8_t)fuzz_random(4), fuzz_random(2) == 0u, stepped.ticks - fuzz_random(1000));
    }
}

static int fuzz_files(int n, char **names)
{
    static uint8_t input[4096];
    for (int i = 0; i < n; i++) {
        FILE *file = fopen(names[i], "rb");
        if (file == NULL) {
            perror(names[i]);
            return 1;
        }
        size_t size = fread(input, 1, sizeof input, file);
        (void)fclose(file);
        (void)LLVMFuzzerTestOneInput(input, size);
    }
    (void)printf("%d inputs\n", n);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "-") == 0) {
        return fuzz_files(argc - 2, argv + 2);
    }
    uint32_t messages = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000u;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1u;
    uint32_t states[5] = {0};
    uint64_t handled = 0;
    uint64_t refused = 0;
    clock_t began = clock();
    for (uint32_t i = 0; i < messages; i++) {
        if (i % 5000u == 0u) { /* a new one, now and then: else damage to the TEDS is for ever */
            handled += app.counters.rx_frames;
            refused += app.counters.refused;
            fuzz_power_on();
        }
        fuzz_message();
        fuzz_world();
        stepped_advance(fuzz_random(8) == 0u ? fuzz_random(20000) : 100u);
        uint8_t drain[4096];
        while (stepped_take(drain, sizeof drain) == sizeof drain) {
        }
        states[app.safety.state < 5u ? app.safety.state : 0u]++;
        fuzz_judge();
    }
    handled += app.counters.rx_frames;
    refused += app.counters.refused;
    double seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
    (void)printf("%u messages, %llu frames, %llu refused, in %.1f s; after a message SAFE %u ARMED %u RUN %u FAULT %u\n",
                 messages, (unsigned long long)handled, (unsigned long long)refused, seconds, states[STATE_SAFE],
                 states[STATE_ARMED], states[STATE_RUN], states[STATE_FAULT]);
    return states[STATE_INIT] == 0u && states[STATE_RUN] > 0u ? 0 : 1;
}

#endif
