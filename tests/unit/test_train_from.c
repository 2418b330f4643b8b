/* Goal    Training goes on from a model: ids keep their indexes, new ones
 *         come behind them, what was learned is there at the start, and what
 *         does not fit is refused in words.
 * Method  The made-up log of tiny_log.h without its last items, then with
 *         them; models are compared by what they serve. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model_dir.h"
#include "tiny_log.h"
#include "train_from.h"

enum { KNOWN = 50, USERS = 120 }; /* items in the first log */

static const char first_dir[] = "test_train_from.tmp/first";
static const char next_dir[] = "test_train_from.tmp/next";

static struct train_options small_options(void)
{
    struct train_options o;
    train_options_default(&o);
    o.layers = 1;
    o.width = 32;
    o.ffn = 64;
    o.window = 10;
    o.item_buckets = 4;
    o.epochs_max = 8;
    o.patience = 0;
    o.batch_tokens = 512;
    o.dropout = 0.1f;
    o.learning_rate = 5e-3f;
    o.warmup_steps = 10;
    o.fraud_width = 16;
    o.leave_one_out = true;
    return o;
}

/* The last items and the texts of half of them are not there yet. */
static void hide_items(struct tiny_log *t)
{
    for (uint64_t r = 0; r < t->log.rows; r++)
        for (uint32_t i = KNOWN; i < TINY_ITEMS; i++)
            if (t->events[r].item == t->log.names[i].hash)
                t->events[r].item = t->log.names[i % KNOWN].hash;
}

static struct model *opened(const char *dir)
{
    struct err e = {.text = ""};
    struct model *m;
    if (model_open(&m, dir, &e) != RC_OK) fail_msg("%s", e.text);
    return m;
}

static void watch(void *user, const struct train_progress *p)
{
    double *ndcg = user;
    if (p->epoch_end && p->epoch == 1) *ndcg = p->validation_ndcg;
}

static struct model *trained(const struct train_log *log,
                             const struct train_options *o, const char *dir,
                             double *ndcg)
{
    struct err e = {.text = ""};
    if (train_behaviour(log, o, dir, watch, ndcg, &e) != RC_OK)
        fail_msg("%s", e.text);
    return opened(dir);
}

static int start(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options();
    double ndcg;
    (void)state;
    if (system("rm -rf test_train_from.tmp; mkdir test_train_from.tmp") != 0)
        return 1;
    tiny_log_init(&t, USERS, 1);
    hide_items(&t);
    model_free(trained(&t.log, &o, first_dir, &ndcg));
    tiny_log_fini(&t);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    return system("rm -rf test_train_from.tmp");
}

/* Options that say nothing of the shape. */
static struct train_options going_on(void)
{
    struct train_options o = small_options();
    o.from = first_dir;
    o.layers = o.width = o.heads = o.ffn = o.window = 0;
    o.item_buckets = o.fraud_heads = o.fraud_width = 0;
    return o;
}

static float count_all(const struct model *m)
{
    float sum = 0;
    for (uint32_t i = 0; i < model_info(m)->items; i++)
        sum += model_item_count(m, i);
    return sum;
}

static void test_ids_keep_their_rows(void **state)
{
    struct tiny_log t;
    struct train_options o = going_on();
    struct model *first = opened(first_dir), *next;
    double ndcg;
    (void)state;
    tiny_log_init(&t, USERS, 1);
    o.epochs_max = 1;
    next = trained(&t.log, &o, next_dir, &ndcg);
    assert_int_equal(model_info(first)->items, KNOWN);
    assert_int_equal(model_info(next)->items, TINY_ITEMS);
    assert_int_equal(model_info(next)->window, model_info(first)->window);
    for (uint32_t i = 0; i < KNOWN; i++) {
        struct slice a = model_item_name(first, i);
        struct slice b = model_item_name(next, i);
        assert_int_equal(a.len, b.len);
        assert_memory_equal(a.ptr, b.ptr, a.len);
    }
    for (uint32_t i = KNOWN; i < TINY_ITEMS; i++)
        assert_true(model_item_index(next, t.log.names[i].hash) >= KNOWN);
    /* As many events again, of other items: counts go on. */
    assert_true(count_all(first) > 0);
    assert_true(count_all(next) == 2 * count_all(first));
    model_free(first);
    model_free(next);
    tiny_log_fini(&t);
}

/* Before a step is made the grown model holds the numbers of the old one. */
static void test_weights_stand_where_their_rows_are(void **state)
{
    struct model *first = opened(first_dir), *grown;
    struct behaviour_config c = first->params.config;
    struct err e;
    uint32_t new_items = 7, d = c.width, f = (uint32_t)first->item_field;
    const real *from, *to;
    (void)state;
    c.items += new_items;
    c.field[f].rows += new_items;
    assert_int_equal(model_new(&grown, &c, 100,
                               (const char *const *)first->feature_names, &e),
                     RC_OK);
    grown->tokeniser.vocabulary[f].count = c.items;
    params_start(&grown->params, 3, grown->values);
    from_copy(first, grown);
    grown->tokeniser.vocabulary[f].count = 0;
    from = params_of(&first->params, first->values, first->params.embedding[f]);
    to = params_of(&grown->params, grown->values, grown->params.embedding[f]);
    assert_memory_equal(from, to, (size_t)KNOWN * d * sizeof *to);
    /* Buckets and none. */
    assert_memory_equal(from + (size_t)KNOWN * d,
                        to + (size_t)(KNOWN + new_items) * d,
                        (c.item_buckets + 1u) * d * sizeof *to);
    /* The new ones began at random. */
    for (uint32_t i = KNOWN; i < KNOWN + new_items; i++)
        assert_true(to[(size_t)i * d] != 0);
    for (uint32_t t = 0; t < first->params.count; t++) {
        const struct tensor *old = &first->params.tensor[t];
        if (t == first->params.embedding[f]) continue;
        assert_memory_equal(params_of(&first->params, first->values, t),
                            params_of(&grown->params, grown->values, t),
                            (size_t)old->rows * old->cols * sizeof *to);
    }
    assert_memory_equal(first->tables.calibration, grown->tables.calibration,
                        sizeof grown->tables.calibration);
    model_free(first);
    model_free(grown);
}

