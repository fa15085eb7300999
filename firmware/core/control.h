/* One pass of the control loop, each millisecond: look, decide, act. */
#ifndef CONTROL_H
#define CONTROL_H
#include "app.h"

#define CONTROL_PERIOD_US 1000u

void control_pass(struct app *self);

#endif
