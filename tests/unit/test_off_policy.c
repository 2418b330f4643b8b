/* Goal    Off-policy estimates are right: unbiased, within their intervals,
 *         and they say when they are worth nothing.
 * Method  A simulated shop with users of two kinds and known chances that an
 *         item is taken: the value of another policy is worked out exactly.
 *         Lists are drawn as decide.h draws them; many logs show the mean
 *         error and how often intervals hold the value. Broken chances must
 *         show in the same measure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

#include "hash.h"
#include "off_policy.h"

enum { ITEMS = 8, PLACES = 3, USERS = 300, LISTS_EACH = 4, LOGS = 60 };
static const double EXPLORE = 0.5;

static double uniform(uint64_t log, uint64_t a, uint64_t b)
{
    return (double)(draw(log, a, b) >> 11) * 0x1p-53;
}

/* That a user of a kind takes an item; less far down. */
static double taken(uint32_t kind, uint64_t item, uint32_t place)
{
    double like = kind ? (double)item / ITEMS : 1 - (double)item / ITEMS;
    return 0.4 * like / (place + 1);
}

/* The logging policy has items in the order of their numbers, the other one
 * by what users of the kind like, but not quite. Items from 1. */
static uint64_t logged_item(uint32_t k)
{
    return k + 1;
}

static uint64_t other_item(uint32_t kind, uint32_t k)
{
    static const uint64_t ORDER[2][ITEMS] = {{2, 1, 3, 4, 5, 6, 7, 8},
                                             {8, 6, 7, 5, 4, 3, 2, 1}};
    return ORDER[kind][k];
}

static bool is_above(const struct off_policy_place *places, uint32_t k,
                     uint64_t item)
{
    for (uint32_t i = 0; i < k; i++)
        if (places[i].item == item) return true;
    return false;
}

/* The first of an order that is not above; all items stay in the pool. */
static uint64_t best_left(const struct off_policy_place *places, uint32_t k,
                          bool other, uint32_t kind)
{
    uint32_t i = 0;
    while (is_above(places, k, other ? other_item(kind, i) : logged_item(i)))
        i++;
    return other ? other_item(kind, i) : logged_item(i);
}

static uint64_t any_left(const struct off_policy_place *places, uint32_t k,
                         double u)
{
    uint32_t nth = (uint32_t)(u * (ITEMS - k));
    for (uint64_t item = 1;; item++)
        if (!is_above(places, k, item) && nth-- == 0) return item;
}

static void make_list(uint64_t log, uint64_t list, uint32_t kind,
                      struct off_policy_place *places)
{
    for (uint32_t k = 0; k < PLACES; k++) {
        uint64_t best = best_left(places, k, false, kind);
        uint64_t other = best_left(places, k, true, kind);
        uint64_t item = best;
        if (uniform(log, list, 10 * k) < EXPLORE)
            item = any_left(places, k, uniform(log, list, 10 * k + 1));
        places[k] = (struct off_policy_place){
            .item = item,
            .instead = other,
            .logged = (item == best ? 1 - EXPLORE : 0) + EXPLORE / (ITEMS - k),
            .other = item == other};
        places[k].reward =
            uniform(log, list, 10 * k + 2) < taken(kind, item, k);
    }
}

static double value_of_other(void)
{
    double sum = 0;
    for (uint32_t kind = 0; kind < 2; kind++)
        for (uint32_t k = 0; k < PLACES; k++)
            sum += taken(kind, other_item(kind, k), k) / 2;
    return sum;
}

/* A log of lists; off: what is written of a chance is wrong by this. */
static struct off_policy_result measure(uint64_t log, double off)
{
    struct off_policy *p = off_policy_new();
    struct off_policy_result out;
    struct err e;
    assert_non_null(p);
    for (uint32_t user = 0; user < USERS; user++)
        for (uint32_t i = 0; i < LISTS_EACH; i++) {
            struct off_policy_place places[PLACES];
            uint64_t list;
            make_list(log, user * LISTS_EACH + i, user % 2, places);
            places[0].logged = fmin(1, places[0].logged * off);
            assert_int_equal(off_policy_add(p, hash_mix(user + 1), places,
                                            PLACES, &list, &e),
                             RC_OK);
            off_policy_reward(p, list, 0, 0);
        }
    assert_int_equal(off_policy_measure(p, &out, &e), RC_OK);
    off_policy_free(p);
    return out;
}

struct errors {
    double sum, squares;
    uint32_t held;
};

static void add_error(struct errors *to, const struct off_policy_estimate *x)
{
    double error = x->value - value_of_other();
    to->sum += error;
    to->squares += error * error;
    to->held += x->at.low <= value_of_other() && value_of_other() <= x->at.high;
}

/* How far the mean error is from 0, in its own deviations. */
static double bias_of(const struct errors *x)
{
    double mean = x->sum / LOGS;
    double variance = x->squares / LOGS - mean * mean;
    return mean / sqrt(variance / LOGS);
}

