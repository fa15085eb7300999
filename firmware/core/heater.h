/* The specimen heater: setpoint ramp, control loop, limits, slew, time on. */
#ifndef HEATER_H
#define HEATER_H
#include "clock.h"
#include "messages_gen.h"
#include "pid.h"

struct heater {
    struct msg_heater_config config; /* with the limits in force */
    struct pid pid;
    uint8_t mode;           /* enum heater_mode */
    uint16_t wanted;        /* open loop: output */
    int32_t target;         /* mK, where the setpoint goes */
    int32_t from;           /* mK, where its ramp began */
    uint64_t from_ticks;
    uint32_t rate;          /* mK/s; 0: a step */
    int32_t setpoint;       /* mK, now */
    uint64_t on_ticks;      /* when it went on */
    float coldest;          /* K, since then */
    uint64_t felt_ticks;    /* when it last gave less than its most, or the thermometer felt it */
    float output;           /* 1/65535, before rounding */
};

/* Takes the limits of a holder; safe gains: none. */
void heater_init(struct heater *heater, const struct msg_teds *teds);
/* Takes gains and tighter limits. False where one is out of range. */
bool heater_configure(struct heater *heater, const struct msg_heater_config *config, const struct msg_teds *teds);
void heater_off(struct heater *heater);
void heater_open_loop(struct heater *heater, uint16_t output, uint64_t now);
/* Closed loop; `measured` is where a ramp begins when the loop was off. */
void heater_closed_loop(struct heater *heater, int32_t setpoint, uint32_t rate, int32_t measured, uint64_t now);
/* Moves the setpoint or the output at once, as a profile does. */
void heater_follow(struct heater *heater, int32_t setpoint);
/* One control pass; returns the output. */
uint16_t heater_pass(struct heater *heater, const struct clock *clock, uint64_t now, float kelvin, float dt);
/* True where it has been on for longer than allowed. */
bool heater_on_too_long(const struct heater *heater, const struct clock *clock, uint64_t now);
/* True where the thermometer does not feel what the heater gives: it is reversed, shorted or has come off. */
bool heater_loop_is_broken(const struct heater *heater, const struct clock *clock, uint64_t now);

#endif
