/* Goal    A model learns what is there to learn, gives the same bits for any
 *         number of threads, and never sees what it is tested on.
 * Method  A small made-up log (tiny_log.h) whose next items and frauds can be
 *         known by half; models of it are tested through the scorer that
 *         serves. Changing what must not be seen must not change a bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "evaluate.h"
#include "model.h"
#include "tiny_log.h"

static const char dir[] = "test_train.tmp";

static struct train_options small_options(void)
{
    struct train_options o;
    train_options_default(&o);
    o.layers = 1;
    o.width = 32;
    o.ffn = 64;
    o.window = 10;
    o.item_buckets = 4;
    o.epochs_max = 12;
    o.patience = 0;
    o.batch_tokens = 512;
    o.dropout = 0.1f;
    o.learning_rate = 5e-3f;
    o.warmup_steps = 10;
    o.fraud_width = 16;
    o.threads = 2;
    return o;
}

struct watched {
    uint32_t steps, epochs;
    struct train_progress last;
};

static void watch(void *user, const struct train_progress *p)
{
    struct watched *w = user;
    w->steps += !p->epoch_end;
    w->epochs += p->epoch_end;
    w->last = *p;
}

static struct model *trained(const struct tiny_log *t,
                             const struct train_options *o, struct watched *w)
{
    struct err e = {.text = ""};
    struct watched unused;
    struct model *m;
    if (train_behaviour(&t->log, o, dir, watch, w ? w : &unused, &e) != RC_OK)
        fail_msg("%s", e.text);
    if (model_open(&m, dir, &e) != RC_OK) fail_msg("%s", e.text);
    return m;
}

static struct scorer *scorer_of(const struct model *m)
{
    struct scorer_limits limits = {
        .context_bytes_max = 16 << 20, .events_max = 64, .k_max = 10};
    struct scorer *s;
    struct err e;
    assert_int_equal(scorer_new(&s, m, limits, &e), RC_OK);
    return s;
}

/* Scores event row of the user. */
static struct score score_row(const struct tiny_log *t, struct scorer *s,
                              uint32_t user, uint64_t row,
                              struct context **slot)
{
    uint64_t n = row - t->user_start[user];
    uint32_t count = scorer_events_needed(s, *slot, n);
    struct score_request in = {.context = slot,
                               .n = n,
                               .events = t->events + row + 1 - count,
                               .event_count = count,
                               .features = t->features + row * TINY_FEATURES};
    struct score out;
    scorer_score(s, &in, &out, 1);
    return out;
}

/* How often a user's last item is among the first ten. */
static double last_item_hits(const struct tiny_log *t, const struct model *m)
{
    struct scorer *s = scorer_of(m);
    uint32_t hits = 0;
    for (uint32_t u = 0; u < t->log.users; u++) {
        uint64_t last = t->user_start[u + 1] - 1;
        struct context *slot = NULL;
        struct score score = score_row(t, s, u, last - 1, &slot);
        struct ranked list[10];
        struct top_k_request in = {.hidden = score.hidden, .out = list};
        int32_t want = model_item_index(m, t->events[last].item);
        scorer_top_k(s, &in, 1, 10);
        for (uint32_t i = 0; i < in.found; i++)
            hits += (int32_t)list[i].item == want;
        scorer_forget(s, &slot);
    }
    scorer_free(s);
    return (double)hits / t->log.users;
}

static void test_learns_items(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options();
    struct watched w = {0};
    struct model *m;
    double hits;
    (void)state;
    tiny_log_init(&t, 150, 1);
    o.leave_one_out = true;
    m = trained(&t, &o, &w);
    hits = last_item_hits(&t, m);
    print_message("hit rate at 10: %.3f (chance: %.3f), validation %.3f\n",
                  hits, 10.0 / TINY_ITEMS, w.last.validation_hit_rate);
    assert_true(hits > 0.6);
    assert_int_equal(w.epochs, o.epochs_max);
    assert_int_equal(w.last.epoch, o.epochs_max);
    assert_true(w.steps > 0 && isfinite(w.last.loss));
    model_free(m);
    tiny_log_fini(&t);
}

static void test_learns_items_by_a_sample(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options();
    struct model *m;
    double hits;
    (void)state;
    tiny_log_init(&t, 150, 1);
    o.leave_one_out = true;
    o.negatives = 24;
    o.fraud_weight = 0;
    m = trained(&t, &o, NULL);
    hits = last_item_hits(&t, m);
    print_message("hit rate at 10: %.3f by 24 sampled items\n", hits);
    assert_true(hits > 0.5);
    assert_false(model_info(m)->has_fraud);
    model_free(m);
    tiny_log_fini(&t);
}

/* Average precision of the fraud score on hours that training did not see,
 * and the mean of the anomaly quantile there. */
