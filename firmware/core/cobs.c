/* Consistent Overhead Byte Stuffing (Cheshire and Baker, 1999). */
#include "cobs.h"

size_t cobs_encode(const uint8_t *from, size_t n, uint8_t *to)
{
    size_t code = 0; /* where the length of the run being written goes */
    size_t out = 1;
    for (size_t i = 0; i < n; i++) {
        if (from[i] != 0u) {
            to[out++] = from[i];
        }
        if (from[i] == 0u || out - code == 255u) {
            to[code] = (uint8_t)(out - code);
            if (from[i] != 0u && i + 1u == n) {
                return out; /* a full run ends the message: no empty run after it */
            }
            code = out++;
        }
    }
    to[code] = (uint8_t)(out - code);
    return out;
}

int cobs_decode(uint8_t *bytes, size_t n)
{
    size_t in = 0;
    size_t out = 0;
    while (in < n) {
        size_t run = bytes[in++];
        if (run == 0u || in + run - 1u > n) {
            return -1;
        }
        for (size_t i = 1; i < run; i++) {
            if (bytes[in] == 0u) {
                return -1;
            }
            bytes[out++] = bytes[in++];
        }
        if (run < 255u && in < n) {
            bytes[out++] = 0;
        }
    }
    return (int)out;
}
