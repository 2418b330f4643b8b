/* behaviour_layer.h - one layer of the behaviour model, and the model's
 * packed weights. Shared by scorer.c (live) and behaviour_train.c, so that
 * both run the same forward pass.
 *
 * Rows     A call works on T tokens of any contexts; within a context in
 *          order. In the last layer only R wanted rows go beyond keys and
 *          values: nothing reads the others.
 * Memory   Everything here is lent by the caller. */
#ifndef MILLRACE_BEHAVIOUR_LAYER_H
#define MILLRACE_BEHAVIOUR_LAYER_H

#include "behaviour.h"
#include "kernels.h"

struct behaviour_layer {
    struct packed query; /* divided by sqrt(D / heads), bias too */
    struct packed keyvalue, output, up, down;
    real *query_bias; /* (D) */
    real *distance;   /* (heads, distance_stride): by 2 W - 1 - distance, so
                         that a query reads its keys' biases in order */
};

struct behaviour {
    const struct params *params;
    const real *values;
    uint32_t weight_stride;   /* 2 W rounded up to whole blocks */
    uint32_t distance_stride; /* 2 W + KV_BLOCK */
    real item_scale;          /* sqrt D */
    size_t page_bytes;
    real *block;
    struct behaviour_layer layer[LAYERS_MAX];
};

/* Where one token stands. */
struct row {
    uint8_t *const *page; /* of its context */
    const int32_t *times; /* of its context, by position; behaviour_time */
    uint32_t position;    /* index since the anchor */
    uint64_t key;         /* of its dropout */
};

struct rows {
    uint32_t count;
    const struct row *row; /* (T) */
    uint32_t wanted_count;
    const uint32_t *wanted; /* (R) ascending row numbers */
    const uint8_t *bucket;  /* (T, weight_stride); NULL without time */
};

/* Training keeps every layer's own; live, all layers share one set, where
 * middle and out are x_wanted, and the weights are one row's. */
struct activations {
    real *x;            /* (T, D) what comes in */
    real *norm1;        /* (T, D) */
    real *stats1;       /* (T, 2); NULL live */
    real *keyvalue;     /* (T, 2 D) */
    real *x_wanted;     /* (R, D); x itself where all rows are wanted */
    real *norm_wanted;  /* (R, D); likewise of norm1 */
    real *query;        /* (R, D) */
    real *weight;       /* (R or 1, heads, weight_stride) exp(score - max) */
    size_t weight_step; /* reals between the rows of weight; 0 live */
    real *total;        /* (R or 1, heads) */
    size_t total_step;
    real *mixed;  /* (R, D) */
    real *middle; /* (R, D) after attention */
    real *norm2;  /* (R, D) */
    real *stats2; /* (R, 2); NULL live */
    real *up;     /* (R, H) */
    real *act;    /* (R, H); may be up */
    real *out;    /* (R, D) */
    real *branch; /* (R, D) scratch, only with dropout */
};

/* What a layer's dropout is drawn from; cut of 256 elements are dropped. */
struct mask {
    uint32_t cut;
    uint64_t base; /* of seed and step */
};

enum mask_site { MASK_EMBEDDING, MASK_ATTENTION, MASK_FFN, MASK_SITES };

struct mask mask_of(struct dropout d);
/* x (rows, width) loses the dropped elements; the others grow to keep the
 * sum's expectation. list: row numbers, NULL for all. */
void mask_apply(const struct mask *m, uint32_t layer, enum mask_site site,
                const struct row *row, const uint32_t *list, uint32_t rows,
                uint32_t width, real *x);

/* Time of an event as the biases read it: units of 1.024 s since the anchor,
 * kept within 32 bits. */
int32_t behaviour_time(int64_t time_ms, int64_t anchor_ms);

/* Bucket of a distance: 0 .. 15 each its own, then four to an octave. */
uint32_t behaviour_distance_bucket(uint32_t distance);

/* x (D) of one token at this position. */
void behaviour_embed(const struct behaviour *b, const struct token *token,
                     uint32_t position, real *x);

/* Fills bucket (T, weight_stride) for the rows. */
void behaviour_buckets(const struct behaviour *b, const struct rows *r,
                       uint8_t *bucket);

/* Keys and values into the pages, then a->out of the wanted rows, which are
 * all rows unless this is the last layer. m may be NULL. */
void behaviour_layer_forward(const struct behaviour *b, uint32_t l,
                             const struct rows *r, struct activations *a,
                             const struct mask *m);

#endif
