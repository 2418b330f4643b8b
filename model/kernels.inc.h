/* kernels.inc.h - the body of a kernel family, over vec.h.
 *
 * Included once by each kernels_*.c, which defines KERNELS_NAME (the
 * struct) and KERNELS_TEXT. Read matrix.h for what each function computes. */

#include "hash.h"
#include "kernels.h"
#include "params.h"
#include "vec.h"

#include <assert.h>
#include <float.h>

#define INLINE static inline __attribute__((always_inline))

/* ---- exp, log -------------------------------------------------------- */

#define EXP_LOW  -87.3f /* below: 0, so that no result is denormal */
#define EXP_HIGH 88.0f
#define LOG2_E   1.44269504088896341f
#define MAGIC    12582912.0f /* 1.5 2^23: adding it rounds to an integer */
#define LN2_HIGH 0.693359375f
#define LN2_LOW  -2.12194440e-4f

/* exp(x) = 2^n exp(r), |r| <= ln 2 / 2; the polynomial is that of Moshier's
 * Cephes library (expf). Largest error seen: README.md. */
INLINE vec vec_exp(vec x)
{
    vec zero = vec_set1(0), magic, n, r, p, y;
    vec capped = vec_min(x, vec_set1(EXP_HIGH));
    capped = vec_max(capped, vec_set1(EXP_LOW));
    magic = vec_fma(capped, vec_set1(LOG2_E), vec_set1(MAGIC));
    n = vec_sub(magic, vec_set1(MAGIC));
    r = vec_fma(n, vec_set1(-LN2_HIGH), capped);
    r = vec_fma(n, vec_set1(-LN2_LOW), r);
    p = vec_set1(1.9875691500e-4f);
    p = vec_fma(p, r, vec_set1(1.3981999507e-3f));
    p = vec_fma(p, r, vec_set1(8.3334519073e-3f));
    p = vec_fma(p, r, vec_set1(4.1665795894e-2f));
    p = vec_fma(p, r, vec_set1(1.6666665459e-1f));
    p = vec_fma(p, r, vec_set1(5.0000001201e-1f));
    y = vec_add(vec_fma(p, vec_mul(r, r), r), vec_set1(1));
    y = vec_mul(y, vec_power_of_two(magic));
    return vec_if_less(x, vec_set1(EXP_LOW), zero, y);
}

static float exp_one(float x)
{
    float y[VEC];
    vec_store(y, vec_exp(vec_set1(x)));
    return y[0];
}

