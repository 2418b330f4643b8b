/* Goal: one arithmetic. Every kernel gives the same bits in the family of
 * this machine and in plain C; an element of a product does not depend on its
 * batch or place; all agree with plain loops.
 * Method: every kernel runs on random inputs of many shapes (odd ones too) in
 * each family, whose outputs are compared in bits; then against the loops of
 * kernels_ref.c, and the largest difference is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hash.h"
#include "kernels_ref.h"
#include "params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REALS = 1 << 16, ROUNDS = 40 };

/* Numbers of a round; every kernel draws its inputs and shapes from these. */
struct source {
    uint64_t seed, next;
};

static float pick(struct source *s)
{
    return (draw_unit(draw(s->seed, 1, s->next++)) - 0.5f) * 4;
}

static uint32_t pick_below(struct source *s, uint32_t n)
{
    return (uint32_t)(draw(s->seed, 2, s->next++) % n);
}

static float *pick_many(struct source *s, size_t count)
{
    float *x = aligned_alloc(64, (count * sizeof *x + 63) / 64 * 64 + 64);
    assert_non_null(x);
    for (size_t i = 0; i < count; i++)
        x[i] = pick(s);
    return x;
}

/* Runs one kernel; returns how many floats of out it made. */
typedef size_t run_fn(const struct kernels *k, struct source *s, float *out);

static size_t run_multiply(const struct kernels *k, struct source *s,
                           float *out)
{
    uint32_t rows = 1 + pick_below(s, 60), inner = 1 + pick_below(s, 90);
    uint32_t cols = 1 + pick_below(s, 100);
    float *a = pick_many(s, (size_t)rows * inner);
    float *w = pick_many(s, (size_t)inner * cols), *bias = pick_many(s, cols);
    float *panels = pick_many(s, packed_size(inner, cols));
    struct packed b = matrix_pack(w, inner, cols, panels);
    size_t count = (size_t)rows * cols;
    for (size_t i = 0; i < count; i++)
        out[i] = pick(s);
    k->multiply(a, inner, rows, &b, pick_below(s, 2) ? bias : NULL, out, cols,
                pick_below(s, 2) ? MATRIX_ADD : MATRIX_SET);
    free(a), free(w), free(bias), free(panels);
    return count;
}

static size_t run_gelu(const struct kernels *k, struct source *s, float *out)
{
    size_t count = 1 + pick_below(s, 100);
    float *x = pick_many(s, count);
    for (size_t i = 0; i < count; i += 3)
        x[i] *= 20;
    k->gelu(x, count, out);
    for (size_t i = 0; i < count; i++)
        out[count + i] = pick(s);
    k->gelu_backward(x, count, out + count);
    free(x);
    return 2 * count;
}

static size_t run_gelu_erf(const struct kernels *k, struct source *s,
                           float *out)
{
    size_t count = 1 + pick_below(s, 100);
    float *x = pick_many(s, count);
    for (size_t i = 0; i < count; i++)
        x[i] *= i % 3 ? 6 : 40; /* on both sides of where it is cut off */
    k->gelu_erf(x, count, out);
    free(x);
    return count;
}

static size_t run_norm(const struct kernels *k, struct source *s, float *out)
{
    uint32_t rows = 1 + pick_below(s, 5), width = 8 * (1 + pick_below(s, 12));
    size_t reals = (size_t)rows * width;
    float *x = pick_many(s, reals), *weight = pick_many(s, width);
    float *bias = pick_many(s, width), *dy = pick_many(s, reals);
    float *stats = out + reals, *dx = stats + 2 * rows;
    k->norm(x, rows, width, pick_below(s, 2) ? 1e-5f : 1e-12f, weight, bias,
            out, stats);
    for (size_t i = 0; i < reals + 2 * width; i++)
        dx[i] = pick(s);
    k->norm_backward(x, stats, weight, dy, rows, width, dx, dx + reals,
                     dx + reals + width);
    free(x), free(weight), free(bias), free(dy);
    return 2 * reals + 2 * rows + 2 * width;
}

static size_t run_softmax(const struct kernels *k, struct source *s, float *out)
{
    size_t count = 1 + pick_below(s, 200);
    float *x = pick_many(s, count), *dp = out + count;
    for (size_t i = 0; i < count; i++)
        out[i] = x[i] * 5, dp[i] = pick(s);
    out[2 * count] = k->log_sum_exp(out, count);
    out[2 * count + 1] = k->softmax(out, count);
    k->softmax_backward(out, dp, count);
    free(x);
    return 2 * count + 2;
}

