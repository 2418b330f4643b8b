/* source.h - where records come from: a topic, a container file, memory.
 *
 * A source owns partitions, each read from a position that the worker gives.
 * Assignment changes are only recorded by the source; the worker takes them
 * between batches (I7): finish, commit and hand over (revoked) or discard
 * (lost), then source_assign / source_unassign.
 *
 * Memory   Records filled by poll are lent until source_release.
 * Threads  All calls from the worker thread that opened the source. */
#ifndef MILLRACE_SOURCE_H
#define MILLRACE_SOURCE_H

#include "batch.h"

struct source;

struct source_position {
    uint32_t input;
    int32_t partition;
    int64_t offset; /* assign: first record to read */
    /* filled in by changes of the kind SOURCE_ASSIGNED: */
    int64_t committed; /* next offset to read by the group; -1: never */
    int64_t log_start, log_end;
};

enum source_change_kind {
    SOURCE_NO_CHANGE,
    SOURCE_ASSIGNED, /* the worker answers with source_assign, of all or
                        some; the others are added later */
    SOURCE_REVOKED,  /* finish, commit, then source_unassign */
    SOURCE_LOST,     /* discard, then source_unassign */
};
struct source_change {
    enum source_change_kind kind;
    struct source_position *positions; /* lent until the next call */
    uint32_t count;
    /* SOURCE_ASSIGNED: held against what the store recorded. */
    const char *cluster_id; /* "" where there is no cluster */
    uint32_t partitions;    /* of the topic, not only those assigned */
};

struct source_ops {
    /* Fill b->records[0..count) with up to events_max records: wait up to
     * wait_ms for the first, then take what is there. 0 records is RC_OK. */
    enum rc (*poll)(struct source *s, struct batch *b, uint32_t wait_ms,
                    struct err *e);
    void (*release)(struct source *s); /* the records of the last poll */
    enum rc (*change)(struct source *s, struct source_change *out,
                      struct err *e);
    enum rc (*assign)(struct source *s, const struct source_position *at,
                      uint32_t count, struct err *e);
    /* More of those assigned: all that are to be read, the added last. */
    enum rc (*add)(struct source *s, const struct source_position *all,
                   uint32_t count, uint32_t added, struct err *e);
    enum rc (*unassign)(struct source *s, struct err *e);
    /* Go on at other positions, also where it was held. */
    enum rc (*seek)(struct source *s, const struct source_position *at,
                    uint32_t count, struct err *e);
    /* Give no records of these partitions until the next seek. They have
     * not ended meanwhile. */
    enum rc (*hold)(struct source *s, const struct source_position *at,
                    uint32_t count, struct err *e);
    /* The hash (record_hash) of the record at an offset of an assigned
     * partition; 0: there is none. Between change and assign. */
    enum rc (*hash_at)(struct source *s, uint32_t input, int32_t partition,
                       int64_t offset, uint64_t *hash, struct err *e);
    /* A finite source (file, memory, topic range) has given its last record. */
    bool (*ended)(const struct source *s);
    void (*close)(struct source *s); /* leaves the group, frees s */
};

struct source {
    const struct source_ops *ops;
};

#define source_poll(s, b, wait_ms, e) ((s)->ops->poll((s), (b), (wait_ms), (e)))
#define source_release(s)             ((s)->ops->release(s))
#define source_change(s, out, e)      ((s)->ops->change((s), (out), (e)))
#define source_assign(s, at, count, e)                                         \
    ((s)->ops->assign((s), (at), (count), (e)))
#define source_add(s, all, count, added, e)                                    \
    ((s)->ops->add((s), (all), (count), (added), (e)))
#define source_unassign(s, e)        ((s)->ops->unassign((s), (e)))
#define source_seek(s, at, count, e) ((s)->ops->seek((s), (at), (count), (e)))
#define source_hash_at(s, input, partition, offset, hash, e)                   \
    ((s)->ops->hash_at((s), (input), (partition), (offset), (hash), (e)))
#define source_hold(s, at, count, e) ((s)->ops->hold((s), (at), (count), (e)))
#define source_ended(s)              ((s)->ops->ended(s))
#define source_close(s)              ((s)->ops->close(s))

#endif
