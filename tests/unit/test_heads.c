/* Goal    The heads compute what heads.h and head_layers.h say, and each of
 *         their gradients is right.
 * Method  Compiled in double (tests.cmake). Every input of each loss is moved
 *         by +-1e-5 and the difference quotient compared with the gradient;
 *         what is served is compared with plain loops over the formulas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "heads.h"
#include "tokenise.h"

enum { ROWS = 5, WIDTH = 8, COLS = 11, SAMPLE = 6, REALS_MAX = 4096 };

/* exp and log are polynomials, right to about 1e-10: over twice the step that
 * makes differences of some 1e-6. */
#define STEP      1e-5
#define TOLERANCE 1e-5

static uint64_t drawn;

static double unit(void)
{
    return (double)draw_unit(draw(5, drawn++, 0)) - 0.5;
}

static void fill(real *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = (real)(4 * unit());
}

static struct packed pack(const real *w, uint32_t inner, uint32_t cols,
                          bool transposed)
{
    static _Alignas(64) real panels[REALS_MAX];
    assert_true(packed_size(inner, cols) <= REALS_MAX);
    return transposed ? matrix_pack_transposed(w, inner, cols, panels)
                      : matrix_pack(w, inner, cols, panels);
}

/* Moves each of count values and compares the slope of loss with gradient. */
typedef double loss_fn(void);
static void check(loss_fn *loss, real *values, const real *gradient,
                  size_t count, const char *what)
{
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        real kept = values[i];
        double up, down, slope, far;
        values[i] = kept + STEP;
        up = loss();
        values[i] = kept - STEP;
        down = loss();
        values[i] = kept;
        slope = (up - down) / (2 * STEP);
        far = fabs(slope - gradient[i]) / fmax(1, fabs(slope));
        if (far > worst) worst = far;
    }
    print_message("%s: largest difference %g\n", what, worst);
    assert_true(worst < TOLERANCE);
}

/* --- losses of the next event ------------------------------------------- */

static real hidden[ROWS * WIDTH], table[COLS * WIDTH], bias[COLS];
static real dhidden[ROWS * WIDTH], dtable[COLS * WIDTH], dbias[COLS];
static real logits[ROWS * COLS];
static const uint32_t targets[ROWS] = {3, 0, 10, 3, 7};
static const real scale = 0.3;

static double run_field(void)
{
    struct field_layer l = {.width = WIDTH,
                            .rows = COLS,
                            .weight_packed = pack(table, WIDTH, COLS, false),
                            .weight = table,
                            .bias = bias};
    memset(dhidden, 0, sizeof dhidden);
    memset(dtable, 0, sizeof dtable);
    memset(dbias, 0, sizeof dbias);
    return scale * field_loss(&l, hidden, ROWS, targets, scale, logits, dhidden,
                              dtable, dbias);
}

static double run_item(void)
{
    struct item_layer l = {.width = WIDTH,
                           .rows = COLS,
                           .table_packed = pack(table, WIDTH, COLS, true),
                           .table = table};
    memset(dhidden, 0, sizeof dhidden);
    memset(dtable, 0, sizeof dtable);
    return scale *
           item_loss(&l, hidden, ROWS, targets, scale, logits, dhidden, dtable);
}

static const uint32_t negatives[SAMPLE] = {1, 3, 9, 1, 0, 4};
static const real log_weight[SAMPLE] = {0.5, -0.2, 1, 0.5, 0.1, 0};

static double run_sample(void)
{
    real sample[SAMPLE * WIDTH], dsample[SAMPLE * WIDTH] = {0};
    real dtarget[ROWS * WIDTH] = {0};
    struct item_sample s = {negatives, log_weight, sample};
    struct item_layer l = {.width = WIDTH, .rows = SAMPLE, .table = table};
    double loss;
    for (uint32_t i = 0; i < SAMPLE; i++)
        memcpy(sample + i * WIDTH, table + negatives[i] * WIDTH,
               WIDTH * sizeof(real));
    l.table_packed = pack(sample, WIDTH, SAMPLE, true);
    memset(dhidden, 0, sizeof dhidden);
    memset(dtable, 0, sizeof dtable);
    loss = scale * item_sample_loss(&l, &s, hidden, ROWS, targets, scale,
                                    logits, dhidden, dsample, dtarget);
    for (uint32_t k = 0; k < WIDTH; k++) {
        for (uint32_t i = 0; i < SAMPLE; i++)
            dtable[negatives[i] * WIDTH + k] += dsample[i * WIDTH + k];
        for (uint32_t m = 0; m < ROWS; m++)
            dtable[targets[m] * WIDTH + k] += dtarget[m * WIDTH + k];
    }
    return loss;
}

