/* state.h - every user's row, in memory and behind it in RocksDB.
 *
 * Behind   RocksDB holds states only as of a commit (I2). After a commit a
 *          slice of the dirty states is written, longest dirty first; the
 *          checkpoint offset of a partition is the oldest event not yet in
 *          the store. Rows carry their own offsets, so folding from the
 *          checkpoint is right for all of them (I3).
 * Family   One column family per stage, topic and partition (store.h); it is
 *          kept at revocation and dropped after state.keep unowned.
 * Forget   A forgotten user's row is replaced by an empty one that takes its
 *          place among the dirty rows; the old one lives on, in no table,
 *          until the batch that scores with it is over. When the empty row is
 *          written the store has none any more.
 * Memory   Rows in memory are bounded by state.cache: clean ones are
 *          dropped, least recently used first. Dirty ones stay; when they
 *          fill half of the cache, state_full tells the worker to commit.
 *          Without a store nothing is ever clean, so every row is kept.
 * Threads  struct state and all that it lends: one worker thread. Several
 *          share one struct store. */
#ifndef MILLRACE_STATE_H
#define MILLRACE_STATE_H

#include "admit.h"
#include "batch.h"
#include "history.h"
#include "reason_budget.h"
#include "snapshot.h"
#include "store.h"
#include "windows.h"

/* One user's row. */
struct user_state {
    struct history history;
    struct windows *windows;
    struct context *context; /* the scorer's; NULL: not cached */
    uint64_t batch;          /* the stage's: the batch that touched the
                                row last; never stored */
    uint32_t request;        /* likewise: the newest of its requests there */
    struct partition *partition;
    uint64_t hash;
    uint32_t key_len;
    uint64_t life; /* of the rows in memory no two have the same: read or
                      begun anew, it is another row */
    /* The rest belongs to state.c. */
    bool dirty, loading;
    bool forgotten;               /* what the store has of it is to be erased */
    struct log_place dirty_since; /* the store has it as of there */
    int64_t dirty_at_ms;          /* by the wall clock: when to write it */
    size_t bytes;                 /* of memory, when last touched */
    uint64_t used_batch;          /* the last batch that recalled it */
    struct user_state *hash_next;
    struct user_state *older, *newer; /* clean: by use. Dirty: by dirty_since
                                         within the partition */
    uint8_t key[];
};

/* Where the labels of a partition stand, the input beside its events. */
struct label_stand {
    bool open; /* there is such an input */
    bool held; /* the label at next waits for its schema; the worker's */
    int64_t next, committed, checkpoint; /* as of events */
    int64_t first; /* where they are folded from without a store */
};

/* One owned partition: where its log, its commits and its store stand.
 * checkpoint <= next, and checkpoint <= committed. */
struct partition {
    uint32_t input;
    int32_t id;
    int64_t next;        /* after the last record gone through, bad ones too:
                            the worker moves it with each batch */
    int64_t committed;   /* next offset by the last commit; below it the
                            worker folds without output */
    int64_t checkpoint;  /* fold from here after a crash */
    int64_t seen_offset; /* newest record gone through, and its hash;
                            -1: none */
    uint64_t seen_hash;
    int64_t stream_ms; /* newest event time among the good records before
                          next; INT64_MIN: none. It moves with next */
    int64_t committed_stream_ms; /* the same before committed, once all up to
                                    there has gone through */
    uint32_t partitions;         /* of the topic */
    struct label_stand labels;
    /* What explaining scores has used up, before next and before committed. */
    struct reason_budget reasons, committed_reasons;
    bool held;      /* the record at next waits for its schema; the worker's */
    bool behind;    /* the event at next waits for labels that it knew when it
                       was committed; the worker's */
    bool leaving;   /* the worker's: with the next commit all of it is to be
                       stored */
    bool sending;   /* rows of it go to the changelog with this commit */
    bool restoring; /* its rows come from the changelog; nothing is read of its
                       log meanwhile */
    struct partition_store *store; /* state.c's */
};

