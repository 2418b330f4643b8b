/* forget.h - whether a user can be forgotten through a topic, and what is
 * still there of one.
 *
 * A record without a value under the user's id as its key reaches every copy
 * that is folded from the topic (mapping.h, state.h). That holds only where
 * the id is the key of all of the user's events, and the record comes to the
 * same partition as they: forget_check looks at the newest records.
 * Threads  Any thread. */
#ifndef MILLRACE_FORGET_H
#define MILLRACE_FORGET_H

#include "config.h"
#include "err.h"
#include "slice.h"

/* The newest records of a partition: is their key their user, and, unless
 * any_partition, are they where murmur2 puts them? RC_STOP says what is not.
 * partitions of the topic; log_end of this one. */
struct forget_topic {
    const struct config *config;
    int32_t partition;
    uint32_t partitions;
    int64_t log_end;
    bool any_partition;
};
enum rc forget_check(const struct forget_topic *t, struct err *e) MUST_USE;

/* What a state.dir has of the user. */
struct forget_look {
    bool store;        /* there is one */
    uint32_t held;     /* rows with events from before the offset */
    uint32_t returned; /* rows of events after it: the user came back */
    int32_t partition; /* of the last row held; -1: none */
    bool pending;      /* deleted, but the bytes are still in the files */
};
/* offset: of the record without a value in partition; INT64_MAX: none yet,
 * every row counts as held. Opens the store read-only, beside the process
 * that uses it. */
enum rc forget_look(struct forget_look *out, const char *dir, const char *topic,
                    struct slice user, int32_t partition, int64_t offset,
                    struct err *e) MUST_USE;

/* What the changelog has of the user, the newest record being what counts:
 * a reader of all of it is left with that. */
struct forget_copy {
    bool topic;     /* there is one */
    bool held;      /* the newest is a row with events from before offset */
    bool returned;  /* it is one of events after it */
    uint32_t older; /* rows before it, which compaction has not removed yet */
};
/* Reads all of its partition. offset: as for forget_look. */
enum rc forget_look_copy(struct forget_copy *out, const struct config *c,
                         struct slice user, int32_t partition, int64_t offset,
                         struct err *e) MUST_USE;

#endif