/* log(m 2^n) = log(m) + n ln 2 with m in [sqrt(1/2), sqrt(2)): Cephes logf. */
static float log_one(float x)
{
    static const float P[] = {
        7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
        -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
        2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
    uint32_t bits;
    int32_t n;
    float m, z, p = P[0], e;
    memcpy(&bits, &x, sizeof bits);
    n = (int32_t)(bits >> 23) - 126;
    bits = (bits & 0x7fffffu) | 0x3f000000u;
    memcpy(&m, &bits, sizeof m);
    if (m < 0.707106781186547524f) {
        n--;
        m = m + m - 1;
    } else {
        m = m - 1;
    }
    e = (float)n;
    z = m * m;
    for (size_t i = 1; i < sizeof P / sizeof *P; i++)
        p = fmaf(p, m, P[i]);
    p = p * m * z;
    p = fmaf(e, LN2_LOW, p);
    p = fmaf(-0.5f, z, p);
    return fmaf(e, LN2_HIGH, m + p);
}

/* ---- products -------------------------------------------------------- */

enum {
    TILE_ROWS = 6,   /* 6 x 16 fills the 16 registers of AVX2 */
    BLOCK_ROWS = 48, /* rows whose inputs stay in the first cache meanwhile */
};

/* One row of a tile: c = or += acc + bias, cols of it. */
INLINE void tile_store(vec lo, vec hi, const float *bias, float *c,
                       uint32_t cols, enum matrix_mode mode)
{
    float wide[PANEL_COLS];
    if (cols >= PANEL_COLS) {
        if (bias) {
            lo = vec_add(lo, vec_load(bias));
            hi = vec_add(hi, vec_load(bias + VEC));
        }
        if (mode == MATRIX_ADD) {
            lo = vec_add(vec_load(c), lo);
            hi = vec_add(vec_load(c + VEC), hi);
        }
        vec_store(c, lo);
        vec_store(c + VEC, hi);
        return;
    }
    vec_store(wide, lo);
    vec_store(wide + VEC, hi);
    for (uint32_t i = 0; i < cols; i++) {
        float x = bias ? wide[i] + bias[i] : wide[i];
        c[i] = mode == MATRIX_ADD ? c[i] + x : x;
    }
}

/* rows x (16 panels) elements at once; both are constants where inlined. */
INLINE void tile(const uint32_t rows, const uint32_t panels, const float *a,
                 size_t a_stride, uint32_t inner, const float *b,
                 const float *bias, float *c, size_t c_stride, uint32_t cols,
                 enum matrix_mode mode)
{
    vec acc[TILE_ROWS][8];
    size_t panel = (size_t)inner * PANEL_COLS;

#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (uint32_t v = 0; v < 2 * panels; v++)
            acc[r][v] = vec_set1(0);
    for (uint32_t k = 0; k < inner; k++) {
        vec w[8];
#pragma GCC unroll 8
        for (uint32_t v = 0; v < 2 * panels; v++)
            w[v] = vec_load(b + (v / 2) * panel + (size_t)k * PANEL_COLS +
                            (v % 2) * VEC);
#pragma GCC unroll 8
        for (uint32_t r = 0; r < rows; r++) {
            vec x = vec_set1(a[r * a_stride + k]);
#pragma GCC unroll 8
            for (uint32_t v = 0; v < 2 * panels; v++)
                acc[r][v] = vec_fma(x, w[v], acc[r][v]);
        }
    }
#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (uint32_t p = 0; p < panels; p++)
            tile_store(acc[r][2 * p], acc[r][2 * p + 1],
                       bias ? bias + p * PANEL_COLS : NULL,
                       c + r * c_stride + p * PANEL_COLS, cols - p * PANEL_COLS,
                       mode);
}

struct product {
    const float *a;
    size_t a_stride;
    const struct packed *b;
    const float *bias;
    float *c;
    size_t c_stride;
    enum matrix_mode mode;
};

/* rows (1 .. 6) from row, panels [first, last). Few rows take several panels
 * at once, to have enough chains under way. */
static void strip(const struct product *p, uint32_t row, uint32_t rows,
                  uint32_t first, uint32_t last)
{
    const float *a = p->a + row * p->a_stride;
    size_t panel = (size_t)p->b->inner * PANEL_COLS;
    uint32_t inner = p->b->inner;

#define TILE(R, P)                                                             \
    tile(R, P, a, p->a_stride, inner, p->b->panels + first * panel,            \
         p->bias ? p->bias + first * PANEL_COLS : NULL,                        \
         p->c + row * p->c_stride + first * PANEL_COLS, p->c_stride,           \
         p->b->cols - first * PANEL_COLS, p->mode)
    if (rows == 1)
        for (; first + 4 <= last; first += 4)
            TILE(1, 4);
    if (rows == 2)
        for (; first + 2 <= last; first += 2)
            TILE(2, 2);
    for (; first < last; first++)
        switch (rows) {
        case 1:
            TILE(1, 1);
            break;
        case 2:
            TILE(2, 1);
            break;
        case 3:
            TILE(3, 1);
            break;
        case 4:
            TILE(4, 1);
            break;
        case 5:
            TILE(5, 1);
            break;
        default:
            TILE(6, 1);
            break;
        }
#undef TILE
}

static void multiply(const float *a, size_t a_stride, uint32_t rows,
                     const struct packed *b, const float *bias, float *c,
                     size_t c_stride, enum matrix_mode mode)
{
    struct product p = {a, a_stride, b, bias, c, c_stride, mode};
    uint32_t panels = (b->cols + PANEL_COLS - 1) / PANEL_COLS;

    for (uint32_t from = 0; from < rows; from += BLOCK_ROWS) {
        uint32_t block = rows - from < BLOCK_ROWS ? rows - from : BLOCK_ROWS;
        uint32_t tiles = (block + TILE_ROWS - 1) / TILE_ROWS;
        uint32_t step = block <= 2 ? panels : 1;
        for (uint32_t first = 0; first < panels; first += step) {
            uint32_t row = from;
            /* As even as can be: 7 rows are 4 and 3, not 6 and 1. */
            for (uint32_t t = 0; t < tiles; t++) {
                uint32_t n = block / tiles + (t < block % tiles);
                strip(&p, row, n, first, first + step);
                row += n;
            }
        }
    }
}

static void add_scaled(const float *x, float scale, size_t count, float *y)
{
    vec s = vec_set1(scale);
    size_t i = 0;
    for (; i + VEC <= count; i += VEC)
        vec_store(y + i, vec_fma(vec_load(x + i), s, vec_load(y + i)));
    for (; i < count; i++)
        y[i] = fmaf(x[i], scale, y[i]);
}

static void sum_rows(const float *start, const float *const *row,
                     const float *scale, uint32_t count, uint32_t width,
                     float *y)
{
    for (uint32_t i = 0; i < width; i += VEC) {
        vec sum = vec_load(start + i);
        for (uint32_t r = 0; r < count; r++)
            sum = vec_fma(vec_load(row[r] + i), vec_set1(scale[r]), sum);
        vec_store(y + i, sum);
    }
}

static void mask(uint64_t key, uint32_t cut, float keep, uint32_t width,
                 float *x)
{
    vec limit = vec_set1((float)cut), zero = vec_set1(0), one = vec_set1(keep);
    for (uint32_t i = 0; i < width; i += VEC) {
        uint64_t bits = hash_mix(key ^ i);
        uint8_t bytes[VEC];
        for (uint32_t lane = 0; lane < VEC; lane++)
            bytes[lane] = (uint8_t)(bits >> 8 * lane);
        vec_store(x + i,
                  vec_mul(vec_load(x + i),
                          vec_if_less(vec_load_u8(bytes), limit, zero, one)));
    }
}

/* Values are finite (checked when a model loads), and below the largest
 * bf16. Integers, which compilers turn into vectors themselves. */
static void round_bf16(float *x, size_t count, uint16_t *out)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
        out[i] = (uint16_t)(bits >> 16);
        memcpy(&x[i], &bits, sizeof bits);
    }
}

