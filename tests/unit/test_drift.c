/* Goal    The stability index is its formula, and takes equal things for equal.
 * Method  Shares and scores counted by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "drift.h"
#include "train.h"

static void test_index(void **state)
{
    static const double P[] = {0.5, 0.3, 0.2}, Q[] = {0.2, 0.3, 0.5};
    static const double GONE[] = {1, 0, 0};
    (void)state;
    assert_true(drift_index(P, P, 3) == 0);
    assert_true(fabs(drift_index(P, Q, 3) - 2 * 0.3 * log(2.5)) < 1e-12);
    assert_true(fabs(drift_index(P, Q, 3) - drift_index(Q, P, 3)) < 1e-12);
    /* An empty bin is not endless. */
    assert_true(fabs(drift_index(P, GONE, 3) -
                     (0.5 * log(2) + (0.3 - 1e-4) * log(3000) +
                      (0.2 - 1e-4) * log(2000))) < 1e-9);
}

static void add(struct evaluate *ev, float score, int64_t time_ms)
{
    struct err e;
    assert_int_equal(evaluate_add(ev, &score, LABEL_GOOD, 1, time_ms, &e),
                     RC_OK);
}

/* Ten tenths before; after, all of them in the upper half. */
static void test_scores(void **state)
{
    struct evaluate *ev = evaluate_new(1);
    struct err e;
    double index, half = 0;
    (void)state;
    for (uint32_t i = 0; i < 200; i++)
        add(ev, (float)i / 200, i % 2);
    assert_int_equal(drift_score(ev, 0, 2, 9, &index, &e), RC_OK);
    assert_true(isnan(index)); /* nothing came after */
    for (uint32_t i = 0; i < 200; i++) {
        add(ev, 0.5f + (float)i / 400, 2);
        add(ev, 0, 9);   /* too late */
        add(ev, NAN, 3); /* not scored */
    }
    assert_int_equal(drift_score(ev, 0, 2, 9, &index, &e), RC_OK);
    for (uint32_t i = 0; i < 5; i++)
        half += (0.2 - 0.1) * log(2) + (1e-4 - 0.1) * log(1e-4 / 0.1);
    assert_true(fabs(index - half) < 1e-6);
    assert_int_equal(drift_score(ev, 0, INT64_MIN, 9, &index, &e), RC_OK);
    assert_true(isnan(index)); /* nothing before */
    evaluate_free(ev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
