/* log_input.h - a finite log to go through again: container files, or a
 * range of a topic; what replay, train and inspect read.
 *
 * The reader's schema is input.schema; files bring their own without it.
 * Stages   A log as it came is for all stages, chained; one of enriched.topic
 *          has been through those before the users stage.
 * Time     Where items are of all partitions, or labels come between events,
 *          the log is read in the order of time (source_merge.h).
 * Memory   paths and labels are lent until log_input_close.
 * Threads  One log_input per worker, used by its thread. */
#ifndef MILLRACE_LOG_INPUT_H
#define MILLRACE_LOG_INPUT_H

#include "labels.h"
#include "mapping.h"
#include "source_kafka.h"
#include "source_merge.h"

/* Labels that rows of users or items take, where the configuration says that
 * they do; by time, or as a recorded run knew them (source_merge.h). */
struct log_labels {
    const struct labels *labels; /* NULL: none */
    source_merge_known_fn *known;
    void *known_user;
};

struct log_input {
    struct source *source;
    struct mapping *mapping;
    struct schema *reader;     /* NULL: the file's own */
    struct registry *registry; /* NULL: records name no schema */
    const char *topic;         /* the name that outputs give as their source */
    bool files;
    bool chained;         /* the items stage is to be put in front */
    bool merged;          /* source is of source_merge.h */
    struct source *whole; /* the files, behind source where it is merged */
    uint64_t records;     /* of a range */
};

/* path_count 0: the range of a topic. */
enum rc log_input_open(struct log_input *in, const struct config *c,
                       const char *const *paths, uint32_t path_count,
                       const struct topic_range *range,
                       const struct log_labels *labels, struct err *e) MUST_USE;
void log_input_close(struct log_input *in);

/* How far it is to go: bytes of files, records of a range. */
uint64_t log_input_total(const struct log_input *in);
/* How far it has come, of files; by any thread. */
uint64_t log_input_done(const struct log_input *in);

#endif
