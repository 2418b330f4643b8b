/* train_optimizer.h - AdamW over a block of parameters.
 *
 * Method   Decoupled weight decay (Loshchilov and Hutter 2019) on the tensors
 *          that decay, clipping by the global norm.
 * Sphere   The rows of one tensor may be kept at a length: they are put back
 *          to it after each step, and do not decay.
 * Average  Beside the values, their moving average over steps; its sphere's
 *          rows have the length too. Early on it forgets faster, so that it
 *          is not of the random start.
 * Bits     The shards' gradients are added as a tree in a fixed order, norms
 *          slice by slice: the same for any number of threads.
 * Memory   optimizer_new takes all; values are lent.
 * Threads  One optimizer belongs to one thread; it uses the team. */
#ifndef MILLRACE_TRAIN_OPTIMIZER_H
#define MILLRACE_TRAIN_OPTIMIZER_H

#include "params.h"
#include "train_team.h"

enum { TRAIN_SHARDS = 4 };

struct optimizer;
struct optimizer_options {
    float weight_decay, clip_norm; /* clip_norm 0: off */
    float average;                 /* kept of the average in a step; 0: none */
    uint32_t sphere;               /* a tensor, or TENSOR_NONE */
    float radius;                  /* of its rows */
    float sphere_rate;             /* of its rate to that of the others */
    uint32_t fixed[2];             /* tensors that stay, or TENSOR_NONE */
};
enum rc optimizer_new(struct optimizer **out, const struct params *p,
                      real *values, struct optimizer_options options,
                      struct team *team, struct err *e) MUST_USE;
void optimizer_free(struct optimizer *o);

/* The shard's gradient, zeroed before the first step and after each. */
real *optimizer_gradients(struct optimizer *o, uint32_t shard);

/* Adds up the shards, clips, moves the values. Returns the norm before
 * clipping; where it is not finite nothing moves. */
double optimizer_step(struct optimizer *o, float learning_rate);

/* Exchanges the values and their average, to measure or keep the average and
 * then to go on from the values. Does nothing without one. */
void optimizer_swap_average(struct optimizer *o);

#endif