static void check_next(loss_fn *loss, const char *what)
{
    real dh[ROWS * WIDTH], dt[COLS * WIDTH];
    (void)loss();
    memcpy(dh, dhidden, sizeof dh);
    memcpy(dt, dtable, sizeof dt);
    check(loss, hidden, dh, ROWS * WIDTH, what);
    check(loss, table, dt, COLS * WIDTH, what);
}

static void test_next_event_gradients(void **state)
{
    real db[COLS];
    (void)state;
    fill(hidden, ROWS * WIDTH);
    fill(table, COLS * WIDTH);
    fill(bias, COLS);
    check_next(run_field, "field");
    memcpy(db, dbias, sizeof db);
    (void)run_field();
    memcpy(db, dbias, sizeof db);
    check(run_field, bias, db, COLS, "field's bias");
    check_next(run_item, "item");
    check_next(run_sample, "sampled item");
}

/* The sum over the whole table is what a sample of everything estimates. */
static void test_sample_of_all_is_the_softmax(void **state)
{
    uint32_t all[COLS];
    real none[COLS] = {0}, dsample[COLS * WIDTH] = {0};
    real dtarget[ROWS * WIDTH] = {0};
    struct item_sample s = {all, none, table};
    struct item_layer l = {.width = WIDTH, .rows = COLS, .table = table};
    double full, sampled;
    (void)state;
    fill(hidden, ROWS * WIDTH);
    fill(table, COLS * WIDTH);
    for (uint32_t i = 0; i < COLS; i++)
        all[i] = i;
    full = run_item();
    l.table_packed = pack(table, WIDTH, COLS, true);
    sampled = scale * item_sample_loss(&l, &s, hidden, ROWS, targets, scale,
                                       logits, dhidden, dsample, dtarget);
    assert_true(fabs(full - sampled) < 1e-9);
}

/* --- fraud -------------------------------------------------------------- */

enum { MEMBERS = 3, INNER = 4, INPUTS = 9, S = MEMBERS * INNER, DX = 5 };

static real x[ROWS * INPUTS], dx[ROWS * DX], mask[ROWS * S];
static real w1[INPUTS * S], b1[S], w2[S], b2[MEMBERS];
static real dw1[INPUTS * S], db1[S], dw2[S], db2[MEMBERS];
static const uint8_t labels[ROWS] = {0, 1, 0, 0, 1};
static const real weights[ROWS] = {1, 5, 1, 1, 5};

static double run_fraud(void)
{
    struct fraud_layer l = {.inputs = INPUTS,
                            .members = MEMBERS,
                            .width = INNER,
                            .hidden_packed = pack(w1, INPUTS, S, false),
                            .hidden_weight = w1,
                            .hidden_bias = b1,
                            .output_weight = w2,
                            .output_bias = b2};
    struct fraud_gradients g = {dw1, db1, dw2, db2};
    real before[ROWS * S], after[ROWS * S], dafter[ROWS * S];
    real out[ROWS * MEMBERS], dout[ROWS * MEMBERS];
    double loss;
    memset(dw1, 0, sizeof dw1);
    memset(db1, 0, sizeof db1);
    memset(dw2, 0, sizeof dw2);
    memset(db2, 0, sizeof db2);
    fraud_forward(&l, x, ROWS, mask, before, after, out);
    loss = fraud_loss(out, ROWS, MEMBERS, labels, weights, scale, dout);
    fraud_backward(&l, x, ROWS, mask, before, after, dout, dafter, DX, dx, &g);
    return scale * loss;
}

static void test_fraud_gradients(void **state)
{
    real kept[INPUTS * S];
    (void)state;
    fill(x, ROWS * INPUTS);
    fill(w1, INPUTS * S);
    fill(b1, S);
    fill(w2, S);
    fill(b2, MEMBERS);
    for (uint32_t i = 0; i < ROWS * S; i++)
        mask[i] = i % 5 ? 1.25 : 0;
    (void)run_fraud();
    memcpy(kept, dw1, sizeof dw1);
    check(run_fraud, w1, kept, INPUTS * S, "fraud's inner weight");
    memcpy(kept, db1, sizeof db1);
    check(run_fraud, b1, kept, S, "fraud's inner bias");
    memcpy(kept, dw2, sizeof dw2);
    check(run_fraud, w2, kept, S, "fraud's output weight");
    memcpy(kept, db2, sizeof db2);
    check(run_fraud, b2, kept, MEMBERS, "fraud's output bias");
    memcpy(kept, dx, sizeof dx);
    for (uint32_t m = 0; m < ROWS; m++)
        check(run_fraud, x + m * INPUTS, kept + m * DX, DX, "fraud's input");
}

