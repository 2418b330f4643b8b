/* test_no_malloc.c - goal: once it runs, the worker takes no memory.
 * Method: the linker puts counting wrappers of this file around the calls of
 * malloc, calloc, realloc and aligned_alloc in all of the program's own
 * code (RocksDB and librdkafka have their own lives). A first part of the
 * log brings in every user and fills every cache; while the rest goes from
 * poll to commit nothing may be counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "catalogue.h"
#include "hash.h"
#include "spine_log.h"

enum { EVENTS = 6000, WARM_UP = 4000, USERS = 30, SEED = 21 };

static uint64_t calls;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);

void *__wrap_malloc(size_t size)
{
    calls++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    calls++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
    calls++;
    return __real_realloc(ptr, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    calls++;
    return __real_aligned_alloc(align, size);
}

/* Steps through the rest of the log, or as far as `given` records. */
static void step_to(struct spine_run *r, uint64_t given)
{
    struct err e;
    while (source_memory_given(r->source) < given)
        if (worker_step(r->worker, &e) != RC_OK) fail_msg("%s", e.text);
}

/* Entries of the catalogue, every other one taking its item away; the last of
 * each item offers it. */
static void offer(struct catalogue *c, uint32_t from, uint32_t count)
{
    struct err e;
    for (uint32_t i = from; i < from + count; i++) {
        char name[24];
        (void)snprintf(name, sizeof name, "item-%u", i / 2 % SPINE_ITEMS);
        const struct catalogue_entry entry = {
            .offset = i,
            .item = hash64(slice_str(name)),
            .category = 1 + i % 5,
            .available = i % 2,
        };
        assert_int_equal(catalogue_add(c, &entry, &e), RC_OK);
    }
}

static void count_on(struct spine_log *log, struct store *store,
                     size_t context_bytes)
{
    const char *sets[] = {"commit.interval=1ms",
                          "batch.events.max=32",
                          "recommend.when=interval",
                          "reasons.threshold=0.4",
                          "reasons.per_second=65535",
                          "explore.rate=0.3",
                          "recommend.category.max=3",
                          "output.profile.topic=profiles",
                          NULL};
    struct catalogue *catalogue;
    struct spine_run r;
    struct err e;
    uint64_t before;
    assert_int_equal(catalogue_new(&catalogue, 1000, NULL, NULL, &e), RC_OK);
    offer(catalogue, 0, 1000);
    spine_run_open(&r, log, sets);
    r.options.store = store;
    r.options.context_bytes_max = context_bytes;
    r.options.catalogue = catalogue;
    spine_run_start(&r);
    step_to(&r, WARM_UP);
    assert_true(sink_memory_commits(r.sink) > 10);
    offer(catalogue, 1000, 20000); /* which the worker has yet to take */
    before = calls;
    step_to(&r, EVENTS);
    assert_int_equal(calls - before, 0);
    assert_true(spine_run_count(&r, COUNT_reasons_given) > EVENTS / 10);
    spine_run_to_end(&r);
    assert_int_equal(spine_run_count(&r, COUNT_events_scored), EVENTS);
    spine_run_close(&r);
    catalogue_free(catalogue);
}

static void test_in_memory(void **state)
{
    struct spine_log log;
    (void)state;
    spine_log_make(&log, EVENTS, USERS, SEED);
    assert_true(calls > 0); /* the wrappers are at work */
    count_on(&log, NULL, 16 << 20);
    count_on(&log, NULL, 1); /* contexts are evicted and refilled */
    spine_log_free(&log);
}

static void test_with_a_store(void **state)
{
    struct store_options o = {.memory_bytes = 8 << 20};
    char dir[] = "/tmp/millrace-malloc-XXXXXX", command[128];
    struct spine_log log;
    struct store *store;
    struct err e;
    (void)state;
    assert_non_null(mkdtemp(dir));
    o.dir = dir;
    spine_log_make(&log, EVENTS, USERS, SEED);
    if (store_open(&store, &o, &e) != RC_OK) fail_msg("%s", e.text);
    count_on(&log, store, 16 << 20);
    store_close(store);
    spine_log_free(&log);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_memory),
        cmocka_unit_test(test_with_a_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
