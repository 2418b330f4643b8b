/* sink_kafka.h - outputs to topics, committed with the offsets of the inputs
 * that they were made from (I1).
 *
 * At least once   commit waits until every message is acknowledged, then
 *                 commits the group's offsets.
 * Exactly once    messages and offsets are one transaction. It begins with
 *                 the first message after a commit. When the outcome of a
 *                 commit stays unknown, the producer is made anew with the
 *                 same transactional id, which ends what was open, and the
 *                 group's committed offsets tell what happened.
 * Errors          RC_AGAIN: nothing of this commit counts; the producer is
 *                 usable. RC_STOP: rights, fencing, messages that no retry
 *                 would deliver.
 * Large           A dead letter that is larger than the broker takes goes
 *                 without its value, with a header "millrace.value" =
 *                 "omitted": reading it was not possible, losing its place is.
 * Threads         The thread of the source it commits for. */
#ifndef MILLRACE_SINK_KAFKA_H
#define MILLRACE_SINK_KAFKA_H

#include "config.h"
#include "metrics.h"
#include "sink.h"

struct sink_kafka_options {
    const struct config *config;
    struct source *source;          /* of source_kafka_open; lent until close */
    const char *topics[OUTPUTS];    /* NULL or "": that output is dropped */
    const char *transactional_id;   /* NULL: at least once */
    struct worker_metrics *metrics; /* counts aborted commits; NULL: none */
};
enum rc sink_kafka_open(struct sink **out, const struct sink_kafka_options *o,
                        struct err *e) MUST_USE;

#endif
