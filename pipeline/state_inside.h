/* state_inside.h - what state.c (rows in memory) and state_partition.c
 * (where partitions and their store stand) share. */
#ifndef MILLRACE_STATE_INSIDE_H
#define MILLRACE_STATE_INSIDE_H

#include "changelog_copy.h"
#include "state.h"
#include "user_row.h"

enum {
    CHECKPOINT_CHUNK_ROWS = 512,
    STATE_USER_BYTES_MAX = 4096, /* the most that user.bytes.max may be */
    SLICES_PER_AGE = 16,         /* with a changelog, of state.checkpoint.age */
};

/* What lies behind a struct partition. */
struct partition_store {
    struct family *family;   /* NULL: no store */
    struct family_meta meta; /* as last written, if recorded */
    bool recorded;
    struct user_state *dirty_oldest, *dirty_newest;
    uint64_t dirty_rows;
    struct user_state *missing; /* rows being recalled, by newer */

    bool sweeping;    /* a pass is under way, after sweep_key */
    int64_t swept_ms; /* stream time when the last one began */
    uint8_t sweep_key[STATE_USER_BYTES_MAX];
    size_t sweep_key_len;
    uint64_t chosen; /* of the dirty ones, from the oldest */

    /* With a changelog: */
    struct log_place marked;  /* checkpoint of its newest marker; -1: none */
    struct log_place marking; /* and of that which goes with this commit */
    struct log_place held; /* oldest event that a row too large kept out; -1 */
    uint8_t *after; /* user up to whom stored rows have been sent again; */
    uint32_t after_len;
    uint8_t *reached; /* with this commit: up to this one, */
    uint32_t reached_len;
    bool complete; /* and that was the last */
    struct changelog_copy copy;
};

struct state {
    struct state_options options;
    struct store *store;
    struct pool *pool;
    char shape[STORE_TEXT_MAX]; /* of the rows, for family_meta */

    struct partition **partitions;
    uint32_t partition_count, partition_max;

    struct user_state **table; /* (table_size) a power of two */
    uint64_t table_size, rows, rows_begun;
    struct user_state *clean_oldest, *clean_newest;
    uint64_t dirty_rows;
    size_t dirty_bytes;
    struct user_state *leaving; /* forgotten in this batch, by hash_next */
    uint64_t batch_number;
    int64_t now_ms;           /* as of the last recall or checkpoint */
    int64_t checkpoint_at_ms; /* when the last slice was written */
    bool chosen;              /* the next checkpoint's rows */

    struct store_reads *reads; /* for up to reads_max misses at once */
    struct slice *keys, *values;
    struct user_state **loading;
    uint32_t reads_max;
    struct store_writes *writes;
    uint8_t *row_bytes; /* one encoded row */
    size_t row_bytes_max;

    uint32_t sweep_next; /* index of the partition whose turn it is */

    uint64_t hits_total, misses_total, rows_written_total, evictions_total,
        rows_expired_total, write_failures_total;
    uint64_t rows_sent_total, rows_kept_out_total;
};

int64_t state_clock_ms(void);
/* Nothing was ever applied to it: it has no stored row. */
bool state_is_empty(const struct user_state *us);
/* Where the partition stands now. */
struct log_place state_now(const struct partition *p);

/* Takes the row out of memory; neither list holds it any more after. */
void state_drop_row(struct state *st, struct user_state *us);
/* Frees rows that were forgotten; the batch that held them is over. */
void state_drop_leaving(struct state *st);
/* Looks for rows that have expired, a slice at a time. */
enum rc state_sweep(struct state *st, struct err *e) MUST_USE;
/* The stored row of this user is to be deleted: an empty dirty one in memory.
 * False, and nothing happens, where memory has a dirty one. Between a commit
 * and the first event after it. */
bool state_remove_row(struct state *st, struct partition *p, struct slice user);
/* Its stored bytes, lent until the next call; empty: it has none. */
enum rc state_encode(struct state *st, const struct user_state *us,
                     struct slice *out, struct err *e) MUST_USE;
/* What the store says of p once the count oldest dirty rows are in it. */
struct family_meta state_stands(const struct partition *p, uint64_t count);

/* p stands where its metadata says. */
void state_stand(struct partition *p);
/* The same, and the metadata is of this log and these options. */
void state_begin(const struct state *st, struct partition *p,
                 const struct partition_log *log);

/* state_changelog.c. here: the store's own rows are there and fit. */
bool state_copy_pays(const struct partition *p, const struct partition_log *log,
                     bool found, bool here);
/* same: what rows there are come from this log. */
enum rc state_place_copy(struct state *st, struct partition *p,
                         const struct partition_log *log, bool same,
                         struct err *e) MUST_USE;
enum rc state_place_sent(struct state *st, struct partition *p,
                         const struct partition_log *log, bool found,
                         struct err *e) MUST_USE;
void state_changelog_fini(struct partition *p);
/* Does p give anything to the changelog with this commit? whole: all of it is
 * to be stored. */
bool state_sends(const struct state *st, const struct partition *p, bool whole);
/* What p gave to the changelog is committed. */
void state_sent(struct partition *p);
/* count rows are about to be stored: were they sent? */
enum rc state_note_sent(const struct state *st, struct partition *p,
                        uint64_t count, struct family_meta *meta,
                        struct err *e) MUST_USE;

/* The row is in the store: from the dirty list to the clean one. */
void state_row_written(struct state *st, struct user_state *us);

#endif
