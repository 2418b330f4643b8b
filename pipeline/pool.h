/* pool.h - blocks for users' rows, from memory that is reserved at start.
 *
 * Classes  A block is rounded up to one of four sizes per power of two. A
 *          page of POOL_PAGE_BYTES holds blocks of one class; a page whose
 *          blocks are all free serves any class again.
 * Limit    The reserved bytes are address space until they are used. When
 *          they are used up, and for blocks larger than a page, malloc
 *          serves: the pool never refuses, its owner watches pool_used and
 *          gives rows up. So a steady state calls no malloc.
 * NULL     A NULL pool is malloc and free: rows that live without a limit.
 * Threads  One pool belongs to one thread. */
#ifndef MILLRACE_POOL_H
#define MILLRACE_POOL_H

#include "err.h"

#include <stddef.h>
#include <stdint.h>

enum { POOL_PAGE_BYTES = 64 << 10 };

struct pool;
enum rc pool_new(struct pool **out, size_t reserve_bytes,
                 struct err *e) MUST_USE;
void pool_free(struct pool *p); /* and every block that is still out */

/* A block of at least size bytes, aligned to 16; never NULL: a machine out
 * of memory ends the process, as a crash would, and restart recovers. */
void *pool_take(struct pool *p, size_t size);
/* size: as it was taken. NULL is allowed. */
void pool_give(struct pool *p, void *block, size_t size);
/* What a block of this size takes. */
size_t pool_block_bytes(size_t size);

size_t pool_used(const struct pool *p);      /* blocks out, rounded */
uint64_t pool_mallocs(const struct pool *p); /* calls of malloc, ever */

#endif
