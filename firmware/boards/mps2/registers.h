/* Registers of the AN386 image of the MPS2 board, as far as used (Arm DAI0386; CMSDK TRM DDI0479, chapters 4 and 5). */
#ifndef MPS2_REGISTERS_H
#define MPS2_REGISTERS_H

#include "cortex_m.h"

#define UART0_DATA REGISTER(0x40004000u)
#define UART0_STATE REGISTER(0x40004004u)
#define UART0_CTRL REGISTER(0x40004008u)
#define UART0_INTCLEAR REGISTER(0x4000400Cu)
#define UART0_BAUDDIV REGISTER(0x40004010u)
#define UART_STATE_TXFULL 1u
#define UART_STATE_RXFULL 2u
#define UART_CTRL_TX 1u
#define UART_CTRL_RX 2u
#define UART_CTRL_TXINT 4u
#define UART_CTRL_RXINT 8u
#define UART_INT_TX 1u
#define UART_INT_RX 2u

/* CMSDK timers; n = 0 control, n = 1 sampling. Down-counters with automatic reload. */
#define TIMER_CTRL(n) REGISTER(0x40000000u + 0x1000u * (n))
#define TIMER_VALUE(n) REGISTER(0x40000004u + 0x1000u * (n))
#define TIMER_RELOAD(n) REGISTER(0x40000008u + 0x1000u * (n))
#define TIMER_INTCLEAR(n) REGISTER(0x4000000Cu + 0x1000u * (n))
#define TIMER_CTRL_ENABLE 1u
#define TIMER_CTRL_INT 8u

/* Dual timer: the first half runs free and is the tick, the second is one-shot and makes trigger pulses. */
#define DUAL_LOAD(n) REGISTER(0x40002000u + 0x20u * (n))
#define DUAL_VALUE(n) REGISTER(0x40002004u + 0x20u * (n))
#define DUAL_CTRL(n) REGISTER(0x40002008u + 0x20u * (n))
#define DUAL_INTCLEAR(n) REGISTER(0x4000200Cu + 0x20u * (n))
#define DUAL_CTRL_ONESHOT 0x01u
#define DUAL_CTRL_32BIT 0x02u
#define DUAL_CTRL_INT 0x20u
#define DUAL_CTRL_ENABLE 0x80u

#define WATCHDOG_LOAD REGISTER(0x40008000u)
#define WATCHDOG_CTRL REGISTER(0x40008008u)
#define WATCHDOG_INTCLEAR REGISTER(0x4000800Cu)
#define WATCHDOG_CTRL_INT 1u
#define WATCHDOG_CTRL_RESET 2u

/* Serial bus controller 3 (shield 1), where the EEPROM sits. Lines are set and cleared by separate registers. */
#define SBCON_SET REGISTER(0x4002A000u)
#define SBCON_CLEAR REGISTER(0x4002A004u)
#define SBCON_SCL 1u
#define SBCON_SDA 2u

enum irq { IRQ_UART0_RX = 0, IRQ_UART0_TX = 1, IRQ_CONTROL = 8, IRQ_SAMPLING = 9, IRQ_DUAL = 10 };

#define CLOCK_HZ 25000000u

#endif
