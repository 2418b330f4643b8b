/* Goal: the generated stream is what generate.h promises: the same bytes for
 * the same seed, in order of time, with frauds and labels as asked for,
 * skewed as real streams are, and predictable enough to be worth a model.
 * Method: streams of some 100,000 events, counted. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "generate.h"
#include "generate_rhythm.h"
#include "generate_row.h"
#include "hash.h"

enum { EVENTS = 120000, USERS = 1500, ITEMS = 1000, DAY_MS = 86400000 };

static struct generate_options options(void)
{
    struct generate_options o;
    generate_options_default(&o);
    o.events = EVENTS;
    o.users = USERS;
    o.items = ITEMS;
    o.days = 40;
    return o;
}

static struct generator *open_generator(const struct generate_options *o)
{
    struct generator *g;
    struct err e;
    if (generator_new(&g, o, &e) != RC_OK) fail_msg("%s", e.text);
    return g;
}

/* A hash of the first count records' bytes. */
static uint64_t hash_events(uint64_t seed, uint64_t count)
{
    struct generate_options o = options();
    struct generate_rows *rows;
    struct generated ev;
    struct slice key, value;
    struct err e;
    uint64_t hash = 0;
    struct generator *g;
    o.seed = seed;
    g = open_generator(&o);
    assert_int_equal(generate_rows_new(&rows, seed, &e), RC_OK);
    while (count-- > 0 && generator_next(g, &ev)) {
        assert_int_equal(generate_event(rows, &ev, &key, &value, &e), RC_OK);
        hash = hash_mix(hash ^ hash64(value));
    }
    generate_rows_free(rows);
    generator_free(g);
    return hash;
}

static void test_same_seed_same_bytes(void **state)
{
    (void)state;
    assert_true(hash_events(5, EVENTS) == hash_events(5, EVENTS));
    assert_true(hash_events(5, 1000) != hash_events(6, 1000));
    /* On every machine, and until the stream is changed on purpose. */
    assert_int_equal(hash_events(1, 20000), UINT64_C(0xb6c1b5b14ed3fca5));
}

static void test_time_never_goes_back(void **state)
{
    struct generate_options o = options();
    struct generator *g = open_generator(&o);
    struct generated ev;
    int64_t last_ms = o.start_ms;
    uint64_t count = 0;
    double days;
    (void)state;
    while (generator_next(g, &ev)) {
        assert_true(ev.time_ms >= last_ms);
        assert_int_equal(ev.number, count++);
        assert_true(ev.user < USERS && ev.item < ITEMS);
        assert_true(ev.amount_cents >= 1);
        last_ms = ev.time_ms;
    }
    assert_int_equal(count, EVENTS);
    assert_false(generator_next(g, &ev));
    days = (double)(last_ms - o.start_ms) / DAY_MS;
    if (fabs(days - o.days) > 0.1 * o.days) fail_msg("%.1f days", days);
    generator_free(g);
}

static void test_frauds_as_asked_for(void **state)
{
    struct generate_options o = options();
    struct generated ev;
    (void)state;
    for (o.fraud_rate = 0; o.fraud_rate < 0.06; o.fraud_rate += 0.025) {
        struct generator *g = open_generator(&o);
        uint64_t kinds[FRAUD_KINDS] = {0};
        double share;
        while (generator_next(g, &ev))
            kinds[ev.fraud]++;
        share = 1 - (double)kinds[FRAUD_NONE] / EVENTS;
        if (fabs(share - o.fraud_rate) > 0.1 * o.fraud_rate)
            fail_msg("%.4f of events are fraud, not %.4f", share, o.fraud_rate);
        for (int kind = FRAUD_LARGE; kind < FRAUD_KINDS; kind++)
            assert_true(o.fraud_rate == 0 ||
                        (double)kinds[kind] > 0.1 * share * EVENTS);
        generator_free(g);
    }
}

