/* Consistent Overhead Byte Stuffing: bytes without zeros, so that a zero ends a frame. */
#ifndef COBS_H
#define COBS_H
#include <stddef.h>
#include <stdint.h>

/* Bytes that n bytes can become, without the zero that ends them. */
#define COBS_MAX(n) ((n) + (n) / 254u + 1u)

/* Encodes n bytes; `to` has room for COBS_MAX(n). Returns the size. */
size_t cobs_encode(const uint8_t *from, size_t n, uint8_t *to);
/* Decodes in place. Returns the size, or -1 where the bytes are no COBS. */
int cobs_decode(uint8_t *bytes, size_t n);

#endif
