/* test_decide.c - goal: who gets a list and what is flagged follows from the
 * configuration and the log, as options.def says.
 * Method: each policy on events made here; the interval against a plain walk
 * over random times. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "decide.h"
#include "hash.h"
#include "spine_log.h"

static struct policy policy_of(const char *const *sets)
{
    struct config *c = spine_config(sets);
    struct policy p;
    policy_init(&p, c);
    config_free(c);
    return p;
}

static struct event event_at(int64_t time_ms, const char *type)
{
    return (struct event){
        .time_ms = time_ms,
        .past = {.time_ms = time_ms, .type = hash64(slice_str(type))}};
}

static void test_every_and_never(void **state)
{
    struct policy every = policy_of(NULL);
    struct policy never =
        policy_of((const char *const[]){"recommend.when=never", NULL});
    struct event ev = event_at(5, "view");
    int64_t listed_ms = INT64_MIN;
    (void)state;
    assert_true(decide_list(&every, &ev, &listed_ms));
    assert_false(decide_list(&never, &ev, &listed_ms));
    assert_true(listed_ms == INT64_MIN);
}

static void test_types(void **state)
{
    struct policy p = policy_of((const char *const[]){
        "recommend.when=types", "recommend.types=buy,cart", NULL});
    struct event buy = event_at(1, "buy"), cart = event_at(1, "cart"),
                 view = event_at(1, "view"), none = event_at(1, "");
    int64_t listed_ms = INT64_MIN;
    (void)state;
    assert_true(decide_list(&p, &buy, &listed_ms));
    assert_true(decide_list(&p, &cart, &listed_ms));
    assert_false(decide_list(&p, &view, &listed_ms));
    assert_false(decide_list(&p, &none, &listed_ms));
}

/* At most one in an interval of event time; never for a late event; and as
 * soon as an interval has passed. */
static void test_interval(void **state)
{
    struct policy p = policy_of((const char *const[]){
        "recommend.when=interval", "recommend.interval=1m", NULL});
    int64_t listed_ms = INT64_MIN, last_ms = 0;
    bool any = false;
    uint32_t lists = 0;
    (void)state;
    for (uint32_t i = 0; i < 2000; i++) {
        int64_t now_ms =
            1000000 + (int64_t)i * 7000 - (int64_t)(draw(1, i, 0) % 90000);
        struct event ev = event_at(now_ms, "view");
        bool due = !any || now_ms - last_ms >= 60000;
        assert_int_equal(decide_list(&p, &ev, &listed_ms), due);
        if (!due) continue;
        any = true;
        last_ms = now_ms;
        lists++;
    }
    assert_in_range(lists, 100, 2000 * 7 / 60 + 1);
}

static void test_interval_at_the_ends_of_time(void **state)
{
    struct policy p = policy_of((const char *const[]){
        "recommend.when=interval", "recommend.interval=1m", NULL});
    struct event first = event_at(INT64_MIN + 1, "view");
    struct event last = event_at(INT64_MAX, "view");
    int64_t listed_ms = INT64_MIN;
    (void)state;
    assert_true(decide_list(&p, &first, &listed_ms));
    assert_true(decide_list(&p, &last, &listed_ms));
    assert_false(decide_list(&p, &first, &listed_ms));
}

static void test_flags(void **state)
{
    struct policy p =
        policy_of((const char *const[]){"fraud.threshold=0.25", NULL});
    const float fraud[] = {0.24f, 0.25f, 0.9f, NAN, 0.9f};
    const bool flagged[] = {false, true, true, false, false};
    struct batch b;
    struct err e;
    (void)state;
    assert_int_equal(batch_init(&b, 5, &e), RC_OK);
    b.count = 5;
    for (uint32_t i = 0; i < 5; i++)
        b.outcomes[i] = (struct outcome){.scored = i < 4, .fraud = fraud[i]};
    decide(&p, &b);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(b.outcomes[i].flagged, flagged[i]);
    batch_fini(&b);
}

/* The interval through the whole spine: the row remembers, whatever the
 * batches were, when rows are lost and folded again, and when they go to the
 * store and come back. */
static void test_interval_in_the_spine(void **state)
{
    static const char *const BATCHES[] = {
        "batch.events.max=1", "batch.events.max=9", "batch.events.max=64"};
    struct spine_run runs[3];
    struct spine_outputs outputs[3];
    char dir[] = "/tmp/millrace-decide-XXXXXX", command[64];
    struct store_options o = {.memory_bytes = 8 << 20};
    struct spine_log log;
    struct store *store;
    struct err e;
    (void)state;
    assert_non_null(mkdtemp(dir));
    o.dir = dir;
    if (store_open(&store, &o, &e) != RC_OK) fail_msg("%s", e.text);
    spine_log_make(&log, 800, 12, 77);
    for (uint32_t i = 0; i < 3; i++) {
        const char *sets[] = {"recommend.when=interval",
                              "recommend.interval=6h",
                              BATCHES[i],
                              "state.checkpoint.rows=1000",
                              "state.checkpoint.age=100ms",
                              NULL};
        spine_run_open(&runs[i], &log, sets);
        if (i == 1) source_memory_change(runs[i].source, SOURCE_LOST, 333);
        if (i == 2) runs[i].options.store = store;
        if (i == 2) runs[i].options.cache_bytes = 1;
        spine_run_start(&runs[i]);
        spine_run_to_end(&runs[i]);
        outputs[i] = spine_outputs_of(&runs[i], 1);
        assert_in_range(outputs[i].count, 800 + 100, 800 + 700);
        if (i > 0) spine_outputs_same(&outputs[0], &outputs[i]);
    }
    assert_true(spine_run_count(&runs[2], COUNT_state_evictions) > 0);
    for (uint32_t i = 0; i < 3; i++) {
        spine_outputs_free(&outputs[i]);
        spine_run_close(&runs[i]);
    }
    spine_log_free(&log);
    store_close(store);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_and_never),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_interval_at_the_ends_of_time),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_interval_in_the_spine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
