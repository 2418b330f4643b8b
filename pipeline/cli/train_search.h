/* train_search.h - settings tried on the validation split, for train.c.
 *
 * Trials   The first has the settings as they were given; others draw each
 *          of a few from steps around them: learning rate, dropout, weight
 *          decay, tokens of a batch, weight of the fraud loss. Draws are
 *          hashes of the seed, so a search comes out the same again. Shapes
 *          stay: what a model may cost is not the search's to say.
 * Chosen   By what early stopping watches, never by what lies after the
 *          validation. No trial learns from the validation (no refit).
 * Threads  The caller's; training starts its own. */
#ifndef MILLRACE_TRAIN_SEARCH_H
#define MILLRACE_TRAIN_SEARCH_H

#include "train.h"

enum { SEARCH_TRIALS_MAX = 1000 };

struct search_trial {
    float learning_rate, dropout, weight_decay, fraud_weight;
    uint32_t batch_tokens;
    uint32_t epochs;  /* that it ran */
    uint32_t epoch;   /* that was its best */
    double reached;   /* larger is better; NaN: no validation to reach it on */
    const char *what; /* NDCG@10, average precision, or loss, which is < 0 */
    double seconds;
};

/* After each trial; best: the index of the best so far. */
typedef void search_tell_fn(void *user, uint32_t trial,
                            const struct search_trial *t, uint32_t best);

/* Trains count settings and writes no model; *o gets the best one's. trials:
 * (count). */
enum rc train_search(const struct train_log *log, struct train_options *o,
                     uint32_t count, struct search_trial *trials,
                     train_report_fn *report, search_tell_fn *tell, void *user,
                     struct err *e) MUST_USE;

/* The table of a model card, on the heap; NULL: no memory. */
char *search_table(const struct search_trial *trials, uint32_t count);

#endif
