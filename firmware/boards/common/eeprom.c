/* The core's EEPROM on an AT24C. A memory that is busy with a write does not answer, like one that is not there. */
#include "at24c.h"
#include "board.h"

bool board_eeprom_read(uint16_t at, uint8_t *bytes, size_t n)
{
    return n <= UINT16_MAX && at24c_read(at, bytes, (uint16_t)n);
}

bool board_eeprom_write(uint16_t at, const uint8_t *bytes, size_t n)
{
    return n <= AT24C_PAGE && at24c_write_page(at, bytes, (uint16_t)n);
}
