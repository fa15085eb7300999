/* Checksum of frames and of TEDS: CRC-16/CCITT-FALSE (polynomial 0x1021, start 0xFFFF). */
#ifndef CRC_H
#define CRC_H
#include <stddef.h>
#include <stdint.h>

#define CRC_START 0xffffu

uint16_t crc_add(uint16_t crc, const uint8_t *bytes, size_t n);

#endif
