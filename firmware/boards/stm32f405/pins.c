/* Pins of the STM32F405: who drives which, valves and blanker out, interlocks in, the EEPROM's two lines. */
#include "at24c.h"
#include "board.h"
#include "registers.h"
#include "startup.h"
#include "stm32f405.h"

#define FIRST_OUTPUT 12u /* PB12 to PB15 */
#define FIRST_INPUT 6u   /* PC6 to PC9 */
#define SCL 6u           /* PB6 */
#define SDA 7u           /* PB7 */

enum mode { MODE_INPUT = 0, MODE_OUTPUT = 1, MODE_ALTERNATE = 2, MODE_ANALOG = 3 };

static void set_mode(enum gpio_port port, uint32_t pin, enum mode mode, uint32_t function)
{
    uint32_t shift = 4u * (pin % 8u);
    GPIO_AFR(port, pin) = (GPIO_AFR(port, pin) & ~(0xFu << shift)) | (function << shift);
    GPIO_MODER(port) = (GPIO_MODER(port) & ~(3u << (2u * pin))) | ((uint32_t)mode << (2u * pin));
}

void pins_start(void)
{
    /* Levels before modes: no output is ever on by accident. */
    GPIO_BSRR(PORT_B) = (0xFu << (FIRST_OUTPUT + 16u)) | (1u << SCL) | (1u << SDA);
    GPIO_OTYPER(PORT_B) |= (1u << SCL) | (1u << SDA); /* open drain */
    GPIO_PUPDR(PORT_B) |= (1u << (2u * SCL)) | (1u << (2u * SDA)); /* without a memory the bus reads "nobody" */
    GPIO_PUPDR(PORT_C) |= 0x55u << (2u * FIRST_INPUT); /* a broken interlock wire reads high */
    GPIO_PUPDR(PORT_A) |= 2u | (2u << 2);              /* capture inputs: down */
    GPIO_PUPDR(PORT_A) |= 1u << 20;                    /* PA10: an unplugged link is silent */

    set_mode(PORT_A, 0, MODE_ALTERNATE, 1);  /* TIM2_CH1: capture 0 */
    set_mode(PORT_A, 1, MODE_ALTERNATE, 1);  /* TIM2_CH2: capture 1 */
    set_mode(PORT_A, 2, MODE_ALTERNATE, 1);  /* TIM2_CH3: trigger */
    set_mode(PORT_A, 4, MODE_ANALOG, 0);     /* DAC 0 */
    set_mode(PORT_A, 5, MODE_ANALOG, 0);     /* DAC 1 */
    set_mode(PORT_A, 6, MODE_ALTERNATE, 2);  /* TIM3_CH1: heater */
    set_mode(PORT_A, 9, MODE_ALTERNATE, 7);  /* USART1_TX */
    set_mode(PORT_A, 10, MODE_ALTERNATE, 7); /* USART1_RX */
    for (uint32_t pin = 0; pin < 6u; pin++) {
        set_mode(PORT_C, pin, MODE_ANALOG, 0);
    }
    set_mode(PORT_B, 0, MODE_ANALOG, 0);
    set_mode(PORT_B, 1, MODE_ANALOG, 0);
    set_mode(PORT_B, SCL, MODE_OUTPUT, 0);
    set_mode(PORT_B, SDA, MODE_OUTPUT, 0);
    for (uint32_t pin = FIRST_OUTPUT; pin < FIRST_OUTPUT + 4u; pin++) {
        set_mode(PORT_B, pin, MODE_OUTPUT, 0);
    }
#if BOARD_QEMU
    SYSCFG_EXTICR1 = 0;
    EXTI_RTSR |= 1;
    EXTI_IMR |= 1;
#endif
}

void board_digital(uint16_t levels)
{
    uint32_t high = levels & 0xFu;
    GPIO_BSRR(PORT_B) = (high << FIRST_OUTPUT) | ((~high & 0xFu) << (FIRST_OUTPUT + 16u));
}

uint16_t board_digital_in(void)
{
    return (uint16_t)((GPIO_IDR(PORT_C) >> FIRST_INPUT) & 0xFu);
}

/* Also the first thing after reset, when no clock is on yet: the writes then go nowhere, and the pins float. */
void startup_outputs_off(void)
{
    analog_off();
    trigger_force_low();
    GPIO_BSRR(PORT_B) = 0xFu << (FIRST_OUTPUT + 16u);
}

/* 100 turns of at least 4 cycles: 2.4 us at 168 MHz, a bus of some 100 kHz. */
static void pause(void)
{
    for (uint32_t turns = 0; turns < 100u; turns++) {
        __asm volatile("nop");
    }
}

void at24c_scl(bool high)
{
    GPIO_BSRR(PORT_B) = 1u << (high ? SCL : SCL + 16u);
    pause();
}

void at24c_sda(bool high)
{
    GPIO_BSRR(PORT_B) = 1u << (high ? SDA : SDA + 16u);
    pause();
}

bool at24c_sda_is_high(void)
{
    return (GPIO_IDR(PORT_B) & (1u << SDA)) != 0u;
}

uint8_t at24c_device(void)
{
    return 0x50u;
}
