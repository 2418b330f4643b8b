#include "attribution.h"

#include <math.h>
#include <string.h>

enum { REAL_ARRAYS = 4 + 2 * ATTRIBUTION_NODES };

/* Below this the quotient would be of two roundings, and quadrature is exact
 * to the last places of a float; above it the quotient is. */
#define QUOTIENT_MIN 0.5

/* Gauss and Legendre's three points on [-1, 1], and half their weights. */
static const double node_at[ATTRIBUTION_NODES] = {-0.7745966692414834, 0,
                                                  0.7745966692414834};
static const double node_weight[ATTRIBUTION_NODES] = {5.0 / 18, 8.0 / 18,
                                                      5.0 / 18};

static uint32_t inner_of(const struct fraud_layer *l)
{
    return l->members * l->width;
}

/* Rounded up, so that arrays begin at whole cache lines. */
static size_t stride_of(const struct fraud_layer *l)
{
    return ((size_t)inner_of(l) + 15) / 16 * 16;
}

size_t attribution_bytes(const struct fraud_layer *l)
{
    return stride_of(l) * (REAL_ARRAYS * sizeof(real) + sizeof(double));
}

static double forward(const struct attribution *a, const real *x, real *before,
                      real *after)
{
    const struct fraud_layer *l = a->layer;
    double sum = 0;
    matrix_multiply(x, l->inputs, 1, &l->hidden_packed, l->hidden_bias, before,
                    inner_of(l), MATRIX_SET);
    matrix_gelu(before, inner_of(l), after);
    for (uint32_t k = 0; k < l->members; k++)
        sum += (double)l->output_bias[k];
    for (uint32_t s = 0; s < inner_of(l); s++)
        sum += (double)after[s] * (double)l->output_weight[s];
    return sum / l->members;
}

void attribution_init(struct attribution *a, const struct fraud_layer *l,
                      const real *reference, void *memory)
{
    size_t stride = stride_of(l);
    real *at = memory;
    *a = (struct attribution){.layer = l, .reference = reference};
    a->before0 = at;
    a->after0 = at + stride;
    a->before = at + 2 * stride;
    a->after = at + 3 * stride;
    a->node = at + 4 * stride;
    a->slope = a->node + ATTRIBUTION_NODES * stride;
    a->weight = (double *)(a->slope + ATTRIBUTION_NODES * stride);
    a->logit0 = forward(a, reference, a->before0, a->after0);
}

/* The mean of GELU's slope between two inner sums by quadrature; node and
 * slope hold all of them. */
static double mean_slope(const struct attribution *a, uint32_t s)
{
    uint32_t inner = inner_of(a->layer);
    double mean = 0;
    for (uint32_t k = 0; k < ATTRIBUTION_NODES; k++)
        mean += node_weight[k] * (double)a->slope[(size_t)k * inner + s];
    return mean;
}

static void take_slopes(struct attribution *a)
{
    uint32_t inner = inner_of(a->layer);
    for (uint32_t k = 0; k < ATTRIBUTION_NODES; k++)
        for (uint32_t s = 0; s < inner; s++) {
            double low = (double)a->before0[s], high = (double)a->before[s];
            size_t at = (size_t)k * inner + s;
            a->node[at] = (real)((low + high + (high - low) * node_at[k]) / 2);
            a->slope[at] = 1;
        }
    matrix_gelu_backward(a->node, (size_t)ATTRIBUTION_NODES * inner, a->slope);
}

double attribution_begin(struct attribution *a, const real *x)
{
    const struct fraud_layer *l = a->layer;
    double logit = forward(a, x, a->before, a->after);
    take_slopes(a);
    for (uint32_t s = 0; s < inner_of(l); s++) {
        double step = (double)a->before[s] - (double)a->before0[s];
        double slope = mean_slope(a, s);
        if (fabs(step) >= QUOTIENT_MIN)
            slope = ((double)a->after[s] - (double)a->after0[s]) / step;
        a->weight[s] = slope * (double)l->output_weight[s] / l->members;
    }
    return logit;
}

double attribution_slope(const struct attribution *a, uint32_t i)
{
    uint32_t inner = inner_of(a->layer);
    const real *row = a->layer->hidden_weight + (size_t)i * inner;
    double sum = 0;
    for (uint32_t s = 0; s < inner; s++)
        sum += (double)row[s] * a->weight[s];
    return sum;
}

double attribution_part(const struct attribution *a, const real *x,
                        uint32_t from, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = from; i < from + count; i++) {
        double step = (double)x[i] - (double)a->reference[i];
        if (step != 0) sum += step * attribution_slope(a, i);
    }
    return sum;
}
