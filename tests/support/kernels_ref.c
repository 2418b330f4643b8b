#include "kernels_ref.h"

#include "hash.h"
#include "params.h"

#include <float.h>
#include <math.h>
#include <string.h>

static void multiply(const real *a, size_t a_stride, uint32_t rows,
                     const struct packed *b, const real *bias, real *c,
                     size_t c_stride, enum matrix_mode mode)
{
    for (uint32_t m = 0; m < rows; m++)
        for (uint32_t n = 0; n < b->cols; n++) {
            const real *panel =
                b->panels + (size_t)(n / PANEL_COLS) * PANEL_COLS * b->inner;
            real sum = 0;
            for (uint32_t k = 0; k < b->inner; k++)
                sum += a[m * a_stride + k] *
                       panel[(size_t)k * PANEL_COLS + n % PANEL_COLS];
            if (bias) sum += bias[n];
            if (mode == MATRIX_ADD)
                c[m * c_stride + n] += sum;
            else
                c[m * c_stride + n] = sum;
        }
}

static double gelu_tanh(double x)
{
    return tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x));
}

static void gelu(const real *x, size_t count, real *y)
{
    for (size_t i = 0; i < count; i++)
        y[i] = (real)(0.5 * x[i] * (1 + gelu_tanh(x[i])));
}

static void gelu_backward(const real *x, size_t count, real *dy)
{
    for (size_t i = 0; i < count; i++) {
        double v = x[i], t = gelu_tanh(v);
        double slope = sqrt(2 / acos(-1)) * (1 + 3 * 0.044715 * v * v);
        dy[i] *= (real)(0.5 * (1 + t) + 0.5 * v * (1 - t * t) * slope);
    }
}

static void gelu_erf(const real *x, size_t count, real *y)
{
    for (size_t i = 0; i < count; i++)
        y[i] = (real)(0.5 * x[i] * (1 + erf((double)x[i] * sqrt(0.5))));
}

static void norm(const real *x, uint32_t rows, uint32_t width, real epsilon,
                 const real *weight, const real *bias, real *y, real *stats)
{
    for (uint32_t r = 0; r < rows; r++, x += width, y += width) {
        double mean = 0, variance = 0, scale;
        for (uint32_t i = 0; i < width; i++)
            mean += x[i];
        mean /= width;
        for (uint32_t i = 0; i < width; i++)
            variance += (x[i] - mean) * (x[i] - mean);
        scale = 1 / sqrt(variance / width + epsilon);
        for (uint32_t i = 0; i < width; i++)
            y[i] = (real)((x[i] - mean) * scale * weight[i] + bias[i]);
        if (stats) {
            stats[2 * r] = (real)mean;
            stats[2 * r + 1] = (real)scale;
        }
    }
}

/* By the chain rule through mean and variance, one by one. */
static void norm_backward(const real *x, const real *stats, const real *weight,
                          const real *dy, uint32_t rows, uint32_t width,
                          real *dx, real *dweight, real *dbias)
{
    for (uint32_t r = 0; r < rows; r++, x += width, dy += width, dx += width) {
        double mean = stats[2 * r], scale = stats[2 * r + 1];
        double dmean = 0, dvariance = 0;
        for (uint32_t i = 0; i < width; i++) {
            double g = (double)dy[i] * weight[i];
            dvariance += g * (x[i] - mean) * -0.5 * scale * scale * scale;
            dmean += -g * scale;
            dweight[i] += (real)(dy[i] * (x[i] - mean) * scale);
            dbias[i] += dy[i];
        }
        for (uint32_t i = 0; i < width; i++)
            dx[i] +=
                (real)((double)dy[i] * weight[i] * scale +
                       dvariance * 2 * (x[i] - mean) / width + dmean / width);
    }
}

static real log_sum_exp(const real *x, size_t count)
{
    double most = x[0], sum = 0;
    for (size_t i = 1; i < count; i++)
        most = fmax(most, x[i]);
    for (size_t i = 0; i < count; i++)
        sum += exp(x[i] - most);
    return (real)(most + log(sum));
}

static real softmax(real *x, size_t count)
{
    real total = log_sum_exp(x, count);
    for (size_t i = 0; i < count; i++)
        x[i] = (real)exp((double)x[i] - total);
    return total;
}

static void softmax_backward(const real *p, real *dp, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)p[i] * dp[i];
    for (size_t i = 0; i < count; i++)
        dp[i] = (real)(p[i] * (dp[i] - sum));
}

static real exp_one(real x)
{
    return (real)exp(x);
}

static real log_one(real x)
{
    return (real)log(x);
}

static void add_scaled(const real *x, real scale, size_t count, real *y)
{
    for (size_t i = 0; i < count; i++)
        y[i] += scale * x[i];
}

static void sum_rows(const real *start, const real *const *row,
                     const real *scale, uint32_t count, uint32_t width, real *y)
{
    for (uint32_t i = 0; i < width; i++) {
        y[i] = start[i];
        for (uint32_t r = 0; r < count; r++)
            y[i] += scale[r] * row[r][i];
    }
}

static void mask(uint64_t key, uint32_t cut, real keep, uint32_t width, real *x)
{
    for (uint32_t i = 0; i < width; i++) {
        uint64_t bits = hash_mix(key ^ (i - i % 8)) >> i % 8 * 8;
        x[i] = (bits & 0xff) < cut ? 0 : x[i] * keep;
    }
}

