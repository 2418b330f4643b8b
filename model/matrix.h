/* matrix.h - the arithmetic under every layer. README.md has its rules.
 *
 * Bits     An element of a product is one chain acc = fma(a[k], b[k], acc),
 *          k ascending from 0, then + bias: it depends on the inner size
 *          alone, not on rows, tiles, position or instruction set. Sums over
 *          a row (norm, softmax) add in eight lanes, element i in lane i % 8,
 *          and fold the lanes in one order. exp and log are ours.
 * Forward  Weights are packed once (matrix_pack) in panels of 16 columns.
 * Backward The gradient products go to OpenBLAS, set to one thread, so that a
 *          shape always adds in the same order.
 * Memory   Nothing is allocated. Any pointer may be unaligned, but those of
 *          packed panels are aligned to 64 bytes (arena_take).
 * Threads  All functions: any thread that has called matrix_thread_init.
 * Shapes   M rows, K inner, N cols; strides count reals between rows. */
#ifndef MILLRACE_MATRIX_H
#define MILLRACE_MATRIX_H

#include "real.h"

#include <stddef.h>
#include <stdint.h>

enum { PANEL_COLS = 16 };

/* A (K, N) matrix in panels of 16 columns, the last one padded with zeros. */
struct packed {
    uint32_t inner, cols;
    const real *panels;
};

enum matrix_mode { MATRIX_SET, MATRIX_ADD };

/* Round to nearest, denormals kept, in the calling thread, whatever a library
 * has left behind. Cheap enough to call at every entry. */
void matrix_thread_init(void);

/* "avx2", "neon" or "portable". MILLRACE_KERNELS=portable in the environment
 * chooses the plain family (for tests and for doubts). */
const char *matrix_family(void);

/* How many reals the panels of a (inner, cols) matrix take. */
size_t packed_size(uint32_t inner, uint32_t cols);
struct packed matrix_pack(const real *w, uint32_t inner, uint32_t cols,
                          real *panels);
/* The same from the transposed w (cols, inner): scores against a table. */
struct packed matrix_pack_transposed(const real *w, uint32_t inner,
                                     uint32_t cols, real *panels);

/* c (M, N) = or += a (M, K) b + bias; bias (N) may be NULL. */
void matrix_multiply(const real *a, size_t a_stride, uint32_t rows,
                     const struct packed *b, const real *bias, real *c,
                     size_t c_stride, enum matrix_mode mode);

/* y = GELU(x), the tanh form: x / (1 + exp(-2 sqrt(2/pi) (x + 0.044715 x^3))).
 * In place is allowed. backward: dy becomes dy * GELU'(x). */
void matrix_gelu(const real *x, size_t count, real *y);
void matrix_gelu_backward(const real *x, size_t count, real *dy);

/* y = x Phi(x), Phi the normal distribution: GELU in the form with erf, within
 * 1e-6. In place is allowed. */
void matrix_gelu_erf(const real *x, size_t count, real *y);

/* y = (x - mean) / sqrt(variance + epsilon) * weight + bias, row by row. stats
 * (M, 2) receives mean and reciprocal deviation; may be NULL. In place is
 * allowed. */
void matrix_norm(const real *x, uint32_t rows, uint32_t width, real epsilon,
                 const real *weight, const real *bias, real *y, real *stats);
/* dx += ..., dweight += ..., dbias += .... */
void matrix_norm_backward(const real *x, const real *stats, const real *weight,
                          const real *dy, uint32_t rows, uint32_t width,
                          real *dx, real *dweight, real *dbias);

/* ln of the sum of exp(x[i]). */
real matrix_log_sum_exp(const real *x, size_t count);
/* x becomes its softmax; returns the log of the sum as above. */
real matrix_softmax(real *x, size_t count);

/* One value, by the same polynomials. exp: 0 below -87.3, capped above 88.
 * log: of a positive normal number. */
real matrix_exp(real x);
real matrix_log(real x);
static inline real matrix_sigmoid(real x)
{
    return 1 / (1 + matrix_exp(-x));
}
static inline real matrix_tanh(real x)
{
    return 1 - 2 / (1 + matrix_exp(2 * x));
}

/* Backward. c (rows, cols) = or += a b, inner in between; a or b may stand
 * transposed in memory. */
enum matrix_read { MATRIX_PLAIN, MATRIX_TRANSPOSED };
void matrix_gradient_product(enum matrix_read read_a, enum matrix_read read_b,
                             uint32_t rows, uint32_t cols, uint32_t inner,
                             const real *a, size_t a_stride, const real *b,
                             size_t b_stride, enum matrix_mode mode, real *c,
                             size_t c_stride);

/* Gradients of y = x w + bias, w (K, N) not packed. */
/* dx (M, K) = or += dy (M, N) w^T */
void matrix_gradient_input(const real *dy, size_t dy_stride, uint32_t rows,
                           const real *w, uint32_t inner, uint32_t cols,
                           real *dx, size_t dx_stride, enum matrix_mode mode);
/* dw (K, N) += x^T dy */
void matrix_gradient_weight(const real *x, size_t x_stride, const real *dy,
                            size_t dy_stride, uint32_t rows, uint32_t inner,
                            uint32_t cols, real *dw);
/* dbias (N) += column sums of dy */
void matrix_gradient_bias(const real *dy, size_t dy_stride, uint32_t rows,
                          uint32_t cols, real *dbias);
/* The same two products for scores against a table: y = x t^T, t (N, K).
 * dx (M, K) = or += dy (M, N) t;  dt (N, K) += dy^T x. */
void matrix_gradient_table_input(const real *dy, size_t dy_stride,
                                 uint32_t rows, const real *t, uint32_t inner,
                                 uint32_t cols, real *dx, size_t dx_stride,
                                 enum matrix_mode mode);
void matrix_gradient_table(const real *x, size_t x_stride, const real *dy,
                           size_t dy_stride, uint32_t rows, uint32_t inner,
                           uint32_t cols, real *dt);

#endif