/* Far out the loss is the logit itself, not infinity. */
static void test_fraud_loss_far_out(void **state)
{
    const real far[4] = {200, -200, 200, -200};
    const uint8_t truth[4] = {1, 1, 0, 0};
    const real one[4] = {1, 1, 1, 1};
    real d[4];
    double loss = fraud_loss(far, 4, 1, truth, one, 1, d);
    (void)state;
    assert_true(fabs(loss - 400) < 1e-6);
    assert_true(fabs(d[1] + 1) < 1e-6 && fabs(d[2] - 1) < 1e-6);
    assert_true(fabs(d[0]) < 1e-6 && fabs(d[3]) < 1e-6);
}

/* --- features ----------------------------------------------------------- */

static void test_features(void **state)
{
    const float mean[2] = {1, 0}, by[2] = {2, 1};
    const float border[2 * 4] = {0, 1, 1, 3, -1, 0, 1, 2};
    const struct feature_layer l = {2, 3, mean, by, border};
    const float two = 2, in[2] = {expf(two) - 1, NAN};
    real out[2 * 5];
    (void)state;
    features_expand(&l, in, out);
    assert_true(fabs(out[0] - 2) < 1e-5); /* (2 - mean) times scale */
    assert_true(out[1] == 0);
    assert_true(out[2] == 0 && out[3] == 1); /* missing */
    assert_true(out[4] == 1 && out[5] == 1); /* an empty bin is full */
    assert_true(fabs(out[6] - 0.5) < 1e-5);
    assert_true(out[7] == 0 && out[8] == 0 && out[9] == 0);
    assert_true(feature_signed_log(-3) == -feature_signed_log(3));
    assert_true(isfinite(feature_signed_log(INFINITY)));
}

/* --- serving ------------------------------------------------------------ */

enum { ITEMS = 7, EVENTS = 130, FEATURES = 2, FRAUD_WIDTH = 4, AMOUNTS = 9 };

struct served {
    struct params *params;
    real *values;
    struct head_tables tables;
    float mean[FEATURES], scale[FEATURES], border[FEATURES * (BINS + 1)];
    real hidden[EVENTS][WIDTH];
    float features[EVENTS][FEATURES];
    struct token token[EVENTS];
    const real *states[EVENTS];
    const float *rows[EVENTS];
    const struct token *tokens[EVENTS];
};

static void fill_tables(struct served *s)
{
    struct head_tables *t = &s->tables;
    *t = (struct head_tables){.feature_mean = s->mean,
                              .feature_scale = s->scale,
                              .feature_border = s->border,
                              .calibration = {1.5f, -0.25f},
                              .reference_count = 3,
                              .reference = {1, 4, 6},
                              .depth = 5};
    for (uint32_t i = 0; i < FEATURES; i++)
        s->scale[i] = 1;
    for (uint32_t i = 0; i < FEATURES * (BINS + 1); i++)
        s->border[i] = (float)(i % (BINS + 1));
    for (uint32_t q = 0; q < QUANTILE_POINTS; q++) {
        for (uint32_t f = 0; f < 2; f++)
            t->field_quantile[f][q] = 0.1f * (float)q;
        for (uint32_t k = 0; k < OWN_MEASURES; k++)
            t->own_quantile[k][q] = 0.05f * (float)(q * (k + 1)) - 1;
        t->total_quantile[q] = 0.2f * (float)q;
    }
}

