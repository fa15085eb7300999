/* What a Cortex-M board gives the common main loop beside board.h. */
#ifndef MAIN_H
#define MAIN_H

#include <stdbool.h>

/* Clocks, pins, peripherals; with interrupts masked. */
void board_start(void);
/* Once each time round the main loop. */
void board_round(void);
/* Answers whether the main loop has nothing to do before the next interrupt. Called with interrupts masked. */
bool board_is_idle(void);

#endif
