/* UART0 as the link to the host. QEMU's UART has no speed of its own and presses back instead of overrunning. */
#include "board.h"
#include "mps2.h"
#include "registers.h"
#include "rings.h"

static struct rx_ring received;
static struct tx_ring to_send;

void link_start(void)
{
    UART0_BAUDDIV = CLOCK_HZ / 921600u;
    UART0_CTRL = UART_CTRL_TX | UART_CTRL_RX | UART_CTRL_TXINT | UART_CTRL_RXINT;
}

bool link_is_idle(void)
{
    return rx_ring_is_empty(&received);
}

void link_rx_interrupt(void)
{
    UART0_INTCLEAR = UART_INT_RX; /* before draining: a byte that comes meanwhile interrupts anew */
    while ((UART0_STATE & UART_STATE_RXFULL) != 0u) {
        rx_ring_put(&received, (uint8_t)UART0_DATA, board_ticks());
    }
}

void link_tx_interrupt(void)
{
    UART0_INTCLEAR = UART_INT_TX;
    while (!tx_ring_is_empty(&to_send) && (UART0_STATE & UART_STATE_TXFULL) == 0u) {
        UART0_DATA = tx_ring_get(&to_send);
    }
}

int board_rx(uint32_t *arrived)
{
    return rx_ring_get(&received, arrived);
}

size_t board_tx(const uint8_t *bytes, size_t n)
{
    size_t taken = tx_ring_put(&to_send, bytes, (uint32_t)n);
    nvic_pend(IRQ_UART0_TX);
    return taken;
}

uint32_t board_rx_overruns(void)
{
    return received.overruns;
}
