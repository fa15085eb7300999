/* I2C by hand for the TEDS memory (Microchip AT24C32/64, DS20006270, sections 5 to 8). */
#include "at24c.h"

/* A memory that was cut off in the middle of a byte (a reset, a holder pushed in) holds the data line until it has
   been clocked to the byte's end ("software reset"). */
#define CLOCKS_TO_FREE 9u

#define WRITE 0u
#define READ 1u

static void start(void)
{
    at24c_sda(true);
    at24c_scl(true);
    for (uint32_t i = 0; i < CLOCKS_TO_FREE && !at24c_sda_is_high(); i++) {
        at24c_scl(false);
        at24c_scl(true);
    }
    at24c_sda(false);
    at24c_scl(false);
}

static void stop(void)
{
    at24c_sda(false);
    at24c_scl(true);
    at24c_sda(true);
}

/* Answers whether the memory acknowledged. */
static bool send(uint8_t byte)
{
    for (uint8_t bit = 0x80u; bit != 0u; bit = (uint8_t)(bit >> 1)) {
        at24c_sda((byte & bit) != 0u);
        at24c_scl(true);
        at24c_scl(false);
    }
    at24c_sda(true);
    at24c_scl(true);
    bool acknowledged = !at24c_sda_is_high();
    at24c_scl(false);
    return acknowledged;
}

static uint8_t receive(bool more)
{
    uint32_t byte = 0;
    at24c_sda(true);
    for (uint8_t bit = 0; bit < 8u; bit++) {
        at24c_scl(true);
        byte = (byte << 1) | (at24c_sda_is_high() ? 1u : 0u);
        at24c_scl(false);
    }
    at24c_sda(!more);
    at24c_scl(true);
    at24c_scl(false);
    return (uint8_t)byte;
}

static bool call(uint8_t direction)
{
    start();
    return send((uint8_t)((uint32_t)at24c_device() << 1 | direction));
}

static bool address(uint16_t where)
{
    return call(WRITE) && send((uint8_t)(where >> 8)) && send((uint8_t)where);
}

bool at24c_read(uint16_t where, uint8_t *to, uint16_t n)
{
    bool good = address(where) && call(READ);
    for (uint16_t i = 0; good && i < n; i++) {
        to[i] = receive(i + 1u < n);
    }
    stop();
    return good;
}

bool at24c_write_page(uint16_t where, const uint8_t *from, uint16_t n)
{
    bool good = address(where);
    for (uint16_t i = 0; good && i < n; i++) {
        good = send(from[i]);
    }
    stop();
    return good;
}
