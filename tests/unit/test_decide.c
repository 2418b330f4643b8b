/* test_decide.c - goal: who gets a list and what is flagged follows from the
 * configuration and the log, as options.def says; the propensities of a list
 * are how often it is made.
 * Method: each policy on events made here; the interval against a plain walk
 * over random times; lists drawn often, by chi-square. */
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

/* --- exploration -------------------------------------------------------- */

enum { POOL = 5, LISTED = 3, WAYS = POOL * POOL * POOL, DRAWS = 120000 };

/* One of the ways to fill the list, by the items in its places. */
static uint32_t way_of(const struct ranked *list)
{
    return (list[0].item * POOL + list[1].item) * POOL + list[2].item;
}

static struct policy exploring(const char *rate)
{
    char set[64];
    (void)snprintf(set, sizeof set, "explore.rate=%s", rate);
    return policy_of((const char *const[]){
        set, "explore.pool=5", "explore.seed=11", "recommend.items=3", NULL});
}

/* How far the frequencies of all lists are from what the logged propensities
 * say, as chi-square over the lists; stretch: as if the rate were so much
 * higher. *ways: how many lists came up. */
static double chi_square(const struct policy *p, double stretch, uint32_t *ways)
{
    static uint32_t seen[WAYS];
    static double chance[WAYS];
    double sum = 0;
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < DRAWS; i++) {
        struct ranked pool[POOL];
        double propensity[LISTED], product = 1;
        uint32_t w;
        for (uint32_t c = 0; c < POOL; c++)
            pool[c] = (struct ranked){c, (float)-c};
        assert_int_equal(decide_slots(p, hash_mix(i), pool, POOL, propensity),
                         LISTED);
        for (uint32_t k = 0; k < LISTED; k++)
            product *= propensity[k];
        w = way_of(pool);
        /* The same list is always as likely. */
        assert_true(seen[w] == 0 || chance[w] == product);
        chance[w] = product;
        seen[w]++;
    }
    *ways = 0;
    for (uint32_t w = 0; w < WAYS; w++) {
        double expected = chance[w] * DRAWS, apart;
        if (seen[w] == 0) continue;
        if (w == way_of((struct ranked[]){{0, 0}, {1, 0}, {2, 0}}))
            expected /= stretch;
        apart = seen[w] - expected;
        sum += apart * apart / expected;
        (*ways)++;
    }
    return sum;
}

/* 60 lists of 3 of 5: with 59 degrees of freedom chi-square is above 103 once
 * in five thousand; a wrong propensity of one list by 3 % is far above. */
static void test_propensities_are_frequencies(void **state)
{
    const double MOST = 103;
    struct policy often = exploring("0.4"), always = exploring("1");
    uint32_t ways;
    (void)state;
    assert_true(chi_square(&often, 1, &ways) < MOST);
    assert_int_equal(ways, 60);
    assert_true(chi_square(&always, 1, &ways) < MOST);
    assert_int_equal(ways, 60);
    assert_true(chi_square(&often, 1.06, &ways) > MOST);
}

/* All that is drawn is drawn from the seed, the event and the place. */
static void test_draws_are_hashes(void **state)
{
    struct policy p = exploring("0.5"), none = exploring("0"),
                  other = policy_of((const char *const[]){
                      "explore.rate=0.5", "explore.pool=5", "explore.seed=12",
                      "recommend.items=3", NULL});
    uint32_t differ = 0;
    (void)state;
    assert_string_not_equal(p.hash, none.hash);
    assert_string_not_equal(p.hash, other.hash);
    assert_int_equal(policy_candidates(&p), POOL);
    assert_int_equal(policy_candidates(&none), LISTED);
    for (uint32_t i = 0; i < 1000; i++) {
        struct ranked a[POOL], b[POOL], c[POOL];
        double x[LISTED], y[LISTED];
        for (uint32_t k = 0; k < POOL; k++)
            a[k] = b[k] = c[k] = (struct ranked){k, (float)-k};
        (void)decide_slots(&p, i, a, POOL, x);
        (void)decide_slots(&p, i, b, POOL, y);
        assert_memory_equal(a, b, sizeof a);
        assert_memory_equal(x, y, sizeof x);
        (void)decide_slots(&other, i, b, POOL, y);
        differ += way_of(a) != way_of(b);
        assert_int_equal(decide_slots(&none, i, c, POOL, y), LISTED);
        for (uint32_t k = 0; k < LISTED; k++)
            assert_true(c[k].item == k && y[k] == 1);
        /* What is left of a pool: all its items, and no more. */
        assert_int_equal(decide_slots(&p, i, c, 2, y), 2);
        assert_true(c[0].item + c[1].item == 1);
        assert_int_equal(decide_slots(&p, i, c, 0, y), 0);
    }
    assert_true(differ > 500);
}

static void test_new_users(void **state)
{
    struct policy p =
        policy_of((const char *const[]){"recommend.events.min=3", NULL});
    (void)state;
    assert_int_equal(decide_source(&p, 2, 2), LIST_POPULARITY);
    assert_int_equal(decide_source(&p, 3, 1), LIST_MODEL);
    assert_int_equal(decide_source(&p, 100, 0), LIST_POPULARITY);
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
        cmocka_unit_test(test_propensities_are_frequencies),
        cmocka_unit_test(test_draws_are_hashes),
        cmocka_unit_test(test_new_users),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_interval_in_the_spine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
