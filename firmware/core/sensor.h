/* The specimen's thermometer: counts to temperature, and whether to believe them. */
#ifndef SENSOR_H
#define SENSOR_H
#include "board.h"
#include "messages_gen.h"

#define SENSOR_DOUBTS 2u /* wrong passes in a row until it is a fault */

struct sensor {
    float kelvin;        /* last believed */
    bool known;
    uint32_t ticks;      /* when */
    uint8_t doubts;      /* wrong passes in a row */
    uint8_t suspicion;   /* enum fault: what the last pass looked like */
    uint8_t wrong;       /* enum fault: confirmed; FAULT_NONE: well */
};

void sensor_reset(struct sensor *sensor);
/* One control pass: two counts become a temperature or a doubt. */
void sensor_pass(struct sensor *sensor, const struct msg_teds *teds, int16_t signal, int16_t reference,
                 uint32_t ticks, uint32_t rate);
/* Temperature in millikelvin, as messages tell it; -1: not known. */
int32_t sensor_millikelvin(const struct sensor *sensor);

#endif