static void test_what_was_learned_is_there(void **state)
{
    struct tiny_log t;
    struct train_options o = going_on(), anew = small_options();
    double kept, begun;
    (void)state;
    tiny_log_init(&t, USERS, 1);
    hide_items(&t);
    o.epochs_max = anew.epochs_max = 1;
    model_free(trained(&t.log, &anew, next_dir, &begun));
    model_free(trained(&t.log, &o, next_dir, &kept));
    print_message("NDCG@10 after one epoch: %.3f anew, %.3f going on\n", begun,
                  kept);
    assert_true(kept > 1.2 * begun);
    tiny_log_fini(&t);
}

static void test_same_bits(void **state)
{
    struct tiny_log t;
    struct train_options o = going_on();
    struct model *a, *b;
    double ndcg;
    (void)state;
    tiny_log_init(&t, USERS, 1);
    o.epochs_max = 1;
    o.threads = 1;
    a = trained(&t.log, &o, next_dir, &ndcg);
    o.threads = 3;
    b = trained(&t.log, &o, next_dir, &ndcg);
    assert_string_equal(model_info(a)->hash, model_info(b)->hash);
    model_free(a);
    model_free(b);
    tiny_log_fini(&t);
}

/* A model whose items lie on a sphere is seen to, and goes on there. */
static void test_temperature_is_the_models(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options(), on;
    struct model *m;
    struct err e;
    double ndcg;
    (void)state;
    tiny_log_init(&t, USERS, 1);
    o.epochs_max = 1;
    o.temperature = 0.1f;
    model_free(trained(&t.log, &o, next_dir, &ndcg));
    m = opened(next_dir);
    on = going_on();
    assert_int_equal(from_options(m, &on, &e), RC_OK);
    assert_true(fabsf(on.temperature - 0.1f) < 1e-4f);
    on.temperature = 0.1f;
    assert_int_equal(from_options(m, &on, &e), RC_OK);
    on.temperature = 0;
    assert_int_equal(from_options(m, &on, &e), RC_STOP);
    model_free(m);
    tiny_log_fini(&t);
}

/* A log without labels leaves the fraud head, and its line, as they are. */
static void test_fraud_stays_without_labels(void **state)
{
    struct tiny_log t;
    struct train_options o = going_on();
    struct model *first = opened(first_dir), *next;
    double ndcg;
    (void)state;
    tiny_log_init(&t, USERS, 1);
    t.log.labels = NULL;
    o.epochs_max = 1;
    assert_true(model_info(first)->has_fraud);
    next = trained(&t.log, &o, next_dir, &ndcg);
    assert_true(model_info(next)->has_fraud);
    assert_memory_equal(first->tables.calibration, next->tables.calibration,
                        sizeof next->tables.calibration);
    model_free(first);
    model_free(next);
    tiny_log_fini(&t);
}

static void refuses(const struct train_log *log, const struct train_options *o,
                    const char *says)
{
    struct err e = {.text = ""};
    assert_int_equal(train_behaviour(log, o, next_dir, NULL, NULL, &e),
                     RC_STOP);
    if (!strstr(e.text, says))
        fail_msg("wanted \"%s\", got \"%s\"", says, e.text);
}

static void test_refusals(void **state)
{
    static const char *const other_names[] = {"amount", "amount_mean", "other"};
    struct tiny_log t;
    struct train_options o = going_on();
    (void)state;
    tiny_log_init(&t, 20, 1);
    o.window = 12;
    refuses(&t.log, &o, "has --window 10, not 12");
    o = going_on();
    o.width = 64;
    refuses(&t.log, &o, "has --width 32, not 64");
    o = going_on();
    o.fraud_heads = 9;
    refuses(&t.log, &o, "has --fraud-heads 4, not 9");
    o = going_on();
    o.temperature = 0.5f;
    refuses(&t.log, &o, "has --temperature 0, not 0.5");
    o = going_on();
    o.from = "test_train_from.tmp/none";
    refuses(&t.log, &o, "test_train_from.tmp/none");
    o = going_on();
    t.log.fields &= ~(uint32_t)TRAIN_AMOUNT;
    refuses(&t.log, &o, "map the same roles");
    t.log.fields |= TRAIN_AMOUNT;
    t.log.amount_scale = 1000;
    refuses(&t.log, &o, "in 1/100, of this log in 1/1000");
    t.log.amount_scale = 100;
    t.log.feature_names = other_names;
    refuses(&t.log, &o, "feature 2 of the model to go on from is 'events'");
    t.log.features = 2;
    refuses(&t.log, &o, "reads 3 features, this log has 2");
    tiny_log_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_keep_their_rows),
        cmocka_unit_test(test_weights_stand_where_their_rows_are),
        cmocka_unit_test(test_what_was_learned_is_there),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_temperature_is_the_models),
        cmocka_unit_test(test_fraud_stays_without_labels),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, start, finish);
}
