/* A PID controller: derivative of the measured value, so that a new setpoint does not kick. */
#include "pid.h"

#define PID_SMOOTHING 0.01f /* s, of the slope */

void pid_reset(struct pid *pid) { *pid = (struct pid){0}; }

float pid_step(struct pid *pid, const struct pid_gains *gains, float setpoint, float measured, float feed_forward,
               float dt, float low, float high)
{
    if (!pid->primed) {
        pid->measured = measured;
        pid->primed = true;
    }
    if (dt > 0.0f) {
        float slope = (measured - pid->measured) / dt;
        pid->slope += (slope - pid->slope) * dt / (dt + PID_SMOOTHING);
    }
    pid->measured = measured;
    float error = setpoint - measured;
    float now = feed_forward + gains->kp * error - gains->kd * pid->slope;
    float step = gains->ki * error * dt;
    float output = now + pid->integral + step;
    /* Anti-windup: integrate unless that pushes further into a limit. */
    if ((output <= high || step < 0.0f) && (output >= low || step > 0.0f)) {
        /* A slow loop's steps of a millisecond vanish beside a large integral, so what they leave is kept (Kahan). */
        float whole = step + pid->rest;
        float sum = pid->integral + whole;
        pid->rest = whole - (sum - pid->integral);
        pid->integral = sum;
    }
    output = now + pid->integral;
    if (!(output > low)) { /* not a number gives the low end */
        return low;
    }
    return output < high ? output : high;
}
