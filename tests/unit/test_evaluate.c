/* Goal    The numbers of a report are those that scikit-learn and the fraud
 *         handbook would print for the same scores.
 * Method  Golden values of make_evaluate.py, then cases small enough to be
 *         counted by hand: ties, one class, days, known frauds, ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "evaluate.h"
#include "hash.h"
#include "train.h"

enum { GOLDEN_ROWS_MAX = 4096, DAY_MS = 86400000 };

static const int64_t TRAIN_MS = 17737ll * DAY_MS;

struct row {
    int64_t time_ms;
    uint64_t user;
    int label;
    float scores[2];
};

static struct row rows[GOLDEN_ROWS_MAX];
static uint32_t row_count;
static struct expected {
    char set[32], metric[64];
    double value;
} expected[64];
static uint32_t expected_count;

static int read_golden(void **state)
{
    FILE *file = fopen(SOURCE_DIR "/tests/golden/evaluate.txt", "r");
    char line[256];
    (void)state;
    if (!file) return -1;
    while (fgets(line, sizeof line, file)) {
        struct row *r = &rows[row_count];
        struct expected *x = &expected[expected_count];
        long long time;
        unsigned long long user;
        if (sscanf(line, "row %lld %llu %d %f %f", &time, &user, &r->label,
                   &r->scores[0], &r->scores[1]) == 5) {
            r->time_ms = time;
            r->user = user;
            row_count++;
        } else if (sscanf(line, "expect %31s %63s %lf", x->set, x->metric,
                          &x->value) == 3) {
            expected_count++;
        }
    }
    (void)fclose(file);
    return row_count > 900 && expected_count == 22 ? 0 : -1;
}

static double metric_of(const struct evaluate_result *r, const char *metric)
{
    size_t len = strcspn(metric, "0123456789");
    if (strncmp(metric, "rows", 4) == 0) return (double)r->rows;
    if (strncmp(metric, "positives", 9) == 0) return (double)r->positives;
    if (strncmp(metric, "auc_roc_", len) == 0) return r->auc_roc;
    if (strncmp(metric, "average_precision_", len) == 0)
        return r->average_precision;
    if (strncmp(metric, "log_loss_", len) == 0) return r->log_loss;
    if (strncmp(metric, "brier_", len) == 0) return r->brier;
    if (strncmp(metric, "card_precision_", len) == 0) return r->card_precision;
    fail_msg("no metric %s", metric);
    return 0;
}

/* Golden rows in an order that the seed decides. */
static struct evaluate *collect_golden(uint64_t seed)
{
    struct evaluate *ev = evaluate_new(2);
    uint32_t order[GOLDEN_ROWS_MAX];
    struct err e;
    assert_non_null(ev);
    for (uint32_t i = 0; i < row_count; i++) {
        uint32_t j = (uint32_t)(draw(seed, i, 0) % (i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    for (uint32_t i = 0; i < row_count; i++) {
        const struct row *r = &rows[order[i]];
        assert_int_equal(evaluate_add(ev, r->scores, (int8_t)r->label, r->user,
                                      r->time_ms, &e),
                         RC_OK);
    }
    return ev;
}

static struct evaluate_options golden_options(bool leave_out_known)
{
    struct evaluate_options o = evaluate_options_default();
    o.from_ms = TRAIN_MS + 14ll * DAY_MS;
    o.leave_out_known = leave_out_known;
    o.known_from_ms = TRAIN_MS;
    o.known_delay_ms = 7ll * DAY_MS;
    o.card_k = 10;
    return o;
}

static void test_golden(void **state)
{
    struct evaluate *ev = collect_golden(1);
    (void)state;
    for (uint32_t i = 0; i < expected_count; i++) {
        const struct expected *x = &expected[i];
        struct evaluate_options o =
            golden_options(strcmp(x->set, "unknown") == 0);
        struct evaluate_result r;
        struct err e;
        uint32_t column = x->metric[strlen(x->metric) - 1] == '1';
        assert_int_equal(evaluate_measure(ev, column, &o, &r, &e), RC_OK);
        if (fabs(metric_of(&r, x->metric) - x->value) > 1e-8)
            fail_msg("%s %s: %.12g, expected %.12g", x->set, x->metric,
                     metric_of(&r, x->metric), x->value);
        assert_int_equal(r.days, 7);
        assert_true(o.leave_out_known == (r.known > 0));
    }
    evaluate_free(ev);
}

/* Two workers share the users; their collectors are merged at the end. */
static struct evaluate *collect_shared(void)
{
    struct evaluate *share[2] = {evaluate_new(2), evaluate_new(2)};
    struct err e;
    for (uint32_t i = 0; i < row_count; i++)
        assert_int_equal(evaluate_add(share[rows[i].user % 2], rows[i].scores,
                                      (int8_t)rows[i].label, rows[i].user,
                                      rows[i].time_ms, &e),
                         RC_OK);
    assert_int_equal(evaluate_merge(share[0], share[1], &e), RC_OK);
    assert_int_equal(evaluate_rows(share[0]), row_count);
    evaluate_free(share[1]);
    return share[0];
}

/* Workers add rows in any order: not a bit may change. */
static void test_order_does_not_matter(void **state)
{
    struct evaluate *a = collect_golden(2), *b = collect_shared();
    struct evaluate_options o = golden_options(true);
    (void)state;
    for (uint32_t column = 0; column < 2; column++) {
        struct evaluate_result x, y;
        struct err e;
        assert_int_equal(evaluate_measure(a, column, &o, &x, &e), RC_OK);
        assert_int_equal(evaluate_measure(b, column, &o, &y, &e), RC_OK);
        assert_memory_equal(&x, &y, offsetof(struct evaluate_result, days));
    }
    evaluate_free(a);
    evaluate_free(b);
}

/* Adds one row of one score. */
static void add(struct evaluate *ev, float score, int8_t label, uint64_t user,
                int64_t time_ms)
{
    struct err e;
    assert_int_equal(evaluate_add(ev, &score, label, user, time_ms, &e), RC_OK);
}

static struct evaluate_result measure(const struct evaluate *ev,
                                      struct evaluate_options o)
{
    struct evaluate_result r;
    struct err e;
    assert_int_equal(evaluate_measure(ev, 0, &o, &r, &e), RC_OK);
    return r;
}

static void test_by_hand(void **state)
{
    struct evaluate *ev = evaluate_new(1);
    struct evaluate_result r;
    (void)state;
    /* 0.9 fraud; 0.5 fraud and good; 0.1 good: AUC (1 + 1 + 1 + 0.5) / 4,
     * average precision (1 + 2/3) / 2. */
    add(ev, 0.9f, LABEL_FRAUD, 1, 0);
    add(ev, 0.5f, LABEL_FRAUD, 2, 0);
    add(ev, 0.5f, LABEL_GOOD, 3, 0);
    add(ev, 0.1f, LABEL_GOOD, 4, 0);
    r = measure(ev, evaluate_options_default());
    assert_true(fabs(r.auc_roc - 0.875) < 1e-15);
    assert_true(fabs(r.average_precision - 5.0 / 6) < 1e-15);
    assert_true(r.base_rate == 0.5);
    assert_int_equal(evaluate_rows(ev), 4);
    evaluate_free(ev);
}

static void test_what_is_not_defined(void **state)
{
    struct evaluate *ev = evaluate_new(1);
    struct evaluate_result r = measure(ev, evaluate_options_default());
    (void)state;
    assert_int_equal(r.rows, 0);
    assert_true(isnan(r.auc_roc) && isnan(r.average_precision) &&
                isnan(r.log_loss) && isnan(r.base_rate) &&
                isnan(r.card_precision));
    add(ev, NAN, LABEL_FRAUD, 1, 0);
    add(ev, 0.5f, LABEL_UNKNOWN, 1, 0);
    add(ev, 0.5f, LABEL_GOOD, 1, 0);
    r = measure(ev, evaluate_options_default());
    assert_int_equal(r.rows, 1);
    assert_int_equal(r.unscored, 1);
    assert_int_equal(r.unlabelled, 1);
    assert_true(isnan(r.auc_roc) && isnan(r.average_precision));
    assert_true(fabs(r.log_loss - log(2)) < 1e-12);
    /* A score that is no probability has a rank but no loss. */
    add(ev, 1.5f, LABEL_FRAUD, 1, 0);
    r = measure(ev, evaluate_options_default());
    assert_true(isnan(r.log_loss) && isnan(r.brier));
    assert_true(r.auc_roc == 1);
    evaluate_free(ev);
}

static void test_certain_and_wrong(void **state)
{
    struct evaluate *ev = evaluate_new(1);
    (void)state;
    add(ev, 1, LABEL_GOOD, 1, 0);
    assert_true(fabs(measure(ev, evaluate_options_default()).log_loss -
                     52 * log(2)) < 1e-9);
    evaluate_free(ev);
}

static void test_measured_time(void **state)
{
    struct evaluate *ev = evaluate_new(1);
    struct evaluate_options o = evaluate_options_default();
    (void)state;
    for (int t = 0; t < 10; t++)
        add(ev, 0.5f, LABEL_GOOD, 1, t);
    o.from_ms = 3;
    o.until_ms = 8;
    assert_int_equal(measure(ev, o).rows, 5);
    evaluate_free(ev);
}

/* The instant at which a fraud becomes known, to the millisecond, and that
 * one before the training counts for nothing. */
static void test_known_frauds(void **state)
{
    enum { DAY = 20 };
    static const struct {
        int64_t fraud_ms;
        bool known;
    } CASES[] = {
        {5ll * DAY_MS - 1, false}, /* before the training */
        {5ll * DAY_MS, true},      /* its first instant */
        {13ll * DAY_MS - 1, true}, /* seen just before day 20 less 7 days */
        {13ll * DAY_MS, false},    /* not yet */
    };
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct evaluate *ev = evaluate_new(1);
        struct evaluate_options o = evaluate_options_default();
        o.from_ms = (int64_t)DAY * DAY_MS;
        o.leave_out_known = true;
        o.known_from_ms = 5ll * DAY_MS;
        o.known_delay_ms = 7ll * DAY_MS;
        add(ev, NAN, LABEL_FRAUD, 1, CASES[i].fraud_ms);
        add(ev, 0.5f, LABEL_GOOD, 1, (int64_t)DAY * DAY_MS + 80000000);
        add(ev, 0.5f, LABEL_GOOD, 2, (int64_t)DAY * DAY_MS);
        assert_int_equal(measure(ev, o).known, CASES[i].known);
        assert_int_equal(measure(ev, o).rows, CASES[i].known ? 1 : 2);
        evaluate_free(ev);
    }
}

static void test_cards(void **state)
{
    struct evaluate *ev = evaluate_new(1);
    struct evaluate_options o = evaluate_options_default();
    struct evaluate_result r;
    (void)state;
    o.card_k = 2;
    /* Day 0: card 1 takes its best score from a good payment and its label
     * from the fraud; it is found, and gone on day 1. */
    add(ev, 0.9f, LABEL_GOOD, 1, 1);
    add(ev, 0.2f, LABEL_FRAUD, 1, 2);
    add(ev, 0.8f, LABEL_GOOD, 2, 3);
    add(ev, 0.7f, LABEL_FRAUD, 3, 4);
    r = measure(ev, o);
    assert_true(r.card_precision == 0.5);
    /* Day 1: 1 is gone, 3 and 2 are the top two. */
    add(ev, 0.9f, LABEL_FRAUD, 1, DAY_MS + 1);
    add(ev, 0.8f, LABEL_FRAUD, 3, DAY_MS + 2);
    add(ev, 0.7f, LABEL_GOOD, 2, DAY_MS + 3);
    r = measure(ev, o);
    assert_int_equal(r.days, 2);
    assert_true(r.card_precision == 0.5);
    /* Day 2: equal scores go against us; fewer cards than k still divide
     * by k. */
    add(ev, 0.5f, LABEL_FRAUD, 4, 2 * DAY_MS);
    add(ev, 0.5f, LABEL_GOOD, 5, 2 * DAY_MS);
    add(ev, 0.5f, LABEL_GOOD, 6, 2 * DAY_MS);
    r = measure(ev, o);
    assert_true(fabs(r.card_precision - 1.0 / 3) < 1e-15);
    evaluate_free(ev);
}

/* --------------------------------------------------- the published numbers */

enum { PUBLISHED_ROWS_MAX = 1400000, LINE_MAX = 1024 };

/* Opens $MILLRACE_DATA/fraud_handbook/NAME.xz for reading as text. */
static FILE *open_data(const char *name)
{
    char command[1024];
    const char *folder = getenv("MILLRACE_DATA");
    if (!folder) return NULL;
    (void)snprintf(command, sizeof command, "xzcat '%s/fraud_handbook/%s.xz'",
                   folder, name);
    return popen(command, "r");
}

/* The logistic regression's score of every row of the book's test week by
 * transaction, NaN elsewhere; the number of rows that have one. */
static uint32_t read_published(float *scores)
{
    FILE *from = open_data("golden_features_ch3.csv");
    char line[LINE_MAX];
    uint32_t found = 0;
    assert_non_null(from);
    for (uint32_t i = 0; i < PUBLISHED_ROWS_MAX; i++)
        scores[i] = NAN;
    while (fgets(line, sizeof line, from)) {
        unsigned transaction;
        if (sscanf(line, "%u,test,", &transaction) != 1 ||
            !strstr(line, ",test,"))
            continue;
        assert_true(transaction < PUBLISHED_ROWS_MAX);
        scores[transaction] = strtof(strrchr(line, ',') + 1, NULL);
        found++;
    }
    (void)pclose(from);
    return found;
}

/* Chapter 3 of the handbook: exactly the rows of its test set stay, and its
 * logistic regression measures as it did there. */
static void test_published(void **state)
{
    static float scores[PUBLISHED_ROWS_MAX];
    struct evaluate *ev = evaluate_new(1);
    struct evaluate_options o = evaluate_options_default();
    FILE *from = open_data("transactions_to_2018-08-14.csv");
    struct evaluate_result r;
    char line[LINE_MAX];
    uint32_t published;
    (void)state;
    if (!from) {
        evaluate_free(ev);
        skip(); /* MILLRACE_DATA is not set */
    }
    published = read_published(scores);
    while (fgets(line, sizeof line, from)) {
        unsigned transaction, second, customer, terminal, cents, fraud;
        if (sscanf(line, "%u,%u,%u,%u,%u,%u", &transaction, &second, &customer,
                   &terminal, &cents, &fraud) != 6)
            continue;
        assert_true(transaction < PUBLISHED_ROWS_MAX);
        add(ev, scores[transaction], (int8_t)fraud, customer,
            1522540800000 + 1000ll * second);
    }
    assert_int_equal(pclose(from), 0);
    o.from_ms = TRAIN_MS + 14ll * DAY_MS;
    o.until_ms = TRAIN_MS + 21ll * DAY_MS;
    o.leave_out_known = true;
    o.known_from_ms = TRAIN_MS;
    o.known_delay_ms = 7ll * DAY_MS;
    r = measure(ev, o);
    assert_int_equal(r.rows, published);
    assert_int_equal(r.unscored, 0);
    assert_int_equal(r.positives, 385);
    /* scikit-learn on the same scores; the book prints 0.871, 0.606, 0.291 */
    assert_true(fabs(r.auc_roc - 0.870344) < 1e-6);
    assert_true(fabs(r.average_precision - 0.605485) < 1e-6);
    assert_true(fabs(r.card_precision - 204.0 / 700) < 1e-12);
    evaluate_free(ev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_order_does_not_matter),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_what_is_not_defined),
        cmocka_unit_test(test_certain_and_wrong),
        cmocka_unit_test(test_measured_time),
        cmocka_unit_test(test_known_frauds),
        cmocka_unit_test(test_cards),
        cmocka_unit_test(test_published),
    };
    return cmocka_run_group_tests(tests, read_golden, NULL);
}
