/* Goal    Ranks, their means and parts, coverage, novelty and the baselines
 *         are what their definitions say.
 * Method  Cases counted by hand; baselines against the full ranking of plain
 *         arrays over drawn logs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "cooccurrence.h"
#include "hash.h"

static void test_ranking(void **state)
{
    struct ranking r = {0};
    (void)state;
    assert_true(isnan(ranking_hit_rate(&r, 0)));
    ranking_add(&r, 1);
    ranking_add(&r, 3);
    ranking_add(&r, 0);
    ranking_add(&r, 21);
    assert_true(ranking_hit_rate(&r, 0) == 0.25);
    assert_true(ranking_hit_rate(&r, 1) == 0.5);
    assert_true(ranking_hit_rate(&r, 3) == 0.5);
    assert_true(fabs(ranking_ndcg(&r, 2) - (1 + 0.5) / 4) < 1e-15);
    assert_true(fabs(ranking_mrr(&r, 2) - (1 + 1.0 / 3) / 4) < 1e-15);
}

static void test_rank_of(void **state)
{
    static const float SCORES[] = {0.5f, 0.9f, 0.5f, NAN, 0.1f};
    static const uint32_t SEEN[] = {1, 2, 4};
    (void)state;
    assert_int_equal(ranking_of(SCORES, 5, 1, NULL, 0), 2); /* after NaN */
    assert_int_equal(ranking_of(SCORES, 5, 0, NULL, 0), 4); /* ties against */
    assert_int_equal(ranking_of(SCORES, 5, 0, SEEN, 3), 2);
    assert_int_equal(ranking_of(SCORES, 5, 4, SEEN, 3), 3); /* itself seen */
    assert_int_equal(ranking_of(SCORES, 5, 3, NULL, 0), 5); /* NaN is last */
}

/* The look-up of ranks is the full ranking by counts. */
static void test_popularity(void **state)
{
    enum { ITEMS = 37, EVENTS = 3000 };
    struct popularity *p = popularity_new(ITEMS);
    float counts[ITEMS] = {0};
    (void)state;
    assert_non_null(p);
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint32_t item =
            (uint32_t)(draw(5, i, 0) % ITEMS * (draw(5, i, 1) % ITEMS) / ITEMS);
        uint32_t seen[ITEMS], seen_count = 0;
        struct err e;
        for (uint32_t k = 0; k < ITEMS; k++)
            if (draw(6, i, k) % 3 == 0) seen[seen_count++] = k;
        assert_int_equal(popularity_rank(p, item, seen, seen_count),
                         ranking_of(counts, ITEMS, item, seen, seen_count));
        assert_int_equal(popularity_add(p, item, &e), RC_OK);
        counts[item]++;
    }
    popularity_free(p);
}

/* The same for what came after the last item: scores are times after it,
 * then times at all. Pairs are taken back on the way. */
static void test_cooccurrence(void **state)
{
    enum { ITEMS = 23, EVENTS = 3000 };
    struct cooccurrence *c = cooccurrence_new(ITEMS);
    struct popularity *p = popularity_new(ITEMS);
    static float after[ITEMS][ITEMS];
    uint32_t last = 0, came = 0;
    (void)state;
    assert_true(c && p);
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint32_t item = (uint32_t)(draw(7, i, 0) % ITEMS);
        uint32_t seen[ITEMS], seen_count = 0;
        float scores[ITEMS];
        struct err e;
        if (draw(7, i, 1) % 3) item = (last * 2 + item % 3) % ITEMS;
        for (uint32_t k = 0; k < ITEMS; k++) {
            if (draw(8, i, k) % 4 == 0) seen[seen_count++] = k;
            scores[k] = after[last][k] * EVENTS + (float)popularity_count(p, k);
        }
        assert_int_equal(cooccurrence_rank(c, p, last, item, seen, seen_count),
                         ranking_of(scores, ITEMS, item, seen, seen_count));
        assert_int_equal(cooccurrence_add(c, last, item, &e), RC_OK);
        assert_int_equal(popularity_add(p, item, &e), RC_OK);
        after[last][item]++;
        if (i % 5 == 0) {
            cooccurrence_remove(c, last, item);
            after[last][item]--;
        }
        came += after[last][item] > 1;
        last = item;
    }
    assert_true(came > 100);
    cooccurrence_free(c);
    popularity_free(p);
}

