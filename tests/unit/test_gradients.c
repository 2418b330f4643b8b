/* Goal: the gradient of every tensor of the behaviour transformer is right.
 * Method: the layers compiled in double (tests.cmake); a loss that is a fixed
 * random combination of the hidden states; each sampled parameter is moved by
 * +-1e-5, and the difference quotient compared with what trainer_backward
 * says. Sequences differ in length and in what is wanted, with and without
 * dropout, time, and more than one layer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "behaviour.h"
#include "hash.h"

#include <math.h>
#include <stdlib.h>

enum {
    SEQUENCES = 4,
    TOKENS = 70, /* of the longest: more than a page and a block of queries */
    SAMPLES = 8, /* per tensor */
    FIELDS = 3,
    ROWS = 7,
};

#define STEP      1e-5
#define TOLERANCE 1e-6

struct fixture {
    struct params *params;
    real *values, *gradients;
    struct behaviour *b;
    struct trainer *t;
    struct token token[SEQUENCES][TOKENS];
    struct sequence sequence[SEQUENCES];
    struct dropout dropout;
    uint32_t wanted;
    real *dhidden;
};

static double unit(uint64_t a, uint64_t b)
{
    return (double)draw_unit(draw(3, a, b)) - 0.5;
}

static void make_sequences(struct fixture *f)
{
    static const uint32_t counts[SEQUENCES] = {TOKENS, 1, 9, 16};
    static const uint32_t from[SEQUENCES] = {7, 0, 0, 15};
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        for (uint32_t i = 0; i < TOKENS; i++) {
            struct token *token = &f->token[s][i];
            for (uint32_t k = 0; k < FIELDS; k++)
                token->row[k] = (uint32_t)(draw(s, i, k) % ROWS);
            /* Some late ones, so that gaps are also below zero. */
            token->time_ms =
                (int64_t)i * 3000 * (1 << i % 9) - (i % 5 == 4 ? 90000 : 0);
        }
        f->sequence[s] = (struct sequence){.tokens = f->token[s],
                                           .count = counts[s],
                                           .wanted_from = from[s],
                                           .user = s};
        f->wanted += counts[s] - from[s];
    }
}

static struct fixture *set_up(struct behaviour_config c, float dropout)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err e;
    c.field_count = FIELDS;
    for (uint32_t k = 0; k < FIELDS; k++) {
        c.field[k].kind = k == 0 ? FIELD_ITEM : FIELD_TYPE;
        c.field[k].rows = ROWS;
        (void)snprintf(c.field[k].name, FIELD_NAME_BYTES, "field_%u", k);
    }
    c.items = ROWS - 2;
    c.item_buckets = 1;
    assert_int_equal(behaviour_config_check(&c, &e), RC_OK);
    f->params = calloc(1, sizeof *f->params);
    params_init(f->params, &c);
    f->values = calloc(f->params->size, sizeof *f->values);
    f->gradients = calloc(f->params->size, sizeof *f->gradients);
    params_start(f->params, 1, f->values);
    /* Nothing at exactly zero or one: every term takes part. */
    for (size_t i = 0; i < f->params->size; i++)
        f->values[i] += unit(50, i) * 0.4;
    make_sequences(f);
    f->dropout = (struct dropout){.rate = dropout, .seed = 5, .step = 9};
    f->b = behaviour_new(f->params, f->values);
    f->t = trainer_new(f->b, SEQUENCES * TOKENS, SEQUENCES);
    f->dhidden = calloc((size_t)f->wanted * c.width, sizeof *f->dhidden);
    for (size_t i = 0; i < (size_t)f->wanted * c.width; i++)
        f->dhidden[i] = unit(60, i);
    return f;
}

static void tear_down(struct fixture *f)
{
    trainer_free(f->t);
    behaviour_free(f->b);
    free(f->params);
    free(f->values);
    free(f->gradients);
    free(f->dhidden);
    free(f);
}

static double loss(struct fixture *f)
{
    const real *hidden;
    double sum = 0;
    behaviour_refresh(f->b);
    hidden = trainer_forward(f->t, f->sequence, SEQUENCES, f->dropout);
    for (size_t i = 0; i < (size_t)f->wanted * f->params->config.width; i++)
        sum += hidden[i] * f->dhidden[i];
    return sum;
}

/* Returns the largest difference, relative to the tensor's largest slope. */
static double compare_tensor(struct fixture *f, uint32_t t)
{
    const struct tensor *tensor = &f->params->tensor[t];
    size_t reals = (size_t)tensor->rows * tensor->cols;
    double worst = 0, largest = 1e-3;
    for (uint32_t i = 0; i < SAMPLES; i++) {
        size_t at = tensor->offset + draw(8, t, i) % reals;
        real kept = f->values[at];
        double up, down, slope;
        f->values[at] = kept + STEP;
        up = loss(f);
        f->values[at] = kept - STEP;
        down = loss(f);
        f->values[at] = kept;
        slope = (up - down) / (2 * STEP);
        largest = fmax(largest, fabs(slope));
        worst = fmax(worst, fabs(slope - f->gradients[at]));
    }
    return worst / largest;
}

static void check(struct behaviour_config c, float dropout)
{
    struct fixture *f = set_up(c, dropout);
    double worst = 0;
    (void)loss(f);
    trainer_backward(f->t, f->dhidden, true, f->gradients);
    for (uint32_t t = 0; t < f->params->count; t++) {
        double difference = compare_tensor(f, t);
        if (difference > TOLERANCE)
            fail_msg("%s: differs by %g of its largest slope",
                     f->params->tensor[t].name, difference);
        worst = fmax(worst, difference);
    }
    print_message("%u layers, dropout %g: largest relative difference %g\n",
                  c.layers, (double)dropout, worst);
    tear_down(f);
}

static const struct behaviour_config small = {
    .layers = 2, .width = 16, .heads = 2, .ffn = 24, .window = TOKENS / 2};

static void test_two_layers(void **state)
{
    struct behaviour_config c = small;
    (void)state;
    c.has_time = true;
    check(c, 0);
    check(c, 0.25f);
}

static void test_one_layer_without_time(void **state)
{
    struct behaviour_config c = small;
    (void)state;
    c.layers = 1;
    c.heads = 1;
    check(c, 0);
    check(c, 0.1f);
}

static void test_three_layers(void **state)
{
    struct behaviour_config c = small;
    (void)state;
    c.layers = 3;
    c.width = 24;
    c.heads = 3;
    c.has_time = true;
    c.window = 100; /* distances beyond the exact buckets */
    check(c, 0.5f);
}

/* Gradients add up over shards: twice the same shard is twice the gradient. */
static void test_gradients_add(void **state)
{
    struct behaviour_config c = small;
    struct fixture *f = set_up(c, 0);
    real *once = calloc(f->params->size, sizeof *once);
    (void)state;
    (void)loss(f);
    trainer_backward(f->t, f->dhidden, true, once);
    for (int i = 0; i < 2; i++) {
        (void)loss(f);
        trainer_backward(f->t, f->dhidden, true, f->gradients);
    }
    for (size_t i = 0; i < f->params->size; i++)
        assert_true(fabs(f->gradients[i] - 2 * once[i]) < 1e-9);
    free(once);
    tear_down(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_layer_without_time),
        cmocka_unit_test(test_two_layers),
        cmocka_unit_test(test_three_layers),
        cmocka_unit_test(test_gradients_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