/* ---- GELU ------------------------------------------------------------ */

#define GELU_SCALE 0.797884560802865356f /* sqrt(2 / pi) */
#define GELU_CUBE  0.044715f

/* The sigmoid s in GELU(x) = x s. */
INLINE vec gelu_gate(vec x, vec square)
{
    vec u = vec_mul(vec_mul(x, vec_set1(-2 * GELU_SCALE)),
                    vec_fma(square, vec_set1(GELU_CUBE), vec_set1(1)));
    return vec_div(vec_set1(1), vec_add(vec_set1(1), vec_exp(u)));
}

INLINE vec gelu_of(vec x)
{
    return vec_mul(x, gelu_gate(x, vec_mul(x, x)));
}

/* s + x s (1 - s) 2 u', u' = sqrt(2/pi) (1 + 3 0.044715 x^2) */
INLINE vec gelu_slope(vec x)
{
    vec square = vec_mul(x, x), s = gelu_gate(x, square);
    vec u = vec_mul(vec_fma(square, vec_set1(3 * GELU_CUBE), vec_set1(1)),
                    vec_set1(2 * GELU_SCALE));
    vec t = vec_mul(vec_mul(x, s), vec_sub(vec_set1(1), s));
    return vec_fma(t, u, s);
}

static void gelu(const float *x, size_t count, float *y)
{
    size_t i = 0;
    for (; i + VEC <= count; i += VEC)
        vec_store(y + i, gelu_of(vec_load(x + i)));
    if (i < count)
        vec_store_first(y + i, count - i,
                        gelu_of(vec_load_first(x + i, count - i, 0)));
}

static void gelu_backward(const float *x, size_t count, float *dy)
{
    size_t i = 0;
    for (; i + VEC <= count; i += VEC)
        vec_store(dy + i,
                  vec_mul(vec_load(dy + i), gelu_slope(vec_load(x + i))));
    if (i < count) {
        vec slope = gelu_slope(vec_load_first(x + i, count - i, 0));
        vec d = vec_load_first(dy + i, count - i, 0);
        vec_store_first(dy + i, count - i, vec_mul(d, slope));
    }
}

