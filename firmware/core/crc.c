/* Checksum of frames and of TEDS, four bits at a time. */
#include "crc.h"

static const uint16_t crc_table[16] = {
    0x0000u, 0x1021u, 0x2042u, 0x3063u, 0x4084u, 0x50a5u, 0x60c6u, 0x70e7u,
    0x8108u, 0x9129u, 0xa14au, 0xb16bu, 0xc18cu, 0xd1adu, 0xe1ceu, 0xf1efu,
};

uint16_t crc_add(uint16_t crc, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = bytes[i];
        crc = (uint16_t)((uint32_t)crc << 4) ^ crc_table[((crc >> 12) ^ (byte >> 4)) & 15u];
        crc = (uint16_t)((uint32_t)crc << 4) ^ crc_table[((crc >> 12) ^ byte) & 15u];
    }
    return crc;
}
