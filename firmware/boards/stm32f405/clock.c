/* Supply and clock: 168 MHz from the crystal, or from the internal oscillator if that is dead; no wait is unbounded. */
#include "registers.h"
#include "startup.h"
#include "stm32f405.h"

#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_CSSON (1u << 19)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define PLL_SOURCE_HSE (1u << 22)

/* Each turn takes some 6 cycles of 16 MHz: 40 ms, many times what a crystal needs (DS8626, table 32: 2 ms). */
static bool wait_for(const volatile uint32_t *address, uint32_t bits, uint32_t value)
{
    for (uint32_t turns = 0; turns < 100000u; turns++) {
        if ((*address & bits) == value) {
            return true;
        }
    }
    return false;
}

/* Below 2.7 V the flash is too slow for what follows (3.5.1), and a processor that reads wrong does anything: too low a
   supply starts nothing, and one that sinks later is a crash (everything off). Before the clocks, at 16 MHz. */
static void watch_supply(void)
{
    RCC_APB1ENR |= 1u << 28;
    (void)RCC_APB1ENR;
    PWR_CR |= PWR_CR_WATCH_2V8;
    EXTI_RTSR |= EXTI_SUPPLY; /* its output rises when the supply falls (5.2.3) */
    EXTI_IMR |= EXTI_SUPPLY;
    if (!wait_for(&PWR_CSR, PWR_CSR_TOO_LOW, 0)) {
        startup_crash();
    }
}

void clock_start(void)
{
    watch_supply();
    /* A boot loader may have left the PLL running, and it can't be set while it does (7.3.2). */
    RCC_CR |= 1u;
    RCC_CFGR = 0;
    (void)wait_for(&RCC_CFGR, 3u << 2, 0);
    RCC_CR &= ~RCC_CR_PLLON;
    (void)wait_for(&RCC_CR, RCC_CR_PLLRDY, 0);
    RCC_CR |= RCC_CR_HSEON;
    bool crystal = wait_for(&RCC_CR, RCC_CR_HSERDY, RCC_CR_HSERDY);
    RCC_CR |= crystal ? RCC_CR_CSSON : 0u; /* should it stop later: an NMI, which is a crash (7.2.7) */
    /* 2 MHz into the PLL, times 168, halved; a seventh is the random generator's 48 MHz (7.3.2). */
    uint32_t divider = crystal ? BOARD_HSE_MHZ / 2u : 16u / 2u;
    RCC_PLLCFGR = divider | (168u << 6) | (7u << 24) | (crystal ? PLL_SOURCE_HSE : 0u);
    RCC_CR |= RCC_CR_PLLON;
    FLASH_ACR = 5u | (7u << 8);               /* 5 wait states at 168 MHz; prefetch and caches (3.5.1) */
    RCC_CFGR = (5u << 10) | (4u << 13);       /* APB1 42 MHz, APB2 84 MHz */
    bool locked = wait_for(&RCC_CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY);
    RCC_CFGR |= locked ? 2u : 0u;
    if (!BOARD_QEMU && (!locked || !wait_for(&RCC_CFGR, 3u << 2, 2u << 2))) {
        startup_crash(); /* a tenth as fast, the lease would last ten times as long: rather nothing at all */
    }
    RCC_AHB1ENR |= 7u;                        /* ports A to C */
    RCC_AHB2ENR |= 1u << 6;                   /* random numbers */
    RCC_APB1ENR |= 0xFu | (1u << 29);         /* timers 2 to 5, DAC */
    RCC_APB2ENR |= (1u << 4) | (1u << 8) | (1u << 14); /* USART1, ADC1, SYSCFG */
    (void)RCC_APB2ENR;                        /* 2 cycles before a peripheral answers (7.3.14) */
}

/* Zero if the generator does not answer. */
uint32_t clock_entropy(void)
{
    RNG_CR = 1u << 2;
    return wait_for(&RNG_SR, 1u, 1u) ? RNG_DR : 0u;
}
