/* The main loop of the Cortex-M boards: start, then serve the core and sleep between interrupts. */
#include "main.h"

#include "board.h"
#include "cortex_m.h"
#include "startup.h"

uint32_t board_critical_begin(void)
{
    return cortex_mask_core();
}

void board_critical_end(uint32_t before)
{
    cortex_unmask_core(before);
}

int main(void)
{
    (void)cortex_lock();
    board_start();
    app_init();
    cortex_enable_interrupts();
    for (;;) {
        app_poll();
        board_round();
        /* Masked, so that an interrupt after the question still ends the sleep. */
        uint32_t before = cortex_lock();
        if (board_is_idle()) {
            cortex_wait();
        }
        cortex_unlock(before);
    }
}
