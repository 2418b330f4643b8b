/* text_params.h - what a text encoder consists of: its shape, and one list of
 * tensors, by the names that Hugging Face gives them.
 *
 * Layout   Dense weights as stored there: (out, in). One block of values;
 *          every tensor starts at a multiple of 16 reals.
 * Memory   text_params owns its list; text_params_fini.
 * Threads  Immutable once made. */
#ifndef MILLRACE_TEXT_PARAMS_H
#define MILLRACE_TEXT_PARAMS_H

#include <jansson.h>

#include "err.h"
#include "real.h"
#include "safetensors.h"

enum {
    TEXT_WIDTH_MAX = 4096,
    TEXT_LAYERS_MAX = 64,
    TEXT_HEADS_MAX = 128,
    TEXT_FFN_MAX = 16384,
    TEXT_IDS_MAX = 1 << 20,
    TEXT_POSITIONS_MAX = 8192,
    TEXT_TYPES_MAX = 16,
    TEXT_LABELS_MAX = 1024,
    TEXT_NAME_BYTES = 96,
};

enum text_layout { TEXT_BERT, TEXT_DISTILBERT };
enum text_act { TEXT_GELU, TEXT_GELU_TANH };

struct text_config {
    enum text_layout layout;
    enum text_act act;
    real epsilon; /* of the norms */
    uint32_t layers, width, heads, ffn, ids, positions;
    uint32_t types;  /* 0: DistilBERT has none */
    uint32_t labels; /* 0: no classification head */
    bool has_pooler; /* BERT's dense layer over [CLS] */
    bool has_masked; /* a masked-language head */
};

/* What a layer has, in the order of the list: weight, then bias, of each. */
enum text_part {
    PART_QUERY,
    PART_KEY,
    PART_VALUE,
    PART_OUTPUT,
    PART_NORM1,
    PART_UP,
    PART_DOWN,
    PART_NORM2,
    LAYER_PARTS,
};

struct text_tensor {
    char name[TEXT_NAME_BYTES]; /* without the model's prefix */
    bool is_head;               /* heads have no prefix */
    uint32_t dims;
    uint64_t shape[2];
    size_t offset; /* in reals */
};

enum { TEXT_TENSOR_NONE = UINT32_MAX };

struct text_params {
    struct text_config config;
    struct text_tensor *at; /* (count) */
    uint32_t count;
    size_t size; /* reals in a block */
    /* Indexes. Where two stand for weight and bias, it is the weight's. */
    uint32_t words, positions, types, norm;
    uint32_t layers; /* of layer 0; the others follow */
    uint32_t pooler, classifier;
    uint32_t masked, masked_norm, masked_bias;
};

/* Reads config.json's shape; heads are told by the weights, not by it. */
enum rc text_config_read(struct text_config *c, const json_t *in,
                         struct err *e) MUST_USE;

enum rc text_params_init(struct text_params *p, const struct text_config *c,
                         struct err *e) MUST_USE;
void text_params_fini(struct text_params *p);

/* The weight of a layer's part; its bias is the next tensor. */
static inline uint32_t text_params_part(const struct text_params *p,
                                        uint32_t layer, enum text_part part)
{
    return p->layers + 2 * (LAYER_PARTS * layer + (uint32_t)part);
}

static inline const real *text_params_of(const struct text_params *p,
                                         const real *values, uint32_t tensor)
{
    return values + p->at[tensor].offset;
}

/* Finds out from a file's names which heads are there, and whether names have
 * the model's prefix ("bert."). */
void text_params_heads(struct text_config *c, const struct safetensors *file,
                       const char **prefix);
/* Makes *values, aligned to 64 bytes, from the file, converted; the caller
 * frees it. Takes no memory before every tensor of both has been looked at. */
enum rc text_params_read(const struct text_params *p,
                         const struct safetensors *file, const char *prefix,
                         real **values, struct err *e) MUST_USE;
/* Writes model.safetensors, names with the prefix. */
enum rc text_params_write(const struct text_params *p, const real *values,
                          const char *path, struct err *e) MUST_USE;

#endif