static size_t run_single(const struct kernels *k, struct source *s, float *out)
{
    size_t count = 1 + pick_below(s, 50);
    float *x = pick_many(s, count);
    for (size_t i = 0; i < count; i++) {
        out[2 * i] = k->exp(x[i] * 10);
        out[2 * i + 1] = k->log(fabsf(x[i]) * 100 + 1e-6f);
        out[2 * count + i] = pick(s);
    }
    k->add_scaled(x, pick(s), count, out + 2 * count);
    free(x);
    return 3 * count;
}

static size_t run_sum_rows(const struct kernels *k, struct source *s,
                           float *out)
{
    uint32_t width = 8 * (1 + pick_below(s, 12)), count = pick_below(s, 7);
    float *x = pick_many(s, (size_t)8 * width), scale[7];
    const float *row[7];
    for (uint32_t i = 0; i < count; i++) {
        row[i] = x + (size_t)(i + 1) * width;
        scale[i] = pick(s);
    }
    k->sum_rows(x, row, scale, count, width, out);
    free(x);
    return width;
}

static size_t run_mask(const struct kernels *k, struct source *s, float *out)
{
    uint32_t width = 8 * (1 + pick_below(s, 12));
    for (uint32_t i = 0; i < width; i++)
        out[i] = fabsf(pick(s)); /* a dropped minus would be a minus zero */
    k->mask(draw(s->seed, 3, 4), pick_below(s, 256), 1.5f, width, out);
    return width;
}

static size_t run_round(const struct kernels *k, struct source *s, float *out)
{
    size_t count = 1 + pick_below(s, 100);
    uint16_t half[100];
    for (size_t i = 0; i < count; i++)
        out[i] = pick(s);
    /* Ties: exactly between an even and an odd neighbour. */
    out[0] = pick_below(s, 2) ? 0x1.01p0f : -0x1.03p0f;
    k->round_bf16(out, count, half);
    for (size_t i = 0; i < count; i++)
        out[count + i] = half[i];
    return 2 * count;
}

static size_t run_attend(const struct kernels *k, struct source *s, float *out)
{
    uint32_t heads = 1 + pick_below(s, 4);
    uint32_t width = heads * 8 * (1 + pick_below(s, 6));
    uint32_t keys = 1 + pick_below(s, 150);
    uint32_t blocks = (keys + KV_BLOCK - 1) / KV_BLOCK;
    bool bf16 = pick_below(s, 2), timed = pick_below(s, 2);
    size_t bytes = kv_layer_bytes(width, bf16), stride = blocks * KV_BLOCK;
    uint8_t *pages = aligned_alloc(64, blocks * (bytes + 64));
    const void *page[16];
    uint8_t bucket[16 * KV_BLOCK];
    float *query = pick_many(s, width);
    float *distance = pick_many(s, heads * stride);
    float *time = pick_many(s, (size_t)heads * BIAS_BUCKETS);
    float *kv = pick_many(s, 2 * width);
    struct attention a = {.width = width,
                          .heads = heads,
                          .bf16 = bf16,
                          .page = page,
                          .layer_offset = 64,
                          .keys = keys,
                          .query = query,
                          .distance = distance,
                          .distance_stride = stride,
                          .time = timed ? time : NULL,
                          .time_bucket = bucket,
                          .weight = out,
                          .weight_stride = stride,
                          .total = out + heads * stride,
                          .out = out + heads * stride + heads};
    /* Slots behind the last key hold what no score may read. */
    memset(pages, 0xff, blocks * (bytes + 64));
    for (uint32_t b = 0; b < blocks; b++)
        page[b] = pages + b * (bytes + 64);
    for (uint32_t i = 0; i < stride; i++)
        bucket[i] = (uint8_t)pick_below(s, BIAS_BUCKETS);
    for (uint32_t i = 0; i < keys; i++) {
        for (uint32_t d = 0; d < 2 * width; d++)
            kv[d] = pick(s);
        kernels_put(kv, width, bf16, pages + i / KV_BLOCK * (bytes + 64), 64,
                    i % KV_BLOCK);
    }
    memset(out, 0, heads * stride * sizeof *out);
    k->attend(&a);
    free(pages), free(query), free(distance), free(time), free(kv);
    return heads * stride + heads + width;
}

static size_t run_buckets(const struct kernels *k, struct source *s, float *out)
{
    uint32_t count = 1 + pick_below(s, 40);
    int32_t key[40], query = (int32_t)(pick(s) * 5e8f);
    uint8_t bucket[40];
    for (uint32_t i = 0; i < count; i++)
        key[i] = query - (int32_t)(1u << pick_below(s, 31)) +
                 (int32_t)pick_below(s, 3) - 1;
    key[0] = INT32_MIN;
    k->time_buckets(query, key, count, bucket);
    for (uint32_t i = 0; i < count; i++)
        out[i] = bucket[i];
    return count;
}