static void test_unbiased(void **state)
{
    struct errors ips = {0}, snips = {0}, dr = {0};
    (void)state;
    for (uint64_t log = 0; log < LOGS; log++) {
        struct off_policy_result r = measure(log, 1);
        assert_int_equal(r.lists, USERS * LISTS_EACH);
        add_error(&ips, &r.ips);
        add_error(&snips, &r.snips);
        add_error(&dr, &r.dr);
    }
    assert_true(fabs(bias_of(&ips)) < 3);
    assert_true(fabs(bias_of(&dr)) < 3);
    /* 95 %, of few logs: the binomial's ends. */
    assert_true(ips.held >= LOGS * 0.85 && dr.held >= LOGS * 0.85);
    assert_true(snips.held >= LOGS * 0.85);
    /* The model takes noise out; norming does too. */
    assert_true(dr.squares < ips.squares && snips.squares < ips.squares);
}

/* Propensities written as half of what they were would not pass. */
static void test_wrong_chances_show(void **state)
{
    struct errors ips = {0};
    (void)state;
    for (uint64_t log = 0; log < LOGS; log++) {
        struct off_policy_result r = measure(log, 0.5);
        add_error(&ips, &r.ips);
    }
    assert_true(fabs(bias_of(&ips)) > 4);
}

/* The same policy: every weight is 1, all estimates are what was earned. */
static void test_same_policy(void **state)
{
    struct off_policy *p = off_policy_new(), *both = off_policy_new();
    struct off_policy_result r;
    struct err e;
    (void)state;
    for (uint64_t i = 0; i < 100; i++) {
        const struct off_policy_place places[2] = {
            {.item = 1 + i % 5, .instead = 1 + i % 5, .logged = 1, .other = 1},
            {.item = 9, .instead = 9, .logged = 1, .other = 1}};
        uint64_t list;
        assert_int_equal(off_policy_add(p, i, places, 2, &list, &e), RC_OK);
        if (i < 90) off_policy_reward(p, list, i % 4 ? 77 : 9, 1);
    }
    assert_int_equal(off_policy_measure(p, &r, &e), RC_OK);
    assert_int_equal(r.lists, 90); /* of ten it is not known */
    assert_true(fabs(r.logged - 23.0 / 90) < 1e-12);
    assert_true(fabs(r.ips.value - r.logged) < 1e-12);
    assert_true(fabs(r.snips.value - r.logged) < 1e-12);
    assert_true(fabs(r.dr.value - r.logged) < 1e-9);
    assert_true(r.effective_first == 90 && r.effective_all == 90);
    assert_int_equal(off_policy_merge(both, p, &e), RC_OK);
    assert_int_equal(off_policy_measure(both, &r, &e), RC_OK);
    assert_int_equal(r.lists, 90);
    assert_true(fabs(r.logged - 23.0 / 90) < 1e-12);
    off_policy_free(p);
    off_policy_free(both);
}

/* What a list earned must not be what is foreseen of it. One user of one half
 * earns, one of the other does not, twice: of the first nothing is foreseen,
 * so its list is worth 2; of the others 1 each, so theirs are worth -1. */
static void test_foreseen_by_others(void **state)
{
    const struct off_policy_place place = {
        .item = 1, .instead = 1, .logged = 0.5, .other = 1};
    struct off_policy *p = off_policy_new();
    struct off_policy_result r;
    struct err e;
    uint64_t one = 1, other = 2, list;
    (void)state;
    while (hash_mix(other) % 2 == hash_mix(one) % 2)
        other++;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(
            off_policy_add(p, i ? other : one, &place, 1, &list, &e), RC_OK);
        off_policy_reward(p, list, 1, i == 0);
    }
    assert_int_equal(off_policy_measure(p, &r, &e), RC_OK);
    assert_true(fabs(r.dr.value) < 1e-12);
    assert_true(fabs(r.ips.value - 2.0 / 3) < 1e-12);
    assert_true(fabs(r.snips.value - 1.0 / 3) < 1e-12);
    off_policy_free(p);
}

static void test_refused_and_empty(void **state)
{
    static const double BAD[] = {0, -0.1, 1.5, NAN};
    struct off_policy *p = off_policy_new();
    struct off_policy_place place = {.item = 1, .logged = 0.5, .other = 0};
    struct off_policy_result r;
    struct err e;
    uint64_t list;
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct off_policy_place bad = place;
        bad.logged = BAD[i];
        assert_int_equal(off_policy_add(p, 1, &bad, 1, &list, &e), RC_SKIP);
        if (BAD[i] == 0) continue; /* that is a chance of the other one */
        bad = place;
        bad.other = BAD[i];
        assert_int_equal(off_policy_add(p, 1, &bad, 1, &list, &e), RC_SKIP);
    }
    assert_int_equal(off_policy_measure(p, &r, &e), RC_OK);
    assert_int_equal(r.lists, 0);
    assert_true(isnan(r.ips.value) && isnan(r.snips.value) &&
                isnan(r.dr.value) && isnan(r.ips.at.low));
    /* No list of the other policy was ever made: worth nothing, and said. */
    assert_int_equal(off_policy_add(p, 1, &place, 1, &list, &e), RC_OK);
    off_policy_reward(p, list, 1, 1);
    assert_int_equal(off_policy_measure(p, &r, &e), RC_OK);
    assert_true(r.ips.value == 0 && r.logged == 1 && r.effective_first == 0);
    off_policy_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unbiased),
        cmocka_unit_test(test_wrong_chances_show),
        cmocka_unit_test(test_same_policy),
        cmocka_unit_test(test_foreseen_by_others),
        cmocka_unit_test(test_refused_and_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
