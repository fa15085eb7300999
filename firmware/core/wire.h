/* Little-endian integers and floats in byte strings, on any machine. */
#ifndef WIRE_H
#define WIRE_H
#include <stdint.h>
#include <string.h>

static inline void wire_put_u8(uint8_t **p, uint8_t v) { *(*p)++ = v; }

static inline void wire_put_u16(uint8_t **p, uint16_t v)
{
    wire_put_u8(p, (uint8_t)(v & 0xffu));
    wire_put_u8(p, (uint8_t)(v >> 8));
}

static inline void wire_put_u32(uint8_t **p, uint32_t v)
{
    wire_put_u16(p, (uint16_t)(v & 0xffffu));
    wire_put_u16(p, (uint16_t)(v >> 16));
}

static inline void wire_put_u64(uint8_t **p, uint64_t v)
{
    wire_put_u32(p, (uint32_t)(v & 0xffffffffu));
    wire_put_u32(p, (uint32_t)(v >> 32));
}

static inline void wire_put_i16(uint8_t **p, int16_t v) { wire_put_u16(p, (uint16_t)v); }

static inline void wire_put_i32(uint8_t **p, int32_t v) { wire_put_u32(p, (uint32_t)v); }

static inline void wire_put_f32(uint8_t **p, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    wire_put_u32(p, bits);
}

static inline uint8_t wire_take_u8(const uint8_t **p) { return *(*p)++; }

static inline uint16_t wire_take_u16(const uint8_t **p)
{
    uint16_t low = wire_take_u8(p);
    return (uint16_t)(low | (uint16_t)(wire_take_u8(p) << 8));
}

static inline uint32_t wire_take_u32(const uint8_t **p)
{
    uint32_t low = wire_take_u16(p);
    return low | ((uint32_t)wire_take_u16(p) << 16);
}

static inline uint64_t wire_take_u64(const uint8_t **p)
{
    uint64_t low = wire_take_u32(p);
    return low | ((uint64_t)wire_take_u32(p) << 32);
}

static inline int16_t wire_take_i16(const uint8_t **p) { return (int16_t)wire_take_u16(p); }

static inline int32_t wire_take_i32(const uint8_t **p) { return (int32_t)wire_take_u32(p); }

static inline float wire_take_f32(const uint8_t **p)
{
    uint32_t bits = wire_take_u32(p);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

#endif
