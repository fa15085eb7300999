/* The parts of a Cortex-M4 that every board here needs: interrupt masks, the interrupt controller, system reset. */
#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Armv7-M Architecture Reference Manual, B3.2 */
#define SCB_ICSR REGISTER(0xE000ED04u)
#define SCB_VTOR REGISTER(0xE000ED08u)
#define SCB_AIRCR REGISTER(0xE000ED0Cu)
#define SCB_CPACR REGISTER(0xE000ED88u)

/* Masks interrupts and answers what was masked before, for cortex_unlock. Pairs nest. */
static inline uint32_t cortex_lock(void)
{
    uint32_t before;
    __asm volatile("mrs %0, primask\n\tcpsid i" : "=r"(before)::"memory");
    return before;
}

static inline void cortex_unlock(uint32_t before)
{
    __asm volatile("msr primask, %0" ::"r"(before) : "memory");
}

#define PRIORITY_LINK 0u  /* only fills and empties rings; never kept waiting, for a UART without FIFO */
#define PRIORITY_CORE 2u  /* everything that calls the core; the last bit is order only, see cortex_order() */
#define PRIORITY_EDGES 3u /* as the core's, but last of those that wait: edges come as fast as they like */

/* Masks the core's interrupts but not the link's; nests like the above. */
static inline uint32_t cortex_mask_core(void)
{
    uint32_t before;
    __asm volatile("mrs %0, basepri\n\tmsr basepri_max, %1" : "=&r"(before) : "r"(PRIORITY_CORE << 4) : "memory");
    return before;
}

static inline void cortex_unmask_core(uint32_t before)
{
    __asm volatile("msr basepri, %0" ::"r"(before) : "memory");
}

static inline void cortex_enable_interrupts(void)
{
    __asm volatile("cpsie i" ::: "memory");
}

/* Sleeps until an interrupt is pending, masked or not. */
static inline void cortex_wait(void)
{
    __asm volatile("dsb\n\twfi" ::: "memory");
}

/* The last of the four bits of a priority says no more whether one interrupts another, only which comes first where
   several wait (Armv7-M ARM, B1.5.4; BASEPRI does not look at it either). */
static inline void cortex_order(void)
{
    SCB_AIRCR = 0x05FA0000u | 4u << 8; /* VECTKEY, PRIGROUP */
}

/* Lower `priority` numbers are served first; equal ones never interrupt each other. */
static inline void nvic_enable(uint32_t irq, uint8_t priority)
{
    volatile uint8_t *ipr = (volatile uint8_t *)(uintptr_t)0xE000E400u;
    ipr[irq] = (uint8_t)(priority << 4);
    REGISTER(0xE000E100u + 4u * (irq >> 5)) = 1u << (irq & 31u);
}

static inline void nvic_pend(uint32_t irq)
{
    REGISTER(0xE000E200u + 4u * (irq >> 5)) = 1u << (irq & 31u);
}

_Noreturn static inline void cortex_reset(void)
{
    __asm volatile("dsb" ::: "memory");
    SCB_AIRCR = 0x05FA0004u; /* VECTKEY, SYSRESETREQ */
    for (;;) {
        __asm volatile("nop");
    }
}

#endif
