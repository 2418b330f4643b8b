/* drift.h - how far events have moved away from those that were learned
 * from: the population stability index, sum of (q - p) ln(q / p) over bins.
 * Below 0.1 little moved, above 0.25 much.
 *
 * Features against the shares that the model keeps of its training rows;
 * scores against those of the events before the ones measured, in tenths.
 * Threads  One per collector. */
#ifndef MILLRACE_DRIFT_H
#define MILLRACE_DRIFT_H

#include "evaluate.h"
#include "model.h"

/* p, q: (bins) shares; one below 1/10000 counts as that. */
double drift_index(const double *p, const double *q, uint32_t bins);

/* --- features ------------------------------------------------------------ */

struct drift;
/* NULL: no memory. The model keeps shares. */
struct drift *drift_new(const struct model *m);
void drift_free(struct drift *d); /* d may be NULL */
void drift_add(struct drift *d, const float *features);
void drift_merge(struct drift *to, const struct drift *from);
const char *drift_name(const struct drift *d, uint32_t feature);
/* NaN: no event was added. */
double drift_feature(const struct drift *d, uint32_t feature);

/* --- scores -------------------------------------------------------------- */

/* Of a column: the rows of [from, until) against those before; NaN where
 * either are fewer than a hundred. RC_STOP: no memory. */
enum rc drift_score(const struct evaluate *ev, uint32_t column, int64_t from_ms,
                    int64_t until_ms, double *out, struct err *e) MUST_USE;

#endif