static void test_labels_come_later(void **state)
{
    struct generate_options o = options();
    struct generator *events = open_generator(&o), *labels = open_generator(&o);
    struct generated_label label;
    struct generated ev;
    int64_t last_ms = 0;
    uint64_t frauds = 0, good = 0;
    bool more = generator_next_label(labels, &label);
    (void)state;
    while (generator_next(events, &ev)) {
        bool labelled = more && label.event.number == ev.number;
        assert_true(labelled || ev.fraud == FRAUD_NONE); /* none is left out */
        if (!labelled) continue;
        assert_int_equal(label.event.user, ev.user);
        assert_int_equal(label.event.item, ev.item);
        assert_int_equal(label.event.time_ms, ev.time_ms);
        assert_int_equal(label.labelled_at_ms, ev.time_ms + o.label_delay_ms);
        assert_true(label.labelled_at_ms >= last_ms);
        assert_int_equal(label.fraud, ev.fraud != FRAUD_NONE);
        last_ms = label.labelled_at_ms;
        frauds += label.fraud;
        good += !label.fraud;
        more = generator_next_label(labels, &label);
    }
    assert_false(more);
    assert_true(frauds > 0 && good > frauds / 4 && good < frauds);
    generator_free(events);
    generator_free(labels);
}

static int compare_down(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The share of all events that the largest tenth of count has. */
static double top_tenth(uint32_t *events, uint32_t count)
{
    uint64_t top = 0, all = 0;
    qsort(events, count, sizeof *events, compare_down);
    for (uint32_t i = 0; i < count; i++) {
        all += events[i];
        if (i < count / 10) top += events[i];
    }
    return (double)top / (double)all;
}

static void test_few_have_much(void **state)
{
    struct generate_options o = options();
    static uint32_t users[USERS], items[ITEMS];
    struct generated ev;
    double even, skewed, of_items;
    struct generator *g;
    (void)state;
    g = open_generator(&o);
    while (generator_next(g, &ev)) {
        users[ev.user]++;
        items[ev.item]++;
    }
    generator_free(g);
    skewed = top_tenth(users, USERS);
    of_items = top_tenth(items, ITEMS);
    memset(users, 0, sizeof users);
    o.user_skew = 0;
    g = open_generator(&o);
    while (generator_next(g, &ev))
        users[ev.user]++;
    generator_free(g);
    even = top_tenth(users, USERS);
    /* Zipf of exponent 0.6: the first tenth holds 0.1^0.4 = 0.40 of it. */
    if (skewed < 0.35 || skewed > 0.45) fail_msg("users: %.3f", skewed);
    if (even > 0.2) fail_msg("even users: %.3f", even);
    if (of_items < 0.3 || of_items > 0.8) fail_msg("items: %.3f", of_items);
}

static void test_days_have_a_rhythm(void **state)
{
    struct generate_options o = options();
    struct generator *g = open_generator(&o);
    struct generated ev;
    uint32_t hours[24] = {0};
    (void)state;
    while (generator_next(g, &ev))
        hours[ev.time_ms / 3600000 % 24]++;
    assert_true(hours[19] > 3 * hours[3]);
    generator_free(g);
}

/* How often a user's next item is among the ten most frequent successors of
 * the last one, counted in the first half; and among the ten most popular. */
static void count_hits(struct generator *g, uint32_t *successors, double *chain,
                       double *popular)
{
    static uint32_t last[USERS], items[ITEMS];
    struct generated ev;
    uint32_t hits = 0, popular_hits = 0, tries = 0;
    memset(last, 0xff, sizeof last);
    while (generator_next(g, &ev)) {
        uint32_t before = last[ev.user];
        last[ev.user] = ev.item;
        if (before == UINT32_MAX || before == ev.item) continue;
        uint32_t *row = successors + (size_t)before * ITEMS;
        if (ev.number < EVENTS / 2) {
            row[ev.item]++;
            items[ev.item]++;
            continue;
        }
        uint32_t better = 0, better_known = 0;
        for (uint32_t i = 0; i < ITEMS; i++) {
            better += row[i] > row[ev.item];
            better_known += items[i] > items[ev.item];
        }
        hits += row[ev.item] > 0 && better < 10;
        popular_hits += better_known < 10;
        tries++;
    }
    *chain = (double)hits / tries;
    *popular = (double)popular_hits / tries;
}

static void test_sequences_can_be_learnt(void **state)
{
    struct generate_options o = options();
    struct generator *g = open_generator(&o);
    uint32_t *successors = calloc((size_t)ITEMS * ITEMS, sizeof *successors);
    double chain, popular;
    (void)state;
    assert_non_null(successors);
    count_hits(g, successors, &chain, &popular);
    if (chain < 0.3 || chain < 4 * popular)
        fail_msg("hit rate %.3f, of the popular %.3f", chain, popular);
    free(successors);
    generator_free(g);
}

static void test_small_worlds(void **state)
{
    struct generate_options o = options();
    struct generated ev;
    (void)state;
    o.users = 1;
    o.items = 1;
    o.events = 3000;
    o.fraud_rate = 0.3;
    o.days = 0.01;
    struct generator *g = open_generator(&o);
    uint64_t count = 0;
    for (; generator_next(g, &ev); count++)
        assert_true(ev.user == 0 && ev.item == 0);
    assert_int_equal(count, 3000);
    generator_free(g);
}

static void expect_refused(struct generate_options o, const char *words)
{
    struct generator *g;
    struct err e;
    assert_int_equal(generator_new(&g, &o, &e), RC_STOP);
    if (!strstr(e.text, words)) fail_msg("'%s' lacks '%s'", e.text, words);
}

static void test_bad_options(void **state)
{
    struct generate_options o = options();
    (void)state;
    o.users = 0;
    expect_refused(o, "0 users");
    o = options();
    o.items = 0;
    expect_refused(o, "0 items");
    o = options();
    o.fraud_rate = 0.6;
    expect_refused(o, "fraud rate");
    o.fraud_rate = NAN;
    expect_refused(o, "fraud rate");
    o = options();
    o.days = 0;
    expect_refused(o, "0 days");
    o = options();
    o.groups = ITEMS + 1;
    expect_refused(o, "groups");
    o = options();
    o.start_ms = -1;
    expect_refused(o, "1970");
}

static void test_exp_and_log(void **state)
{
    (void)state;
    for (double x = -20; x < 20; x += 0.37)
        assert_true(fabs(rhythm_exp(x) / exp(x) - 1) < 1e-14);
    for (double x = 1e-9; x < 1e9; x *= 1.7)
        assert_true(fabs(rhythm_log(x) - log(x)) < 1e-14 * (1 + fabs(log(x))));
}

static void test_later(void **state)
{
    struct rhythm r;
    int64_t from = INT64_C(1767225600000);
    (void)state;
    rhythm_init(&r);
    for (int i = 0; i < 1000; i++, from += 3700000) {
        int64_t one = rhythm_later(&r, from, 2.5);
        int64_t two = rhythm_later(&r, rhythm_later(&r, from, 1), 1.5);
        /* Milliseconds are cut off: at night one is worth 1/25 of noon's. */
        assert_true(one >= from && llabs(one - two) <= 30);
        /* A week is worth its hours, wherever it begins. */
        assert_true(llabs(rhythm_later(&r, from, RHYTHM_HOURS) -
                          (from + (int64_t)RHYTHM_HOURS * 3600000)) <= 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_seed_same_bytes),
        cmocka_unit_test(test_time_never_goes_back),
        cmocka_unit_test(test_frauds_as_asked_for),
        cmocka_unit_test(test_labels_come_later),
        cmocka_unit_test(test_few_have_much),
        cmocka_unit_test(test_days_have_a_rhythm),
        cmocka_unit_test(test_sequences_can_be_learnt),
        cmocka_unit_test(test_small_worlds),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_exp_and_log),
        cmocka_unit_test(test_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
