/* train_shared.h - what all threads of a training run read while the weights
 * stand still: packed weights, and the sample of items in a step.
 *
 * Memory   shared_new takes all; model, data and options are lent.
 * Threads  Read-only between refreshes. */
#ifndef MILLRACE_TRAIN_SHARED_H
#define MILLRACE_TRAIN_SHARED_H

#include "head_layers.h"
#include "model_dir.h"
#include "train_data.h"

/* The share of a field that is predicted better than by how often its rows
 * come; one that is not gets less, down to none. */
#define FIELD_SHARE 0.25f

struct train_shared {
    struct model *m;
    const struct train_data *data;
    const struct train_options *o;
    struct item_layer items;      /* the whole table, or the sample's rows */
    struct item_sample sample;    /* of this step; options.negatives of them */
    real positive_weight;         /* of a fraud in the loss */
    bool fraud_rests;             /* while next events are pre-trained alone */
    uint64_t good_key;            /* of the epoch's draw of good rows */
    real field_share[FIELDS_MAX]; /* of each field's loss beside the item's */
    real *panels;
    uint32_t *negatives;
    real *log_weight, *sample_rows;
};

enum rc shared_new(struct train_shared **out, struct model *m,
                   const struct train_data *data, const struct train_options *o,
                   struct err *e) MUST_USE;
void shared_free(struct train_shared *s);

/* After the weights moved. shared_refresh draws the sample of that step, if
 * the options ask for one; shared_refresh_whole makes items the whole table,
 * to rank. */
void shared_refresh(struct train_shared *s, uint64_t step);

/* The weight of a row in this epoch's fraud loss, 0 where it has no part. In
 * validation every labelled row has one. */
real shared_fraud_weight(const struct train_shared *s, uint64_t row,
                         enum role role);
void shared_refresh_whole(struct train_shared *s);

#endif