#define NORMAL_REACH 5.6f /* beyond, x Phi(-x) is below 6e-8 */

/* x Phi(x) with the normal distribution Phi: 1/2 + x P(x^2) / Q(x^2), both of
 * degree five, fitted here to Phi by least squares, weighted again and again
 * until the largest error was smallest. README.md has it. */
INLINE vec gelu_erf_of(vec x)
{
    static const float P[] = {2.214528555e-8f, 6.356541918e-6f,
                              1.738515403e-4f, 4.707264348e-3f,
                              3.437618094e-2f, 3.989422216e-1f};
    static const float Q[] = {1.180211924e-6f, 7.510220649e-5f, 1.912982725e-3f,
                              2.894013107e-2f, 2.528340201e-1f, 1};
    vec reach = vec_set1(NORMAL_REACH), low = vec_set1(-NORMAL_REACH);
    vec near = vec_max(vec_min(x, reach), low), square = vec_mul(near, near);
    vec p = vec_set1(P[0]), q = vec_set1(Q[0]), phi;
#pragma GCC unroll 8
    for (size_t i = 1; i < sizeof P / sizeof *P; i++) {
        p = vec_fma(p, square, vec_set1(P[i]));
        q = vec_fma(q, square, vec_set1(Q[i]));
    }
    phi = vec_fma(near, vec_div(p, q), vec_set1(0.5f));
    phi = vec_if_less(reach, x, vec_set1(1), phi);
    phi = vec_if_less(x, low, vec_set1(0), phi);
    return vec_mul(x, phi);
}

static void gelu_erf(const float *x, size_t count, float *y)
{
    size_t i = 0;
    for (; i + VEC <= count; i += VEC)
        vec_store(y + i, gelu_erf_of(vec_load(x + i)));
    if (i < count)
        vec_store_first(y + i, count - i,
                        gelu_erf_of(vec_load_first(x + i, count - i, 0)));
}

/* ---- layer norm ------------------------------------------------------ */

/* Widths are multiples of eight (behaviour_config_check). */
static void norm(const float *x, uint32_t rows, uint32_t width, float epsilon,
                 const float *weight, const float *bias, float *y, float *stats)
{
    for (uint32_t r = 0; r < rows; r++, x += width, y += width) {
        vec sum = vec_set1(0), squares = vec_set1(0), m, s;
        float mean, scale;
        for (uint32_t i = 0; i < width; i += VEC)
            sum = vec_add(sum, vec_load(x + i));
        mean = vec_sum(sum) / (float)width;
        m = vec_set1(mean);
        for (uint32_t i = 0; i < width; i += VEC) {
            vec d = vec_sub(vec_load(x + i), m);
            squares = vec_fma(d, d, squares);
        }
        scale = 1 / sqrtf(vec_sum(squares) / (float)width + epsilon);
        s = vec_set1(scale);
        for (uint32_t i = 0; i < width; i += VEC)
            vec_store(y + i, vec_fma(vec_mul(vec_sub(vec_load(x + i), m), s),
                                     vec_load(weight + i), vec_load(bias + i)));
        if (stats) {
            stats[2 * r] = mean;
            stats[2 * r + 1] = scale;
        }
    }
}

/* With n = (x - mean) s: dx = s (g - mean(g) - n mean(g n)), g = dy weight. */
static void norm_backward(const float *x, const float *stats,
                          const float *weight, const float *dy, uint32_t rows,
                          uint32_t width, float *dx, float *dweight,
                          float *dbias)
{
    for (uint32_t r = 0; r < rows; r++, x += width, dy += width, dx += width) {
        vec m = vec_set1(stats[2 * r]), s = vec_set1(stats[2 * r + 1]);
        vec sum = vec_set1(0), along = vec_set1(0);
        for (uint32_t i = 0; i < width; i += VEC) {
            vec n = vec_mul(vec_sub(vec_load(x + i), m), s);
            vec d = vec_load(dy + i), g = vec_mul(d, vec_load(weight + i));
            sum = vec_add(sum, g);
            along = vec_fma(g, n, along);
            vec_store(dweight + i, vec_fma(d, n, vec_load(dweight + i)));
            vec_store(dbias + i, vec_add(d, vec_load(dbias + i)));
        }
        sum = vec_set1(vec_sum(sum) / (float)width);
        along = vec_set1(vec_sum(along) / (float)width);
        for (uint32_t i = 0; i < width; i += VEC) {
            vec n = vec_mul(vec_sub(vec_load(x + i), m), s);
            vec g = vec_mul(vec_load(dy + i), vec_load(weight + i));
            g = vec_sub(vec_sub(g, sum), vec_mul(n, along));
            vec_store(dx + i, vec_fma(s, g, vec_load(dx + i)));
        }
    }
}

