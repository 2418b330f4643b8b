/* source_merge.h - the partitions of a finite log, and what became known of
 * it later, as one log in the order of time.
 *
 * Order    Of events the one whose time is least, time being the newest in
 *          its partition up to it, so that order within a partition stays;
 *          of equals the lower partition. A label comes before the first
 *          event whose time is not before the label became known; those that
 *          are left come last.
 * Labels   Are records of the input INPUT_LABELS, partition 0, with their
 *          number in labels_in_order as offset. They are in no assignment.
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

struct source_merge_options {
    struct source *const *events; /* each of one partition; taken, also where
                                     opening fails */
    uint32_t count;
    struct mapping *times;       /* which reads the times of events; taken */
    const struct labels *labels; /* lent; NULL: none */
    uint32_t events_max;         /* of the batches it fills */
};
enum rc source_merge_open(struct source **out,
                          const struct source_merge_options *o,
                          struct err *e) MUST_USE;

#endif