static double later_fraud(const struct tiny_log *t, const struct model *m,
                          int64_t from_ms, double *base_rate, double *anomaly)
{
    struct scorer *s = scorer_of(m);
    struct evaluate *ev = evaluate_new(1);
    struct evaluate_options o = evaluate_options_default();
    struct evaluate_result r;
    struct err e;
    double sum = 0;
    for (uint32_t u = 0; u < t->log.users; u++) {
        struct context *slot = NULL;
        for (uint64_t row = t->user_start[u]; row < t->user_start[u + 1];
             row++) {
            struct score score = score_row(t, s, u, row, &slot);
            assert_true(score.anomaly >= 0 && score.anomaly <= 1);
            assert_true(score.fraud >= 0 && score.fraud <= 1);
            if (t->events[row].time_ms < from_ms) continue;
            sum += (double)score.anomaly;
            assert_int_equal(evaluate_add(ev, &score.fraud, t->labels[row],
                                          u + 1, t->events[row].time_ms, &e),
                             RC_OK);
        }
        scorer_forget(s, &slot);
    }
    assert_int_equal(evaluate_measure(ev, 0, &o, &r, &e), RC_OK);
    *base_rate = r.base_rate;
    *anomaly = sum / (double)evaluate_rows(ev);
    evaluate_free(ev);
    scorer_free(s);
    return r.average_precision;
}

static void test_learns_fraud(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options();
    struct model *m;
    double found, base_rate, anomaly;
    (void)state;
    tiny_log_init(&t, 150, 2);
    o.validate_from_ms = 25 * TINY_HOUR_MS;
    o.until_ms = 35 * TINY_HOUR_MS;
    m = trained(&t, &o, NULL);
    assert_true(model_info(m)->has_fraud);
    found = later_fraud(&t, m, o.until_ms, &base_rate, &anomaly);
    print_message("average precision %.3f, base rate %.3f, mean anomaly "
                  "%.3f\n",
                  found, base_rate, anomaly);
    assert_true(found > 10 * base_rate);
    /* Quantiles of normal traffic are spread evenly, but for the frauds. */
    assert_true(anomaly > 0.40 && anomaly < 0.60);
    model_free(m);
    tiny_log_fini(&t);
}

static void hash_of(const struct tiny_log *t, const struct train_options *o,
                    char hash[17])
{
    struct model *m = trained(t, o, NULL);
    memcpy(hash, model_info(m)->hash, 17);
    model_free(m);
}

static void test_same_bits_for_any_threads(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options();
    char one[17], two[17], three[17], other[17];
    (void)state;
    tiny_log_init(&t, 60, 3);
    o.epochs_max = 2;
    o.validate_from_ms = 25 * TINY_HOUR_MS;
    o.threads = 1;
    hash_of(&t, &o, one);
    o.threads = 2;
    hash_of(&t, &o, two);
    o.threads = 3;
    hash_of(&t, &o, three);
    assert_string_equal(one, two);
    assert_string_equal(one, three);
    o.seed = 2;
    hash_of(&t, &o, other);
    assert_string_not_equal(one, other);
    tiny_log_fini(&t);
}

static void test_leave_one_out_never_sees_the_last(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options();
    char before[17], after[17];
    (void)state;
    tiny_log_init(&t, 60, 4);
    o.epochs_max = 2;
    o.leave_one_out = true;
    hash_of(&t, &o, before);
    for (uint32_t u = 0; u < t.log.users; u++) {
        uint64_t last = t.user_start[u + 1] - 1;
        t.events[last].item = t.log.names[u % TINY_ITEMS].hash;
        t.events[last].amount = 1;
        t.labels[last] = LABEL_FRAUD;
        t.features[last * TINY_FEATURES] = 1e6f;
    }
    hash_of(&t, &o, after);
    assert_string_equal(before, after);
    /* The test can fail: the event before the last is seen. */
    t.events[t.user_start[1] - 3].item ^= 1;
    hash_of(&t, &o, after);
    assert_string_not_equal(before, after);
    tiny_log_fini(&t);
}

static void test_nothing_after_until_is_seen(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options();
    char before[17], after[17];
    (void)state;
    tiny_log_init(&t, 60, 5);
    o.epochs_max = 2;
    o.validate_from_ms = 20 * TINY_HOUR_MS;
    o.until_ms = 25 * TINY_HOUR_MS;
    hash_of(&t, &o, before);
    for (uint64_t r = 0; r < t.log.rows; r++) {
        if (t.events[r].time_ms < o.until_ms) continue;
        t.events[r].item = t.log.names[r % TINY_ITEMS].hash;
        t.events[r].amount = 7;
        t.labels[r] = (int8_t)(r % 2);
        t.features[r * TINY_FEATURES + 1] = -5;
    }
    hash_of(&t, &o, after);
    assert_string_equal(before, after);
    tiny_log_fini(&t);
}