/* ---- softmax --------------------------------------------------------- */

static float largest(const float *x, size_t count)
{
    vec top = vec_set1(-FLT_MAX);
    size_t i = 0;
    for (; i + VEC <= count; i += VEC)
        top = vec_max(vec_load(x + i), top);
    if (i < count)
        top = vec_max(vec_load_first(x + i, count - i, -FLT_MAX), top);
    return vec_top(top);
}

static float log_sum_exp(const float *x, size_t count)
{
    float most = largest(x, count);
    vec m = vec_set1(most), sum = vec_set1(0);
    size_t i = 0;
    for (; i + VEC <= count; i += VEC)
        sum = vec_add(sum, vec_exp(vec_sub(vec_load(x + i), m)));
    if (i < count) /* the fill gives exp = 0 */
        sum = vec_add(sum, vec_exp(vec_sub(
                               vec_load_first(x + i, count - i, -FLT_MAX), m)));
    return most + log_one(vec_sum(sum));
}

static float softmax(float *x, size_t count)
{
    float most = largest(x, count), total;
    vec m = vec_set1(most), sum = vec_set1(0);
    size_t i = 0;
    for (; i + VEC <= count; i += VEC) {
        vec e = vec_exp(vec_sub(vec_load(x + i), m));
        sum = vec_add(sum, e);
        vec_store(x + i, e);
    }
    if (i < count) {
        vec e = vec_exp(vec_sub(vec_load_first(x + i, count - i, -FLT_MAX), m));
        sum = vec_add(sum, e);
        vec_store_first(x + i, count - i, e);
    }
    total = vec_sum(sum);
    for (i = 0; i < count; i++)
        x[i] *= 1 / total;
    return most + log_one(total);
}

static void softmax_backward(const float *p, float *dp, size_t count)
{
    vec sum = vec_set1(0);
    size_t whole = count / VEC * VEC, i = 0, rest = count - whole;
    for (; i < whole; i += VEC)
        sum = vec_fma(vec_load(p + i), vec_load(dp + i), sum);
    if (rest > 0)
        sum = vec_fma(vec_load_first(p + i, rest, 0),
                      vec_load_first(dp + i, rest, 0), sum);
    sum = vec_set1(vec_sum(sum));
    for (i = 0; i < whole; i += VEC)
        vec_store(dp + i,
                  vec_mul(vec_load(p + i), vec_sub(vec_load(dp + i), sum)));
    if (rest > 0)
        vec_store_first(dp + i, rest,
                        vec_mul(vec_load_first(p + i, rest, 0),
                                vec_sub(vec_load_first(dp + i, rest, 0), sum)));
}

/* ---- attention ------------------------------------------------------- */

/* Eight elements of K or V. */
INLINE vec kv_load(const bool bf16, const uint8_t *base, size_t element)
{
    return bf16 ? vec_load_bf16((const uint16_t *)(const void *)base + element)
                : vec_load((const float *)(const void *)base + element);
}

/* Scores of heads adjacent heads over blocks adjacent blocks: chains over
 * the head's columns, then + bias. Constants where inlined. */
