#include "matrix.h"

#include "kernels.h"
#include "params.h"

#include <assert.h>
#include <cblas.h>
#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* ---- the family ------------------------------------------------------ */

#ifdef MILLRACE_REAL_DOUBLE
extern const struct kernels kernels_ref; /* tests/support/kernels_ref.c */

const struct kernels *kernels_get(void)
{
    return &kernels_ref;
}
#else
static const struct kernels *choose(void)
{
    const char *wish = getenv("MILLRACE_KERNELS");
    if (wish && strcmp(wish, "portable") == 0) return &kernels_portable;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &kernels_avx2;
#elif defined(__aarch64__)
    return &kernels_neon;
#endif
    return &kernels_portable;
}

/* Chosen at the first call; two threads that race choose the same. */
const struct kernels *kernels_get(void)
{
    static _Atomic(const struct kernels *) chosen;
    const struct kernels *k =
        atomic_load_explicit(&chosen, memory_order_acquire);
    if (!k) {
        k = choose();
        atomic_store_explicit(&chosen, k, memory_order_release);
    }
    return k;
}
#endif

const char *matrix_family(void)
{
    return kernels_get()->name;
}

/* A library loaded into the process may have left another mode behind (code
 * built with -ffast-math sets flush-to-zero when it is loaded). */
void matrix_thread_init(void)
{
#if defined(__x86_64__)
    /* All exceptions masked, nearest, no flush-to-zero, no zero-denormals. */
    _mm_setcsr(0x1f80);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(UINT64_C(0)));
#else
    (void)fesetround(FE_TONEAREST);
#endif
}

/* ---- packing --------------------------------------------------------- */

static uint32_t panels_of(uint32_t cols)
{
    return (cols + PANEL_COLS - 1) / PANEL_COLS;
}

size_t packed_size(uint32_t inner, uint32_t cols)
{
    return (size_t)panels_of(cols) * PANEL_COLS * inner;
}

/* Element (k, n) of the source lies at w[k inner_step + n col_step]. */
static struct packed pack(const real *w, size_t inner_step, size_t col_step,
                          uint32_t inner, uint32_t cols, real *panels)
{
    real *out = panels;
    for (uint32_t first = 0; first < cols; first += PANEL_COLS)
        for (uint32_t k = 0; k < inner; k++)
            for (uint32_t i = 0; i < PANEL_COLS; i++, out++) {
                uint32_t n = first + i;
                *out = n < cols ? w[k * inner_step + n * col_step] : 0;
            }
    return (struct packed){.inner = inner, .cols = cols, .panels = panels};
}

struct packed matrix_pack(const real *w, uint32_t inner, uint32_t cols,
                          real *panels)
{
    return pack(w, cols, 1, inner, cols, panels);
}

struct packed matrix_pack_transposed(const real *w, uint32_t inner,
                                     uint32_t cols, real *panels)
{
    return pack(w, 1, inner, inner, cols, panels);
}

/* ---- forward --------------------------------------------------------- */

void matrix_multiply(const real *a, size_t a_stride, uint32_t rows,
                     const struct packed *b, const real *bias, real *c,
                     size_t c_stride, enum matrix_mode mode)
{
    assert(a_stride >= b->inner || rows <= 1);
    assert(c_stride >= b->cols || rows <= 1);
    kernels_get()->multiply(a, a_stride, rows, b, bias, c, c_stride, mode);
}

void matrix_gelu(const real *x, size_t count, real *y)
{
    kernels_get()->gelu(x, count, y);
}

void matrix_gelu_backward(const real *x, size_t count, real *dy)
{
    kernels_get()->gelu_backward(x, count, dy);
}

void matrix_gelu_erf(const real *x, size_t count, real *y)
{
    kernels_get()->gelu_erf(x, count, y);
}

void matrix_norm(const real *x, uint32_t rows, uint32_t width, real epsilon,
                 const real *weight, const real *bias, real *y, real *stats)
{
    kernels_get()->norm(x, rows, width, epsilon, weight, bias, y, stats);
}

void matrix_norm_backward(const real *x, const real *stats, const real *weight,
                          const real *dy, uint32_t rows, uint32_t width,
                          real *dx, real *dweight, real *dbias)
{
    kernels_get()->norm_backward(x, stats, weight, dy, rows, width, dx, dweight,
                                 dbias);
}

real matrix_log_sum_exp(const real *x, size_t count)
{
    return kernels_get()->log_sum_exp(x, count);
}

real matrix_softmax(real *x, size_t count)
{
    return kernels_get()->softmax(x, count);
}

real matrix_exp(real x)
{
    return kernels_get()->exp(x);
}

