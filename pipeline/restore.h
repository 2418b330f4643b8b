/* restore.h - partitions of one worker whose rows come from the changelog,
 * some records at a time between its batches.
 *
 * Order    look (when a partition is assigned), begin (if the state wants
 *          it), step until it says done; then the partition folds.
 * Memory   One reader, open only while there is something to read.
 * Threads  The worker's.
 * Errors   RC_AGAIN: no broker answers. RC_STOP: the changelog does not fit
 *          the input, or holds what this program never wrote. */
#ifndef MILLRACE_RESTORE_H
#define MILLRACE_RESTORE_H

#include "changelog_copy.h"
#include "config.h"
#include "metrics.h"
#include "state.h"

struct restore_options {
    const struct config *config;
    const char *changelog;          /* topic; lent, as all here */
    const char *topic;              /* the events' */
    uint32_t key_bytes_max;         /* of its rows */
    struct worker_metrics *metrics; /* NULL: none */
};
struct restore;
enum rc restore_new(struct restore **out, const struct restore_options *o,
                    struct err *e) MUST_USE;
void restore_free(struct restore *r);

/* How a partition of the changelog ends. */
struct changelog_end {
    int64_t start, end;
    bool marked;
    struct family_meta marker; /* the newest */
};
/* partitions: of the input, which the changelog must have as well. */
enum rc restore_look(struct restore *r, int32_t partition, uint32_t partitions,
                     struct changelog_end *out, struct err *e) MUST_USE;

/* Begins, or is at it already. */
enum rc restore_begin(struct restore *r, struct partition *p,
                      struct err *e) MUST_USE;
void restore_cancel(struct restore *r, const struct partition *p);

/* Reads for some milliseconds, waits up to wait_ms for the first record, and
 * lends the partitions that are done. */
enum rc restore_step(struct restore *r, uint32_t wait_ms,
                     struct partition *const **done, uint32_t *count,
                     struct err *e) MUST_USE;
uint32_t restore_count(const struct restore *r); /* not done yet */
/* Lets go of the cluster if there is nothing to read. */
void restore_rest(struct restore *r);

#endif
