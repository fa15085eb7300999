/* USART1 as the link to the host: PA9 sends, PA10 receives, 921600 baud, 8N1. */
#include "board.h"
#include "registers.h"
#include "rings.h"
#include "stm32f405.h"

static struct rx_ring received;
static struct tx_ring to_send;

void link_start(void)
{
    USART1_BRR = (84000000u + LINK_BAUD / 2u) / LINK_BAUD; /* 923 kbaud: 0.16 % off */
    USART1_CR1 = USART_CR1_UE | USART_CR1_TE | USART_CR1_RE | USART_CR1_RXNEIE;
}

bool link_is_idle(void)
{
    return rx_ring_is_empty(&received);
}

void link_interrupt(void)
{
    uint32_t state = USART1_SR;
    while ((state & (USART_SR_RXNE | USART_SR_ORE)) != 0u) {
        if ((state & USART_SR_ORE) != 0u) {
            received.overruns++;
        }
        uint8_t byte = (uint8_t)USART1_DR; /* this read after that of SR also clears ORE (30.6.1) */
        if ((state & USART_SR_RXNE) != 0u) {
            rx_ring_put(&received, byte, board_ticks());
        }
        state = USART1_SR;
    }
    while (!tx_ring_is_empty(&to_send) && (USART1_SR & USART_SR_TXE) != 0u) {
        USART1_DR = tx_ring_get(&to_send);
    }
    if (tx_ring_is_empty(&to_send)) {
        USART1_CR1 &= ~USART_CR1_TXEIE;
    }
}

int board_rx(uint32_t *arrived)
{
    return rx_ring_get(&received, arrived);
}

size_t board_tx(const uint8_t *bytes, size_t n)
{
    size_t taken = tx_ring_put(&to_send, bytes, (uint32_t)n);
    uint32_t before = cortex_lock();
    USART1_CR1 |= USART_CR1_TXEIE;
    cortex_unlock(before);
#if BOARD_QEMU
    nvic_pend(IRQ_USART1); /* QEMU 7.2 does not interrupt for TXE */
#endif
    return taken;
}

uint32_t board_rx_overruns(void)
{
    return received.overruns;
}
