/* The core's EEPROM on an AT24C: waits out the memory's write time, and no longer. */
#include "at24c.h"
#include "board.h"

#define WRITE_MS 10u /* AT24C32: 5 ms at most (DS20006270, table 4-4) */

static bool wait_ready(void)
{
    uint32_t start = board_ticks();
    uint32_t limit = board_facts()->tick_rate / 1000u * WRITE_MS;
    do {
        if (at24c_is_ready()) {
            return true;
        }
    } while (board_ticks() - start < limit);
    return false;
}

bool board_eeprom_read(uint16_t at, uint8_t *bytes, size_t n)
{
    return n <= UINT16_MAX && wait_ready() && at24c_read(at, bytes, (uint16_t)n);
}

/* Leaves the memory busy; whoever comes next waits. */
bool board_eeprom_write(uint16_t at, const uint8_t *bytes, size_t n)
{
    return n <= AT24C_PAGE && wait_ready() && at24c_write_page(at, bytes, (uint16_t)n);
}