struct state;
struct state_options {
    struct history_shape history; /* pool: set by state_new, in its own copy */
    struct windows_shape windows; /* likewise */
    size_t cache_bytes;
    uint32_t checkpoint_rows;   /* most rows written after one commit */
    uint32_t checkpoint_age_ms; /* a dirty row is written by this age */
    uint32_t user_bytes_max;
    /* By what an event or label finds its row; empty: it has none. NULL: its
     * user. Lent. */
    struct slice (*key)(const struct event *ev);
    /* Told of every row that is dropped and has a context: scorer_forget and
     * its scorer, which outlives the state or is replaced by
     * state_set_scorer. NULL: no row has one. */
    void (*forget)(struct scorer *scorer, struct context **context);
    struct scorer *scorer;
    const struct admit *admit;   /* lent; NULL: no row expires */
    const struct snapshot *base; /* lent; where rows come from that are not
                                    in memory, without a store. NULL: none */
    bool keeps_none;             /* there are no rows: nothing is folded */
    bool from_start; /* a rewind goes back to where the log began: it has an
                        order of its own, and no place in between */
    /* With a changelog, rows are stored once they are in it (changelog.h). */
    bool changelog;
    uint32_t row_bytes_max; /* larger ones are kept out of it */
    const char *stage;      /* names the column families */
    const char *topic;
};
/* store NULL: rows live in memory only (replay, train). */
enum rc state_new(struct state **out, struct store *store,
                  const struct state_options *o, struct err *e) MUST_USE;
/* Writes nothing: what is dirty is folded again from the log. */
void state_free(struct state *st);
/* With which history_apply, windows_apply, history_copy work on its rows. */
const struct history_shape *state_history_shape(const struct state *st);
const struct windows_shape *state_windows_shape(const struct state *st);

/* What the log says of a partition when it is assigned; the store's own
 * record is checked against it (design: "On assignment"). */
struct partition_log {
    const char *cluster_id;
    uint32_t partitions;
    int64_t log_start, log_end;
    int64_t committed; /* -1: the group never committed */
    int64_t begin;     /* where such a group begins (auto.offset.reset); below
                          log_start: there */
    /* The hash of a record of the log; 0: there is none. NULL: the log cannot
     * be asked. */
    enum rc (*hash_at)(void *user, uint32_t input, int32_t partition,
                       int64_t offset, uint64_t *hash, struct err *e);
    void *user;
    /* Its partition of the changelog, as it ends now. */
    int64_t changelog_start, changelog_end;
    const struct family_meta *marker; /* the newest; NULL: there is none */
};
/* Sets next to where the log is to be read from. RC_STOP, naming `millrace
 * reset`, where log and store do not agree; RC_AGAIN while another worker of
 * this process has not let go of the partition. */
enum rc state_open_partition(struct state *st, uint32_t input, int32_t id,
                             const struct partition_log *log,
                             struct partition **out, struct err *e) MUST_USE;
/* The labels of an open partition come too; log is that of their topic. */
enum rc state_open_labels(const struct state *st, struct partition *p,
                          const struct partition_log *log,
                          struct err *e) MUST_USE;
/* Some input of it is below its committed offset. */
bool state_folds(const struct partition *p);
/* keep: write what is committed and let go (revoked; next == committed, or
 * still folding below it); else discard what is not in the store (lost). */
enum rc state_close_partition(struct state *st, struct partition *p, bool keep,
                              struct err *e) MUST_USE;
struct partition *state_partition(const struct state *st, uint32_t input,
                                  int32_t id);
uint32_t state_partitions(const struct state *st, struct partition **out,
                          uint32_t max);

/* Fills b->users for every event that is not bad, and pins those rows until
 * the next call: from memory, or one multi-get per partition for all that
 * are not. b->partitions says whose they are. */
enum rc state_recall(struct state *st, struct batch *b, struct err *e) MUST_USE;
/* One row by key, pinned until the next recall, for inspect; *out is NULL if
 * there is none. */
enum rc state_peek(struct state *st, struct partition *p, struct slice user,
                   struct user_state **out, struct err *e) MUST_USE;

/* A record has come by: sets what its event is to know of its partition, and
 * moves next and stream_ms on. */
void state_pass(struct partition *p, const struct record *r, struct event *ev);
/* The worker applied an event or a label to this row, whose place it is. */
void state_touched(struct state *st, struct user_state *us,
                   const struct log_place *place);