/* The nearer of the two neighbours; of equally near ones the even. */
static void round_bf16(real *x, size_t count, uint16_t *out)
{
    for (size_t i = 0; i < count; i++) {
        float f = (float)x[i], below, above;
        uint32_t bits, up;
        memcpy(&bits, &f, sizeof bits);
        bits &= 0xffff0000u;
        up = bits + 0x10000u;
        memcpy(&below, &bits, sizeof below);
        memcpy(&above, &up, sizeof above);
        if (fabs((double)f - above) < fabs((double)f - below) ||
            (fabs((double)f - above) == fabs((double)f - below) &&
             (bits >> 16 & 1)))
            bits = up;
        out[i] = (uint16_t)(bits >> 16);
        memcpy(&f, &bits, sizeof f);
        x[i] = f;
    }
}

/* Element of a page's K (half 0) or V (half 1). */
static double kv_at(const struct attention *a, uint32_t key, uint32_t column,
                    uint32_t half)
{
    const uint8_t *base =
        (const uint8_t *)a->page[key / KV_BLOCK] + a->layer_offset;
    uint32_t slot = key % KV_BLOCK;
    size_t at = half == 0 ? (size_t)column * KV_BLOCK + slot
                          : (size_t)a->width * KV_BLOCK +
                                (size_t)slot * a->width + column;
    uint16_t bits16;
    uint32_t bits;
    float f;
    real r;
    if (!a->bf16) {
        memcpy(&r, base + at * sizeof r, sizeof r);
        return r;
    }
    memcpy(&bits16, base + at * sizeof bits16, sizeof bits16);
    bits = (uint32_t)bits16 << 16;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static double attend_head(const struct attention *a, uint32_t h)
{
    uint32_t columns = a->width / a->heads;
    real *weight = a->weight + h * a->weight_stride;
    double most = -DBL_MAX, total = 0;
    for (uint32_t k = 0; k < a->keys; k++) {
        double score = a->distance[h * a->distance_stride + k];
        if (a->time) score += a->time[h * BIAS_BUCKETS + a->time_bucket[k]];
        for (uint32_t d = h * columns; d < (h + 1) * columns; d++)
            score += a->query[d] * kv_at(a, k, d, 0);
        weight[k] = (real)score;
        most = fmax(most, score);
    }
    for (uint32_t k = 0; k < a->keys; k++) {
        weight[k] = (real)exp((double)weight[k] - most);
        total += weight[k];
    }
    return total;
}

static void attend(const struct attention *a)
{
    uint32_t columns = a->width / a->heads;
    for (uint32_t h = 0; h < a->heads; h++) {
        double total = attend_head(a, h);
        a->total[h] = (real)total;
        for (uint32_t d = h * columns; d < (h + 1) * columns; d++) {
            double sum = 0;
            for (uint32_t k = 0; k < a->keys; k++)
                sum += a->weight[h * a->weight_stride + k] * kv_at(a, k, d, 1);
            a->out[d] = (real)(sum / total);
        }
    }
}

static void time_buckets(int32_t query, const int32_t *key, uint32_t count,
                         uint8_t *out)
{
    for (uint32_t k = 0; k < count; k++) {
        int64_t gap = (int64_t)query - key[k];
        uint32_t bucket = 0;
        while (bucket < BIAS_BUCKETS - 1 && gap >= ((int64_t)2 << bucket) - 1)
            bucket++;
        out[k] = (uint8_t)bucket;
    }
}

static uint32_t scan(const struct scan *s, uint32_t first, uint32_t count,
                     const struct scan_query *q, uint32_t queries,
                     uint32_t *hits)
{
    for (uint32_t g = 0; g < count; g++) {
        uint32_t any = 0;
        for (uint32_t i = 0; i < queries; i++) {
            hits[i] = 0;
            for (uint32_t j = 0; j < SCAN_GROUP; j++) {
                size_t item = (size_t)(first + g) * SCAN_GROUP + j;
                const int8_t *bytes =
                    s->panels + (size_t)(first + g) * s->width * SCAN_GROUP +
                    (size_t)(j / SCAN_HALF) * s->width * SCAN_HALF +
                    2 * (j % SCAN_HALF);
                int32_t dot = 0;
                double bound;
                for (uint32_t k = 0; k < s->width; k++) {
                    uint32_t pair = q[i].pairs[k / 2];
                    int32_t x = (int32_t)(pair >> (k % 2 * 8) & 0xff) - 128;
                    dot += x * bytes[k / 2 * 2 * SCAN_HALF + k % 2];
                }
                bound =
                    dot * (double)s->scale[item] +
                    (double)q[i].reach *
                        (s->residual[item] + (double)q[i].loss * s->norm[item]);
                hits[i] |= (uint32_t)(bound > q[i].limit) << j;
            }
            any |= hits[i];
        }
        if (any) return g;
    }
    return count;
}

static void score_rows(const real *a, const real *const *row, uint32_t count,
                       uint32_t width, real *out)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = 0;
        for (uint32_t k = 0; k < width; k++)
            out[i] += a[k] * row[i][k];
    }
}

const struct kernels kernels_ref = {
    .name = "ref",
    .multiply = multiply,
    .gelu = gelu,
    .gelu_backward = gelu_backward,
    .gelu_erf = gelu_erf,
    .norm = norm,
    .norm_backward = norm_backward,
    .log_sum_exp = log_sum_exp,
    .softmax = softmax,
    .softmax_backward = softmax_backward,
    .exp = exp_one,
    .log = log_one,
    .add_scaled = add_scaled,
    .sum_rows = sum_rows,
    .mask = mask,
    .round_bf16 = round_bf16,
    .attend = attend,
    .scan = scan,
    .score_rows = score_rows,
    .time_buckets = time_buckets,
};