static void serve_init(struct served *s)
{
    struct behaviour_config c = {
        .layers = 1,
        .width = WIDTH,
        .heads = 1,
        .ffn = 8,
        .window = 4,
        .items = ITEMS,
        .item_buckets = 2,
        .field_count = 2,
        .field = {{"item", FIELD_ITEM, 0, ITEMS + 3, true},
                  {"amount_level", FIELD_AMOUNT_LEVEL, 0, AMOUNTS, true}},
        .features = FEATURES,
        .bins = BINS,
        .fraud_heads = MEMBERS,
        .fraud_width = FRAUD_WIDTH};
    s->params = malloc(sizeof *s->params);
    params_init(s->params, &c);
    s->values = malloc(s->params->size * sizeof(real));
    fill(s->values, s->params->size);
    fill_tables(s);
    for (uint32_t i = 0; i < EVENTS; i++) {
        fill(s->hidden[i], WIDTH);
        s->states[i] = i % 10 ? s->hidden[i] : NULL;
        s->features[i][0] = (float)unit() * 50;
        s->features[i][1] = i % 7 ? (float)i : NAN;
        s->rows[i] = s->features[i];
        s->token[i].row[0] = i % (ITEMS + 3);
        s->token[i].row[1] = i % AMOUNTS;
        s->token[i].amount = (float)unit() * 8;
        s->token[i].amount_ratio = i % 6 ? (float)unit() * 4 : TOKEN_NO_AMOUNT;
        s->tokens[i] = &s->token[i];
    }
}

static void serve_fini(struct served *s)
{
    free(s->params);
    free(s->values);
}

static double plain_dot(const real *a, const real *b, uint32_t count,
                        uint32_t step)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += a[i] * b[(size_t)i * step];
    return sum;
}

static double plain_gelu(double v)
{
    return v / (1 + exp(-2 * sqrt(2 / 3.141592653589793) *
                        (v + 0.044715 * v * v * v)));
}

static double plain_fraud(const struct served *s, uint32_t i)
{
    const struct params *p = s->params;
    const real *weight = params_of(p, s->values, p->fraud_hidden_weight);
    const real *inner = params_of(p, s->values, p->fraud_hidden_bias);
    const real *output = params_of(p, s->values, p->fraud_output_weight);
    const real *last = params_of(p, s->values, p->fraud_output_bias);
    real in[WIDTH + FEATURES * (2 + BINS)];
    const struct feature_layer l = {FEATURES, BINS, s->mean, s->scale,
                                    s->border};
    double sum = 0;
    uint32_t n = MEMBERS * FRAUD_WIDTH;
    memcpy(in, s->hidden[i], sizeof s->hidden[i]);
    features_expand(&l, s->features[i], in + WIDTH);
    for (uint32_t k = 0; k < n; k++)
        sum += output[k] *
               plain_gelu(inner[k] + plain_dot(in, weight + k,
                                               fraud_inputs(&p->config), n));
    for (uint32_t k = 0; k < MEMBERS; k++)
        sum += last[k];
    return 1 / (1 + exp(-(1.5 * sum / MEMBERS - 0.25)));
}

static void test_fraud_is_the_formula(void **state)
{
    static struct served s;
    const real *after[EVENTS];
    float out[EVENTS], alone;
    double worst = 0;
    struct heads *h;
    real *scratch;
    (void)state;
    serve_init(&s);
    for (uint32_t i = 0; i < EVENTS; i++)
        after[i] = s.hidden[i];
    h = heads_new(s.params, s.values, &s.tables);
    scratch = aligned_alloc(64, heads_scratch(s.params) * 64);
    heads_fraud(h, after, s.rows, EVENTS, scratch, out);
    for (uint32_t i = 0; i < EVENTS; i++) {
        double far = fabs((double)out[i] - plain_fraud(&s, i));
        if (far > worst) worst = far;
        heads_fraud(h, after + i, s.rows + i, 1, scratch, &alone);
        assert_memory_equal(&alone, &out[i], sizeof alone);
    }
    print_message("fraud: largest difference %g\n", worst);
    assert_true(worst < 1e-5);
    free(scratch);
    heads_free(h);
    serve_fini(&s);
}

/* Both fields by the formulas: -ln p, and -ln of the tail. */
static void plain_surprise(const struct served *s, uint32_t i, double out[2])
{
    const struct params *p = s->params;
    const real *before =
        s->states[i] ? s->states[i] : params_of(p, s->values, p->start);
    const real *items = params_of(p, s->values, p->embedding[0]);
    const real *weight = params_of(p, s->values, p->next_weight[1]);
    const real *shift = params_of(p, s->values, p->next_bias[1]);
    uint32_t item = s->token[i].row[0], amount = s->token[i].row[1];
    double sum = 0, least = INFINITY, own, all = 0;
    double above = 0;
    for (uint32_t k = 0; k < s->tables.reference_count; k++) {
        double v = plain_dot(
            before, items + (size_t)s->tables.reference[k] * WIDTH, WIDTH, 1);
        sum += exp(v);
        least = fmin(least, v);
    }
    own = item < ITEMS
              ? plain_dot(before, items + (size_t)item * WIDTH, WIDTH, 1)
              : least;
    out[0] = log(sum + exp(own)) - own;
    for (uint32_t k = 0; k < AMOUNTS; k++) {
        double p_ =
            exp(shift[k] + plain_dot(before, weight + k, WIDTH, AMOUNTS));
        all += p_;
        if (k >= amount) above += p_;
    }
    out[1] = -log(above / all);
}

