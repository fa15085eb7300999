/* Registers of the STM32F405, as far as used. Chapters are those of RM0090. */
#ifndef STM32F405_REGISTERS_H
#define STM32F405_REGISTERS_H

#include "cortex_m.h"

/* 5: supply */
#define PWR_CR REGISTER(0x40007000u)
#define PWR_CSR REGISTER(0x40007004u)
#define PWR_CR_WATCH_2V8 (6u << 5 | 1u << 4) /* PLS, PVDE (5.4.1) */
#define PWR_CSR_TOO_LOW (1u << 2)            /* PVDO (5.4.2) */

/* 7: reset and clocks */
#define RCC_CR REGISTER(0x40023800u)
#define RCC_PLLCFGR REGISTER(0x40023804u)
#define RCC_CFGR REGISTER(0x40023808u)
#define RCC_AHB1ENR REGISTER(0x40023830u)
#define RCC_AHB2ENR REGISTER(0x40023834u)
#define RCC_APB1ENR REGISTER(0x40023840u)
#define RCC_APB2ENR REGISTER(0x40023844u)
#define RCC_CSR REGISTER(0x40023874u)
#define FLASH_ACR REGISTER(0x40023C00u)

/* 8: pins; port 0 is A */
#define GPIO_BASE(port) (0x40020000u + 0x400u * (port))
#define GPIO_MODER(port) REGISTER(GPIO_BASE(port) + 0x00u)
#define GPIO_OTYPER(port) REGISTER(GPIO_BASE(port) + 0x04u)
#define GPIO_PUPDR(port) REGISTER(GPIO_BASE(port) + 0x0Cu)
#define GPIO_IDR(port) REGISTER(GPIO_BASE(port) + 0x10u)
#define GPIO_BSRR(port) REGISTER(GPIO_BASE(port) + 0x18u)
#define GPIO_AFR(port, pin) REGISTER(GPIO_BASE(port) + 0x20u + 4u * ((pin) / 8u))
enum gpio_port { PORT_A, PORT_B, PORT_C };

/* 9, 12: external interrupts */
#define SYSCFG_EXTICR1 REGISTER(0x40013808u)
#define EXTI_IMR REGISTER(0x40013C00u)
#define EXTI_RTSR REGISTER(0x40013C08u)
#define EXTI_SUPPLY (1u << 16) /* the voltage detector's output (12.2.5) */
#define EXTI_PR REGISTER(0x40013C14u)

/* 13: analogue inputs */
#define ADC1_SR REGISTER(0x40012000u)
#define ADC1_CR2 REGISTER(0x40012008u)
#define ADC1_SMPR1 REGISTER(0x4001200Cu)
#define ADC1_SMPR2 REGISTER(0x40012010u)
#define ADC1_SQR1 REGISTER(0x4001202Cu)
#define ADC1_SQR3 REGISTER(0x40012034u)
#define ADC1_DR REGISTER(0x4001204Cu)
#define ADC_CCR REGISTER(0x40012304u)
#define ADC_SR_EOC 2u
#define ADC_CR2_ADON 1u
#define ADC_CR2_SWSTART (1u << 30)

/* 14: analogue outputs */
#define DAC_CR REGISTER(0x40007400u)
#define DAC_CR_PLAIN 3u /* EN1, BOFF1: the buffer does not come below 0.2 V (DS8626, DAC characteristics), and off is 0 V */
#define DAC_DHR12R1 REGISTER(0x40007408u)
#define DAC_DHR12R2 REGISTER(0x40007414u)

/* 18: timers 2 (32 bits), 3, 4, 5 (32 bits) */
#define TIM_BASE(n) (0x40000000u + 0x400u * ((n) - 2u))
#define TIM_CR1(n) REGISTER(TIM_BASE(n) + 0x00u)
#define TIM_DIER(n) REGISTER(TIM_BASE(n) + 0x0Cu)
#define TIM_SR(n) REGISTER(TIM_BASE(n) + 0x10u)
#define TIM_EGR(n) REGISTER(TIM_BASE(n) + 0x14u)
#define TIM_CCMR1(n) REGISTER(TIM_BASE(n) + 0x18u)
#define TIM_CCMR2(n) REGISTER(TIM_BASE(n) + 0x1Cu)
#define TIM_CCER(n) REGISTER(TIM_BASE(n) + 0x20u)
#define TIM_CNT(n) REGISTER(TIM_BASE(n) + 0x24u)
#define TIM_PSC(n) REGISTER(TIM_BASE(n) + 0x28u)
#define TIM_ARR(n) REGISTER(TIM_BASE(n) + 0x2Cu)
#define TIM_CCR(n, channel) REGISTER(TIM_BASE(n) + 0x34u + 4u * ((channel) - 1u))
#define TIM_CR1_CEN 1u
#define TIM_UPDATE 1u                            /* UIE, UIF and UG alike */
#define TIM_CHANNEL(channel) (1u << (channel))   /* CCxIE and CCxIF alike */
#define TIM_OVER(channel) (0x100u << (channel))  /* CCxOF */

/* 21: independent watchdog */
#define IWDG_KR REGISTER(0x40003000u)
#define IWDG_PR REGISTER(0x40003004u)
#define IWDG_RLR REGISTER(0x40003008u)

/* 24: random numbers */
#define RNG_CR REGISTER(0x50060800u)
#define RNG_SR REGISTER(0x50060804u)
#define RNG_DR REGISTER(0x50060808u)

/* 30: serial port */
#define USART1_SR REGISTER(0x40011000u)
#define USART1_DR REGISTER(0x40011004u)
#define USART1_BRR REGISTER(0x40011008u)
#define USART1_CR1 REGISTER(0x4001100Cu)
#define USART_SR_ORE 0x08u
#define USART_SR_RXNE 0x20u
#define USART_SR_TXE 0x80u
#define USART_CR1_RE 0x04u
#define USART_CR1_TE 0x08u
#define USART_CR1_RXNEIE 0x20u
#define USART_CR1_TXEIE 0x80u
#define USART_CR1_UE 0x2000u

/* 12.2, table 61: positions in the vector table */
enum irq { IRQ_PVD = 1, IRQ_EXTI0 = 6, IRQ_TIM2 = 28, IRQ_TIM4 = 30, IRQ_USART1 = 37, IRQ_TIM5 = 50 };

#endif
