/* heads.h - what is read off hidden states when serving: fraud, and how odd
 * an event is.
 *
 * Fraud    An ensemble of small nets on [hidden state after the event,
 *          window features]: the mean of their logits, through Platt's
 *          calibration, is a probability.
 * Anomaly  Each predicted field's surprise, -ln p under the prediction from
 *          the hidden state before the event (for amounts p is that of so
 *          much or more, for gaps of being so far out), and the amount by
 *          itself and against the user's mean, become -ln(1 - rank) by a
 *          quantile table each. The deepest of them, what is predicted at
 *          PREDICTED_SHARE of its depth, becomes a quantile by one more
 *          table. No label enters. The item's p is normalised over a fixed
 *          sample of items and the item itself, so it costs little and is
 *          the same live and replayed.
 * Bits     A row's result depends on that row alone (matrix.h).
 * Memory   heads_new takes the packed weights; scratch is the caller's,
 *          heads_scratch reals, aligned to 64 bytes.
 * Threads  struct heads is read-only but for heads_refresh. */
#ifndef MILLRACE_HEADS_H
#define MILLRACE_HEADS_H

#include "behaviour.h"
#include "head_layers.h"

enum {
    QUANTILE_POINTS = 96, /* of a table, evenly spaced in -ln(1 - rank) */
    REFERENCE_ITEMS = 128,
    BINS = 12, /* piecewise-linear bins of a feature */
};

/* What anomaly reads off the token itself. */
enum { OWN_RATIO, OWN_AMOUNT, OWN_MEASURES };
enum { SURPRISES_MAX = FIELDS_MAX + OWN_MEASURES };

/* Constants found in training and kept in model.safetensors. */
struct head_tables {
    float *feature_mean;      /* (F) of the signed log ln(1 + |x|) */
    float *feature_scale;     /* (F) one over its deviation */
    float *feature_border;    /* (F, BINS + 1) ascending, of the signed log */
    float calibration[2];     /* slope and offset of the fraud logit */
    uint32_t reference_count; /* <= REFERENCE_ITEMS, and <= N */
    uint32_t reference[REFERENCE_ITEMS]; /* item rows */
    float depth;                         /* the last point's -ln(1 - rank) */
    float field_quantile[FIELDS_MAX][QUANTILE_POINTS];
    float own_quantile[OWN_MEASURES][QUANTILE_POINTS];
    float total_quantile[QUANTILE_POINTS];
    /* What fraud scores are explained against (reasons.h): a typical good
       event. */
    bool has_fraud_reference;
    float *fraud_reference_hidden;   /* (D) */
    float *fraud_reference_features; /* (2, F): values; 1 where missing, whose
                                        value is 0 */
};

struct heads;

/* Keeps its arguments; all must outlive it. NULL when there is no memory. */
struct heads *heads_new(const struct params *p, const real *values,
                        const struct head_tables *t);
void heads_free(struct heads *h);
/* Packs the weights again after values changed. */
void heads_refresh(struct heads *h);

/* The layers, for training; next: a predicted field but the item. */
const struct field_layer *heads_next(const struct heads *h, uint32_t field);
const struct fraud_layer *heads_fraud_layer(const struct heads *h);
const struct feature_layer *heads_feature_layer(const struct heads *h);

size_t heads_scratch(const struct params *p);

/* Calibrated probabilities of count events; the model has a fraud head.
 * hidden[i] (D) after, features[i] (F) of event i. */
void heads_fraud(const struct heads *h, const real *const *hidden,
                 const float *const *features, uint32_t count, real *scratch,
                 float *out);
/* The same before calibration. */
void heads_fraud_logit(const struct heads *h, const real *const *hidden,
                       const float *const *features, uint32_t count,
                       real *scratch, float *out);

/* Calibration: the log-odds of the probability that stands for a logit. */
real heads_log_odds(const struct heads *h, real logit);

/* Quantiles of count events. before[i] (D): the hidden state before event i
 * in its context, NULL for a user's first event; tokens[i]: its token. */
void heads_anomaly(const struct heads *h, const real *const *before,
                   const struct token *const *tokens, uint32_t count,
                   real *scratch, float *out);
/* What it is made of: out (count, heads_surprises): fields, 0 for those not
 * predicted, then the token's own measures. */
uint32_t heads_surprises(const struct params *p);
void heads_surprise(const struct heads *h, const real *const *before,
                    const struct token *const *tokens, uint32_t count,
                    real *scratch, float *out);
/* -ln(1 - rank) of a surprise in a table, continued beyond its end. */
float quantile_depth(const float *table, float depth, float x);
float heads_total(const struct heads *h, const float *surprise);

#endif
