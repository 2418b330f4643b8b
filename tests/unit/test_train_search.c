/* Goal    A search tries the given settings first, draws the others by the
 *         seed alone, and ends with the best by what validation says.
 * Method  A few short trials on a made-up log; what the table holds is held
 *         against what was told, and the options against the best trial. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tiny_log.h"
#include "train_search.h"

enum { TRIALS = 4 };

struct told {
    uint32_t count, best;
    struct search_trial at[TRIALS];
};

static void tell(void *user, uint32_t trial, const struct search_trial *t,
                 uint32_t best)
{
    struct told *told = user;
    assert_int_equal(trial, told->count);
    told->at[told->count++] = *t;
    told->best = best;
}

static struct train_options short_options(void)
{
    struct train_options o;
    train_options_default(&o);
    o.layers = 1;
    o.width = 16;
    o.ffn = 16;
    o.heads = 1;
    o.window = 8;
    o.item_buckets = 4;
    o.epochs_max = 2;
    o.batch_tokens = 512;
    o.dropout = 0.15f;
    o.fraud_width = 8;
    o.validate_from_ms = 25 * TINY_HOUR_MS;
    return o;
}

static struct train_options searched(const struct tiny_log *t,
                                     struct train_options o, struct told *told,
                                     struct search_trial *trials)
{
    struct err e = {.text = ""};
    *told = (struct told){0};
    if (train_search(&t->log, &o, TRIALS, trials, NULL, tell, told, &e) !=
        RC_OK)
        fail_msg("%s", e.text);
    assert_int_equal(told->count, TRIALS);
    return o;
}

static void test_the_best_of_them(void **state)
{
    struct tiny_log t;
    struct train_options given = short_options(), best, again;
    struct search_trial trials[TRIALS], others[TRIALS];
    struct told told;
    uint32_t differ = 0;
    (void)state;
    tiny_log_init(&t, 40, 8);
    best = searched(&t, given, &told, trials);
    assert_true(trials[0].learning_rate == given.learning_rate &&
                trials[0].dropout == given.dropout &&
                trials[0].batch_tokens == given.batch_tokens);
    for (uint32_t i = 0; i < TRIALS; i++) {
        assert_string_equal(trials[i].what, "average precision");
        assert_true(trials[i].reached <= trials[told.best].reached);
        assert_true(trials[i].epoch >= 1 && trials[i].epoch <= 2);
        differ += trials[i].dropout != given.dropout;
    }
    assert_true(differ > 0);
    assert_true(best.learning_rate == trials[told.best].learning_rate &&
                best.dropout == trials[told.best].dropout);
    again = searched(&t, given, &told, others);
    assert_true(again.learning_rate == best.learning_rate);
    for (uint32_t i = 0; i < TRIALS; i++)
        assert_true(others[i].reached == trials[i].reached);
    tiny_log_fini(&t);
}

static void test_table(void **state)
{
    struct search_trial trials[2] = {{.learning_rate = 0.002f,
                                      .dropout = 0.1f,
                                      .batch_tokens = 512,
                                      .what = "NDCG@10",
                                      .reached = 0.25,
                                      .epoch = 3,
                                      .epochs = 5},
                                     {.learning_rate = 0.004f,
                                      .dropout = 0.5f,
                                      .batch_tokens = 700,
                                      .what = "NDCG@10",
                                      .reached = 0.125,
                                      .epoch = 1,
                                      .epochs = 4}};
    char *text = search_table(trials, 2);
    (void)state;
    assert_non_null(text);
    assert_non_null(strstr(text, "| epoch | NDCG@10 |"));
    assert_non_null(strstr(text, "| 0.002 | 0.1 | 0 | 0 | 512 | 3 of 5 | "
                                 "0.2500 |\n| 0.004 | 0.5 | 0 | 0 | 700 | 1 "
                                 "of 4 | 0.1250 |\n"));
    free(text);
}

static void test_nothing_to_choose_by(void **state)
{
    struct tiny_log t;
    struct train_options o = short_options();
    struct search_trial trials[TRIALS];
    struct told told = {0};
    struct err e;
    (void)state;
    tiny_log_init(&t, 20, 9);
    o.validate_from_ms = INT64_MAX;
    assert_int_equal(
        train_search(&t.log, &o, TRIALS, trials, NULL, tell, &told, &e),
        RC_STOP);
    assert_non_null(strstr(e.text, "--validate-from"));
    assert_int_equal(told.count, 0);
    tiny_log_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_the_best_of_them),
        cmocka_unit_test(test_nothing_to_choose_by),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