/* Two halves merged rank as the whole. */
static void test_cooccurrence_merge(void **state)
{
    enum { ITEMS = 9 };
    struct cooccurrence *half[2], *whole = cooccurrence_new(ITEMS);
    struct popularity *p = popularity_new(ITEMS);
    struct err e;
    (void)state;
    for (uint32_t i = 0; i < 2; i++)
        half[i] = cooccurrence_new(ITEMS);
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t a = (uint32_t)(draw(9, i, 0) % ITEMS);
        uint32_t b = (uint32_t)(draw(9, i, 1) % ITEMS);
        assert_int_equal(cooccurrence_add(half[i % 2], a, b, &e), RC_OK);
        assert_int_equal(cooccurrence_add(whole, a, b, &e), RC_OK);
        assert_int_equal(popularity_add(p, b, &e), RC_OK);
    }
    assert_int_equal(cooccurrence_merge(half[0], half[1], &e), RC_OK);
    for (uint32_t a = 0; a < ITEMS; a++)
        for (uint32_t b = 0; b < ITEMS; b++)
            assert_int_equal(cooccurrence_rank(half[0], p, a, b, NULL, 0),
                             cooccurrence_rank(whole, p, a, b, NULL, 0));
    for (uint32_t i = 0; i < 2; i++)
        cooccurrence_free(half[i]);
    cooccurrence_free(whole);
    popularity_free(p);
}

static void test_lengths(void **state)
{
    static const struct {
        uint64_t events;
        uint32_t part;
    } CASES[] = {{1, 0},  {4, 0},  {5, 1},  {9, 1},   {10, 2},  {19, 2},
                 {20, 3}, {49, 3}, {50, 4}, {199, 4}, {200, 5}, {9999, 5}};
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        assert_int_equal(ranking_length(CASES[i].events), CASES[i].part);
}

/* Item 0 came 6 times, item 1 once, items 2 and 3 never: they count as once,
 * so the shares are of 9. */
static void test_items(void **state)
{
    struct ranking_item items[4] = {
        {.came = 6, .listed = 3, .asked = {.events = 5, .hits = 4}},
        {.came = 1, .listed = 1, .asked = {.events = 2, .hits = 1}},
        {.came = 0, .listed = 0, .asked = {.events = 1}},
        {.came = 0, .listed = 2}};
    struct ranking_parts parts = {0};
    struct ranking_items got;
    struct err e;
    (void)state;
    assert_int_equal(ranking_items_measure(items, 4, &got, &parts, &e), RC_OK);
    assert_int_equal(got.listed, 3);
    assert_true(got.coverage == 0.75);
    assert_true(fabs(got.novelty - (3 * log2(9.0 / 6) + 3 * log2(9.0)) / 6) <
                1e-12);
    /* 1, 10 and 50 % of four items: the first item of a band opens it. */
    assert_int_equal(parts.band[0].events, 5);
    assert_int_equal(parts.band[0].hits, 4);
    assert_int_equal(parts.band[1].events, 0);
    assert_int_equal(parts.band[2].events, 2);
    assert_int_equal(parts.band[3].events, 1);
    memset(items, 0, sizeof items);
    assert_int_equal(ranking_items_measure(items, 4, &got, &parts, &e), RC_OK);
    assert_true(isnan(got.coverage) && isnan(got.novelty));
}

/* Users come with all their rows; the interval holds the number and shrinks
 * with more users. */
static void test_resamples(void **state)
{
    enum { USERS = 400 };
    static struct ranking_user users[USERS];
    static struct ranking_resampled few, many;
    struct interval wide, narrow;
    (void)state;
    for (uint32_t u = 0; u < USERS; u++) {
        users[u].user = u + 1;
        for (uint32_t i = 0; i <= u % 3; i++)
            ranking_part_add(&users[u].part, draw(10, u, i) % 4 ? 0 : 2);
    }
    ranking_resample(users, 40, &few);
    ranking_resample(users, USERS, &many);
    wide = bootstrap_interval(few.hit_rate);
    narrow = bootstrap_interval(many.hit_rate);
    assert_true(narrow.low < 0.25 && 0.25 < narrow.high);
    assert_true(wide.high - wide.low > 2 * (narrow.high - narrow.low));
    narrow = bootstrap_difference(many.ndcg, many.ndcg);
    assert_true(narrow.low == 0 && narrow.high == 0);
    ranking_resample(users, 0, &few);
    assert_true(isnan(bootstrap_interval(few.ndcg).low));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranking),
        cmocka_unit_test(test_rank_of),
        cmocka_unit_test(test_popularity),
        cmocka_unit_test(test_cooccurrence),
        cmocka_unit_test(test_cooccurrence_merge),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_resamples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
