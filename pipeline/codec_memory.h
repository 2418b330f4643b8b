/* codec_memory.h - many small things of one lifetime, made at start.
 *
 * Memory   Each memory_take is one zeroed malloc; memory_free frees them all.
 *          For what is built once (schemas, decoders), never on the event
 *          path: that has arenas.
 * Threads  One list belongs to one thread while it grows. */
#ifndef MILLRACE_CODEC_MEMORY_H
#define MILLRACE_CODEC_MEMORY_H

#include <stdlib.h>

#include "err.h"
#include "slice.h"

struct memory_block {
    struct memory_block *next;
    _Alignas(max_align_t) uint8_t bytes[];
};
struct memory {
    struct memory_block *first;
};

/* count zeroed objects of size bytes; NULL and *e when there is no memory. */
static inline void *memory_take(struct memory *p, size_t count, size_t size,
                                struct err *e)
{
    struct memory_block *block = NULL;
    size_t bytes;
    if (!__builtin_mul_overflow(count, size, &bytes) &&
        bytes <= SIZE_MAX - sizeof *block)
        block = calloc(1, sizeof *block + bytes);
    if (!block) {
        (void)ERR(e, RC_STOP, "out of memory: %zu times %zu bytes", count,
                  size);
        return NULL;
    }
    block->next = p->first;
    p->first = block;
    return block->bytes;
}

/* A copy of the bytes, with a zero behind them. */
static inline void *memory_copy(struct memory *p, const void *bytes, size_t len,
                                struct err *e)
{
    uint8_t *copy = memory_take(p, len + 1, 1, e);
    if (copy && len) memcpy(copy, bytes, len);
    return copy;
}

static inline void memory_free(struct memory *p)
{
    while (p->first) {
        struct memory_block *next = p->first->next;
        free(p->first);
        p->first = next;
    }
}

#endif
