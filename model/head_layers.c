#include "head_layers.h"

#include <math.h>
#include <string.h>

enum { STANDARD_LIMIT = 8 }; /* standardised features end here */
#define FEATURE_LIMIT 1e30f
/* The smallest share told apart from none. */
#define TAIL_MIN ((real)1e-30)
/* A logit whose exponential is nothing, yet not infinite. */
#define OUT_OF_SAMPLE ((real)-1e30)

double softmax_loss(real *logits, uint32_t rows, uint32_t cols,
                    const uint32_t *targets, real scale)
{
    double loss = 0;
    for (uint32_t m = 0; m < rows; m++) {
        real *row = logits + (size_t)m * cols;
        real target = row[targets[m]];
        loss += matrix_softmax(row, cols) - target;
        for (uint32_t r = 0; r < cols; r++)
            row[r] *= scale;
        row[targets[m]] -= scale;
    }
    return loss;
}

void softmax_surprise(const real *logits, uint32_t rows, uint32_t cols,
                      const uint32_t *targets, float *out)
{
    for (uint32_t m = 0; m < rows; m++) {
        const real *row = logits + (size_t)m * cols;
        out[m] = (float)(matrix_log_sum_exp(row, cols) - row[targets[m]]);
    }
}

void tail_surprise(real *logits, uint32_t rows, uint32_t cols,
                   const uint32_t *targets, enum tail which, float *out)
{
    for (uint32_t m = 0; m < rows; m++) {
        real *row = logits + (size_t)m * cols;
        real below = 0, above = 0, tail;
        (void)matrix_softmax(row, cols);
        for (uint32_t r = 0; r <= targets[m]; r++)
            below += row[r];
        for (uint32_t r = targets[m]; r < cols; r++)
            above += row[r];
        tail = above;
        if (which == TAIL_BOTH) tail = 2 * (below < above ? below : above);
        if (tail > 1) tail = 1;
        out[m] = (float)-matrix_log(tail > TAIL_MIN ? tail : TAIL_MIN);
    }
}

double field_loss(const struct field_layer *l, const real *hidden,
                  uint32_t rows, const uint32_t *targets, real scale,
                  real *logits, real *dhidden, real *dweight, real *dbias)
{
    double loss;
    matrix_multiply(hidden, l->width, rows, &l->weight_packed, l->bias, logits,
                    l->rows, MATRIX_SET);
    loss = softmax_loss(logits, rows, l->rows, targets, scale);
    matrix_gradient_input(logits, l->rows, rows, l->weight, l->width, l->rows,
                          dhidden, l->width, MATRIX_ADD);
    matrix_gradient_weight(hidden, l->width, logits, l->rows, rows, l->width,
                           l->rows, dweight);
    matrix_gradient_bias(logits, l->rows, rows, l->rows, dbias);
    return loss;
}

double item_loss(const struct item_layer *l, const real *hidden, uint32_t rows,
                 const uint32_t *targets, real scale, real *logits,
                 real *dhidden, real *dtable)
{
    double loss;
    matrix_multiply(hidden, l->width, rows, &l->table_packed, NULL, logits,
                    l->rows, MATRIX_SET);
    loss = softmax_loss(logits, rows, l->rows, targets, scale);
    matrix_gradient_table_input(logits, l->rows, rows, l->table, l->width,
                                l->rows, dhidden, l->width, MATRIX_ADD);
    matrix_gradient_table(hidden, l->width, logits, l->rows, rows, l->width,
                          l->rows, dtable);
    return loss;
}

