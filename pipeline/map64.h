/* map64.h - from 64-bit hashes to numbers, for commands that go over a whole
 * log (labels, names, users). Not on the event path: it grows by malloc.
 *
 * Keys are hashes already (hash64); 0 is kept for empty places.
 * Memory   Open addressing, at most half full.
 * Threads  One map belongs to one thread while it changes. */
#ifndef MILLRACE_MAP64_H
#define MILLRACE_MAP64_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "hash.h"

struct map64 {
    uint64_t *keys; /* (size) 0: empty */
    uint64_t *values;
    size_t size; /* a power of two, or 0 */
    size_t count;
};

static inline void map64_fini(struct map64 *m)
{
    free(m->keys);
    free(m->values);
    *m = (struct map64){0};
}

static inline size_t map64_place(const struct map64 *m, uint64_t key)
{
    size_t at = (size_t)hash_mix(key) & (m->size - 1);
    while (m->keys[at] != 0 && m->keys[at] != key)
        at = (at + 1) & (m->size - 1);
    return at;
}

/* NULL: not there. Lent until the next put. */
static inline uint64_t *map64_get(const struct map64 *m, uint64_t key)
{
    size_t at;
    if (m->size == 0) return NULL;
    at = map64_place(m, key);
    return m->keys[at] == 0 ? NULL : &m->values[at];
}

static inline bool map64_grow(struct map64 *m)
{
    struct map64 to = {.size = m->size ? m->size * 2 : 1024, .count = m->count};
    to.keys = calloc(to.size, sizeof *to.keys);
    to.values = calloc(to.size, sizeof *to.values);
    if (!to.keys || !to.values) {
        map64_fini(&to);
        return false;
    }
    for (size_t i = 0; i < m->size; i++) {
        size_t at;
        if (m->keys[i] == 0) continue;
        at = map64_place(&to, m->keys[i]);
        to.keys[at] = m->keys[i];
        to.values[at] = m->values[i];
    }
    map64_fini(m);
    *m = to;
    return true;
}

/* The place of key, made with value if it is not there (*made tells). NULL:
 * no memory. */
static inline uint64_t *map64_put(struct map64 *m, uint64_t key, uint64_t value,
                                  bool *made)
{
    size_t at;
    if (m->count * 2 >= m->size && !map64_grow(m)) return NULL;
    at = map64_place(m, key);
    *made = m->keys[at] == 0;
    if (*made) {
        m->keys[at] = key;
        m->values[at] = value;
        m->count++;
    }
    return &m->values[at];
}

#endif
