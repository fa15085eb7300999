/* A PID controller in floats, scaled by the time that really passed. */
#ifndef PID_H
#define PID_H
#include <stdbool.h>

struct pid_gains {
    float kp; /* output per kelvin */
    float ki; /* output per kelvin and second */
    float kd; /* output per kelvin per second, of the measured value */
};

struct pid {
    float integral;
    float rest;     /* of the integral, smaller than a float of its size can hold */
    float measured; /* last */
    float slope;    /* of the measured value, smoothed, K/s */
    bool primed;
};

void pid_reset(struct pid *pid);
/* One step of dt seconds; the output lies within low..high, and the integral never winds beyond it. */
float pid_step(struct pid *pid, const struct pid_gains *gains, float setpoint, float measured, float feed_forward,
               float dt, float low, float high);

#endif
