/* Goal: the forward pass is the model of model/README.md, as another hand
 * wrote it.
 * Method: random weights, tokens and the hidden states that numpy made of
 * them in 64-bit floats (tests/golden/make_behaviour.py), within 1e-5 where
 * keys and values are fp32; with bf16 the difference is printed, and is
 * neither nothing nor much. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "behaviour.h"
#include "golden.h"
#include "safetensors.h"

#include <math.h>
#include <stdlib.h>

enum { TOKENS_MAX = 64 };

static const struct stored_tensor *stored(const struct safetensors *s,
                                          const char *name)
{
    const struct stored_tensor *t = safetensors_find(s, name);
    if (!t) fail_msg("no tensor %s", name);
    return t;
}

static struct behaviour_config config_of(const struct safetensors *s)
{
    const int32_t *shape = stored(s, "golden.shape")->data;
    struct behaviour_config c = {
        .layers = (uint32_t)shape[0],
        .width = (uint32_t)shape[1],
        .heads = (uint32_t)shape[2],
        .ffn = (uint32_t)shape[3],
        .window = (uint32_t)shape[4],
        .items = (uint32_t)shape[5],
        .item_buckets = (uint32_t)shape[6],
        .has_time = true,
        .field_count = 2,
        .field = {{.name = "item", .kind = FIELD_ITEM},
                  {.name = "type", .kind = FIELD_TYPE}},
    };
    c.field[0].rows = c.items + c.item_buckets + 1;
    c.field[1].rows = (uint32_t)shape[7];
    return c;
}

/* Only the start (before a user's first event) is not the transformer's. */
static void load_weights(const struct params *p, const struct safetensors *s,
                         real *values)
{
    for (uint32_t t = 0; t < p->count; t++) {
        const struct tensor *tensor = &p->tensor[t];
        const struct stored_tensor *from;
        if (t == p->start) continue;
        from = stored(s, tensor->name);
        assert_int_equal(from->bytes,
                         (size_t)tensor->rows * tensor->cols * sizeof(float));
        memcpy(values + tensor->offset, from->data, from->bytes);
    }
}

static double largest_difference(const struct safetensors *s, bool bf16)
{
    struct behaviour_config c = config_of(s);
    struct params *p = calloc(1, sizeof *p);
    const struct stored_tensor *rows = stored(s, "golden.rows");
    const int64_t *time_ms = stored(s, "golden.time_ms")->data;
    const float *expected = stored(s, "golden.hidden")->data;
    uint32_t count = (uint32_t)rows->shape[0];
    struct token token[TOKENS_MAX] = {0};
    struct sequence sequence = {.tokens = token, .count = count};
    struct behaviour *b;
    struct trainer *t;
    const real *hidden;
    double worst = 0;
    real *values;
    struct err e;

    c.kv_bf16 = bf16;
    if (behaviour_config_check(&c, &e) != RC_OK) fail_msg("%s", e.text);
    assert_true(count <= TOKENS_MAX);
    params_init(p, &c);
    values = calloc(p->size, sizeof *values);
    load_weights(p, s, values);
    for (uint32_t i = 0; i < count; i++) {
        token[i].time_ms = time_ms[i];
        for (uint32_t f = 0; f < c.field_count; f++)
            token[i].row[f] =
                (uint32_t)((const int32_t *)rows->data)[i * c.field_count + f];
    }
    b = behaviour_new(p, values);
    t = trainer_new(b, count, 1);
    hidden = trainer_forward(t, &sequence, 1, (struct dropout){0});
    for (uint32_t i = 0; i < count * c.width; i++)
        worst = fmax(worst, fabs((double)hidden[i] - expected[i]));
    trainer_free(t);
    behaviour_free(b);
    free(values);
    free(p);
    return worst;
}

static void test_hidden_states(void **state)
{
    struct slice bytes =
        golden_bytes("behaviour_v1.safetensors", slice_of(NULL, 0));
    struct safetensors *s;
    struct err e;
    double fp32, bf16;
    (void)state;
    if (safetensors_parse(&s, bytes, &e) != RC_OK) fail_msg("%s", e.text);
    fp32 = largest_difference(s, false);
    bf16 = largest_difference(s, true);
    print_message("largest difference from numpy: %.2g, with bf16 keys and "
                  "values %.2g\n",
                  fp32, bf16);
    assert_true(fp32 < 1e-5);
    assert_true(bf16 > 1e-5 && bf16 < 0.1);
    safetensors_free(s);
    free((void *)bytes.ptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hidden_states)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
