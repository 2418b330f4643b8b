#include "partition.h"

#include <assert.h>

enum { MURMUR_SHIFT = 24 };
static const uint32_t MURMUR_SEED = 0x9747b28cu;
static const uint32_t MURMUR_MULTIPLIER = 0x5bd1e995u;

static uint32_t read_u32le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

uint32_t partition_murmur2(struct slice key)
{
    const uint8_t *p = key.ptr;
    size_t left = key.len;
    uint32_t h = MURMUR_SEED ^ (uint32_t)key.len;

    for (; left >= 4; p += 4, left -= 4) {
        uint32_t k = read_u32le(p) * MURMUR_MULTIPLIER;
        k ^= k >> MURMUR_SHIFT;
        h = h * MURMUR_MULTIPLIER ^ k * MURMUR_MULTIPLIER;
    }
    if (left > 0) {
        for (size_t i = left; i-- > 0;)
            h ^= (uint32_t)p[i] << (8 * i);
        h *= MURMUR_MULTIPLIER;
    }
    h ^= h >> 13;
    h *= MURMUR_MULTIPLIER;
    return h ^ h >> 15;
}

int32_t partition_of(struct slice key, uint32_t partitions)
{
    assert(partitions > 0);
    return (int32_t)((partition_murmur2(key) & 0x7fffffffu) % partitions);
}
