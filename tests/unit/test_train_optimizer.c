/* Goal    A step moves weights as AdamW says; a sphere's rows keep their
 *         length and what is fixed stays; the average is that of the steps.
 * Method  A few steps with made-up gradients, held against the same formulas
 *         in plain loops over doubles, with one thread and with three. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hash.h"
#include "train_optimizer.h"

enum { STEPS = 12, WIDTH = 40, ITEMS = 900 };

static const float rate = 0.01f, decay = 0.1f, average = 0.9f, radius = 1.5f,
                   sphere_rate = 3;

struct plain {
    double *w, *mean, *square, *average;
};

struct rig {
    struct params p;
    struct optimizer_options options;
    real *values;
    struct plain plain;
};

static double *doubles(size_t count)
{
    double *x = calloc(count, sizeof *x);
    assert_non_null(x);
    return x;
}

static void rig_open(struct rig *r)
{
    struct behaviour_config c = {.layers = 1,
                                 .width = WIDTH,
                                 .heads = 1,
                                 .ffn = 48,
                                 .window = 4,
                                 .items = ITEMS,
                                 .item_buckets = 4,
                                 .field_count = 1};
    c.field[0] = (struct behaviour_field){.name = "item",
                                          .kind = FIELD_ITEM,
                                          .rows = ITEMS + 5,
                                          .predicted = true};
    params_init(&r->p, &c);
    r->values = aligned_alloc(64, (r->p.size * sizeof(real) / 64 + 1) * 64);
    assert_non_null(r->values);
    params_start(&r->p, 7, r->values);
    r->options =
        (struct optimizer_options){.weight_decay = decay,
                                   .average = average,
                                   .sphere = r->p.embedding[0],
                                   .radius = radius,
                                   .sphere_rate = sphere_rate,
                                   .fixed = {r->p.norm_weight, r->p.norm_bias}};
    r->plain = (struct plain){doubles(r->p.size), doubles(r->p.size),
                              doubles(r->p.size), doubles(r->p.size)};
}

static void rig_close(struct rig *r)
{
    free(r->values);
    free(r->plain.w);
    free(r->plain.mean);
    free(r->plain.square);
    free(r->plain.average);
}

/* Of element i in a shard; the table's are of one sign and add up. */
static real made_up(uint64_t step, uint32_t shard, size_t i)
{
    return (real)(draw_unit(draw(step, shard, i)) - 0.4f);
}

static void put_on_sphere(const struct rig *r, double *w)
{
    const struct tensor *t = &r->p.tensor[r->options.sphere];
    for (uint32_t row = 0; row < t->rows; row++) {
        double *x = w + t->offset + (size_t)row * t->cols, length = 0;
        for (uint32_t k = 0; k < t->cols; k++)
            length += x[k] * x[k];
        for (uint32_t k = 0; k < t->cols; k++)
            x[k] *= (double)radius / sqrt(length);
    }
}

static void plain_tensor(const struct rig *r, uint32_t t, uint64_t step)
{
    const struct tensor *tensor = &r->p.tensor[t];
    const struct optimizer_options *o = &r->options;
    double kept = (1 + (double)step) / (10 + (double)step);
    double step_size =
        (double)rate * (t == o->sphere ? (double)sphere_rate : 1);
    if (kept > (double)average) kept = (double)average;
    for (size_t i = tensor->offset;
         i < tensor->offset + (size_t)tensor->rows * tensor->cols; i++) {
        double g = 0, *w = &r->plain.w[i];
        for (uint32_t s = 0; s < TRAIN_SHARDS; s++)
            g += (double)made_up(step, s, i);
        if (t == o->fixed[0] || t == o->fixed[1]) continue;
        r->plain.mean[i] = 0.9 * r->plain.mean[i] + 0.1 * g;
        r->plain.square[i] = 0.98 * r->plain.square[i] + 0.02 * g * g;
        if (tensor->decays && t != o->sphere)
            *w *= 1 - (double)rate * (double)decay;
        *w -= step_size * r->plain.mean[i] / (1 - pow(0.9, (double)step)) /
              (sqrt(r->plain.square[i] / (1 - pow(0.98, (double)step))) + 1e-8);
    }
    if (t == o->sphere) put_on_sphere(r, r->plain.w);
    for (size_t i = tensor->offset;
         i < tensor->offset + (size_t)tensor->rows * tensor->cols; i++)
        r->plain.average[i] =
            kept * r->plain.average[i] + (1 - kept) * r->plain.w[i];
    if (t == o->sphere) put_on_sphere(r, r->plain.average);
}

