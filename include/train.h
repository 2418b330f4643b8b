/* train.h - a behaviour model from a log.
 *
 * Input    A log already folded by the pipeline: the same decoder, history
 *          and window code that serve live events made every number here.
 * Bits     The same log, options and build give the same model directory,
 *          whatever the thread count.
 * Memory   The log is lent for the call.
 * Threads  train_behaviour starts and joins its own. */
#ifndef MILLRACE_TRAIN_H
#define MILLRACE_TRAIN_H

#include "err.h"
#include "past_event.h"
#include "slice.h"

/* The text behind a hash. An item without one is not in the vocabulary; types
 * and the like need none. */
struct train_name {
    uint64_t hash;
    struct slice text;
};

/* Which fields the configuration maps; only those become part of a token. */
enum train_field {
    TRAIN_ITEM = 1u << 0,
    TRAIN_TYPE = 1u << 1,
    TRAIN_CATEGORY = 1u << 2,
    TRAIN_CHANNEL = 1u << 3,
    TRAIN_AMOUNT = 1u << 4,
    TRAIN_TIME = 1u << 5, /* gap, hour, weekday */
};

enum train_label { LABEL_UNKNOWN = -1, LABEL_GOOD = 0, LABEL_FRAUD = 1 };

struct train_log {
    uint32_t fields;                /* enum train_field */
    uint32_t numbers, categoricals; /* extras mapped, <= EXTRA_MAX each */
    uint32_t amount_scale;
    uint32_t features;                /* F */
    const char *const *feature_names; /* (F) */

    uint32_t users;
    const uint64_t *user_start; /* (users + 1): rows of user u are
                                   [user_start[u], user_start[u + 1]) in
                                   offset order, event 0 first */
    uint64_t rows;
    const struct past_event *events; /* (rows) */
    const float *feature_rows;       /* (rows, F) */
    const int8_t *labels;            /* (rows) enum train_label; NULL: none */
    const int8_t *labels_until; /* (rows) what the cut of --until knows; what
                                   a refit learns from. NULL: as labels */

    const struct train_name *names; /* of items, types, categories, ... */
    size_t name_count;
};

enum { TRAIN_AUTO = UINT32_MAX };

/* By time: loss on events in [from, validate_from), validation on
 * [validate_from, until). leave_one_out: each user's last event is the test
 * (never seen), the one before it validation.
 * Refit: once validation has chosen the epoch, calibrated the probability and
 * filled the quantile tables, the weights are learned anew from everything
 * before until, for as many epochs; calibration and tables stay. */
struct train_options {
    const char *from; /* a model directory to go on from, or NULL; then shapes
                         of 0 are as they are there, and so are temperature
                         and kv_bf16 */
    uint32_t layers, width, heads, ffn, window; /* window = W */
    uint32_t item_buckets; /* hashed rows for items outside the vocabulary */
    uint32_t items_max;    /* vocabulary cap, most frequent first */
    uint32_t epochs_max, patience;
    uint32_t batch_tokens; /* 0: by the length of contexts */
    float learning_rate, weight_decay, clip_norm;
    float dropout;     /* below 0: by how often an item comes */
    float average;     /* kept of the weights' moving average in a step, which
                          is what is measured and kept; 0: the weights */
    float temperature; /* scores are cosines over this; 0: plain products;
                          below 0: cosines where no fraud is learned */
    uint32_t warmup_steps;
    uint32_t negatives; /* sampled items of a step; 0: all items; TRAIN_AUTO: by
                           how many items there are */
    uint32_t fraud_heads, fraud_width;
    float fraud_weight; /* of the fraud loss in the joint loss; 0: off */
    bool leave_one_out;
    int64_t from_ms, validate_from_ms, until_ms;
    int64_t fraud_from_ms;    /* fraud loss on labelled rows from here */
    int64_t fraud_span_ms;    /* and on the newest of them: those whose time is
                                 within it before the cut less label_delay;
                                 0: all */
    int64_t label_delay_ms;   /* a row without label counts as good if older
                                 than validate_from - label_delay */
    int64_t known_span_ms;    /* validation leaves out users with a fraud that
                                 is known by the day of the event and younger
                                 than validate_from less this; 0: nobody */
    float good_share;         /* of good rows in an epoch's fraud loss, drawn
                                 anew each time; they weigh one over it */
    uint32_t pretrain_epochs; /* the first ones: next events of all rows; then
                                 both losses on pieces with a labelled row */
    bool refit;
    uint64_t seed;
    uint32_t threads;
    uint32_t segments;   /* groups of users made after training; 0: none */
    bool kv_bf16;        /* number format of cached keys and values */
    double seconds_max;  /* stop after the epoch that passes it; 0: none */
    const char *command; /* for the model card */
    const char *notes;   /* sections after the others of the card; NULL: none */
};
void train_options_default(struct train_options *o);

/* One report a step or an epoch; loss and metric are NaN where not known. */
struct train_progress {
    bool epoch_end;
    uint32_t epoch, epochs_max, step, steps_per_epoch;
    double seconds, seconds_left;
    double tokens_per_second;
    double loss, item_loss, fraud_loss;
    double validation_loss, validation_hit_rate, validation_ndcg,
        validation_average_precision;
};
typedef void train_report_fn(void *user, const struct train_progress *p);

/* Trains and writes the model directory dir (made anew beside it and renamed
 * into place; NULL: nothing is written). RC_STOP with the reason where the log
 * cannot give a model. */
enum rc train_behaviour(const struct train_log *log,
                        const struct train_options *options, const char *dir,
                        train_report_fn *report, void *user,
                        struct err *e) MUST_USE;

#endif