INLINE void score(const bool bf16, const uint32_t heads, const uint32_t blocks,
                  const struct attention *a, uint32_t head, uint32_t block)
{
    uint32_t columns = a->width / a->heads;
    const uint8_t *base[2];
    vec acc[2][2][2];

#pragma GCC unroll 2
    for (uint32_t b = 0; b < blocks; b++)
        base[b] = (const uint8_t *)a->page[block + b] + a->layer_offset;
#pragma GCC unroll 2
    for (uint32_t h = 0; h < heads; h++)
#pragma GCC unroll 2
        for (uint32_t b = 0; b < blocks; b++)
            acc[h][b][0] = acc[h][b][1] = vec_set1(0);
    for (uint32_t d = 0; d < columns; d++)
#pragma GCC unroll 2
        for (uint32_t h = 0; h < heads; h++) {
            uint32_t column = (head + h) * columns + d;
            vec q = vec_set1(a->query[column]);
#pragma GCC unroll 2
            for (uint32_t b = 0; b < blocks; b++) {
                size_t at = (size_t)column * KV_BLOCK;
                acc[h][b][0] =
                    vec_fma(q, kv_load(bf16, base[b], at), acc[h][b][0]);
                acc[h][b][1] =
                    vec_fma(q, kv_load(bf16, base[b], at + VEC), acc[h][b][1]);
            }
        }
#pragma GCC unroll 2
    for (uint32_t h = 0; h < heads; h++)
#pragma GCC unroll 2
        for (uint32_t b = 0; b < blocks; b++)
#pragma GCC unroll 2
            for (uint32_t v = 0; v < 2; v++) {
                size_t key = (size_t)(block + b) * KV_BLOCK + v * VEC;
                vec bias = vec_load(a->distance +
                                    (head + h) * a->distance_stride + key);
                if (a->time)
                    bias = vec_add(
                        bias, vec_lookup(a->time + (head + h) * BIAS_BUCKETS,
                                         a->time_bucket + key));
                vec_store(a->weight + (head + h) * a->weight_stride + key,
                          vec_add(acc[h][b][v], bias));
            }
}

INLINE void score_heads(const bool bf16, const uint32_t heads,
                        const struct attention *a, uint32_t head)
{
    uint32_t blocks = (a->keys + KV_BLOCK - 1) / KV_BLOCK, b = 0;
    for (; b + 2 <= blocks; b += 2)
        score(bf16, heads, 2, a, head, b);
    if (b < blocks) score(bf16, heads, 1, a, head, b);
}

/* Scores of one head become weights; keys past the query weigh nothing. */
static float weigh(const struct attention *a, uint32_t head)
{
    float *w = a->weight + head * a->weight_stride;
    uint32_t padded = (a->keys + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK;
    vec m, sum = vec_set1(0);

    for (uint32_t k = a->keys; k < padded; k++)
        w[k] = -FLT_MAX;
    m = vec_set1(largest(w, padded));
    for (uint32_t k = 0; k < padded; k += VEC) {
        vec e = vec_exp(vec_sub(vec_load(w + k), m));
        sum = vec_add(sum, e);
        vec_store(w + k, e);
    }
    return vec_sum(sum);
}

/* Weighted sum of vecs x 8 columns of heads adjacent heads, key by key. */
INLINE void mix(const bool bf16, const uint32_t heads, const uint32_t vecs,
                const struct attention *a, uint32_t head, uint32_t column)
{
    uint32_t columns = a->width / a->heads;
    size_t values = (size_t)a->width * KV_BLOCK;
    vec acc[2][4];

#pragma GCC unroll 2
    for (uint32_t h = 0; h < heads; h++)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vecs; v++)
            acc[h][v] = vec_set1(0);
    for (uint32_t first = 0; first < a->keys; first += KV_BLOCK) {
        const uint8_t *base =
            (const uint8_t *)a->page[first / KV_BLOCK] + a->layer_offset;
        uint32_t count =
            a->keys - first < KV_BLOCK ? a->keys - first : KV_BLOCK;
        for (uint32_t k = 0; k < count; k++)
#pragma GCC unroll 2
            for (uint32_t h = 0; h < heads; h++) {
                vec w = vec_set1(
                    a->weight[(head + h) * a->weight_stride + first + k]);
                size_t at = values + (size_t)k * a->width +
                            (head + h) * columns + column;
#pragma GCC unroll 4
                for (uint32_t v = 0; v < vecs; v++)
                    acc[h][v] = vec_fma(w, kv_load(bf16, base, at + v * VEC),
                                        acc[h][v]);
            }
    }
#pragma GCC unroll 2
    for (uint32_t h = 0; h < heads; h++) {
        vec scale = vec_set1(1 / a->total[head + h]);
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vecs; v++)
            vec_store(a->out + (head + h) * columns + column + v * VEC,
                      vec_mul(acc[h][v], scale));
    }
}