static void test_anomaly_is_the_formula(void **state)
{
    static struct served s;
    enum { COLUMNS = 2 + OWN_MEASURES };
    float surprise[EVENTS * COLUMNS], out[EVENTS];
    uint32_t deepest[COLUMNS] = {0};
    double worst = 0;
    struct heads *h;
    real *scratch;
    (void)state;
    serve_init(&s);
    h = heads_new(s.params, s.values, &s.tables);
    scratch = aligned_alloc(64, heads_scratch(s.params) * 64);
    heads_surprise(h, s.states, s.tokens, EVENTS, scratch, surprise);
    heads_anomaly(h, s.states, s.tokens, EVENTS, scratch, out);
    for (uint32_t i = 0; i < EVENTS; i++) {
        double want[COLUMNS], total = 0, depth;
        uint32_t last = 0;
        plain_surprise(&s, i, want);
        want[2] = (double)s.token[i].amount_ratio;
        want[3] = (double)s.token[i].amount;
        for (uint32_t f = 0; f < COLUMNS; f++) {
            double far = fabs((double)surprise[COLUMNS * i + f] - want[f]);
            if (far > worst) worst = far;
            /* The tables are straight lines: of a field from 0, 9.5 is at
               depth 5; of the token's own from -1, 3.75 or 8.5. */
            depth = f < 2 ? 0.4 * want[f] / 9.5 * 5
                          : (want[f] + 1) / (4.75 * (f - 1)) * 5;
            if (depth <= total) continue;
            total = depth;
            last = f;
        }
        deepest[last]++;
        depth = total / 19 * 5;
        assert_true(fabs((double)out[i] - (1 - exp(-depth))) < 1e-4);
    }
    print_message("surprise: largest difference %g\n", worst);
    assert_true(worst < 1e-5);
    assert_true(deepest[0] + deepest[1] > 0 && deepest[2] > 0 &&
                deepest[3] > 0);
    free(scratch);
    heads_free(h);
    serve_fini(&s);
}

static void test_tails(void **state)
{
    const real start[4] = {0, (real)log(2), (real)log(5), (real)log(2)};
    static const double above[4] = {1, 0.9, 0.7, 0.2};
    static const double both[4] = {0.2, 0.6, 1, 0.4};
    (void)state;
    for (uint32_t t = 0; t < 4; t++) {
        real row[4];
        float out;
        memcpy(row, start, sizeof row);
        tail_surprise(row, 1, 4, &t, TAIL_ABOVE, &out);
        assert_true(fabs((double)out + log(above[t])) < 1e-5);
        memcpy(row, start, sizeof row);
        tail_surprise(row, 1, 4, &t, TAIL_BOTH, &out);
        assert_true(fabs((double)out + log(both[t])) < 1e-5);
    }
}

static void test_quantiles(void **state)
{
    float table_[QUANTILE_POINTS];
    (void)state;
    for (uint32_t i = 0; i < QUANTILE_POINTS; i++)
        table_[i] = (float)(i / 2); /* ties */
    assert_true(quantile_depth(table_, 10, -5) == 0);
    assert_true(quantile_depth(table_, 10, 0) == 0);
    assert_true(quantile_depth(table_, 10, NAN) == 0);
    assert_true(quantile_depth(table_, 10, 47) >= 10);
    assert_true(quantile_depth(table_, 10, 60) > 10);
    for (float v = 0; v < 60; v += 0.25f)
        assert_true(quantile_depth(table_, 10, v) <=
                    quantile_depth(table_, 10, v + 0.25f));
    memset(table_, 0, sizeof table_); /* all the same: known as odd beyond */
    assert_true(quantile_depth(table_, 10, 1) == 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_event_gradients),
        cmocka_unit_test(test_sample_of_all_is_the_softmax),
        cmocka_unit_test(test_fraud_gradients),
        cmocka_unit_test(test_fraud_loss_far_out),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_fraud_is_the_formula),
        cmocka_unit_test(test_anomaly_is_the_formula),
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