static size_t run_scan(const struct kernels *k, struct source *s, float *out)
{
    enum { GROUPS = 3, WIDTH = 48 };
    uint32_t queries = 1 + pick_below(s, SCAN_QUERIES), done = 0, count = 0;
    int8_t *panels = aligned_alloc(64, GROUPS * SCAN_GROUP * WIDTH);
    int16_t *offset = aligned_alloc(64, GROUPS * SCAN_GROUP * 2);
    float *item = pick_many(s, 3 * GROUPS * SCAN_GROUP);
    uint32_t *pairs = calloc(SCAN_QUERIES * WIDTH / 2, sizeof *pairs);
    struct scan_query q[SCAN_QUERIES];
    struct scan table = {panels,
                         offset,
                         item,
                         item + GROUPS * SCAN_GROUP,
                         item + 2 * GROUPS * SCAN_GROUP,
                         WIDTH};

    for (size_t i = 0; i < 3 * GROUPS * SCAN_GROUP; i++)
        item[i] = fabsf(item[i]);
    memset(offset, 0, GROUPS * SCAN_GROUP * 2);
    /* Norms stay within 181: 48 columns of at most 26. */
    for (size_t g = 0, at = 0; g < GROUPS; g++)
        for (size_t h = 0; h < 2; h++)
            for (size_t c = 0; c < WIDTH * SCAN_HALF; c++, at++) {
                panels[at] = (int8_t)((int)pick_below(s, 53) - 26);
                offset[g * SCAN_GROUP + h * SCAN_HALF + c / 2 % SCAN_HALF] +=
                    (int16_t)(128 * panels[at]);
            }
    for (uint32_t i = 0; i < queries; i++) {
        q[i] = (struct scan_query){pairs + i * WIDTH / 2, 0.25f, 0.125f,
                                   1000 + 8000 * fabsf(pick(s))};
        for (uint32_t p = 0; p < WIDTH / 2; p++) {
            uint32_t both =
                (102 + pick_below(s, 53)) | (102 + pick_below(s, 53)) << 8;
            pairs[i * WIDTH / 2 + p] = both | both << 16;
        }
    }
    while (done < GROUPS) {
        uint32_t hits[SCAN_QUERIES];
        done += k->scan(&table, done, GROUPS - done, q, queries, hits);
        out[count++] = (float)done;
        for (uint32_t i = 0; done < GROUPS && i < queries; i++) {
            out[count++] = (float)(hits[i] & 0xffff);
            out[count++] = (float)(hits[i] >> 16);
        }
        done++;
    }
    free(panels), free(offset), free(item), free(pairs);
    return count;
}

static size_t run_rows(const struct kernels *k, struct source *s, float *out)
{
    uint32_t width = 1 + pick_below(s, 90), count = 1 + pick_below(s, 8);
    float *a = pick_many(s, width);
    float *rows = pick_many(s, (size_t)SCORE_ROWS * width);
    const float *row[SCORE_ROWS];
    for (uint32_t i = 0; i < count; i++)
        row[i] = rows + (size_t)i * width;
    k->score_rows(a, row, count, width, out);
    free(a), free(rows);
    return count;
}

static const struct {
    const char *name;
    run_fn *run;
    double tolerance; /* against plain loops */
} runs[] = {
    {"multiply", run_multiply, 1e-4},
    {"gelu", run_gelu, 2e-5},
    {"gelu_erf", run_gelu_erf, 1e-6},
    {"norm", run_norm, 1e-4},
    {"softmax", run_softmax, 1e-5},
    {"exp, log, add", run_single, 1e-6}, /* of the value */
    {"sum_rows", run_sum_rows, 1e-5},
    {"round_bf16", run_round, 0},
    {"mask", run_mask, 0},
    {"attend", run_attend, 1e-4},
    {"time_buckets", run_buckets, 0},
    {"scan", run_scan, 0},
    {"score_rows", run_rows, 1e-4},
};
enum { RUNS = sizeof runs / sizeof *runs };

static void test_families_agree(void **state)
{
    float *here = calloc(REALS, sizeof *here);
    float *plain = calloc(REALS, sizeof *plain);
    (void)state;
    if (kernels_get() == &kernels_portable) skip();
    for (size_t r = 0; r < RUNS; r++)
        for (uint64_t round = 0; round < ROUNDS; round++) {
            struct source s = {round, 0}, same = {round, 0};
            size_t count = runs[r].run(kernels_get(), &s, here);
            assert_true(count < REALS);
            assert_int_equal(count,
                             runs[r].run(&kernels_portable, &same, plain));
            if (memcmp(here, plain, count * sizeof *here) != 0)
                fail_msg("%s, round %u: other bits in plain C", runs[r].name,
                         (unsigned)round);
        }
    free(here);
    free(plain);
}