INLINE void mix_heads(const bool bf16, const uint32_t heads,
                      const struct attention *a, uint32_t head)
{
    uint32_t columns = a->width / a->heads, c = 0;
    for (; c + 4 * VEC <= columns; c += 4 * VEC)
        mix(bf16, heads, 4, a, head, c);
    for (; c < columns; c += VEC)
        mix(bf16, heads, 1, a, head, c);
}

INLINE void attend_format(const bool bf16, const struct attention *a)
{
    uint32_t h = 0;
    for (; h + 2 <= a->heads; h += 2)
        score_heads(bf16, 2, a, h);
    if (h < a->heads) score_heads(bf16, 1, a, h);
    for (h = 0; h < a->heads; h++)
        a->total[h] = weigh(a, h);
    for (h = 0; h + 2 <= a->heads; h += 2)
        mix_heads(bf16, 2, a, h);
    if (h < a->heads) mix_heads(bf16, 1, a, h);
}

static void attend(const struct attention *a)
{
    if (a->bf16)
        attend_format(true, a);
    else
        attend_format(false, a);
}

/* The exponent of 1 + gap as a float is the bucket. */
static void time_buckets(int32_t query, const int32_t *key, uint32_t count,
                         uint8_t *out)
{
    for (uint32_t k = 0; k < count; k++) {
        int64_t gap = (int64_t)query - key[k];
        float x = (float)(gap < 0 ? 0 : gap) + 1.0f;
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        bits = (bits >> 23) - 127;
        out[k] = (uint8_t)(bits < BIAS_BUCKETS ? bits : BIAS_BUCKETS - 1);
    }
}

/* ---- top k ----------------------------------------------------------- */

/* Products of queries' and items' bytes, exact in 16 bits: norms of both
 * sides are at most 181 (top_k.c), so a sum is at most 32761; on the way it
 * may wrap. */
#if defined(VEC_AVX2)
/* One pair of columns of one query and two times sixteen items. In assembly,
 * because compilers move the broadcasts of all queries to the front and then
 * run out of registers: twelve sums, two items and these two fill all. */
INLINE void scan_step(const uint32_t *pair, __m256i a, __m256i b, __m256i *lo,
                      __m256i *hi)
{
    __m256i x, y;
    __asm__("vpbroadcastd %[pair], %[x]\n\t"
            "vpmaddubsw %[a], %[x], %[y]\n\t"
            "vpmaddubsw %[b], %[x], %[x]\n\t"
            "vpaddw %[y], %[lo], %[lo]\n\t"
            "vpaddw %[x], %[hi], %[hi]"
            : [lo] "+x"(*lo), [hi] "+x"(*hi), [x] "=&x"(x), [y] "=&x"(y)
            : [pair] "m"(*pair), [a] "x"(a), [b] "x"(b));
}

INLINE void scan_dots(const struct scan *s, uint32_t group,
                      const struct scan_query *q, const uint32_t queries,
                      int16_t out[SCAN_QUERIES][SCAN_GROUP])
{
    uint32_t pairs = s->width / 2;
    const __m256i *lo =
        (const __m256i *)(const void *)(s->panels +
                                        (size_t)group * s->width * SCAN_GROUP);
    const __m256i *hi = lo + pairs;
    const __m256i *offset =
        (const __m256i *)(const void *)(s->offset + (size_t)group * SCAN_GROUP);
    __m256i acc[SCAN_QUERIES][2];

#pragma GCC unroll 8
    for (uint32_t i = 0; i < queries; i++)
        acc[i][0] = acc[i][1] = _mm256_setzero_si256();
    for (uint32_t p = 0; p < pairs; p++) {
        __m256i a = _mm256_load_si256(lo + p), b = _mm256_load_si256(hi + p);
#pragma GCC unroll 8
        for (uint32_t i = 0; i < queries; i++)
            scan_step(&q[i].pairs[p], a, b, &acc[i][0], &acc[i][1]);
    }
#pragma GCC unroll 8
    for (uint32_t i = 0; i < queries; i++)
#pragma GCC unroll 2
        for (uint32_t h = 0; h < 2; h++)
            _mm256_storeu_si256(
                (__m256i *)(void *)&out[i][h * SCAN_HALF],
                _mm256_sub_epi16(acc[i][h], _mm256_load_si256(offset + h)));
}
#else
INLINE void scan_dots(const struct scan *s, uint32_t group,
                      const struct scan_query *q, const uint32_t queries,
                      int16_t out[SCAN_QUERIES][SCAN_GROUP])
{
    uint32_t pairs = s->width / 2;
    for (uint32_t i = 0; i < queries; i++) {
        const int8_t *item = s->panels + (size_t)group * s->width * SCAN_GROUP;
        for (uint32_t h = 0; h < 2; h++) {
            int32_t acc[SCAN_HALF] = {0};
            for (uint32_t p = 0; p < pairs; p++, item += 2 * SCAN_HALF) {
                int32_t x = (int32_t)(q[i].pairs[p] & 0xff) - 128;
                int32_t y = (int32_t)(q[i].pairs[p] >> 8 & 0xff) - 128;
                for (uint32_t j = 0; j < SCAN_HALF; j++)
                    acc[j] += x * item[2 * j] + y * item[2 * j + 1];
            }
            for (uint32_t j = 0; j < SCAN_HALF; j++)
                out[i][h * SCAN_HALF + j] = (int16_t)acc[j];
        }
    }
}
#endif

