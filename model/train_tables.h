/* train_tables.h - the constants of a model that are counted, not learned:
 * feature statistics before training; calibration and quantiles after it.
 *
 * Threads  One thread; the caller's. */
#ifndef MILLRACE_TRAIN_TABLES_H
#define MILLRACE_TRAIN_TABLES_H

#include "train_measure.h"

/* Mean, deviation and bin borders of each feature over the training rows:
 * those with a label if there are any. */
enum rc tables_features(const struct train_data *d, struct head_tables *t,
                        struct err *e) MUST_USE;

/* The median of each feature over the good ones of those rows; NaN where more
 * than half have none. out (F). */
enum rc tables_typical(const struct train_data *d, float *out,
                       struct err *e) MUST_USE;

/* An even choice over the vocabulary's ranks. */
void tables_reference(uint32_t items, struct head_tables *t);

/* The line from logit to calibrated logit, fitted to labels (Platt 1999);
 * without both labels it takes out the weight of positives alone. */
void tables_calibrate(const struct scored_labels *s, double positive_weight,
                      struct head_tables *t);

/* Quantiles of each column of (rows, heads_surprises), and of their total.
 * own_only: for weights that will be learned anew; predictions stay silent,
 * since no quantile of these would hold for those. */
enum rc tables_anomaly(const float *surprise, uint64_t rows, bool own_only,
                       const struct heads *h, const struct params *p,
                       struct head_tables *t, struct err *e) MUST_USE;

/* How often training had each item. */
void tables_item_counts(const struct train_data *d, struct model *m);

/* Rows of ids that training never saw become the mean of those it did, so
 * that an unknown id reads like a middling one and not like noise. */
void tables_unseen_rows(const struct train_data *d, struct model *m);

#endif
