/* arena.h - memory that is freed all at once.
 *
 * Memory   One block taken at init; arena_take never calls malloc and
 *          returns NULL when the block is used up: the caller turns that
 *          into a bad event or a full batch. arena_reset frees everything.
 *          Results are aligned to 64 bytes (a cache line, a vector).
 * Threads  One arena belongs to one thread. */
#ifndef MILLRACE_ARENA_H
#define MILLRACE_ARENA_H

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#include "slice.h"

enum { ARENA_ALIGN = 64 };

struct arena {
    uint8_t *base;
    size_t size;
    size_t used;
};

static inline size_t arena_round(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

/* False when there is no such memory. */
static inline bool arena_init(struct arena *a, size_t size)
{
    size = arena_round(size);
    *a = (struct arena){.base = aligned_alloc(ARENA_ALIGN, size), .size = size};
    return a->base != NULL;
}

static inline void arena_fini(struct arena *a)
{
    free(a->base);
    *a = (struct arena){0};
}

static inline void arena_reset(struct arena *a)
{
    a->used = 0;
}

/* count objects of size bytes, not zeroed; NULL when they do not fit. */
static inline void *arena_take(struct arena *a, size_t count, size_t size)
{
    void *ptr;
    size_t bytes;
    if (size != 0 && count > (SIZE_MAX - ARENA_ALIGN) / size) return NULL;
    bytes = arena_round(count * size);
    if (bytes > a->size - a->used) return NULL;
    ptr = a->base + a->used;
    a->used += bytes;
    return ptr;
}

/* The bytes of s, in the arena; ptr is NULL when they do not fit. */
static inline struct slice arena_copy(struct arena *a, struct slice s)
{
    uint8_t *ptr = arena_take(a, s.len ? s.len : 1, 1);
    if (ptr && s.len) memcpy(ptr, s.ptr, s.len);
    return slice_of(ptr, ptr ? s.len : 0);
}

#endif
