/* What the core needs of a board, and what the board calls in the core: the only seam. */
#ifndef BOARD_H
#define BOARD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- The board says what it has. Constant after board's own start-up, before app_init(). */

struct board_facts {
    const char *name;          /* at most 16 characters */
    uint32_t tick_rate;        /* Hz, nominal; 1 MHz or more */
    uint32_t capabilities;     /* bits of enum capability */
    uint32_t boot;             /* as different at each start as the board can make it */
    uint8_t reset_cause;       /* enum reset_cause */
    uint8_t adc_channels;      /* at most 16 */
    uint8_t capture_channels;  /* at most 8 */
    uint8_t dac_channels;      /* at most 4, without the heater's */
    uint8_t digital_outputs;   /* at most 16 */
    uint8_t digital_inputs;    /* at most 16 */
    uint8_t trigger_channels;  /* at most 2 */
    uint16_t adc_full_counts;  /* count at full scale, at most 32767 */
    uint32_t adc_full_scale;   /* uV at that count */
};

const struct board_facts *board_facts(void);

/* ---- Time */

/* A free-running counter of all 32 bits, upwards, at tick_rate. Callable from anywhere. */
uint32_t board_ticks(void);

/* ---- Link: never blocks */

/* The next byte received, or -1. `arrived`: when it came in (boards that stamp bytes), else now. */
int board_rx(uint32_t *arrived);
/* Takes as many bytes for sending as there is room for; returns how many. */
size_t board_tx(const uint8_t *bytes, size_t n);
/* Bytes lost so far because nobody fetched them in time. */
uint32_t board_rx_overruns(void);

/* ---- Analogue inputs */

/* The newest conversion, 0 to adc_full_counts; negative where the converter gives none, which is a fault wherever
   the input matters. From any context, within microseconds. */
int16_t board_adc(uint8_t channel);
/* Calls app_sample() every `period` ticks; returns the period the timer can make (0: none). 0 stops it. */
uint32_t board_sampling(uint32_t period);

/* ---- Outputs. All must be off from reset until the core sets them. */

void board_heater(uint16_t value);                  /* 0 is off, 65535 fully on */
void board_dac(uint8_t channel, uint16_t value);    /* 0 is off, 65535 full scale */
void board_digital(uint16_t levels);                /* one bit for each output */
uint16_t board_digital_in(void);                    /* one bit for each input */
/* One pulse at `at` (compare hardware where there is some), then app_triggered(). False: busy, or `at` has passed
   by the time the compare is set. The core asks for one pulse a channel at a time, at most 2^30 ticks ahead. */
bool board_trigger(uint8_t channel, uint32_t at, uint32_t width);
/* Takes back a pulse asked for, and sets the outputs low. */
void board_trigger_off(void);
/* Edges that captures are wanted of, a bit for each input. */
void board_capture(uint8_t rising, uint8_t falling);
/* Edges the hardware saw but could not stamp (over-capture). */
uint32_t board_capture_overruns(void);

/* ---- EEPROM, 256 bytes from 0: the holder's, which may be exchanged at any time. Neither waits: false where the
   memory does not answer, be it busy with a write or not there. A write is at most 16 bytes, within a page of 16.
   Called with interrupts on (but for one read of all of it at the start), so that a slow bus holds nothing up. */

bool board_eeprom_read(uint16_t at, uint8_t *bytes, size_t n);
bool board_eeprom_write(uint16_t at, const uint8_t *bytes, size_t n);

/* ---- Housekeeping */

void board_watchdog_feed(void);
/* Keeps out the interrupts that call app_*(), nestable: returns what board_critical_end() is to restore. Held for
   as long as a command's handler runs (tens of microseconds): a link without FIFO needs its own interrupt above. */
uint32_t board_critical_begin(void);
void board_critical_end(uint32_t before);

/* ---- The core's entries */

void app_init(void);                                          /* once, with interrupts still off */
void app_poll(void);                                          /* main loop, as often as it can; wfi between calls is fine */
void app_tick_1khz(void);                                     /* timer interrupt: a control pass */
void app_sample(uint32_t ticks);                              /* sampling interrupt, with the instant it stands for */
void app_capture(uint8_t channel, bool rising, uint32_t ticks); /* capture interrupt */
void app_triggered(uint8_t channel, uint32_t ticks);          /* a trigger pulse has begun */
/* Interrupts that call app_*() must not interrupt one another (one priority), else wrap them in a critical section. */

#endif
