/* The host board's EEPROM: a file for each holder that may be plugged in, or memory where none was named. Read anew
   each time, as a bus is. */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700
#include "board.h"
#include "posix.h"
#include "teds.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOLDERS 2u

static int files[HOLDERS] = {-1, -1};
static uint8_t cells[TEDS_SIZE];

bool eeprom_open(const char *path)
{
    memset(cells, 0xff, sizeof cells);
    if (path == NULL) {
        return true;
    }
    static char other[4096];
    int length = snprintf(other, sizeof other, "%s-1", path);
    files[0] = open(path, O_RDWR | O_CREAT, 0600);
    files[1] = length > 0 && (size_t)length < sizeof other ? open(other, O_RDWR) : -1; /* there need not be another */
    return files[0] >= 0;
}

/* The one that is plugged in; false where none is. */
static bool eeprom_file(int *file)
{
    uint32_t holder = world_page()->holder;
    *file = holder < HOLDERS ? files[holder] : -1;
    return *file >= 0 || (holder == 0u && files[0] < 0);
}

bool board_eeprom_read(uint16_t at, uint8_t *bytes, size_t n)
{
    int file = -1;
    if (at + n > sizeof cells || !eeprom_file(&file)) {
        return false;
    }
    if (file < 0) {
        memcpy(bytes, cells + at, n);
        return true;
    }
    memset(bytes, 0xff, n);
    return pread(file, bytes, n, at) >= 0; /* a shorter file is blank behind its end */
}

bool board_eeprom_write(uint16_t at, const uint8_t *bytes, size_t n)
{
    int file = -1;
    if (at + n > sizeof cells || !eeprom_file(&file)) {
        return false;
    }
    if (file < 0) {
        memcpy(cells + at, bytes, n);
        return true;
    }
    return pwrite(file, bytes, n, at) == (ssize_t)n && fsync(file) == 0;
}
