/* Analogue side of the STM32F405: eight inputs converted when asked, two DACs, the heater's PWM at 20 kHz. */
#include "board.h"
#include "registers.h"
#include "stm32f405.h"

#define PWM_STEPS 4200u /* 84 MHz / 20 kHz */

/* PC0 to PC5, PB0, PB1 (DS8626, table 7) */
static const uint8_t inputs[8] = {10, 11, 12, 13, 14, 15, 8, 9};

void analog_start(void)
{
    ADC_CCR = 1u << 16; /* 84 MHz / 4 */
    ADC1_SMPR1 = 0222222222u; /* octal: 2, 28 cycles, for every input */
    ADC1_SMPR2 = 02222222222u;
    ADC1_SQR1 = 0; /* one conversion */
    ADC1_CR2 = ADC_CR2_ADON;
    DAC_DHR12R1 = 0;
    DAC_DHR12R2 = 0;
    DAC_CR = DAC_CR_PLAIN | (DAC_CR_PLAIN << 16);
    TIM_PSC(3) = 0;
    TIM_ARR(3) = PWM_STEPS - 1u;
    TIM_CCR(3, 1) = 0;
    TIM_CCMR1(3) = 6u << 4; /* PWM mode 1, without preload: off is off at once */
    TIM_CCER(3) = 1;
    TIM_EGR(3) = TIM_UPDATE;
    TIM_CR1(3) = TIM_CR1_CEN;
}

/* (28 + 12) cycles of 21 MHz: 1.9 us. -1 if the converter does not answer, which no sensor check takes for a value. */
int16_t board_adc(uint8_t channel)
{
    if (channel >= sizeof inputs) {
        return -1;
    }
    uint32_t before = cortex_mask_core();
    int16_t counts = -1;
    ADC1_SQR3 = inputs[channel];
    ADC1_SR = 0;
    ADC1_CR2 = ADC_CR2_ADON | ADC_CR2_SWSTART;
    for (uint32_t turns = 0; turns < 200u; turns++) {
        if ((ADC1_SR & ADC_SR_EOC) != 0u) {
            counts = (int16_t)(ADC1_DR & 0xFFFu);
            break;
        }
    }
    cortex_unmask_core(before);
    return counts;
}

void board_heater(uint16_t value)
{
    TIM_CCR(3, 1) = ((uint32_t)value * PWM_STEPS + 32767u) / 65535u; /* PWM_STEPS: on without a gap */
}

void board_dac(uint8_t channel, uint16_t value)
{
    if (channel == 0u) {
        DAC_DHR12R1 = (uint32_t)value >> 4;
    } else if (channel == 1u) {
        DAC_DHR12R2 = (uint32_t)value >> 4;
    }
}

void analog_off(void)
{
    TIM_CCR(3, 1) = 0;
    DAC_DHR12R1 = 0;
    DAC_DHR12R2 = 0;
}
