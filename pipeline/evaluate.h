/* evaluate.h - how good scores were, on data whose truth is known.
 *
 * Rows     Rows (scores, label, user, time) are collected as a replay goes
 *          and measured at its end. AUC ROC and average precision as
 *          scikit-learn defines them (equal scores are one threshold), log
 *          loss clipped at 2^-52. Card Precision@k as the fraud handbook
 *          has it: each day (UTC) a card scores the maximum over its
 *          transactions; the share of frauds in the top k; cards found are
 *          removed from later days; mean of days. Equal scores go against
 *          us: good cards first.
 * Known    The handbook's rule: on a test day, users with a fraud between
 *          known_from and the day's start less delay are left out, since
 *          their cards are blocked by then.
 * Memory   Arrays that double; about 24 bytes a row and one score.
 * Threads  One thread per collector. */
#ifndef MILLRACE_EVALUATE_H
#define MILLRACE_EVALUATE_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

enum { EVALUATE_COLUMNS_MAX = 8 };

struct evaluate;

/* columns: scores per row, e.g. fraud and anomaly. NULL: no memory. */
struct evaluate *evaluate_new(uint32_t columns);
void evaluate_free(struct evaluate *ev);

/* One row, in any order of time. scores: (columns), NaN where there is none;
 * label: enum train_label. Rows before the measured time are needed for the
 * rule of known frauds only. RC_STOP: no memory. */
enum rc evaluate_add(struct evaluate *ev, const float *scores, int8_t label,
                     uint64_t user, int64_t time_ms, struct err *e) MUST_USE;
uint64_t evaluate_rows(const struct evaluate *ev);
/* Adds the rows of from, which stays as it is: one collector per thread. */
enum rc evaluate_merge(struct evaluate *ev, const struct evaluate *from,
                       struct err *e) MUST_USE;

struct evaluate_options {
    int64_t from_ms, until_ms; /* rows measured: [from, until) */
    bool leave_out_known;      /* the handbook's rule */
    int64_t known_from_ms;     /* start of training */
    int64_t known_delay_ms;    /* of labels */
    uint32_t card_k;           /* k of Card Precision; 0: not computed */
    uint32_t reviews;          /* a day, of evaluate_detail's value found */
    bool intervals;            /* evaluate_detail draws resamples */
};
/* Everything measured, no rule, Card Precision@100, 100 reviews, no
 * intervals. */
struct evaluate_options evaluate_options_default(void);

/* Not defined (a single class, no rows): NaN. */
struct evaluate_result {
    uint64_t rows; /* measured: labelled and scored */
    uint64_t positives;
    uint64_t unlabelled, unscored, known; /* left out, by why */
    double base_rate;
    double auc_roc, average_precision, log_loss, brier;
    double card_precision;
    uint32_t days;
};
/* RC_STOP: no memory. */
enum rc evaluate_measure(const struct evaluate *ev, uint32_t column,
                         const struct evaluate_options *o,
                         struct evaluate_result *out, struct err *e) MUST_USE;

#endif
