/* tally.h - what a batch and the rows behind it add to a worker's metrics.
 *
 * Threads  The worker's thread. */
#ifndef MILLRACE_TALLY_H
#define MILLRACE_TALLY_H

#include "metrics.h"
#include "state.h"

/* A batch whose outputs are under way. Bad events are logged too. finite: a
 * replay, whose log's clock is not this machine's. */
void tally_batch(struct worker_metrics *m, const char *topic,
                 const struct batch *b, bool finite);

/* Of a batch behind an items stage: users' events that its topic has not in
 * the order of time. */
void tally_reordered(struct worker_metrics *m, const struct batch *b);

/* Rows and contexts as they stand after a commit. */
void tally_rows(struct worker_metrics *m, struct state *st,
                struct scorer_stats contexts);

#endif
