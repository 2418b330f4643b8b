/* model_config.h - config.json of a model directory: its shape and facts.
 *
 * Memory   Plain values and lists that belong to the caller.
 * Errors   RC_STOP, naming the key and what is wrong with it. */
#ifndef MILLRACE_MODEL_CONFIG_H
#define MILLRACE_MODEL_CONFIG_H

#include <jansson.h>

#include "err.h"
#include "params.h"

enum { MODEL_VERSION = 1, FEATURES_MAX_READ = 4096 };

struct model_config {
    struct behaviour_config shape;
    uint32_t amount_scale;
    uint32_t reference_count;
    uint32_t segments;    /* 0: none, also where the file does not say */
    bool item_counts;     /* a tensor of them is there */
    char **feature_names; /* (shape.features) */
};

void model_config_fini(struct model_config *c);

/* A new object, without checksums. */
json_t *model_config_write(const struct model_config *c);

/* Checks every key and, by behaviour_config_check, the whole. */
enum rc model_config_read(struct model_config *c, const json_t *in,
                          struct err *e) MUST_USE;

/* hash_append of every feature name in order. */
uint64_t model_config_feature_hash(const struct model_config *c);

#endif