static void test_plain_loops_agree(void **state)
{
    float *here = calloc(REALS, sizeof *here);
    float *plain = calloc(REALS, sizeof *plain);
    (void)state;
    for (size_t r = 0; r < RUNS; r++) {
        double worst = 0;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            struct source s = {round, 0}, same = {round, 0};
            size_t count = runs[r].run(kernels_get(), &s, here);
            assert_int_equal(count, runs[r].run(&kernels_ref, &same, plain));
            for (size_t i = 0; i < count; i++)
                worst = fmax(worst, fabs((double)here[i] - plain[i]) /
                                        fmax(1, fabs((double)plain[i])));
        }
        print_message("%-14s differs from plain loops by at most %.2g\n",
                      runs[r].name, worst);
        assert_true(worst <= runs[r].tolerance);
    }
    free(here);
    free(plain);
}

/* Each row alone, and batches that start anywhere, against all at once. */
static void test_rows_do_not_matter(void **state)
{
    enum { ROWS = 131 };
    static const uint32_t inners[] = {8, 64, 100, 256};
    static const uint32_t colses[] = {8, 16, 40, 64, 192};
    (void)state;
    for (size_t i = 0; i < sizeof inners / sizeof *inners; i++)
        for (size_t j = 0; j < sizeof colses / sizeof *colses; j++) {
            uint32_t inner = inners[i], cols = colses[j];
            struct source s = {i * 8 + j, 0};
            float *a = pick_many(&s, (size_t)ROWS * inner);
            float *w = pick_many(&s, (size_t)inner * cols);
            float *panels = pick_many(&s, packed_size(inner, cols));
            float *all = pick_many(&s, (size_t)ROWS * cols);
            float *some = pick_many(&s, (size_t)ROWS * cols);
            struct packed b = matrix_pack(w, inner, cols, panels);
            matrix_multiply(a, inner, ROWS, &b, NULL, all, cols, MATRIX_SET);
            for (uint32_t rows = 1; rows < ROWS; rows = rows * 3 / 2 + 1)
                for (uint32_t from = 0; from + rows <= ROWS; from += 17) {
                    matrix_multiply(a + (size_t)from * inner, inner, rows, &b,
                                    NULL, some, cols, MATRIX_SET);
                    assert_memory_equal(some, all + (size_t)from * cols,
                                        (size_t)rows * cols * sizeof *some);
                }
            free(a), free(w), free(panels), free(all), free(some);
        }
}

static void test_transposed_packing(void **state)
{
    enum { K = 24, N = 37 };
    struct source s = {5, 0};
    float *w = pick_many(&s, K * N), *t = pick_many(&s, K * N);
    float *p = pick_many(&s, packed_size(K, N));
    float *q = pick_many(&s, packed_size(K, N));
    (void)state;
    for (uint32_t k = 0; k < K; k++)
        for (uint32_t n = 0; n < N; n++)
            t[n * K + k] = w[k * N + n];
    (void)matrix_pack(w, K, N, p);
    (void)matrix_pack_transposed(t, K, N, q);
    assert_memory_equal(p, q, packed_size(K, N) * sizeof *p);
    free(w), free(t), free(p), free(q);
}

/* Gradient products against plain sums. */
static void test_gradient_products(void **state)
{
    enum { M = 9, K = 13, N = 7 };
    struct source s = {6, 0};
    float *x = pick_many(&s, M * K), *dy = pick_many(&s, M * N);
    float *w = pick_many(&s, K * N), dx[M * K], dw[K * N], db[N];
    (void)state;
    for (int i = 0; i < M * K; i++)
        dx[i] = 1;
    memset(dw, 0, sizeof dw);
    memset(db, 0, sizeof db);
    matrix_gradient_input(dy, N, M, w, K, N, dx, K, MATRIX_ADD);
    matrix_gradient_weight(x, K, dy, N, M, K, N, dw);
    matrix_gradient_bias(dy, N, M, N, db);
    for (int m = 0; m < M; m++)
        for (int k = 0; k < K; k++) {
            double sum = 1;
            for (int n = 0; n < N; n++)
                sum += (double)dy[m * N + n] * w[k * N + n];
            assert_true(fabs(sum - dx[m * K + k]) < 1e-4);
        }
    for (int n = 0; n < N; n++) {
        double bias = 0;
        for (int m = 0; m < M; m++)
            bias += dy[m * N + n];
        assert_true(fabs(bias - db[n]) < 1e-4);
        for (int k = 0; k < K; k++) {
            double sum = 0;
            for (int m = 0; m < M; m++)
                sum += (double)x[m * K + k] * dy[m * N + n];
            assert_true(fabs(sum - dw[k * N + n]) < 1e-4);
        }
    }
    free(x), free(dy), free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transposed_packing),
        cmocka_unit_test(test_rows_do_not_matter),
        cmocka_unit_test(test_families_agree),
        cmocka_unit_test(test_plain_loops_agree),
        cmocka_unit_test(test_gradient_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
