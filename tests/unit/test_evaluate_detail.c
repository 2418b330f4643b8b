/* Goal    Curves, calibration, days and intervals are those that
 *         scikit-learn gives for the same scores.
 * Method  Golden values of make_evaluate.py, then cases small enough to be
 *         counted by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "evaluate_detail.h"
#include "train.h"

enum {
    REVIEWS = 100,
    SMOOTH = 1,
    TEST_FROM_DAY = 17737 + 14,
    DAY_MS = 86400000
};

static struct expected {
    char metric[64];
    double value;
} expected[64];
static uint32_t expected_count;
static struct evaluate *golden;

static int read_golden(void **state)
{
    FILE *file = fopen(SOURCE_DIR "/tests/golden/evaluate.txt", "r");
    char line[256];
    struct err e;
    (void)state;
    golden = evaluate_new(2);
    if (!file || !golden) return -1;
    while (fgets(line, sizeof line, file)) {
        struct expected *x = &expected[expected_count];
        long long time;
        unsigned long long user;
        float scores[2];
        int label;
        if (sscanf(line, "row %lld %llu %d %f %f", &time, &user, &label,
                   &scores[0], &scores[1]) == 5) {
            if (evaluate_add(golden, scores, (int8_t)label, user, time, &e))
                return -1;
        } else if (sscanf(line, "detail test %63s %lf", x->metric, &x->value) ==
                   2) {
            expected_count++;
        }
    }
    (void)fclose(file);
    return expected_count == 16 ? 0 : -1;
}

static int free_golden(void **state)
{
    (void)state;
    evaluate_free(golden);
    return 0;
}

static struct evaluate_detail detail_of(const struct evaluate *ev,
                                        uint32_t column, int32_t amounts,
                                        int64_t from_ms)
{
    struct evaluate_options o = evaluate_options_default();
    struct evaluate_result counts, alone;
    struct evaluate_detail d;
    struct err e;
    o.from_ms = from_ms;
    o.card_k = 2;
    o.intervals = true;
    assert_int_equal(evaluate_detail(ev, column, amounts, &o, &counts, &d, &e),
                     RC_OK);
    assert_int_equal(evaluate_measure(ev, column, &o, &alone, &e), RC_OK);
    assert_int_equal(counts.rows, alone.rows);
    assert_true(memcmp(&counts.auc_roc, &alone.auc_roc, sizeof(double)) == 0);
    assert_true(memcmp(&counts.card_precision, &alone.card_precision,
                       sizeof(double)) == 0);
    return d;
}

static double metric_of(const struct evaluate_detail *d, const char *metric)
{
    const struct {
        const char *name;
        double value;
    } all[] = {
        {"recall_at_rate_0.001", d->recall_at_rate[0]},
        {"recall_at_rate_0.01", d->recall_at_rate[1]},
        {"recall_at_rate_0.05", d->recall_at_rate[2]},
        {"precision_at_rate_0.001", d->precision_at_rate[0]},
        {"precision_at_rate_0.01", d->precision_at_rate[1]},
        {"precision_at_rate_0.05", d->precision_at_rate[2]},
        {"precision_at_100", d->precision_at[0]},
        {"recall_at_100", d->recall_at[0]},
        {"observed_over_expected", d->observed_over_expected},
        {"observed_over_expected_high", d->observed_over_expected_high},
        {"slope", d->slope},
        {"intercept", d->intercept},
        {"auc_roc_low", d->auc_roc.low},
        {"auc_roc_high", d->auc_roc.high},
        {"average_precision_low", d->average_precision.low},
        {"average_precision_high", d->average_precision.high},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, metric) == 0) return all[i].value;
    fail_msg("no metric %s", metric);
    return 0;
}

static void test_golden(void **state)
{
    struct evaluate_detail d =
        detail_of(golden, SMOOTH, -1, (int64_t)TEST_FROM_DAY * DAY_MS);
    (void)state;
    for (uint32_t i = 0; i < expected_count; i++) {
        const struct expected *x = &expected[i];
        double got = metric_of(&d, x->metric);
        size_t len = strlen(x->metric);
        bool interval = strcmp(x->metric + len - 4, "_low") == 0 ||
                        strcmp(x->metric + len - 5, "_high") == 0;
        /* The ends of intervals move with the resamples. */
        if (strncmp(x->metric, "observed", 8) == 0) interval = false;
        if (fabs(got - x->value) > (interval ? 0.03 : 1e-7))
            fail_msg("%s: %.12g, expected %.12g", x->metric, got, x->value);
    }
    evaluate_detail_free(&d);
}

