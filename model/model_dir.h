/* model_dir.h - a model in memory, and the directory that keeps it.
 *
 * Files    model.safetensors  every learned number and table
 *          config.json        shapes, fields, features, facts, checksums
 *          FIELD.ids          a vocabulary a field (vocabulary.h)
 *          model_card.md      what it was trained on and how it scored
 * Hash     XXH3 over model.safetensors and config.json, which holds the
 *          checksums of the vocabularies.
 * Writing  Into a new directory beside it, then renamed into its place.
 * Memory   A model owns all that it points to.
 * Threads  Immutable once opened. */
#ifndef MILLRACE_MODEL_DIR_H
#define MILLRACE_MODEL_DIR_H

#include "heads.h"
#include "model.h"
#include "segments.h"
#include "tokenise.h"
#include "top_k.h"

/* What reports hold scores against (baseline.h). */
struct baseline {
    bool there;
    float *weights; /* (2 F + 1): of features, of missing ones, the offset */
    float *shares;  /* (F, MODEL_FEATURE_BINS) */
};

struct model {
    struct model_info info;
    struct params params;
    real *values; /* (params.size), aligned to 64 bytes */
    struct behaviour *behaviour;
    struct top_k_index *items; /* of the vocabulary; NULL without an item
                                  field. Made by model_open */
    struct tokeniser tokeniser;
    struct head_tables tables;
    struct baseline baseline;
    struct heads *heads;
    struct segments segments; /* count 0: none were made */
    int item_field;           /* index of the field, or -1 */
    float *item_counts;       /* (N) events of each item in training; all 0 in
                                 a model that does not say */
    uint32_t *popular;        /* (N) items, most counted first */
    char **feature_names;     /* (F) */
};

/* An empty model of this shape: params, values and tables zeroed, no
 * vocabularies. The config has been checked. names: (F), copied. */
enum rc model_new(struct model **out, const struct behaviour_config *c,
                  uint32_t amount_scale, const char *const *feature_names,
                  struct err *e) MUST_USE;

/* Once item_counts are filled. */
void model_rank_items(struct model *m);

/* What its fraud scores are explained against: hidden (D), features (F) with
 * NaN where missing. Both are copied; *m gets its name. */
void model_set_reference(struct model *m, const real *hidden,
                         const float *features);

/* Writes the directory. card: text of model_card.md. *m gets its hash. */
enum rc model_write(struct model *m, const char *dir, const char *card,
                    struct err *e) MUST_USE;

#endif
