/* Who serves which interrupt on the MPS2 board. */
#include "mps2.h"
#include "registers.h"
#include "startup.h"
#include "world.h"

const vector_t vectors[16 + 32] __attribute__((section(".vectors"), used)) = {
    STARTUP_SYSTEM_VECTORS(watchdog_interrupt),
    [16 + IRQ_UART0_RX] = link_rx_interrupt,
    [16 + IRQ_UART0_TX] = link_tx_interrupt,
    [16 + IRQ_CONTROL] = control_interrupt,
    [16 + IRQ_SAMPLING] = sampling_interrupt,
    [16 + IRQ_DUAL] = trigger_interrupt,
    [16 + WORLD_DOORBELL] = capture_interrupt,
};
