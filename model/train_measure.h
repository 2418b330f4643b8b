/* train_measure.h - how well a model does on events it did not learn from,
 * and the tables that come from looking at normal traffic.
 *
 * Ranking  Full, over all items; ties count against the model. Leaving one
 *          out, items that the user has had before are masked.
 * Threads  Uses the team; groups of pieces are measured apart and added up
 *          in their order, so results do not depend on the threads. */
#ifndef MILLRACE_TRAIN_MEASURE_H
#define MILLRACE_TRAIN_MEASURE_H

#include "train_lane.h"
#include "train_team.h"

struct measured {
    double loss, hit_rate, ndcg, average_precision; /* NaN: not known */
    uint64_t targets, frauds;
    double field_gain[FIELDS_MAX]; /* of each predicted field but the item: how
                                      far its mean -ln p is below that of its
                                      rows' shares in training */
};

/* Fraud logits and labels of validation, for calibration. */
struct scored_labels {
    float *logit;
    uint8_t *label;
    uint64_t count;
};
void scored_labels_fini(struct scored_labels *s);

/* Measures every step-th piece of a role. shared->items is the whole table.
 * labels is filled, in the order of the pieces. */
enum rc measure(const struct train_shared *shared, struct lane **lanes,
                struct team *team, const struct piece_list *list, uint32_t step,
                enum role role, struct measured *out,
                struct scored_labels *labels, struct err *e) MUST_USE;

/* Surprises (rows, heads_surprises) of at most rows_max targets, evenly chosen.
 */
enum rc measure_surprise(const struct train_shared *shared, struct lane **lanes,
                         struct team *team, const struct piece_list *list,
                         enum role role, const struct heads *heads,
                         uint64_t rows_max, float **out, uint64_t *rows,
                         struct err *e) MUST_USE;

/* The mean hidden state of good events among a role's targets, of about
 * rows_max of them: out (D). *any is false where there is none. */
enum rc measure_good(const struct train_shared *shared, struct lane **lanes,
                     struct team *team, const struct piece_list *list,
                     enum role role, uint64_t rows_max, real *out, bool *any,
                     struct err *e) MUST_USE;

/* Area under precision and recall, steps at equal scores taken whole. NaN
 * unless both labels are there. */
double average_precision(const struct scored_labels *s);

#endif
