/* sink.h - where outputs go: topics, a container file, memory.
 *
 * send puts messages under way; commit makes them and the offsets of their
 * inputs final together (I1): one Kafka transaction (exactly once), or all
 * acknowledgements and then the group's offsets (at least once). A file or
 * memory sink commits by flushing.
 *
 * Memory   Messages are lent for the call; the sink copies what it keeps.
 * Threads  The worker thread that opened it.
 * Errors   RC_AGAIN from commit: the transaction is aborted or its outcome
 *          was decided as "not committed"; rewind to the last commit. */
#ifndef MILLRACE_SINK_H
#define MILLRACE_SINK_H

#include "source.h"

/* What a worker writes; each has a topic, or a file, or nowhere. */
enum output {
    OUTPUT_FRAUD,
    OUTPUT_RECOMMENDATIONS,
    OUTPUT_PROFILES,
    OUTPUT_DEAD_LETTERS,
    OUTPUT_CHANGELOG, /* rows (changelog.h), not made of events */
    /* What route and items pass on: */
    OUTPUT_PASSED,
    OUTPUT_ITEM_LABELS,
    OUTPUT_USER_LABELS,
    OUTPUTS
};

struct message {
    enum output output;
    int64_t timestamp_ms;
    struct slice key, value;
    const struct header *headers;
    uint32_t header_count;
    bool placed; /* goes to this partition, whatever its key */
    int32_t partition;
};

struct sink;
struct sink_ops {
    enum rc (*send)(struct sink *k, const struct message *m, uint32_t count,
                    struct err *e);
    /* next: for every owned partition the next offset to read. None: what
     * was sent without an offset is acknowledged (at least once). */
    enum rc (*commit)(struct sink *k, const struct source_position *next,
                      uint32_t count, struct err *e);
    /* Forget what was sent since the last commit, as far as that can be. */
    enum rc (*abort)(struct sink *k, struct err *e);
    void (*close)(struct sink *k);
};
struct sink {
    const struct sink_ops *ops;
    uint32_t ignores; /* bits 1 << enum output: let go, need not be made */
};

#define sink_send(k, m, count, e) ((k)->ops->send((k), (m), (count), (e)))
#define sink_commit(k, next, count, e)                                         \
    ((k)->ops->commit((k), (next), (count), (e)))
#define sink_abort(k, e) ((k)->ops->abort((k), (e)))
#define sink_close(k)    ((k)->ops->close(k))

#endif
