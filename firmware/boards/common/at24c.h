/* An AT24C-style I2C EEPROM on two open-drain pins, by hand: it holds the holder's TEDS. Nothing waits. */
#ifndef AT24C_H
#define AT24C_H

#include <stdbool.h>
#include <stdint.h>

#define AT24C_PAGE 32u /* bytes one write may span; smaller than any part's page with 2-byte addresses */

/* The two lines; `true` lets go of the line, `false` pulls it low. Each call must take at least 2 us on a real board. */
void at24c_scl(bool high);
void at24c_sda(bool high);
bool at24c_sda_is_high(void);
/* Its 7-bit address. */
uint8_t at24c_device(void);

/* Answers whether the memory acknowledged every byte. */
bool at24c_read(uint16_t address, uint8_t *to, uint16_t n);

/* Starts writing one page: `n` <= AT24C_PAGE within one page. The memory then is busy for up to 5 ms: it does not
 * acknowledge. */
bool at24c_write_page(uint16_t address, const uint8_t *from, uint16_t n);

#endif