static void real_step(struct rig *r, struct optimizer *o, uint64_t step)
{
    for (uint32_t s = 0; s < TRAIN_SHARDS; s++)
        for (uint32_t t = 0; t < r->p.count; t++) {
            const struct tensor *tensor = &r->p.tensor[t];
            for (size_t i = tensor->offset;
                 i < tensor->offset + (size_t)tensor->rows * tensor->cols; i++)
                optimizer_gradients(o, s)[i] = made_up(step, s, i);
        }
    assert_true(isfinite(optimizer_step(o, rate)));
}

static double farthest(const struct rig *r, const double *want)
{
    double most = 0;
    for (size_t i = 0; i < r->p.size; i++)
        most = fmax(most, fabs(want[i] - (double)r->values[i]));
    return most;
}

static void steps_of(uint32_t threads)
{
    struct rig r;
    struct team *team;
    struct optimizer *o;
    struct err e;
    double moved, averaged;
    rig_open(&r);
    assert_int_equal(team_new(&team, threads, &e), RC_OK);
    assert_int_equal(optimizer_new(&o, &r.p, r.values, r.options, team, &e),
                     RC_OK);
    for (size_t i = 0; i < r.p.size; i++)
        r.plain.w[i] = r.plain.average[i] = (double)r.values[i];
    for (uint64_t step = 1; step <= STEPS; step++) {
        real_step(&r, o, step);
        for (uint32_t t = 0; t < r.p.count; t++)
            plain_tensor(&r, t, step);
    }
    moved = farthest(&r, r.plain.w);
    optimizer_swap_average(o);
    averaged = farthest(&r, r.plain.average);
    optimizer_swap_average(o);
    print_message("%u threads: weights within %.1e, average within %.1e\n",
                  threads, moved, averaged);
    assert_true(moved < 1e-5 && averaged < 1e-5);
    assert_true(farthest(&r, r.plain.average) > 1e-3);
    assert_true(farthest(&r, r.plain.w) == moved);
    optimizer_free(o);
    team_free(team);
    rig_close(&r);
}

static void test_steps(void **state)
{
    (void)state;
    steps_of(1);
    steps_of(3);
}

/* The rows' lengths themselves, and what stays. */
static void test_sphere_and_fixed(void **state)
{
    struct rig r;
    struct team *team;
    struct optimizer *o;
    struct err e;
    const struct tensor *t;
    (void)state;
    rig_open(&r);
    assert_int_equal(team_new(&team, 2, &e), RC_OK);
    assert_int_equal(optimizer_new(&o, &r.p, r.values, r.options, team, &e),
                     RC_OK);
    real_step(&r, o, 1);
    t = &r.p.tensor[r.options.sphere];
    for (uint32_t row = 0; row < t->rows; row++) {
        double length = 0;
        for (uint32_t k = 0; k < t->cols; k++) {
            double x = (double)r.values[t->offset + row * t->cols + k];
            length += x * x;
        }
        assert_true(fabs(sqrt(length) - (double)radius) < 1e-5);
    }
    for (uint32_t k = 0; k < WIDTH; k++) {
        assert_true(params_of(&r.p, r.values, r.p.norm_weight)[k] == 1);
        assert_true(params_of(&r.p, r.values, r.p.norm_bias)[k] == 0);
    }
    optimizer_free(o);
    team_free(team);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_sphere_and_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
