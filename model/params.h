/* params.h - the shape of a behaviour model, and the list of its tensors.
 *
 * One list  Every learned number lies in one block of reals. The list says
 *           where each tensor starts; weights, gradients, Adam's moments and
 *           model.safetensors are blocks or files in this same order.
 * Order     Rows are contiguous. A projection is (inputs, outputs): y = x W.
 * Memory    Plain values: no pointers, nothing to free.
 * Threads   Read-only once made. */
#ifndef MILLRACE_PARAMS_H
#define MILLRACE_PARAMS_H

#include "err.h"
#include "past_event.h"
#include "real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FIELDS_MAX = 10 + 2 * EXTRA_MAX,
    LAYERS_MAX = 16,
    HEADS_MAX = 16,
    WIDTH_MAX = 1024,
    WINDOW_MAX = 4096,
    FIELD_NAME_BYTES = 32,
    TENSOR_NAME_BYTES = 64,
    LAYER_TENSORS = 18,
    TENSORS_MAX = 3 * FIELDS_MAX + LAYERS_MAX * LAYER_TENSORS + 16,
    BIAS_BUCKETS = 32, /* of distance, and of the time between two events */
};

enum field_kind {
    FIELD_ITEM, /* vocabulary, then hashed buckets, then one row for "none" */
    FIELD_TYPE,
    FIELD_CATEGORY,
    FIELD_CHANNEL,
    FIELD_AMOUNT_LEVEL, /* log buckets of the absolute amount */
    FIELD_AMOUNT_RATIO, /* log buckets of the amount against the user's own */
    FIELD_GAP,          /* log buckets of the time since the event before */
    FIELD_HOUR,
    FIELD_WEEKDAY,
    FIELD_LATE,
    FIELD_CATEGORICAL, /* extras */
    FIELD_NUMBER,      /* extras, in bins */
};

struct behaviour_field {
    char name[FIELD_NAME_BYTES]; /* "item", "type", ..., "number.0" */
    enum field_kind kind;
    uint32_t extra; /* which one, for the two extra kinds */
    uint32_t rows;  /* of its embedding table */
    bool predicted; /* has a softmax over its rows for the next event; for
                       the item that is the tied table, no tensor */
};

struct behaviour_config {
    uint32_t layers, width, heads, ffn;
    uint32_t window;       /* W; 2 W positions */
    uint32_t items;        /* N: vocabulary rows, first in the item table */
    uint32_t item_buckets; /* hashed rows after them; then the "none" row */
    uint32_t field_count;
    struct behaviour_field field[FIELDS_MAX];
    bool has_time;        /* time-gap bias */
    bool kv_bf16;         /* cached keys and values are rounded to bf16 */
    uint32_t features;    /* F, read by the fraud head */
    uint32_t bins;        /* piecewise-linear bins of each feature */
    uint32_t fraud_heads; /* ensemble members; 0: no fraud head */
    uint32_t fraud_width;
};

/* RC_STOP with the reason where no model can have this shape. */
enum rc behaviour_config_check(const struct behaviour_config *c,
                               struct err *e) MUST_USE;

enum tensor_start { START_ZERO, START_ONE, START_NORMAL };

struct tensor {
    char name[TENSOR_NAME_BYTES];
    uint32_t rows, cols;
    size_t offset;           /* of its first real in the block */
    bool decays;             /* weight decay applies */
    enum tensor_start start; /* how training begins */
    float deviation;         /* of START_NORMAL */
};

/* Indexes into the list of one layer's tensors. */
struct layer_tensors {
    uint32_t norm1_weight, norm1_bias;       /* (1, D) */
    uint32_t query_weight, query_bias;       /* (D, D), (1, D) */
    uint32_t keyvalue_weight, keyvalue_bias; /* (D, 2 D), (1, 2 D): K then V */
    uint32_t distance_bias;                  /* (heads, BIAS_BUCKETS) */
    uint32_t time_bias;                      /* the same; only with has_time */
    uint32_t output_weight, output_bias;     /* (D, D), (1, D) */
    uint32_t norm2_weight, norm2_bias;       /* (1, D) */
    uint32_t up_weight, up_bias;             /* (D, H), (1, H) */
    uint32_t down_weight, down_bias;         /* (H, D), (1, D) */
};

enum { TENSOR_NONE = UINT32_MAX };

struct params {
    struct behaviour_config config;
    uint32_t count;
    size_t size; /* reals in a block; every tensor starts at a multiple of 16 */
    struct tensor tensor[TENSORS_MAX];
    uint32_t embedding[FIELDS_MAX]; /* (rows, D) of each field */
    uint32_t position;              /* (2 W, D), index since the anchor */
    struct layer_tensors layer[LAYERS_MAX];
    uint32_t norm_weight, norm_bias; /* final (1, D) */
    /* The softmax of each predicted field but the item: (D, rows), (1, rows).
       Else TENSOR_NONE. */
    uint32_t next_weight[FIELDS_MAX], next_bias[FIELDS_MAX];
    uint32_t start; /* (1, D) the hidden state before a user's first event */
    /* The fraud ensemble, members side by side in one product; inputs I =
       D + F (2 + bins). (I, members width), (1, members width), then each
       member's own output (members, width), (1, members). Else TENSOR_NONE. */
    uint32_t fraud_hidden_weight, fraud_hidden_bias;
    uint32_t fraud_output_weight, fraud_output_bias;
};

static inline uint32_t fraud_inputs(const struct behaviour_config *c)
{
    return c->width + c->features * (2 + c->bins);
}

/* Makes the list. The config has been checked. */
void params_init(struct params *p, const struct behaviour_config *c);

/* Index of the field of this kind (and extra), or -1. */
int params_field(const struct behaviour_config *c, enum field_kind kind,
                 uint32_t extra);

/* Random start of a block, by a counter: the same for every thread count. */
void params_start(const struct params *p, uint64_t seed, real *block);

static inline real *params_at(const struct params *p, real *block,
                              uint32_t tensor)
{
    return block + p->tensor[tensor].offset;
}

static inline const real *params_of(const struct params *p, const real *block,
                                    uint32_t tensor)
{
    return block + p->tensor[tensor].offset;
}

#endif