/* The slack of a group's items at the largest loss of all queries: a little
 * wide for some, but worked out once. */
INLINE uint32_t scan_few(const struct scan *s, uint32_t first, uint32_t count,
                         const struct scan_query *q, const uint32_t queries,
                         uint32_t *hits)
{
    enum { VECS = SCAN_GROUP / VEC };
    float most = 0;
    for (uint32_t i = 0; i < queries; i++)
        most = q[i].loss > most ? q[i].loss : most;
    for (uint32_t g = 0; g < count; g++) {
        int16_t dots[SCAN_QUERIES][SCAN_GROUP];
        size_t base = (size_t)(first + g) * SCAN_GROUP;
        vec loss = vec_set1(most), slack[VECS], scale[VECS];
        uint32_t any = 0;
        scan_dots(s, first + g, q, queries, dots);
#pragma GCC unroll 4
        for (uint32_t v = 0; v < VECS; v++) {
            scale[v] = vec_load(s->scale + base + v * VEC);
            slack[v] = vec_fma(loss, vec_load(s->norm + base + v * VEC),
                               vec_load(s->residual + base + v * VEC));
        }
        for (uint32_t i = 0; i < queries; i++) {
            vec reach = vec_set1(q[i].reach), limit = vec_set1(q[i].limit);
            uint32_t bits = 0;
#pragma GCC unroll 4
            for (uint32_t v = 0; v < VECS; v++) {
                vec bound = vec_fma(vec_load_i16(&dots[i][v * VEC]), scale[v],
                                    vec_mul(reach, slack[v]));
                bits |= vec_more_bits(bound, limit) << (v * VEC);
            }
            hits[i] = bits;
            any |= bits;
        }
        if (any) return g;
    }
    return count;
}

static uint32_t scan(const struct scan *s, uint32_t first, uint32_t count,
                     const struct scan_query *q, uint32_t queries,
                     uint32_t *hits)
{
    switch (queries) {
    case 1:
        return scan_few(s, first, count, q, 1, hits);
    case 2:
        return scan_few(s, first, count, q, 2, hits);
    case 3:
        return scan_few(s, first, count, q, 3, hits);
    case 4:
        return scan_few(s, first, count, q, 4, hits);
    case 5:
        return scan_few(s, first, count, q, 5, hits);
    default:
        return scan_few(s, first, count, q, SCAN_QUERIES, hits);
    }
}

static void score_rows(const float *a, const float *const *row, uint32_t count,
                       uint32_t width, float *out)
{
    const float *r[SCORE_ROWS];
    float acc[SCORE_ROWS] = {0};
    for (uint32_t i = 0; i < SCORE_ROWS; i++)
        r[i] = row[i < count ? i : 0];
    for (uint32_t k = 0; k < width; k++)
#pragma GCC unroll 8
        for (uint32_t i = 0; i < SCORE_ROWS; i++)
            acc[i] = fmaf(a[k], r[i][k], acc[i]);
    for (uint32_t i = 0; i < count; i++)
        out[i] = acc[i];
}

const struct kernels KERNELS_NAME = {
    .name = KERNELS_TEXT,
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