/* Applies the label that ev is, or brings along, as number offset. Nothing
 * happens where the row has it. */
void state_label(struct state *st, struct user_state *us,
                 const struct event *ev, int64_t offset);
/* As if its user had never been seen: an empty row in its place, which later
 * events of the batch must use, and to which one is applied next. */
struct user_state *state_begin_anew(struct state *st,
                                    struct user_state *us) MUST_USE;
/* The log says at this place that this user is to be forgotten: an empty row in
 * its place, which later events of the batch must use. The row itself where
 * there is nothing to forget, or the row holds that offset already (I3). */
struct user_state *state_forget(struct state *st, struct user_state *us,
                                const struct log_place *place) MUST_USE;

/* Chooses the rows that the next checkpoint stores, as of the commit that is
 * about to be made; sets sending. all: every dirty one. */
void state_choose(struct state *st, bool all);
/* True if some are due although no event came. */
bool state_due(const struct state *st);
/* Gives the chosen rows of partitions that are sending to emit, and where
 * they stand: records of the changelog. */
typedef enum rc state_emit_fn(void *user, int32_t partition, struct slice key,
                              struct slice value, struct err *e);
enum rc state_send(struct state *st, state_emit_fn *emit, void *user,
                   struct err *e) MUST_USE;

/* The commit succeeded: next becomes committed for every partition that is
 * not folding below it. */
void state_committed(struct state *st);
/* Write the rows that were chosen, or chooses them. Between a commit and the
 * first event applied after it, never elsewhere (I2). */
enum rc state_checkpoint(struct state *st, bool all, struct err *e) MUST_USE;
/* A batch or transaction failed: forget every dirty row. next moves back to
 * where its partition is to be read from, at or before committed; events that
 * the remaining rows hold already do nothing to them (I3). */
void state_rewind(struct state *st);
bool state_full(const struct state *st); /* commit and checkpoint soon */

/* Another scorer, or NULL; no row has a context of the one before. */
void state_set_scorer(struct state *st, struct scorer *scorer);
void state_set_checkpoint(struct state *st, uint32_t rows, uint32_t age_ms);
/* Rows in memory that have a context, up to max of them, from *bucket of the
 * table on; it moves by up to buckets, and is 0 again at the end. A row may
 * come twice where the table grows between two calls. */
uint32_t state_cached_rows(const struct state *st, uint64_t *bucket,
                           uint32_t buckets, struct user_state **out,
                           uint32_t max);
/* By key and its hash; NULL: not in memory. */
struct user_state *state_row_in_memory(const struct state *st, uint32_t input,
                                       int32_t partition, uint64_t hash,
                                       struct slice user);
/* The copy that is being made of a partition that is restoring, and its end:
 * from then on it folds. */
struct changelog_copy *state_copy(const struct partition *p);
void state_restored(struct partition *p);

/* The bytes of every row of p that is in memory or in the base, once each:
 * without a store. share: which users are ours; NULL: all. anew: as of before
 * the first record of another topic. */
typedef enum rc state_row_fn(void *user, struct slice key, struct slice row,
                             struct err *e);
typedef bool state_share_fn(void *user, struct slice key);
struct state_export {
    state_share_fn *share;
    state_row_fn *row;
    void *user;
    bool anew;
};
enum rc state_export(struct state *st, struct partition *p,
                     const struct state_export *x, struct err *e) MUST_USE;
/* Every partition as it is in the store now. Between a commit and the next
 * event, once all rows were written by a checkpoint: RC_AGAIN where one is
 * not stored as of that commit, or folds. */
typedef void state_view_fn(void *user, struct store_view *takes);
enum rc state_views(struct state *st, state_view_fn *fn, void *user,
                    struct err *e) MUST_USE;
/* Where p stands. */
const struct family_meta *state_meta(const struct partition *p);

struct state_stats {
    uint64_t hits_total, misses_total, rows_written_total, evictions_total,
        rows_expired_total, write_failures_total;
    uint64_t rows_sent_total, rows_kept_out_total; /* of the changelog */
    size_t cache_bytes;
    uint64_t rows, dirty_rows;
};
struct state_stats state_stats(const struct state *st);

#endif
