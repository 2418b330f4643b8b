/* Goal: the pool keeps its limit, never gives up what is pinned, tells the
 * owner of what it gives up, and prefers those who came back.
 * Method: a pool of a small random model, with slots of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "context_pool.h"
#include "hash.h"
#include "random_model.h"

enum { SLOTS = 400, WINDOW = 20 };

static const struct random_shape shape = {1, 16, 1, 16, WINDOW, 9, 0, 0, 0};

struct fixture {
    struct model *m;
    struct context_pool pool;
    struct context *slot[SLOTS];
};

static void set_up(struct fixture *f, size_t contexts)
{
    struct context_pool one;
    memset(f, 0, sizeof *f);
    f->m = random_model(shape, 1);
    assert_true(context_pool_init(&one, f->m->behaviour, 0));
    assert_true(
        context_pool_init(&f->pool, f->m->behaviour,
                          contexts * (one.context_bytes + one.page_bytes)));
    context_pool_fini(&one);
}

static void tear_down(struct fixture *f)
{
    context_pool_fini(&f->pool);
    model_free(f->m);
}

/* As a scorer does for one event of a user; true if it was cached. */
static bool use(struct fixture *f, uint32_t i)
{
    bool cached = f->slot[i] != NULL;
    if (cached)
        context_pool_pin(&f->pool, f->slot[i]);
    else
        assert_non_null(context_pool_take(&f->pool, &f->slot[i], 0));
    assert_true(context_pool_grow(&f->pool, f->slot[i]));
    if (f->slot[i]->count < 2 * WINDOW - 1) f->slot[i]->count++;
    context_pool_unpin(&f->pool, f->slot[i]);
    context_pool_trim(&f->pool);
    return cached;
}

static uint32_t held(const struct fixture *f)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SLOTS; i++)
        count += f->slot[i] != NULL;
    return count;
}

static void test_limit_and_owners(void **state)
{
    struct fixture f;
    (void)state;
    set_up(&f, 50);
    for (uint64_t i = 0; i < 20000; i++) {
        (void)use(&f, (uint32_t)(draw(1, 2, i) % SLOTS));
        assert_int_equal(held(&f), f.pool.context_count - f.pool.free_contexts);
        assert_true(f.pool.free_pages >= f.pool.pages_each);
    }
    assert_true(f.pool.evictions > 1000);
    for (uint32_t i = 0; i < SLOTS; i++)
        if (f.slot[i]) context_pool_release(&f.pool, f.slot[i]);
    assert_int_equal(context_pool_bytes(&f.pool), 0);
    assert_int_equal(f.pool.once.count + f.pool.again.count, 0);
    tear_down(&f);
}

static void test_pinned_stay(void **state)
{
    struct fixture f;
    struct context *mine;
    (void)state;
    set_up(&f, 20);
    mine = context_pool_take(&f.pool, &f.slot[0], 0);
    assert_true(context_pool_grow(&f.pool, mine));
    for (uint32_t i = 1; i < SLOTS; i++)
        (void)use(&f, i);
    assert_ptr_equal(f.slot[0], mine);
    /* With everything pinned there is nothing to take. */
    for (uint32_t i = 1; i < SLOTS; i++)
        if (f.slot[i]) context_pool_pin(&f.pool, f.slot[i]);
    for (uint32_t i = 1; i < SLOTS; i++)
        if (!f.slot[i] && !context_pool_take(&f.pool, &f.slot[i], 0)) {
            assert_null(f.slot[i]);
            tear_down(&f);
            return;
        }
    fail_msg("the pool never ran out");
}

/* Twenty users come again and again among many who come once. */
static void test_frequent_users_stay(void **state)
{
    struct fixture f;
    uint32_t hits = 0, uses = 0;
    (void)state;
    set_up(&f, 80); /* their full contexts take 60 pages */
    for (uint64_t i = 0; i < 4000; i++) {
        bool cached;
        if (i % 6 > 0) {
            (void)use(&f, 20 + (uint32_t)(i % (SLOTS - 20)));
            continue;
        }
        cached = use(&f, (uint32_t)(draw(3, 4, i) % 20));
        if (i > 2000) hits += cached, uses++;
    }
    /* By last use alone, 100 others would come between two of theirs. */
    print_message("%u of %u uses of frequent users were cached\n", hits, uses);
    assert_true(hits * 10 > uses * 9);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_and_owners),
        cmocka_unit_test(test_pinned_stay),
        cmocka_unit_test(test_frequent_users_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
