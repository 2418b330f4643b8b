#include "context_pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    CONTEXTS_MIN = 2,
    CACHE_LINE = 64,
    HUGE_PAGE_BYTES = 2 << 20,
    ONCE_SHARE = 10, /* one in so many contexts is of a user seen once */
};

static size_t round_up(size_t bytes, size_t step)
{
    return (bytes + step - 1) / step * step;
}

/* ---- use order ------------------------------------------------------- */

static struct context_list *list_of(struct context_pool *p,
                                    const struct context *c)
{
    return c->came_back ? &p->again : &p->once;
}

static void unlink_context(struct context_pool *p, struct context *c)
{
    struct context_list *l = list_of(p, c);
    *(c->newer ? &c->newer->older : &l->newest) = c->older;
    *(c->older ? &c->older->newer : &l->oldest) = c->newer;
    c->newer = c->older = NULL;
    l->count--;
}

static void link_newest(struct context_pool *p, struct context *c)
{
    struct context_list *l = list_of(p, c);
    c->older = l->newest;
    c->newer = NULL;
    *(l->newest ? &l->newest->newer : &l->oldest) = c;
    l->newest = c;
    l->count++;
}

void context_pool_pin(struct context_pool *p, struct context *c)
{
    if (c->pinned) return;
    unlink_context(p, c);
    c->pinned = true;
    c->came_back = true;
}

void context_pool_unpin(struct context_pool *p, struct context *c)
{
    assert(c->pinned && c->rows == 0);
    c->pinned = false;
    link_newest(p, c);
}

/* ---- the block ------------------------------------------------------- */

/* How many of each the limit allows: as many contexts as there would be with
 * one page each, but never so many that pages run short of two whole ones. */
static void measure(struct context_pool *p, const struct behaviour *b,
                    size_t bytes)
{
    const struct behaviour_config *c = &b->params->config;
    size_t each, count;
    p->page_bytes = round_up(b->page_bytes, CACHE_LINE);
    p->pages_each = b->weight_stride / KV_BLOCK;
    p->context_bytes = round_up(
        round_up(sizeof(struct context), CACHE_LINE) +
            round_up(c->width * sizeof(real), CACHE_LINE) +
            p->pages_each * sizeof(uint8_t *) + 2 * c->window * sizeof(int32_t),
        CACHE_LINE);
    each = p->context_bytes + p->page_bytes;
    count = bytes / each;
    if (count < CONTEXTS_MIN) count = CONTEXTS_MIN;
    if (count > UINT32_MAX / 2) count = UINT32_MAX / 2;
    p->context_count = (uint32_t)count;
    if (count < CONTEXTS_MIN * (size_t)p->pages_each)
        count = CONTEXTS_MIN * (size_t)p->pages_each;
    p->page_count = (uint32_t)count;
}

static struct context *context_at(const struct context_pool *p, uint32_t i)
{
    uint8_t *base = p->block + (size_t)p->page_count * p->page_bytes;
    return (struct context *)(void *)(base + (size_t)i * p->context_bytes);
}

static void lay_out(struct context_pool *p, uint32_t width, uint32_t index)
{
    struct context *c = context_at(p, index);
    uint8_t *at = (uint8_t *)c + round_up(sizeof(struct context), CACHE_LINE);
    memset(c, 0, sizeof *c);
    c->hidden = (real *)(void *)at;
    at += round_up(width * sizeof(real), CACHE_LINE);
    c->page = (uint8_t **)(void *)at;
    at += p->pages_each * sizeof(uint8_t *);
    c->times = (int32_t *)(void *)at;
}

bool context_pool_init(struct context_pool *p, const struct behaviour *b,
                       size_t bytes)
{
    size_t size;
    memset(p, 0, sizeof *p);
    measure(p, b, bytes);
    size = round_up((size_t)p->page_count * p->page_bytes +
                        (size_t)p->context_count * p->context_bytes,
                    HUGE_PAGE_BYTES);
    p->block = aligned_alloc(HUGE_PAGE_BYTES, size);
    p->free_page = calloc(p->page_count, sizeof *p->free_page);
    p->free_context = calloc(p->context_count, sizeof *p->free_context);
    if (!p->block || !p->free_page || !p->free_context) return false;
    /* A user's pages lie anywhere in the block; small translations would
     * miss at every one. Memory is still taken only where it is touched. */
    (void)madvise(p->block, size, MADV_HUGEPAGE);

    /* The stacks give the lowest addresses first. */
    for (uint32_t i = p->page_count; i-- > 0;)
        p->free_page[p->free_pages++] = p->block + (size_t)i * p->page_bytes;
    for (uint32_t i = p->context_count; i-- > 0;)
        p->free_context[p->free_contexts++] = context_at(p, i);
    for (uint32_t i = 0; i < p->context_count; i++)
        lay_out(p, b->params->config.width, i);
    return true;
}

void context_pool_fini(struct context_pool *p)
{
    free(p->block);
    free(p->free_page);
    free(p->free_context);
    memset(p, 0, sizeof *p);
}

size_t context_pool_bytes(const struct context_pool *p)
{
    return (size_t)(p->page_count - p->free_pages) * p->page_bytes +
           (size_t)(p->context_count - p->free_contexts) * p->context_bytes;
}

/* ---- taking and giving up -------------------------------------------- */

static void give_pages(struct context_pool *p, struct context *c)
{
    while (c->pages > 0)
        p->free_page[p->free_pages++] = c->page[--c->pages];
}

void context_pool_release(struct context_pool *p, struct context *c)
{
    assert(c->rows == 0);
    if (!c->pinned) unlink_context(p, c);
    give_pages(p, c);
    *c->owner = NULL;
    c->owner = NULL;
    c->pinned = false;
    p->free_context[p->free_contexts++] = c;
}

static bool evict_oldest(struct context_pool *p)
{
    uint32_t all = p->once.count + p->again.count;
    struct context *c = p->once.count > all / ONCE_SHARE || !p->again.oldest
                            ? p->once.oldest
                            : p->again.oldest;
    if (!c) return false;
    context_pool_release(p, c);
    p->evictions++;
    return true;
}

void context_pool_trim(struct context_pool *p)
{
    while (p->free_contexts == 0 || p->free_pages < p->pages_each)
        if (!evict_oldest(p)) break;
}

struct context *context_pool_take(struct context_pool *p,
                                  struct context **owner, uint64_t anchor)
{
    struct context *c;
    if (p->free_contexts == 0 && !evict_oldest(p)) return NULL;
    c = p->free_context[--p->free_contexts];
    c->owner = owner;
    c->pinned = true;
    c->came_back = false;
    c->newer = c->older = NULL;
    c->anchor = anchor;
    c->anchor_ms = 0;
    c->count = c->pages = c->rows = 0;
    *owner = c;
    return c;
}

bool context_pool_grow(struct context_pool *p, struct context *c)
{
    assert(c->pinned);
    if (c->count / KV_BLOCK < c->pages) return true;
    assert(c->pages < p->pages_each);
    if (p->free_pages == 0 && !evict_oldest(p)) return false;
    c->page[c->pages++] = p->free_page[--p->free_pages];
    return true;
}

void context_pool_reset(struct context_pool *p, struct context *c,
                        uint64_t anchor)
{
    assert(c->pinned && c->rows == 0);
    give_pages(p, c);
    c->anchor = anchor;
    c->count = 0;
}
