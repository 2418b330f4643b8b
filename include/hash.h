/* hash.h - the two hashes of the program, and random numbers made of them.
 *
 * hash64   XXH3 of bytes: how item, type, category, channel and event ids
 *          are kept in histories and vocabularies. 0 is kept for "none".
 * draw     A counter-based generator: the same key gives the same number in
 *          every thread and on every machine, so dropout, sampling and
 *          exploration do not depend on who computes them, or when. */
#ifndef MILLRACE_HASH_H
#define MILLRACE_HASH_H

#include <xxhash.h>

#include "slice.h"

static inline uint64_t hash64(struct slice s)
{
    uint64_t h;
    if (s.len == 0) return 0;
    h = XXH3_64bits(s.ptr, s.len);
    return h ? h : 1;
}

/* Mixes all bits of x (the finaliser of SplitMix64, Steele et al. 2014). */
static inline uint64_t hash_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* 64 random bits for the key (seed, a, b). */
static inline uint64_t draw(uint64_t seed, uint64_t a, uint64_t b)
{
    return hash_mix(hash_mix(hash_mix(seed) ^ a) ^ b);
}

/* Uniform in [0, 1), 24 bits. */
static inline float draw_unit(uint64_t bits)
{
    return (float)(bits >> 40) * 0x1p-24f;
}

/* Hash of a list of names, one name at a time from h = 0: the hash of a
 * model's feature list is this over feature_row_name in order. */
static inline uint64_t hash_append(uint64_t h, struct slice name)
{
    return hash_mix(h ^ hash64(name));
}

#endif
