/* random_model.h - a model of random weights, and events to score with it:
 * what tests of bits and benches of speed need, where nothing must be true of
 * the scores but that they can be made again. */
#ifndef MILLRACE_TESTS_RANDOM_MODEL_H
#define MILLRACE_TESTS_RANDOM_MODEL_H

#include "model_dir.h"

struct random_shape {
    uint32_t layers, width, heads, ffn, window;
    uint32_t items;    /* 0: a model without them */
    uint32_t features; /* F; the fraud head is there when above 0 */
    bool has_time;
    bool kv_bf16;
};

/* The names in it, where they must fit a configuration. */
struct random_names {
    const char *const *features; /* (F); NULL: feature_0, feature_1, ... */
    bool generated_items;        /* those of `millrace generate` */
};

/* Ready for scorer_new; model_free. Stops the program where it fails. */
struct model *random_model(struct random_shape shape, uint64_t seed);
struct model *random_model_named(struct random_shape shape,
                                 struct random_names names, uint64_t seed);

/* Event n of a user, the same at every call. */
struct past_event random_event(const struct random_shape *shape, uint64_t seed,
                               uint64_t user, uint64_t n);

#endif
