/* state_inside.h - what state.c (rows in memory) and state_partition.c
 * (where partitions and their store stand) share. */
#ifndef MILLRACE_STATE_INSIDE_H
#define MILLRACE_STATE_INSIDE_H

#include "state.h"
#include "user_row.h"

enum {
    CHECKPOINT_CHUNK_ROWS = 512,
    STATE_USER_BYTES_MAX = 4096, /* the most that user.bytes.max may be */
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

    struct store_reads *reads; /* for up to reads_max misses at once */
    struct slice *keys, *values;
    struct user_state **loading;
    uint32_t reads_max;
    struct store_writes *writes;
    uint8_t *row_bytes; /* one encoded row */
    size_t row_bytes_max;

    uint32_t sweep_next; /* index of the partition whose turn it is */

    uint64_t hits_total, misses_total, rows_written_total, evictions_total,
        rows_expired_total;
};

int64_t state_clock_ms(void);

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
/* The row is in the store: from the dirty list to the clean one. */
void state_row_written(struct state *st, struct user_state *us);

#endif