real row_dot(const real *a, const real *b, uint32_t count)
{
    real sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* One row's loss, its logits turned into gradients; *dtarget is that of the
 * target's own logit. */
static double sample_row(const struct item_layer *l,
                         const struct item_sample *s, uint32_t target,
                         real target_logit, real scale, real *row,
                         real *dtarget)
{
    real sum, rest, all, share;
    for (uint32_t k = 0; k < l->rows; k++)
        row[k] = s->negatives[k] == target ? OUT_OF_SAMPLE
                                           : row[k] + s->log_weight[k];
    rest = matrix_softmax(row, l->rows);
    /* ln(exp(rest) + exp(target)), and each part's share of it. */
    all = rest > target_logit ? rest : target_logit;
    sum = matrix_exp(rest - all) + matrix_exp(target_logit - all);
    all += matrix_log(sum);
    share = scale * matrix_exp(rest - all);
    for (uint32_t k = 0; k < l->rows; k++)
        row[k] *= share;
    *dtarget = scale * (matrix_exp(target_logit - all) - 1);
    return all - target_logit;
}

double item_sample_loss(const struct item_layer *l, const struct item_sample *s,
                        const real *hidden, uint32_t rows,
                        const uint32_t *targets, real scale, real *logits,
                        real *dhidden, real *dsample, real *dtarget)
{
    double loss = 0;
    uint32_t d = l->width;
    matrix_multiply(hidden, d, rows, &l->table_packed, NULL, logits, l->rows,
                    MATRIX_SET);
    for (uint32_t m = 0; m < rows; m++) {
        const real *h = hidden + (size_t)m * d;
        const real *item = l->table + (size_t)targets[m] * d;
        real gradient;
        loss += sample_row(l, s, targets[m], row_dot(h, item, d), scale,
                           logits + (size_t)m * l->rows, &gradient);
        for (uint32_t i = 0; i < d; i++) {
            dhidden[(size_t)m * d + i] += gradient * item[i];
            dtarget[(size_t)m * d + i] += gradient * h[i];
        }
    }
    matrix_gradient_table_input(logits, l->rows, rows, s->sample, d, l->rows,
                                dhidden, d, MATRIX_ADD);
    matrix_gradient_table(hidden, d, logits, l->rows, rows, d, l->rows,
                          dsample);
    return loss;
}

void fraud_forward(const struct fraud_layer *l, const real *x, uint32_t rows,
                   const real *mask, real *before, real *after, real *logits)
{
    uint32_t inner = l->members * l->width;
    size_t count = (size_t)rows * inner;
    matrix_multiply(x, l->inputs, rows, &l->hidden_packed, l->hidden_bias,
                    before, inner, MATRIX_SET);
    matrix_gelu(before, count, after);
    for (size_t i = 0; mask && i < count; i++)
        after[i] *= mask[i];
    for (uint32_t m = 0; m < rows; m++)
        for (uint32_t k = 0; k < l->members; k++)
            logits[(size_t)m * l->members + k] =
                l->output_bias[k] +
                row_dot(after + (size_t)m * inner + (size_t)k * l->width,
                        l->output_weight + (size_t)k * l->width, l->width);
}

/* Gradients of the output layer; fills dafter. */
static void output_backward(const struct fraud_layer *l, uint32_t rows,
                            const real *after, const real *dlogits,
                            real *dafter, const struct fraud_gradients *g)
{
    uint32_t inner = l->members * l->width;
    for (uint32_t m = 0; m < rows; m++) {
        for (uint32_t k = 0; k < l->members; k++) {
            real d = dlogits[(size_t)m * l->members + k];
            size_t at = (size_t)m * inner + (size_t)k * l->width;
            g->output_bias[k] += d;
            for (uint32_t j = 0; j < l->width; j++) {
                g->output_weight[k * l->width + j] += d * after[at + j];
                dafter[at + j] = d * l->output_weight[k * l->width + j];
            }
        }
    }
}

void fraud_backward(const struct fraud_layer *l, const real *x, uint32_t rows,
                    const real *mask, const real *before, const real *after,
                    const real *dlogits, real *dafter, uint32_t dx_cols,
                    real *dx, const struct fraud_gradients *g)
{
    uint32_t inner = l->members * l->width;
    size_t count = (size_t)rows * inner;
    output_backward(l, rows, after, dlogits, dafter, g);
    for (size_t i = 0; mask && i < count; i++)
        dafter[i] *= mask[i];
    matrix_gelu_backward(before, count, dafter);
    matrix_gradient_weight(x, l->inputs, dafter, inner, rows, l->inputs, inner,
                           g->hidden_weight);
    matrix_gradient_bias(dafter, inner, rows, inner, g->hidden_bias);
    /* The rows of a weight are its inputs, so the first rows give the
     * gradient of the first columns. */
    matrix_gradient_input(dafter, inner, rows, l->hidden_weight, dx_cols, inner,
                          dx, dx_cols, MATRIX_SET);
}

double fraud_loss(const real *logits, uint32_t rows, uint32_t members,
                  const uint8_t *labels, const real *weights, real scale,
                  real *dlogits)
{
    double loss = 0;
    for (uint32_t m = 0; m < rows; m++) {
        for (uint32_t k = 0; k < members; k++) {
            size_t at = (size_t)m * members + k;
            real x = labels[m] ? logits[at] : -logits[at];
            real far = x < 0 ? -x : x;
            /* -ln sigmoid(x), without overflow at either end. */
            real cost = matrix_log(1 + matrix_exp(-far)) + (x < 0 ? far : 0);
            real p = matrix_sigmoid(logits[at]);
            loss += (double)(weights[m] * cost) / members;
            dlogits[at] = scale * weights[m] * (p - labels[m]) / (real)members;
        }
    }
    return loss;
}

float feature_signed_log(float x)
{
    float size = x < 0 ? -x : x;
    float y;
    if (size > FEATURE_LIMIT) size = FEATURE_LIMIT;
    y = (float)matrix_log(1 + (real)size);
    return x < 0 ? -y : y;
}

static real bin_fill(float y, float low, float high)
{
    if (y >= high) return 1;
    if (y <= low) return 0;
    return (real)((y - low) / (high - low));
}

static real standardise(const struct feature_layer *l, uint32_t f, float y)
{
    float z = (y - l->mean[f]) * l->scale[f];
    if (z > STANDARD_LIMIT) z = STANDARD_LIMIT;
    if (z < -STANDARD_LIMIT) z = -STANDARD_LIMIT;
    return (real)z;
}

real feature_standardise(const struct feature_layer *l, uint32_t feature,
                         float x)
{
    return standardise(l, feature, feature_signed_log(x));
}

void features_expand(const struct feature_layer *l, const float *x, real *out)
{
    uint32_t features = l->features;
    real *missing = out + features, *bins = missing + features;
    memset(out, 0, features * (2 + l->bins) * sizeof *out);
    for (uint32_t f = 0; f < features; f++) {
        const float *border = l->border + (size_t)f * (l->bins + 1);
        float y;
        if (isnan(x[f])) {
            missing[f] = 1;
            continue;
        }
        y = feature_signed_log(x[f]);
        out[f] = standardise(l, f, y);
        for (uint32_t b = 0; b < l->bins; b++)
            bins[(size_t)f * l->bins + b] =
                bin_fill(y, border[b], border[b + 1]);
    }
}
