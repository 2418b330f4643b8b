/* family_meta.h - where a family's rows stand, and its stored bytes.
 *
 * Bytes, little-endian, version 3:
 *
 *   version u8 | cluster id: length u32, text | shape: length u32, text |
 *   partitions u32 | checkpoint i64 | applied i64 | released_ms i64 |
 *   stream_ms i64 | seen_offset i64 | seen_hash u64 | changelog_next i64 |
 *   unsent u8 | label_checkpoint i64 | label_applied i64 |
 *   checksum u64: XXH3 of all before
 *
 * Version 2 ended with unsent: its rows hold no label. Version 1 ended with
 * released_ms: it is read as one that knows no time, has seen no record and
 * whose rows no changelog has.
 *
 * Threads  No shared state.
 * Errors   Only decode can fail: RC_STOP. */
#ifndef MILLRACE_FAMILY_META_H
#define MILLRACE_FAMILY_META_H

#include "err.h"
#include "slice.h"

enum { STORE_TEXT_MAX = 256, FAMILY_META_BYTES_MAX = 2 * STORE_TEXT_MAX + 128 };

/* One without rows may leave cluster_id and shape empty: its first owner
 * fills them in. */
struct family_meta {
    char cluster_id[STORE_TEXT_MAX];
    char shape[STORE_TEXT_MAX]; /* of the rows: the options that made them */
    uint32_t partitions;
    int64_t checkpoint;  /* every event before it is in the rows */
    int64_t applied;     /* no row holds an event at or after it */
    int64_t released_ms; /* wall clock, since when nobody owns it; 0: owned */
    int64_t stream_ms;   /* newest event time before checkpoint; INT64_MIN:
                            none, or not known */
    int64_t seen_offset; /* a record of the log, and its hash (record_hash), by
                            which the log is known again; -1: none yet */
    uint64_t seen_hash;
    int64_t changelog_next;   /* the rows are what the changelog had before that
                                 offset; -1: they have changed since */
    bool unsent;              /* rows may hold what the changelog has not */
    int64_t label_checkpoint; /* of labels, as of events */
    int64_t label_applied;
};

/* out: FAMILY_META_BYTES_MAX. Returns the bytes used. */
size_t family_meta_encode(const struct family_meta *m, uint8_t *out);
/* Undamaged, and of a later version than this build reads. */
bool family_meta_is_newer(struct slice in);
/* family: for the message. */
enum rc family_meta_decode(struct family_meta *m, const char *family,
                           struct slice in, struct err *e) MUST_USE;

#endif
