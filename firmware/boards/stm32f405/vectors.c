/* Who serves which interrupt on the STM32F405 (RM0090, table 61). */
#include "registers.h"
#include "startup.h"
#include "stm32f405.h"

const vector_t vectors[16 + 82] __attribute__((section(".vectors"), used)) = {
    STARTUP_SYSTEM_VECTORS(startup_crash),
    [16 + IRQ_PVD] = startup_crash,
#if BOARD_QEMU
    [16 + IRQ_EXTI0] = capture_exti_interrupt,
#endif
    [16 + IRQ_TIM2] = capture_interrupt,
    [16 + IRQ_TIM4] = control_interrupt,
    [16 + IRQ_USART1] = link_interrupt,
    [16 + IRQ_TIM5] = sampling_interrupt,
};
