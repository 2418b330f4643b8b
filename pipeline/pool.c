/* pool.c - pages of equal blocks in one reserved stretch of memory.
 *
 * A free block holds the index of the next free one of its page. Pages with
 * a free block are in a list per class; a page that empties goes back to the
 * list of free pages, wherever it lies. */
#include "pool.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    BLOCK_MIN = 64,
    STEPS = 4,         /* classes per power of two */
    CLASSES = 41,      /* 64, 80, 96, 112, 128, ... 64 KiB */
    NO_BLOCK = 0xffff, /* a page of 64 KiB has at most 1,024 blocks */
};
#define NO_PAGE UINT32_MAX

struct page {
    uint32_t newer, older; /* pages of the class with a free block */
    uint16_t class;
    uint16_t used;  /* blocks out */
    uint16_t fresh; /* blocks from here on were never out */
    uint16_t free;  /* first of those given back */
};

struct pool {
    uint8_t *base;
    size_t reserved;
    struct page *pages;
    uint32_t page_count, pages_touched;
    uint32_t free_page;       /* list by older */
    uint32_t partly[CLASSES]; /* pages of the class with a free block */
    size_t used;
    uint64_t mallocs;
};

static uint32_t class_of(size_t size)
{
    uint32_t class = 0;
    size_t power = BLOCK_MIN;
    if (size <= BLOCK_MIN) return 0;
    while (power * 2 < size) {
        power *= 2;
        class += STEPS;
    }
    return class +
           (uint32_t)((size - power + power / STEPS - 1) / (power / STEPS));
}

static size_t class_bytes(uint32_t class)
{
    size_t power = (size_t)BLOCK_MIN << class / STEPS;
    return power + power / STEPS * (class % STEPS);
}

static uint16_t class_blocks(uint32_t class)
{
    return (uint16_t)(POOL_PAGE_BYTES / class_bytes(class));
}

size_t pool_block_bytes(size_t size)
{
    return size > POOL_PAGE_BYTES ? size : class_bytes(class_of(size));
}

enum rc pool_new(struct pool **out, size_t reserve_bytes, struct err *e)
{
    struct pool *p = calloc(1, sizeof *p);
    uint32_t count = (uint32_t)(reserve_bytes / POOL_PAGE_BYTES);
    assert(reserve_bytes / POOL_PAGE_BYTES < NO_PAGE);
    *out = NULL;
    if (!p) return ERR(e, RC_STOP, "users' rows: no memory");
    p->page_count = count;
    p->free_page = NO_PAGE;
    p->reserved = (size_t)count * POOL_PAGE_BYTES;
    for (uint32_t class = 0; class < CLASSES; class ++)
        p->partly[class] = NO_PAGE;
    p->pages = calloc(count ? count : 1, sizeof *p->pages);
    p->base = mmap(NULL, p->reserved ? p->reserved : POOL_PAGE_BYTES,
                   PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->base == MAP_FAILED || !p->pages) {
        if (p->base != MAP_FAILED)
            (void)munmap(p->base, p->reserved ? p->reserved : POOL_PAGE_BYTES);
        free(p->pages);
        free(p);
        return ERR(e, RC_STOP,
                   "users' rows: %zu bytes cannot be reserved; lower "
                   "state.cache",
                   reserve_bytes);
    }
    *out = p;
    return RC_OK;
}

void pool_free(struct pool *p)
{
    if (!p) return;
    (void)munmap(p->base, p->reserved ? p->reserved : POOL_PAGE_BYTES);
    free(p->pages);
    free(p);
}

static void partly_add(struct pool *p, uint32_t index)
{
    struct page *page = &p->pages[index];
    uint32_t *head = &p->partly[page->class];
    page->newer = NO_PAGE;
    page->older = *head;
    if (*head != NO_PAGE) p->pages[*head].newer = index;
    *head = index;
}

static void partly_remove(struct pool *p, uint32_t index)
{
    struct page *page = &p->pages[index];
    if (page->newer != NO_PAGE)
        p->pages[page->newer].older = page->older;
    else
        p->partly[page->class] = page->older;
    if (page->older != NO_PAGE) p->pages[page->older].newer = page->newer;
}

/* A page for the class, or NO_PAGE when all are in use. */
static uint32_t page_take(struct pool *p, uint32_t class)
{
    uint32_t index = p->free_page;
    if (index != NO_PAGE)
        p->free_page = p->pages[index].older;
    else if (p->pages_touched < p->page_count)
        index = p->pages_touched++;
    else
        return NO_PAGE;
    p->pages[index] =
        (struct page){.class = (uint16_t) class, .free = NO_BLOCK};
    partly_add(p, index);
    return index;
}

static void *from_malloc(struct pool *p, size_t size)
{
    void *block = malloc(size);
    if (!block) {
        (void)fprintf(stderr,
                      "millrace: out of memory for users' rows (%zu "
                      "bytes); lower state.cache or model.cache\n",
                      size);
        abort();
    }
    if (p) {
        p->mallocs++;
        p->used += size;
    }
    return block;
}

void *pool_take(struct pool *p, size_t size)
{
    uint32_t class, index;
    struct page *page;
    uint8_t *block, *base;
    if (!p) return from_malloc(NULL, size ? size : 1);
    if (size > POOL_PAGE_BYTES) return from_malloc(p, size);
    class = class_of(size);
    index = p->partly[class];
    if (index == NO_PAGE) index = page_take(p, class);
    if (index == NO_PAGE) return from_malloc(p, class_bytes(class));

    page = &p->pages[index];
    base = p->base + (size_t)index * POOL_PAGE_BYTES;
    if (page->free != NO_BLOCK) {
        block = base + page->free * class_bytes(class);
        page->free = *(const uint16_t *)(const void *)block;
    } else {
        block = base + page->fresh++ * class_bytes(class);
    }
    if (++page->used == class_blocks(class)) partly_remove(p, index);
    p->used += class_bytes(class);
    return block;
}

void pool_give(struct pool *p, void *block, size_t size)
{
    uint8_t *at = block;
    uint32_t index;
    struct page *page;
    if (!p || !block) {
        free(block);
        return;
    }
    p->used -= pool_block_bytes(size);
    if (at < p->base || at >= p->base + p->reserved) {
        free(block);
        return;
    }
    index = (uint32_t)((size_t)(at - p->base) / POOL_PAGE_BYTES);
    page = &p->pages[index];
    assert(page->class == class_of(size) && page->used > 0);
    if (page->used-- == class_blocks(page->class)) partly_add(p, index);
    *(uint16_t *)block = page->free;
    page->free = (uint16_t)((size_t)(at - p->base) % POOL_PAGE_BYTES /
                            class_bytes(page->class));
    if (page->used == 0) {
        partly_remove(p, index);
        page->older = p->free_page;
        p->free_page = index;
    }
}

size_t pool_used(const struct pool *p)
{
    return p ? p->used : 0;
}

uint64_t pool_mallocs(const struct pool *p)
{
    return p ? p->mallocs : 0;
}
