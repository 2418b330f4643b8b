/* bytes.h - little-endian numbers in stored bytes.
 *
 * put_*    Write a number and return the place after it. The caller has
 *          sized the block.
 * reader   Never reads past its end: a number that is not all there is 0 and
 *          marks the reader bad, so a decoder checks once, at its end.
 * Threads  No shared state. */
#ifndef MILLRACE_BYTES_H
#define MILLRACE_BYTES_H

#include "slice.h"

static inline uint8_t *put_u8(uint8_t *to, uint8_t v)
{
    *to = v;
    return to + 1;
}

static inline uint8_t *put_u32(uint8_t *to, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (8 * i));
    return to + 4;
}

static inline uint8_t *put_u64(uint8_t *to, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> (8 * i));
    return to + 8;
}

static inline uint8_t *put_i64(uint8_t *to, int64_t v)
{
    return put_u64(to, (uint64_t)v);
}

static inline uint8_t *put_u128(uint8_t *to, unsigned __int128 v)
{
    return put_u64(put_u64(to, (uint64_t)v), (uint64_t)(v >> 64));
}

static inline uint8_t *put_f32(uint8_t *to, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_u32(to, bits);
}

static inline uint8_t *put_bytes(uint8_t *to, struct slice s)
{
    if (s.len) memcpy(to, s.ptr, s.len);
    return to + s.len;
}

static inline uint32_t get_u32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 |
           (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static inline uint64_t get_u64(const uint8_t *from)
{
    return (uint64_t)get_u32(from) | (uint64_t)get_u32(from + 4) << 32;
}

static inline float get_f32(const uint8_t *from)
{
    uint32_t bits = get_u32(from);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

struct reader {
    struct slice left;
    bool bad;
};

static inline struct reader reader_of(struct slice s)
{
    return (struct reader){.left = s};
}

/* The next len bytes, lent; an empty slice and bad where they are not. */
static inline struct slice read_bytes(struct reader *r, size_t len)
{
    struct slice s = slice_of(r->left.ptr, len);
    if (r->bad || len > r->left.len) {
        r->bad = true;
        return slice_of(NULL, 0);
    }
    r->left = slice_of(r->left.ptr + len, r->left.len - len);
    return s;
}

static inline uint8_t read_u8(struct reader *r)
{
    struct slice s = read_bytes(r, 1);
    return s.len ? s.ptr[0] : 0;
}

static inline uint32_t read_u32(struct reader *r)
{
    struct slice s = read_bytes(r, 4);
    return s.len ? get_u32(s.ptr) : 0;
}

static inline uint64_t read_u64(struct reader *r)
{
    struct slice s = read_bytes(r, 8);
    return s.len ? get_u64(s.ptr) : 0;
}

static inline int64_t read_i64(struct reader *r)
{
    return (int64_t)read_u64(r);
}

static inline unsigned __int128 read_u128(struct reader *r)
{
    uint64_t low = read_u64(r);
    return (unsigned __int128)read_u64(r) << 64 | low;
}

/* Everything was there, and nothing is left over. */
static inline bool reader_done(const struct reader *r)
{
    return !r->bad && r->left.len == 0;
}

#endif
