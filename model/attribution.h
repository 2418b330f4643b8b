/* attribution.h - what each input of the fraud nets adds to their mean logit,
 * against a reference input.
 *
 * Method   Integrated gradients along the straight line from the reference to
 *          the input (Sundararajan et al. 2017). The nets have one inner
 *          layer, so its sums move along a line too, and the integral of
 *          GELU's slope along it is a difference quotient: exact, no steps.
 *          So the parts add up to the difference of the two logits.
 * Bits     A function of the input alone; no batch.
 * Memory   attribution_init takes its arrays from the caller.
 * Threads  One struct attribution belongs to one thread.
 * Shapes   I inputs, S = members x width, as in head_layers.h. */
#ifndef MILLRACE_ATTRIBUTION_H
#define MILLRACE_ATTRIBUTION_H

#include "head_layers.h"

enum { ATTRIBUTION_NODES = 3 };

struct attribution {
    const struct fraud_layer *layer;
    const real *reference;  /* (I) */
    real *before0, *after0; /* (S) of the reference */
    real *before, *after;   /* (S) of the input at hand */
    real *node, *slope;     /* (ATTRIBUTION_NODES, S) */
    double *weight;         /* (S) what a step of an inner sum is worth */
    double logit0;          /* mean logit of the reference */
};

/* Bytes of memory, which is aligned to 64. */
size_t attribution_bytes(const struct fraud_layer *l);
/* Layer, reference and memory are kept. */
void attribution_init(struct attribution *a, const struct fraud_layer *l,
                      const real *reference, void *memory);

/* Looks at x (I), which the two below then mean. Returns its mean logit. */
double attribution_begin(struct attribution *a, const real *x);
/* The mean slope of the logit in input i along the line. */
double attribution_slope(const struct attribution *a, uint32_t i);
/* What inputs [from, from + count) add. */
double attribution_part(const struct attribution *a, const real *x,
                        uint32_t from, uint32_t count);

#endif
