/* context_pool.h - the cached keys and values of a scorer's users.
 *
 * Context  One user's tokens since the anchor: a table of pages (kernels.h),
 *          their times, the last hidden state. It belongs to the slot that
 *          the caller keeps beside the user.
 * Limit    Pages and contexts come from one block of the given size. When
 *          none is free, a context is given up and its owner's slot becomes
 *          NULL. Pinned contexts are never given up.
 * Order    Two lists by last use: users seen once since they came in, and
 *          users who came back. The first gives up its oldest while it has
 *          more than a tenth of all, else the second: rare users, of whom
 *          there are many, do not drive out frequent ones. (Segmented LRU,
 *          Karedla et al. 1994; a fifth fewer misses under Zipf's law.)
 * Reserve  context_pool_trim leaves a whole context's worth free, so that a
 *          call, whatever it pins, can always finish one more user.
 * Memory   All taken at init. Threads: that of the scorer. */
#ifndef MILLRACE_CONTEXT_POOL_H
#define MILLRACE_CONTEXT_POOL_H

#include "behaviour_layer.h"
#include "model.h"

struct context {
    struct context **owner;        /* NULL: free */
    struct context *newer, *older; /* of its list, while not pinned */
    bool pinned;
    bool came_back;  /* used again since it was taken */
    uint64_t anchor; /* number of the event at position 0 */
    int64_t anchor_ms;
    uint32_t count; /* tokens appended */
    uint32_t pages; /* held, >= count / KV_BLOCK rounded up */
    uint32_t rows;  /* of the chunk under way that belong to it */
    int32_t *times; /* (2 W) */
    real *hidden;   /* (D) after the last token; valid when count > 0 */
    uint8_t **page; /* (pages_max) */
};

struct context_list {
    struct context *newest, *oldest;
    uint32_t count;
};

struct context_pool {
    size_t page_bytes, context_bytes;
    uint32_t pages_each; /* of a full context */
    uint32_t page_count, context_count;
    uint8_t *block;
    uint8_t **free_page; /* stack */
    uint32_t free_pages;
    struct context **free_context;
    uint32_t free_contexts;
    struct context_list once, again; /* not pinned, by came_back */
    uint64_t evictions;
};

/* At least two whole contexts are taken, whatever bytes says. */
bool context_pool_init(struct context_pool *p, const struct behaviour *b,
                       size_t bytes);
void context_pool_fini(struct context_pool *p);

/* A pinned, empty context for the slot; NULL when all are pinned. */
struct context *context_pool_take(struct context_pool *p,
                                  struct context **owner, uint64_t anchor);
/* A page for the next token; false when all that remain are pinned. */
bool context_pool_grow(struct context_pool *p, struct context *c);
/* Empties it, for a new anchor. */
void context_pool_reset(struct context_pool *p, struct context *c,
                        uint64_t anchor);
void context_pool_release(struct context_pool *p, struct context *c);
/* For use: a context that is pinned again has come back. */
void context_pool_pin(struct context_pool *p, struct context *c);
void context_pool_unpin(struct context_pool *p, struct context *c);
void context_pool_trim(struct context_pool *p);
size_t context_pool_bytes(const struct context_pool *p);

#endif