/* Thinned as they are, the curves bound the areas that they stand for. */
static void test_curves_hold_the_areas(void **state)
{
    struct evaluate_options o = evaluate_options_default();
    struct evaluate_result r;
    struct evaluate_detail d = detail_of(golden, SMOOTH, -1, INT64_MIN);
    struct err e;
    double area = 0;
    (void)state;
    assert_int_equal(evaluate_measure(golden, SMOOTH, &o, &r, &e), RC_OK);
    for (uint32_t i = 1; i < d.roc_count; i++) {
        const struct evaluate_point *a = &d.roc[i - 1], *b = &d.roc[i];
        assert_true(b->x >= a->x && b->y >= a->y);
        area += (b->x - a->x) * (a->y + b->y) / 2;
    }
    assert_true(fabs(area - r.auc_roc) < 0.01);
    assert_true(d.roc[d.roc_count - 1].x == 1 && d.roc[d.roc_count - 1].y == 1);
    assert_true(d.pr[d.pr_count - 1].x == 1);
    assert_true(fabs(d.pr[d.pr_count - 1].y - r.base_rate) < 1e-12);
    assert_true(d.auc_roc.low < r.auc_roc && r.auc_roc < d.auc_roc.high);
    assert_true(d.average_precision.low < r.average_precision &&
                r.average_precision < d.average_precision.high);
    evaluate_detail_free(&d);
}

/* Against itself there is no difference; against noise there is. */
static void test_difference(void **state)
{
    struct evaluate_detail a = detail_of(golden, SMOOTH, -1, INT64_MIN);
    struct evaluate_detail b = detail_of(golden, 0, -1, INT64_MIN);
    struct interval d;
    (void)state;
    d = bootstrap_difference(a.auc_resampled, a.auc_resampled);
    assert_true(d.low == 0 && d.high == 0);
    d = bootstrap_difference(a.auc_resampled, b.auc_resampled);
    assert_true(d.low <= d.high);
    /* Paired: far narrower than the spread of either. */
    assert_true(d.high - d.low < (a.auc_roc.high - a.auc_roc.low) / 2);
    evaluate_detail_free(&a);
    evaluate_detail_free(&b);
}

struct line {
    int64_t day;
    uint64_t user;
    int8_t label;
    float score, amount;
};

static struct evaluate *collect(const struct line *lines, uint32_t count)
{
    struct evaluate *ev = evaluate_new(2);
    struct err e;
    for (uint32_t i = 0; i < count; i++) {
        const float scores[] = {lines[i].score, lines[i].amount};
        assert_int_equal(evaluate_add(ev, scores, lines[i].label, lines[i].user,
                                      lines[i].day * DAY_MS, &e),
                         RC_OK);
    }
    return ev;
}

static void test_by_hand(void **state)
{
    static const struct line lines[] = {
        {0, 1, LABEL_FRAUD, 0.95f, 30}, {0, 2, LABEL_GOOD, 0.8f, 1},
        {0, 3, LABEL_FRAUD, 0.8f, 50},  {1, 4, LABEL_GOOD, 0.005f, 2},
        {1, 5, LABEL_GOOD, 1.0f, 2},    {1, 6, LABEL_FRAUD, 0.05f, 20},
        {1, 7, LABEL_GOOD, 0.0f, NAN},
    };
    struct evaluate *ev = collect(lines, 7);
    struct evaluate_detail d = detail_of(ev, 0, 1, INT64_MIN);
    (void)state;
    assert_int_equal(d.day_count, 2);
    assert_int_equal(d.days[0].rows, 3);
    assert_int_equal(d.days[0].frauds, 2);
    assert_true(d.days[0].card_precision == 0.5); /* the tie goes against us */
    assert_true(d.days[1].card_precision == 0.5);
    assert_true(d.budget.by_events == 1); /* a hundred reviews see all of it */
    assert_true(d.budget.by_cards == 1);
    assert_int_equal(d.bins[0].rows, 2);
    assert_int_equal(d.bins[3].rows, 1);
    assert_int_equal(d.bins[3].frauds, 1);
    assert_int_equal(d.bins[8].rows, 2);
    assert_int_equal(d.bins[9].rows, 2);
    assert_int_equal(d.good_bars[0], 2);
    assert_int_equal(d.fraud_bars[1], 1);
    assert_int_equal(d.good_bars[EVALUATE_BARS - 1], 1);
    assert_true(d.good_above_99 == 0.25);
    assert_true(isnan(d.precision_at[0]));
    assert_true(fabs(d.observed_over_expected - 3 / 3.605) < 1e-6);
    evaluate_detail_free(&d);
    evaluate_free(ev);
}

