/* source_merge.h - the partitions of a finite log, and what became known of
 * it later, as one log in the order of time.
 *
 * Order    Of events the one whose time is least, time being the newest in
 *          its partition up to it, so that order within a partition stays;
 *          of equals the lower partition. A label comes before the first
 *          event whose time is not before the label became known; those that
 *          are left come last.
 * Knew     A run that was recorded says of each event up to which label of its
 *          partition it knew: those come in front of it, and the others later.
 *          That is how a replay follows it.
 * Labels   Are records of the input INPUT_LABELS, partition 0, with their
 *          number in labels_in_order as offset; of a run that is followed
 *          they have their own. They are in no assignment.
 * Again    A seek begins the whole anew, whatever the position is: what came
 *          before decides what comes next.
 * Memory   A batch of every partition; records are lent until release.
 * Threads  One worker thread. */
#ifndef MILLRACE_SOURCE_MERGE_H
#define MILLRACE_SOURCE_MERGE_H

#include "labels.h"
#include "mapping.h"
#include "source.h"

enum { SOURCE_MERGE_MAX = 64 };

/* The newest offset among the labels that an event knew; -1: none, or nobody
 * says. Any thread. */
typedef int64_t source_merge_known_fn(void *user, const struct record *r);

struct source_merge_options {
    struct source *const *events; /* each of one partition; taken, also where
                                     opening fails */
    uint32_t count;
    struct mapping *times;        /* which reads the times of events; taken */
    const struct labels *labels;  /* lent; NULL: none */
    source_merge_known_fn *known; /* NULL: labels come by time */
    void *known_user;
    uint32_t events_max; /* of the batches it fills */
};
enum rc source_merge_open(struct source **out,
                          const struct source_merge_options *o,
                          struct err *e) MUST_USE;

#endif
