/* What the parts of the STM32F405 board know of each other, and its build options. */
#ifndef STM32F405_H
#define STM32F405_H

#include <stdbool.h>
#include <stdint.h>

/* The crystal: 8 on Olimex STM32-H405, 12 on Adafruit Feather STM32F405. */
#ifndef BOARD_HSE_MHZ
#define BOARD_HSE_MHZ 8u
#endif

/* QEMU's timers run at 1 GHz and its input capture can't be driven from outside: build with BOARD_QEMU=1 for
 * netduinoplus2. The image for boards (and for register-exact emulation) is built without. */
#ifndef BOARD_QEMU
#define BOARD_QEMU 0
#endif

#define TICK_HZ 1000000u
#if BOARD_QEMU
#define TIMER_PRESCALER 999u
#else
#define TIMER_PRESCALER 83u /* timers 2 to 5 run at 84 MHz */
#endif

#define LINK_BAUD 921600u

void clock_start(void);
uint32_t clock_entropy(void);

void link_start(void);
bool link_is_idle(void);
void link_interrupt(void);

void analog_start(void);
void analog_off(void);

void capture_start(void);
void capture_interrupt(void);
void capture_exti_interrupt(void);
void trigger_force_low(void);

void pins_start(void);

void control_interrupt(void);
void sampling_interrupt(void);

#endif
