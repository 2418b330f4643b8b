/* varint.h - Avro's int and long: zigzag, then seven bits a byte, the lowest
 * first, the top bit of a byte saying that another follows. */
#ifndef MILLRACE_VARINT_H
#define MILLRACE_VARINT_H

#include <stddef.h>
#include <stdint.h>

enum { VARINT_BYTES_MAX = 10 };

static inline uint64_t varint_zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static inline int64_t varint_unzigzag(uint64_t bits)
{
    return (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
}

/* Returns how many of the bytes it used. */
static inline size_t varint_put(uint8_t out[VARINT_BYTES_MAX], int64_t value)
{
    uint64_t bits = varint_zigzag(value);
    size_t len = 0;
    for (; bits > 0x7f; bits >>= 7)
        out[len++] = (uint8_t)(bits | 0x80);
    out[len++] = (uint8_t)bits;
    return len;
}

#endif
