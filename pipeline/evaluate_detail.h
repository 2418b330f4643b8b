/* evaluate_detail.h - what stands behind the numbers of evaluate.h: curves,
 * calibration, days, and how far a number would move with other users.
 *
 * Curves   ROC and precision over recall at every threshold, thinned to
 *          points that a screen can tell apart; equal scores are one
 *          threshold.
 * At k     Precision and recall of the k highest scores, equal ones good
 *          first.
 * At FPR   The highest recall whose false-positive rate is at most that, and
 *          the precision there.
 * Budget   Of the amounts of all frauds, the share that so many reviews a
 *          day find (evaluate_budget.h).
 * Calibration
 *          Mean score against frauds in bins of fixed edges; observed over
 *          expected frauds; intercept and slope of a logistic regression of
 *          the label on the score's logit (Cox 1958), 0 and 1 at best.
 * Interval 95 % by the bootstrap over users (bootstrap.h), drawn only where
 *          options ask: it takes as long as the rest.
 * Memory   evaluate_detail_free.
 * Threads  No shared state. */
#ifndef MILLRACE_EVALUATE_DETAIL_H
#define MILLRACE_EVALUATE_DETAIL_H

#include "bootstrap.h"
#include "evaluate_budget.h"

enum {
    EVALUATE_POINTS = 256,
    EVALUATE_KS = 3,
    EVALUATE_RATES = 3,
    EVALUATE_BINS = 10,
    EVALUATE_BARS = 25,
};
extern const uint32_t EVALUATE_K[EVALUATE_KS];        /* 100, 1000, 10000 */
extern const double EVALUATE_RATE[EVALUATE_RATES];    /* 0.1, 1, 5 % */
extern const double EVALUATE_EDGE[EVALUATE_BINS + 1]; /* 0 ... 1 */

struct evaluate_point {
    double x, y;
};
struct evaluate_bin {
    uint64_t rows, frauds;
    double score_sum;
};
struct evaluate_day {
    int64_t day; /* since 1970, UTC */
    uint64_t rows, frauds;
    double card_precision; /* NaN: card_k was 0 */
};

struct evaluate_detail {
    struct evaluate_point roc[EVALUATE_POINTS]; /* false positives, recall */
    struct evaluate_point pr[EVALUATE_POINTS];  /* recall, precision */
    uint32_t roc_count, pr_count;
    double precision_at[EVALUATE_KS], recall_at[EVALUATE_KS]; /* NaN: fewer */
    double recall_at_rate[EVALUATE_RATES], precision_at_rate[EVALUATE_RATES];
    struct evaluate_budget budget;
    struct interval auc_roc, average_precision;
    /* Of each resample, NaN where it lacks a class: the same users in all
       details, so that those of two models can be subtracted. */
    double auc_resampled[BOOTSTRAP_RESAMPLES]; /* NaN: not drawn */
    double precision_resampled[BOOTSTRAP_RESAMPLES];
    /* Only where every score is a probability; else NaN, and no bins. */
    struct evaluate_bin bins[EVALUATE_BINS];
    double observed_over_expected, observed_over_expected_high; /* > 0.1 */
    double slope, intercept;
    double good_above_99; /* share of good rows with a score of 0.99 or more:
                             of a quantile that holds, 1 % */
    uint64_t good_bars[EVALUATE_BARS], fraud_bars[EVALUATE_BARS]; /* [0, 1] */
    struct evaluate_day *days;
    uint32_t day_count;
};

/* amounts: the column that holds them, or -1. counts: as evaluate_measure
 * fills it, from the same sorted rows. RC_STOP: no memory. */
enum rc evaluate_detail(const struct evaluate *ev, uint32_t column,
                        int32_t amounts, const struct evaluate_options *o,
                        struct evaluate_result *counts,
                        struct evaluate_detail *out, struct err *e) MUST_USE;
void evaluate_detail_free(struct evaluate_detail *d);

#endif
