/* test_pool.c - goal: blocks never overlap, come back, and what is reserved
 * is enough in a steady state.
 * Method: random takes and gives against a list of what is out, each block
 * filled with a pattern of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hash.h"
#include "pool.h"

enum { BLOCKS = 600, ROUNDS = 60000, RESERVED = 4 << 20 };

struct block {
    uint8_t *at;
    size_t size;
    uint8_t pattern;
};

static void check(const struct block *b)
{
    for (size_t i = 0; i < b->size; i++)
        assert_int_equal(b->at[i], b->pattern);
}

static size_t random_size(uint64_t bits)
{
    if (bits % 97 == 0) return POOL_PAGE_BYTES - 20 + bits / 97 % 40;
    return 1 + (bits >> 20) % (64u << bits % 6);
}

static void test_blocks_do_not_overlap(void **state)
{
    static struct block blocks[BLOCKS];
    struct pool *p;
    struct err e;
    size_t used = 0;
    (void)state;
    assert_int_equal(pool_new(&p, RESERVED, &e), RC_OK);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct block *b = &blocks[draw(5, i, 0) % BLOCKS];
        if (b->at) {
            check(b);
            used -= pool_block_bytes(b->size);
            pool_give(p, b->at, b->size);
            *b = (struct block){0};
        } else {
            b->size = random_size(draw(5, i, 1));
            b->pattern = (uint8_t)i;
            b->at = pool_take(p, b->size);
            assert_int_equal((uintptr_t)b->at % 16, 0);
            used += pool_block_bytes(b->size);
            memset(b->at, b->pattern, b->size);
        }
        assert_int_equal(pool_used(p), used);
    }
    for (int i = 0; i < BLOCKS; i++) {
        if (!blocks[i].at) continue;
        check(&blocks[i]);
        pool_give(p, blocks[i].at, blocks[i].size);
    }
    assert_int_equal(pool_used(p), 0);
    pool_free(p);
}

static void test_sizes_are_rounded_by_a_quarter_at_most(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 2 * POOL_PAGE_BYTES; size++) {
        size_t bytes = pool_block_bytes(size);
        assert_true(bytes >= size);
        assert_true(bytes <= 64 || bytes < size + size / 4 + 1);
        assert_true(size > POOL_PAGE_BYTES || bytes % 16 == 0);
    }
}

/* Empty pages serve other sizes, so filling again and again takes nothing. */
static void test_pages_change_their_class(void **state)
{
    const size_t sizes[] = {64, 1000, 100, 60000, 5000};
    static void *blocks[RESERVED / 64];
    struct pool *p;
    struct err e;
    (void)state;
    assert_int_equal(pool_new(&p, RESERVED, &e), RC_OK);
    for (int round = 0; round < 20; round++) {
        size_t size = sizes[round % 5], count = 0;
        size_t pages = RESERVED / POOL_PAGE_BYTES;
        size_t fit = pages * (POOL_PAGE_BYTES / pool_block_bytes(size));
        for (; count < fit; count++)
            blocks[count] = pool_take(p, size);
        assert_int_equal(pool_mallocs(p), 0);
        while (count > 0)
            pool_give(p, blocks[--count], size);
    }
    pool_free(p);
}

/* What does not fit is served all the same, and counted. */
static void test_beyond_what_is_reserved(void **state)
{
    struct pool *p;
    struct err e;
    void *a, *b, *large;
    (void)state;
    assert_int_equal(pool_new(&p, POOL_PAGE_BYTES, &e), RC_OK);
    a = pool_take(p, POOL_PAGE_BYTES);
    assert_int_equal(pool_mallocs(p), 0);
    b = pool_take(p, 100);
    large = pool_take(p, POOL_PAGE_BYTES + 1);
    assert_int_equal(pool_mallocs(p), 2);
    pool_give(p, b, 100);
    pool_give(p, large, POOL_PAGE_BYTES + 1);
    pool_give(p, a, POOL_PAGE_BYTES);
    pool_give(p, NULL, 5);
    assert_int_equal(pool_used(p), 0);
    pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_do_not_overlap),
        cmocka_unit_test(test_sizes_are_rounded_by_a_quarter_at_most),
        cmocka_unit_test(test_pages_change_their_class),
        cmocka_unit_test(test_beyond_what_is_reserved),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