/* Frauds beyond the reviews of their own day are not found, whatever other
 * days leave over. */
static void test_budget(void **state)
{
    struct line lines[REVIEWS + 4];
    struct evaluate *ev;
    struct evaluate_detail d;
    (void)state;
    for (uint32_t i = 0; i < REVIEWS + 2; i++)
        lines[i] = (struct line){5, i, i < REVIEWS ? LABEL_GOOD : LABEL_FRAUD,
                                 1 - (float)i / 1000, 10};
    lines[REVIEWS - 1].label = LABEL_FRAUD;
    lines[REVIEWS + 2] = (struct line){6, 900, LABEL_FRAUD, 0, 30};
    ev = collect(lines, REVIEWS + 3);
    d = detail_of(ev, 0, 1, INT64_MIN);
    assert_true(fabs(d.budget.by_events - 40.0 / 60) < 1e-9);
    evaluate_detail_free(&d);
    d = detail_of(ev, 0, -1, INT64_MIN);
    assert_true(isnan(d.budget.by_events));
    evaluate_detail_free(&d);
    evaluate_free(ev);
}

/* A review of a card sees its low events too; of equal scores the smaller
 * fraud comes first, whatever the order of rows. */
static void test_budget_of_cards(void **state)
{
    static const struct line lines[] = {
        {5, 1, LABEL_GOOD, 0.9f, 10},  {5, 1, LABEL_FRAUD, 0.1f, 60},
        {5, 2, LABEL_FRAUD, 0.8f, 40}, {6, 1, LABEL_FRAUD, 0.5f, 70},
        {6, 3, LABEL_FRAUD, 0.5f, 30}, {6, 3, LABEL_GOOD, 0.4f, 500},
    };
    struct evaluate_options o = evaluate_options_default();
    struct evaluate *ev = collect(lines, 6);
    struct evaluate_result counts;
    struct evaluate_detail d;
    struct err e;
    (void)state;
    o.reviews = 1;
    assert_int_equal(evaluate_detail(ev, 0, 1, &o, &counts, &d, &e), RC_OK);
    assert_true(fabs(d.budget.by_events - 30.0 / 200) < 1e-9);
    assert_true(fabs(d.budget.by_cards - (60.0 + 30.0) / 200) < 1e-9);
    assert_true(isnan(d.auc_resampled[0]) && isnan(d.auc_roc.low));
    evaluate_detail_free(&d);
    evaluate_free(ev);
}

/* Scores that are no probabilities have no calibration; one class has no
 * curves. Neither is an error. */
static void test_what_is_not_defined(void **state)
{
    static const struct line lines[] = {{0, 1, LABEL_GOOD, 5, 1},
                                        {0, 2, LABEL_GOOD, -1, 1}};
    struct evaluate *ev = collect(lines, 2);
    struct evaluate_detail d = detail_of(ev, 0, 1, INT64_MIN);
    (void)state;
    assert_true(isnan(d.observed_over_expected) && isnan(d.slope));
    assert_int_equal(d.bins[0].rows + d.bins[9].rows, 0);
    assert_int_equal(d.roc_count + d.pr_count, 0);
    assert_true(isnan(d.auc_roc.low) && isnan(d.recall_at_rate[0]));
    assert_true(isnan(d.budget.by_events));
    evaluate_detail_free(&d);
    evaluate_free(ev);
    ev = evaluate_new(2);
    d = detail_of(ev, 0, 1, INT64_MIN);
    assert_int_equal(d.day_count, 0);
    evaluate_detail_free(&d);
    evaluate_free(ev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_curves_hold_the_areas),
        cmocka_unit_test(test_difference),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_of_cards),
        cmocka_unit_test(test_what_is_not_defined),
    };
    return cmocka_run_group_tests(tests, read_golden, free_golden);
}
