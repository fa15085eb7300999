/* What the parts of the MPS2 board know of each other. */
#ifndef MPS2_H
#define MPS2_H

#include <stdbool.h>

void link_start(void);
bool link_is_idle(void);
void link_rx_interrupt(void);
void link_tx_interrupt(void);

void control_interrupt(void);
void sampling_interrupt(void);
void watchdog_interrupt(void);

void capture_interrupt(void);
void trigger_interrupt(void);

#endif
