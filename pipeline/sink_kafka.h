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
 * Large           A dead letter that is larger than its topic takes goes
 *                 without its value, with a header DEAD_LETTER_VALUE; where
 *                 that does not help, also without its key and its input's
 *                 headers. Other outputs are bounded: texts by the mapping,
 *                 headers by the source.
 * Threads         The thread of the source it commits for. */
#ifndef MILLRACE_SINK_KAFKA_H
#define MILLRACE_SINK_KAFKA_H

#include "config.h"
#include "metrics.h"
#include "sink.h"

/* What a changelog's topic must take beyond changelog.row.bytes.max: the key,
 * and what surrounds a message. */
enum { SINK_KAFKA_ROW_EXTRA_BYTES = 8192 };

struct sink_kafka_options {
    const struct config *config;
    struct source *source;          /* of source_kafka_open; lent until close */
    const char *topics[OUTPUTS];    /* NULL or "": that output is dropped */
    const char *transactional_id;   /* NULL: at least once */
    struct worker_metrics *metrics; /* counts aborted commits; NULL: none */
    int offsets_wait_ms;            /* for the group's coordinator; 0: 15 s */
};
enum rc sink_kafka_open(struct sink **out, const struct sink_kafka_options *o,
                        struct err *e) MUST_USE;

#endif