real matrix_log(real x)
{
    return kernels_get()->log(x);
}

void kernels_put(real *kv, uint32_t width, bool bf16, uint8_t *page,
                 size_t layer_offset, uint32_t slot)
{
    size_t values = (size_t)width * KV_BLOCK + (size_t)slot * width;
    if (bf16) {
        uint16_t *to = (uint16_t *)(void *)(page + layer_offset);
        uint16_t rounded[2 * WIDTH_MAX];
        kernels_get()->round_bf16(kv, (size_t)2 * width, rounded);
        for (uint32_t d = 0; d < width; d++)
            to[(size_t)d * KV_BLOCK + slot] = rounded[d];
        memcpy(to + values, rounded + width, width * sizeof *to);
    } else {
        real *to = (real *)(void *)(page + layer_offset);
        for (uint32_t d = 0; d < width; d++)
            to[(size_t)d * KV_BLOCK + slot] = kv[d];
        memcpy(to + values, kv + width, width * sizeof *kv);
    }
}

/* ---- backward: OpenBLAS ---------------------------------------------- */

/* For all threads of the process: each caller is its own thread. */
static void blas_init(void)
{
    openblas_set_num_threads(1);
}

/* c (rows, cols) = a b + beta c, where a or b may be read transposed. One
 * thread, so that the order of additions is fixed for a shape. */
static void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, uint32_t rows,
                 uint32_t cols, uint32_t inner, const real *a, size_t a_stride,
                 const real *b, size_t b_stride, real beta, real *c,
                 size_t c_stride)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (rows == 0 || cols == 0 || inner == 0) return;
    (void)pthread_once(&once, blas_init);
#ifdef MILLRACE_REAL_DOUBLE
    cblas_dgemm(CblasRowMajor, ta, tb, (blasint)rows, (blasint)cols,
                (blasint)inner, 1, a, (blasint)a_stride, b, (blasint)b_stride,
                beta, c, (blasint)c_stride);
#else
    cblas_sgemm(CblasRowMajor, ta, tb, (blasint)rows, (blasint)cols,
                (blasint)inner, 1, a, (blasint)a_stride, b, (blasint)b_stride,
                beta, c, (blasint)c_stride);
#endif
}

void matrix_gradient_product(enum matrix_read read_a, enum matrix_read read_b,
                             uint32_t rows, uint32_t cols, uint32_t inner,
                             const real *a, size_t a_stride, const real *b,
                             size_t b_stride, enum matrix_mode mode, real *c,
                             size_t c_stride)
{
    blas(read_a == MATRIX_TRANSPOSED ? CblasTrans : CblasNoTrans,
         read_b == MATRIX_TRANSPOSED ? CblasTrans : CblasNoTrans, rows, cols,
         inner, a, a_stride, b, b_stride, mode == MATRIX_ADD, c, c_stride);
}

void matrix_gradient_input(const real *dy, size_t dy_stride, uint32_t rows,
                           const real *w, uint32_t inner, uint32_t cols,
                           real *dx, size_t dx_stride, enum matrix_mode mode)
{
    blas(CblasNoTrans, CblasTrans, rows, inner, cols, dy, dy_stride, w, cols,
         mode == MATRIX_ADD, dx, dx_stride);
}

void matrix_gradient_weight(const real *x, size_t x_stride, const real *dy,
                            size_t dy_stride, uint32_t rows, uint32_t inner,
                            uint32_t cols, real *dw)
{
    blas(CblasTrans, CblasNoTrans, inner, cols, rows, x, x_stride, dy,
         dy_stride, 1, dw, cols);
}

void matrix_gradient_bias(const real *dy, size_t dy_stride, uint32_t rows,
                          uint32_t cols, real *dbias)
{
    for (uint32_t r = 0; r < rows; r++)
        kernels_get()->add_scaled(dy + r * dy_stride, 1, cols, dbias);
}

void matrix_gradient_table_input(const real *dy, size_t dy_stride,
                                 uint32_t rows, const real *t, uint32_t inner,
                                 uint32_t cols, real *dx, size_t dx_stride,
                                 enum matrix_mode mode)
{
    blas(CblasNoTrans, CblasNoTrans, rows, inner, cols, dy, dy_stride, t, inner,
         mode == MATRIX_ADD, dx, dx_stride);
}

void matrix_gradient_table(const real *x, size_t x_stride, const real *dy,
                           size_t dy_stride, uint32_t rows, uint32_t inner,
                           uint32_t cols, real *dt)
{
    blas(CblasTrans, CblasNoTrans, cols, inner, rows, dy, dy_stride, x,
         x_stride, 1, dt, inner);
}
