/* snapshot.h - every row of some partitions as of one commit each, in a
 * folder: to start a host, a replay or a rollback from.
 *
 * Folder   manifest.json    what it is of, and the files with their checksums
 *          partition-N.G.rows   the rows of a partition; G counts rewritings
 *          Rows: "MRROWS1\n" | rows: key length u32, row length u32, key, row
 *          (user_row.h) | ffffffff u32 | count u64 | XXH3 of all before u64
 * Whole    Written as DIR.part, synced and renamed: it is whole or absent.
 * Order    None. rows_hash of a partition is a sum over its rows, so that two
 *          snapshots of the same state agree in it.
 * Memory   A reader maps the files; what it lends lives until snapshot_close.
 * Threads  snapshot_put: any thread, one at a time is let in. A reader: any
 *          number of threads once it is open.
 * Errors   RC_STOP, naming the file. Every checksum is looked at when a
 *          snapshot is opened. */
#ifndef MILLRACE_SNAPSHOT_H
#define MILLRACE_SNAPSHOT_H

#include "family_meta.h"

enum { SNAPSHOT_TEXT_MAX = 256, SNAPSHOT_FILE_MAX = 64 };

/* What it is of; hexadecimal hashes, "" where there was no such thing. */
struct snapshot_info {
    char stage[SNAPSHOT_TEXT_MAX], topic[SNAPSHOT_TEXT_MAX];
    char cluster_id[STORE_TEXT_MAX], shape[STORE_TEXT_MAX];
    uint32_t partitions; /* of the topic */
    int64_t made_ms;     /* wall clock */
    char schema_hash[SNAPSHOT_TEXT_MAX], model_hash[SNAPSHOT_TEXT_MAX],
        policy_hash[SNAPSHOT_TEXT_MAX];
};

struct snapshot_part {
    int32_t partition;
    int64_t offset; /* rows hold every event before it, and none after */
    int64_t stream_ms, seen_offset; /* as in struct family_meta */
    uint64_t seen_hash;
    char file[SNAPSHOT_FILE_MAX];
    uint64_t rows, bytes, checksum, rows_hash;
};

/* --- writing ----------------------------------------------------------- */

struct snapshot_writer;
/* RC_STOP where dir is there already. */
enum rc snapshot_create(struct snapshot_writer **out, const char *dir,
                        struct err *e) MUST_USE;
/* A partition, before its rows; file and counts are the writer's. */
enum rc snapshot_begin(struct snapshot_writer *w,
                       const struct snapshot_part *part,
                       struct err *e) MUST_USE;
enum rc snapshot_put(struct snapshot_writer *w, int32_t partition,
                     struct slice user, struct slice row,
                     struct err *e) MUST_USE;
/* Frees w, also when it fails; then nothing is left. */
enum rc snapshot_finish(struct snapshot_writer *w,
                        const struct snapshot_info *info,
                        struct err *e) MUST_USE;
void snapshot_abandon(struct snapshot_writer *w); /* w may be NULL */

/* --- reading ----------------------------------------------------------- */

struct snapshot;
enum rc snapshot_open(struct snapshot **out, const char *dir,
                      struct err *e) MUST_USE;
void snapshot_close(struct snapshot *s);
const struct snapshot_info *snapshot_info(const struct snapshot *s);
const struct snapshot_part *snapshot_parts(const struct snapshot *s,
                                           uint32_t *count);
/* Where its rows stand, as a store has it. */
void snapshot_meta(const struct snapshot_info *info,
                   const struct snapshot_part *part, struct family_meta *out);
/* NULL: it has none of that number. */
const struct snapshot_part *snapshot_find_part(const struct snapshot *s,
                                               int32_t partition);
/* ptr NULL: no row. */
struct slice snapshot_find(const struct snapshot *s, int32_t partition,
                           struct slice user);
typedef enum rc snapshot_row_fn(void *user, struct slice key, struct slice row,
                                struct err *e);
enum rc snapshot_each(const struct snapshot *s, int32_t partition,
                      snapshot_row_fn *fn, void *user, struct err *e) MUST_USE;

/* Is it of this topic, and of rows of this shape? */
enum rc snapshot_check(const struct snapshot *s, const char *topic,
                       const char *shape, struct err *e) MUST_USE;

/* How many rows of the user it holds. */
enum rc snapshot_count(const char *dir, struct slice user, uint32_t *rows,
                       struct err *e) MUST_USE;
/* Writes the files that hold the user anew without, and the manifest last.
 * removed: rows. */
enum rc snapshot_forget(const char *dir, struct slice user, uint32_t *removed,
                        struct err *e) MUST_USE;

#endif