/* Both phases and a share of the good rows; then once more on all before the
 * cut, by the labels that the cut knows. */
static void test_refit(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options();
    struct model *m;
    char one[17], two[17], later[17];
    double found, base_rate, anomaly;
    int8_t *labels;
    (void)state;
    tiny_log_init(&t, 100, 6);
    labels = malloc(t.log.rows);
    memcpy(labels, t.labels, t.log.rows);
    t.log.labels_until = labels;
    o.refit = true;
    o.pretrain_epochs = 2;
    o.good_share = 0.5f;
    o.known_span_ms = 5 * TINY_HOUR_MS;
    o.validate_from_ms = 22 * TINY_HOUR_MS;
    o.until_ms = 32 * TINY_HOUR_MS;
    m = trained(&t, &o, NULL);
    (void)strcpy(one, model_info(m)->hash);
    found = later_fraud(&t, m, o.until_ms, &base_rate, &anomaly);
    print_message("average precision %.3f, base rate %.3f, mean anomaly "
                  "%.3f\n",
                  found, base_rate, anomaly);
    assert_true(found > 5 * base_rate);
    /* The quantiles are those of the weights that are served. */
    assert_true(anomaly > 0.42 && anomaly < 0.60);
    model_free(m);
    o.threads = 1;
    for (uint64_t r = 0; r < t.log.rows; r++)
        if (t.events[r].time_ms >= o.until_ms) labels[r] = LABEL_FRAUD;
    hash_of(&t, &o, two);
    assert_string_equal(one, two);
    /* A label of the validation that the choice did not know is learned. */
    for (uint64_t r = 0; r < t.log.rows; r++)
        if (t.events[r].time_ms == 24 * TINY_HOUR_MS) labels[r] ^= 1;
    hash_of(&t, &o, later);
    assert_string_not_equal(one, later);
    free(labels);
    tiny_log_fini(&t);
}

/* A log without items or times, with ids that have no text, and extras. */
static void test_learns_without_items(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options();
    struct watched w = {0};
    struct model *m;
    double base_rate, anomaly;
    (void)state;
    tiny_log_init(&t, 100, 7);
    for (uint64_t r = 0; r < t.log.rows; r++) {
        t.events[r].type = t.events[r].item;
        t.events[r].item = 0;
        t.events[r].categorical[0] = 1 + r % 3;
        t.events[r].number[0] = r % 5 ? (float)r : (float)NAN;
    }
    t.log.fields = TRAIN_TYPE | TRAIN_AMOUNT;
    t.log.categoricals = t.log.numbers = 1;
    o.validate_from_ms = 25 * TINY_HOUR_MS;
    o.epochs_max = 6;
    m = trained(&t, &o, &w);
    assert_true(isnan(w.last.validation_hit_rate));
    assert_true(isfinite(w.last.validation_loss));
    assert_int_equal(model_info(m)->items, 0);
    assert_int_equal(model_item_index(m, t.events[0].type), -1);
    assert_true(later_fraud(&t, m, o.validate_from_ms, &base_rate, &anomaly) >
                5 * base_rate);
    model_free(m);
    tiny_log_fini(&t);
}

static void refuses(const struct train_log *log, const struct train_options *o,
                    const char *says)
{
    struct err e = {.text = ""};
    assert_int_equal(train_behaviour(log, o, dir, NULL, NULL, &e), RC_STOP);
    if (!strstr(e.text, says))
        fail_msg("wanted \"%s\", got \"%s\"", says, e.text);
}

static void test_refusals(void **state)
{
    struct tiny_log t;
    struct train_options o = small_options();
    struct train_log empty = {0};
    (void)state;
    tiny_log_init(&t, 10, 6);
    refuses(&empty, &o, "no events");
    o.from_ms = 1000 * (int64_t)TINY_HOUR_MS;
    refuses(&t.log, &o, "no event to learn from");
    o = small_options();
    o.batch_tokens = 2 * o.window - 1;
    refuses(&t.log, &o, "cannot hold a context");
    o = small_options();
    o.width = 33;
    refuses(&t.log, &o, "width 33");
    o = small_options();
    o.threads = 0;
    refuses(&t.log, &o, "0 threads");
    o = small_options();
    o.dropout = 1;
    refuses(&t.log, &o, "dropout 1");
    tiny_log_fini(&t);
}

static int finish(void **state)
{
    (void)state;
    return system("rm -rf test_train.tmp test_train.tmp.tmp-*");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_same_bits_for_any_threads),
        cmocka_unit_test(test_leave_one_out_never_sees_the_last),
        cmocka_unit_test(test_nothing_after_until_is_seen),
        cmocka_unit_test(test_learns_items),
        cmocka_unit_test(test_learns_items_by_a_sample),
        cmocka_unit_test(test_learns_fraud),
        cmocka_unit_test(test_refit),
        cmocka_unit_test(test_learns_without_items),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
