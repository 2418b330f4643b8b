/* source_kafka.h - topics as a source: live with a consumer group, or a
 * finite range of one topic without.
 *
 * Group    Rebalance callbacks only record (I7): poll stops gathering, the
 *          worker asks for the change and answers with assign or unassign.
 *          Both protocols work, eager (range) and cooperative; which one is
 *          group.assignment's, and librdkafka's version where that is auto.
 *          A static member: a process that comes back after a crash gets
 *          its partitions at once. close leaves the group all the same.
 * Start    A group that has committed reads on from there. One that never
 *          did begins where kafka.auto.offset.reset says, earliest unless
 *          set. A position outside the log stops, it never jumps.
 * Read     Committed records only.
 * Headers  The first of a record pass through, SOURCE_HEADERS_MAX and
 *          SOURCE_HEADERS_BYTES_MAX at most: they go into every output, which
 *          has to fit its topic. The rest is cut, and counted.
 * Errors   RC_STOP: rights, unknown topics, a position outside the log, an
 *          instance id used twice. What comes back by itself (brokers gone,
 *          leaders elected) is librdkafka's to wait for, and is logged. */
#ifndef MILLRACE_SOURCE_KAFKA_H
#define MILLRACE_SOURCE_KAFKA_H

#include "kafka_client.h"
#include "metrics.h"
#include "source.h"

enum {
    SOURCE_TOPICS_MAX = 4,
    SOURCE_HEADERS_MAX = 32,
    SOURCE_HEADERS_BYTES_MAX = 16384, /* of their names and values */
    /* So many more, and as many bytes, in dead letters: those of outputs.h. */
    SOURCE_HEADERS_OURS = 8,
    SOURCE_HEADERS_OURS_BYTES = 4096,
};

struct source_kafka_options {
    const struct config *config;
    const char *const *topics; /* input i of a record is topics[i] */
    uint32_t topic_count;
    const char *group;
    const char *instance; /* group.instance.id: unique in the group and kept
                             over restarts; NULL: a dynamic member */
    const char *client;   /* client.id, unless it is configured; NULL: none */
    uint32_t events_max;  /* of the batches it fills */
    struct worker_metrics *metrics; /* for lag and cut headers; NULL: none */
};
enum rc source_kafka_open(struct source **out,
                          const struct source_kafka_options *o,
                          struct err *e) MUST_USE;

/* Every partition of a topic, or one, from an offset up to another. What is
 * outside the log is cut off; until -1 is the log's end as it is at open. */
struct topic_range {
    const char *topic;
    int32_t partition; /* -1: all */
    int64_t from, until;
    bool dead_letters; /* with room for the headers added to them */
};
enum rc source_range_open(struct source **out, const struct config *c,
                          const struct topic_range *range, uint32_t events_max,
                          struct err *e) MUST_USE;
/* For progress: records that the range held at open, control records of
 * transactions included. */
uint64_t source_range_records(const struct source *s);

/* The consumer of a source_kafka, for the sink that commits its offsets. */
rd_kafka_t *source_kafka_handle(const struct source *s);
const char *source_kafka_topic(const struct source *s, uint32_t input);

#endif
