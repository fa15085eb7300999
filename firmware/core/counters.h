/* What was lost, and what was done: one number for each. Same order as the COUNTERS reply. */
#ifndef COUNTERS_H
#define COUNTERS_H
#include "messages_gen.h"

/* The interrupts and the main loop write different fields. */
#define counters msg_counters_reply

#endif
