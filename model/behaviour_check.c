#include "behaviour_check.h"

#include "behaviour_layer.h"
#include "hash.h"

#include <stdlib.h>

enum { CHECK_ROWS = 64 };

static const uint32_t rows_tried[] = {1, 7, 8};

/* The first rows of every batch size, and the last of them at another place
 * in the batch, against all CHECK_ROWS at once. */
static bool product_stands(const struct packed *w, const real *x, real *all,
                           real *some)
{
    size_t k = w->inner, n = w->cols;
    matrix_multiply(x, k, CHECK_ROWS, w, NULL, all, n, MATRIX_SET);
    for (size_t t = 0; t < sizeof rows_tried / sizeof *rows_tried; t++) {
        uint32_t rows = rows_tried[t];
        for (uint32_t from = 0; from + rows <= CHECK_ROWS; from += 19) {
            matrix_multiply(x + from * k, k, rows, w, NULL, some, n,
                            MATRIX_SET);
            if (memcmp(some, all + from * n, rows * n * sizeof *some) != 0)
                return false;
        }
    }
    return true;
}

enum rc behaviour_check(const struct behaviour *b, struct err *e)
{
    const struct behaviour_config *c = &b->params->config;
    size_t inner = c->ffn > c->width ? c->ffn : c->width;
    size_t cols = c->ffn > 2 * c->width ? c->ffn : 2 * c->width;
    real *x = calloc(CHECK_ROWS * inner, sizeof *x);
    real *all = calloc(CHECK_ROWS * cols, sizeof *all);
    real *some = calloc(CHECK_ROWS * cols, sizeof *some);
    enum rc rc = RC_OK;

    if (!x || !all || !some) rc = ERR(e, RC_STOP, "model: no memory");
    for (size_t i = 0; rc == RC_OK && i < CHECK_ROWS * inner; i++)
        x[i] = (real)draw_unit(draw(1, 2, i)) - (real)0.5;
    for (uint32_t l = 0; rc == RC_OK && l < c->layers; l++) {
        const struct behaviour_layer *layer = &b->layer[l];
        if (!product_stands(&layer->query, x, all, some) ||
            !product_stands(&layer->keyvalue, x, all, some) ||
            !product_stands(&layer->output, x, all, some) ||
            !product_stands(&layer->up, x, all, some) ||
            !product_stands(&layer->down, x, all, some))
            rc = ERR(e, RC_STOP,
                     "model: on this machine the products of layer %u depend "
                     "on the batch (kernels %s); nothing scored here could "
                     "be reproduced. Try MILLRACE_KERNELS=portable",
                     l, matrix_family());
    }
    free(x);
    free(all);
    free(some);
    return rc;
}
