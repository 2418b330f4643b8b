/* kernels.h - what a kernel family must do, and where it is found.
 *
 * A family is kernels.inc.h compiled for one instruction set. All families
 * give the same bits; test_matrix compares them. What each entry computes is
 * said once, in matrix.h and below; tests/support/kernels_ref.c is the plain
 * statement of it.
 * Threads  Pure functions over their arguments. */
#ifndef MILLRACE_KERNELS_H
#define MILLRACE_KERNELS_H

#include "matrix.h"

#include <stdbool.h>

/* Keys and values are kept in pages of KV_BLOCK tokens. In a page each layer
 * has K transposed, (D, KV_BLOCK), so that a score runs over keys in lanes,
 * then V, (KV_BLOCK, D). Elements are reals, or bf16 rounded to nearest even
 * when they are put. */
enum { KV_BLOCK = 16 };

/* One query over the keys of its context. */
struct attention {
    uint32_t width, heads;
    bool bf16;
    const void *const *page; /* of the context, oldest first */
    size_t layer_offset;     /* bytes from a page's start to this layer */
    uint32_t keys;           /* position of the query + 1 */
    const real *query;       /* (D), already divided by sqrt(D / heads) */
    /* Bias of each key, by distance: key k of head h at distance[h
       distance_stride + k]. Readable up to the next multiple of KV_BLOCK. */
    const real *distance;
    size_t distance_stride;
    const real *time;           /* (heads, BIAS_BUCKETS); NULL: none */
    const uint8_t *time_bucket; /* (keys), readable like distance */
    /* (heads, weight_stride) receives exp(score - largest); the stride is a
       multiple of KV_BLOCK. */
    real *weight;
    size_t weight_stride;
    real *total; /* (heads) receives the sums of weight */
    real *out;   /* (D) */
};

enum { SCORE_ROWS = 8 };

/* An item table in int8, for upper bounds of scores (top_k.c). Items stand
 * in groups of SCAN_GROUP; in a group, for each pair of columns, the pair of
 * each item, so that one byte product serves sixteen items. */
enum { SCAN_GROUP = 32, SCAN_HALF = 16, SCAN_QUERIES = 6 };

struct scan {
    const int8_t *panels; /* (groups, 2, D / 2, SCAN_HALF, 2) */
    /* Of each item: */
    const int16_t *offset; /* 128 sum of its bytes, modulo 2^16 */
    const float *scale;    /* what a step of its bytes is worth */
    const float *residual; /* norm of what the bytes lose, and rounding */
    const float *norm;     /* of scale times bytes */
    uint32_t width;
};

struct scan_query {
    const uint32_t *pairs; /* (D / 2): bytes + 128 of two columns, twice */
    float reach;           /* norm of the query over its step */
    float loss;            /* norm of what its bytes lose, over its norm */
    float limit;           /* a hit is above: the score to beat over the step */
};

struct kernels {
    const char *name;
    void (*multiply)(const real *a, size_t a_stride, uint32_t rows,
                     const struct packed *b, const real *bias, real *c,
                     size_t c_stride, enum matrix_mode mode);
    void (*gelu)(const real *x, size_t count, real *y);
    void (*gelu_backward)(const real *x, size_t count, real *dy);
    void (*gelu_erf)(const real *x, size_t count, real *y);
    void (*norm)(const real *x, uint32_t rows, uint32_t width, real epsilon,
                 const real *weight, const real *bias, real *y, real *stats);
    void (*norm_backward)(const real *x, const real *stats, const real *weight,
                          const real *dy, uint32_t rows, uint32_t width,
                          real *dx, real *dweight, real *dbias);
    real (*log_sum_exp)(const real *x, size_t count);
    real (*softmax)(real *x, size_t count);
    /* p is a softmax: dp becomes p (dp - sum of dp p) */
    void (*softmax_backward)(const real *p, real *dp, size_t count);
    real (*exp)(real x);
    real (*log)(real x);
    /* y += a x, each element one fma */
    void (*add_scaled)(const real *x, real a, size_t count, real *y);
    /* y = start + sum over i of scale[i] row[i], each element one fma after
       the other */
    void (*sum_rows)(const real *start, const real *const *row,
                     const real *scale, uint32_t count, uint32_t width,
                     real *y);
    /* Dropout of a row: column i is dropped when byte i % 8 of hash_mix(key ^
       (i - i % 8)) is below cut; the others are multiplied by keep. */
    void (*mask)(uint64_t key, uint32_t cut, real keep, uint32_t width,
                 real *x);
    /* out[i] = x[i] as bf16, to nearest even; x[i] becomes what out[i] says */
    void (*round_bf16)(real *x, size_t count, uint16_t *out);
    void (*attend)(const struct attention *a);
    /* Looks at count groups from first for up to SCAN_QUERIES queries, until
       one has a hit. Returns how many groups had none before it; hits[q] has
       bit i set where item i of that group may beat q's limit. */
    uint32_t (*scan)(const struct scan *s, uint32_t first, uint32_t count,
                     const struct scan_query *q, uint32_t queries,
                     uint32_t *hits);
    /* The elements of a product for scattered rows, at most SCORE_ROWS: out[i]
       = chain of a (D) with row[i] (D), the bits of multiply. */
    void (*score_rows)(const real *a, const real *const *row, uint32_t count,
                       uint32_t width, real *out);
    /* Buckets of the time between a query and each key: floor(log2(1 + gap)),
       at most BIAS_BUCKETS - 1, gap = max(0, query - key). */
    void (*time_buckets)(int32_t query, const int32_t *key, uint32_t count,
                         uint8_t *out);
};

extern const struct kernels kernels_avx2, kernels_neon, kernels_portable;

/* The family chosen for this machine. */
const struct kernels *kernels_get(void);

/* Puts one token's keys and values kv (2 D) into its page. What a bf16 page
 * will give back is also left in kv. */
void kernels_put(real *kv, uint32_t width, bool bf16, uint8_t *page,
                 size_t layer_offset, uint32_t slot);

static inline size_t kv_layer_bytes(uint32_t width, bool bf16)
{
    return (size_t)2 * width * KV_BLOCK *
           (bf16 ? sizeof(uint16_t) : sizeof(real));
}

#endif
