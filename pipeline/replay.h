/* replay.h - a log through the spine as fast as it goes, by some workers.
 *
 * Every worker reads the whole log and takes its share of the users, so a
 * replay scales without knowing how the log is cut. Rows live in memory
 * only: a replay starts from an empty state, as the log did, or from a
 * snapshot.
 *
 * State    From a snapshot, and to one: of this log as it goes on, or for
 *          another topic, whose first record is the next event of all users.
 * Files    Scores of several workers are written beside each other and put
 *          in the order of the log at the end, so the bytes do not depend on
 *          how many there were.
 * Threads  The caller's; each worker has its own in between.
 * Errors   The first worker that fails stops the others. */
#ifndef MILLRACE_REPLAY_H
#define MILLRACE_REPLAY_H

#include "log_input.h"
#include "metrics.h"
#include "verify.h"
#include "watch.h"

enum { REPLAY_WORKERS_MAX = 64 };

struct replay_options {
    const struct config *config; /* lent, as all here, until replay_free */
    const struct model *model;   /* NULL: fold and count */
    const char *const *paths;    /* container files, or none and range */
    uint32_t path_count;
    struct topic_range range;
    uint32_t workers;
    /* NULL: not written */
    const char *fraud_path, *recommendations_path, *profiles_path;
    const char *features_path; /* what the heads saw; one worker, with watch */
    const char *codec;         /* of those files */
    struct log_labels labels;  /* which rows take too */
    bool to_topics;            /* outputs to the configuration's topics */
    struct metrics *metrics;   /* of that many workers */
    const struct watch_options *watch; /* NULL: measure nothing */
    struct verify *verify;             /* NULL: compare with no record */
    struct catalogue *catalogue;       /* NULL: all items are available */
    const char *snapshot;  /* begin with its rows, where it ends; NULL: empty */
    const char *state_out; /* NULL: rows go with the workers */
    uint32_t state_partitions; /* of the topic that state_out is for, which
                                  begins at 0; 0: this log goes on */
};

struct replay;
enum rc replay_start(struct replay **out, const struct replay_options *o,
                     struct err *e) MUST_USE;
void replay_free(struct replay *r); /* stops what still runs */

bool replay_running(const struct replay *r);
/* In bytes of files or records of a range, of all workers. */
void replay_progress(const struct replay *r, uint64_t *done, uint64_t *total);
/* Waits for the workers and finishes the files. */
enum rc replay_join(struct replay *r, struct err *e) MUST_USE;

/* After replay_join: one per worker. NULL: nothing was measured. */
struct watch *const *replay_watches(const struct replay *r);

#endif
