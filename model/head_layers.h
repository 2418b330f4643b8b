/* head_layers.h - the layers above the hidden state, forward and backward.
 *
 * Forward  The same functions in serving and in training. Projections go
 *          through matrix_multiply.
 * Gradient Losses turn logits into gradients in place, scaled by the
 *          caller, so that shards add up to a batch.
 * Memory   Nothing is allocated.
 * Threads  Any thread; no state.
 * Shapes   M rows, D width, R rows of a field, I inputs, S = members x width
 *          of the fraud nets. */
#ifndef MILLRACE_HEAD_LAYERS_H
#define MILLRACE_HEAD_LAYERS_H

#include "matrix.h"
#include "params.h"

/* The sum of a[i] b[i], i ascending. */
real row_dot(const real *a, const real *b, uint32_t count);

/* Cross-entropy of each row's softmax against its target. logits (M, R)
 * become scale * (softmax - target). Returns the sum of -ln p. */
double softmax_loss(real *logits, uint32_t rows, uint32_t cols,
                    const uint32_t *targets, real scale);

/* The surprise -ln p of each row's target; logits stay as they are. */
void softmax_surprise(const real *logits, uint32_t rows, uint32_t cols,
                      const uint32_t *targets, float *out);

/* For rows in an order: how far out the target is. Above (amounts): -ln of the
 * share from it on, so that a small amount in a narrow bucket is not odd and
 * one beyond all others is. Both ways (gaps): of twice the smaller of the
 * shares up to it and from it on. logits are used up. */
enum tail { TAIL_ABOVE, TAIL_BOTH };
void tail_surprise(real *logits, uint32_t rows, uint32_t cols,
                   const uint32_t *targets, enum tail which, float *out);

/* One predicted field. */
struct field_layer {
    uint32_t width, rows;
    struct packed weight_packed; /* (D, R) */
    const real *weight;          /* the same, not packed */
    const real *bias;            /* (R) */
};
/* Adds to dhidden (M, D), dweight (D, R) and dbias (R). logits: (M, R) of
 * scratch. Returns the sum of -ln p. */
double field_loss(const struct field_layer *l, const real *hidden,
                  uint32_t rows, const uint32_t *targets, real scale,
                  real *logits, real *dhidden, real *dweight, real *dbias);

/* The next item among all: logits = hidden table^T. table (R, D). */
struct item_layer {
    uint32_t width, rows;
    struct packed table_packed; /* transposed */
    const real *table;
};
double item_loss(const struct item_layer *l, const real *hidden, uint32_t rows,
                 const uint32_t *targets, real scale, real *logits,
                 real *dhidden, real *dtable);

/* The next item among the target and a sample of negatives (S of them, all
 * rows share them). A negative stands for weight[s] items of its kind, so
 * the sum estimates the full softmax; where it is the target it is left
 * out. negatives: rows of the items; table_packed of l holds just their rows;
 * l->rows is S. targets: rows of the whole table. logits: (M, S). dsample
 * (S, D) and dtarget (M, D) are added to. */
struct item_sample {
    const uint32_t *negatives;
    const real *log_weight;
    const real *sample; /* (S, D) */
};
double item_sample_loss(const struct item_layer *l, const struct item_sample *s,
                        const real *hidden, uint32_t rows,
                        const uint32_t *targets, real scale, real *logits,
                        real *dhidden, real *dsample, real *dtarget);

/* The fraud nets side by side: S = members * width. */
struct fraud_layer {
    uint32_t inputs, members, width;
    struct packed hidden_packed; /* (I, S) */
    const real *hidden_weight;   /* the same, not packed */
    const real *hidden_bias;     /* (S) */
    const real *output_weight;   /* (members, width) */
    const real *output_bias;     /* (members) */
};
/* before, after: (M, S), the inner layer before and after GELU; mask (M, S)
 * multiplies it, NULL in serving. logits (M, members). */
void fraud_forward(const struct fraud_layer *l, const real *x, uint32_t rows,
                   const real *mask, real *before, real *after, real *logits);
struct fraud_gradients {
    real *hidden_weight, *hidden_bias, *output_weight, *output_bias;
};
/* dlogits (M, members). dafter (M, S) is scratch. The first dx_cols columns
 * of x get their gradient in dx (M, dx_cols). */
void fraud_backward(const struct fraud_layer *l, const real *x, uint32_t rows,
                    const real *mask, const real *before, const real *after,
                    const real *dlogits, real *dafter, uint32_t dx_cols,
                    real *dx, const struct fraud_gradients *g);

/* Binary cross-entropy of every member's logit against label (0 or 1),
 * weighted: dlogits = scale * weight * (p - label). Returns the weighted sum,
 * mean over members. */
double fraud_loss(const real *logits, uint32_t rows, uint32_t members,
                  const uint8_t *labels, const real *weights, real scale,
                  real *dlogits);

/* Window features as the fraud nets read them: (F) standardised signed logs,
 * (F) 1 where missing, (F, bins) how far each bin is filled. border (F,
 * bins + 1) ascending. */
float feature_signed_log(float x);
struct feature_layer {
    uint32_t features, bins;
    const float *mean, *scale, *border;
};
/* The standardised signed log of one value that is not missing. */
real feature_standardise(const struct feature_layer *l, uint32_t feature,
                         float x);
void features_expand(const struct feature_layer *l, const float *x, real *out);

#endif
