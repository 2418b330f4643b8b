/* store.h - the RocksDB of a process: every call of RocksDB is in store*.c.
 *
 * Layout   dir/format        which version wrote it
 *          dir/instance      this instance's id, made once
 *          dir/rocksdb       one database; a column family "STAGE/TOPIC/N"
 *                            per stage, topic and partition
 *          In a family: "m" is its metadata, 'u' USER are rows (user_row.h).
 * Atomic   Rows and the metadata that says where they stand go in one write
 *          batch, so a checkpoint is whole or absent.
 * Log      RocksDB's own log is written but not forced to disk: a process
 *          that dies loses nothing, a machine that dies loses the newest
 *          checkpoints, in order. The store may lag, it never leads (I2).
 * Damage   Bytes that are not those written are found by RocksDB's checksums
 *          and the rows' own, and are never served. What holds them is
 *          condemned: one family, which its next owner finds empty, or, where
 *          RocksDB cannot open or write, the database, which is put aside as
 *          dir/rocksdb.damaged (one is kept) for an empty one. Owners then
 *          take their state from the changelog or the log. Files of a newer
 *          version are no damage: they are refused.
 * Erase    A deleted row is still in RocksDB's files until they are merged.
 *          For a forgotten one that is done soon after, by a thread of the
 *          store: its key range is compacted, and what logs hold of it is
 *          flushed. What a crash left undone is done at the next start.
 * Full     While the disk is full writes are RC_AGAIN; they work again some
 *          seconds after there is room. Nothing of a failed one is there.
 * Threads  store: any thread. A family belongs to one worker at a time;
 *          acquire and release hand it over under the store's one mutex,
 *          which no step of the event path takes. */
#ifndef MILLRACE_STORE_H
#define MILLRACE_STORE_H

#include "family_meta.h"

enum { STORE_NAME_MAX = 512 };

struct store;
struct store_options {
    const char *dir;
    size_t memory_bytes; /* write buffers and block cache */
    uint64_t keep_ms;    /* state.keep; 0: for ever */
    bool read_only;      /* beside a running process: nothing is written,
                            and what it writes later is not seen */
};
/* How much of RocksDB's own log there may be on disk. */
size_t store_log_bytes_max(size_t memory_bytes);
enum rc store_open(struct store **out, const struct store_options *o,
                   struct err *e) MUST_USE;
void store_close(struct store *s); /* every family released before */
const char *
store_instance(const struct store *s); /* "" when read-only and none */

/* "users/transactions/3". */
enum rc store_family_name(char out[STORE_NAME_MAX], const char *stage,
                          const char *topic, int32_t partition,
                          struct err *e) MUST_USE;

/* The wall clock of released_ms. */
int64_t store_now_ms(void);

/* How often something was condemned since store_open, the opening included. */
uint64_t store_rebuilds(const struct store *s);

struct family;
/* The family of this name, made if it is not there. found: its metadata has
 * been written before. RC_AGAIN while another worker holds it. */
enum rc store_acquire(struct store *s, const char *name, struct family **out,
                      struct family_meta *meta, bool *found,
                      struct err *e) MUST_USE;
void store_release(struct store *s, struct family *f);
/* Somebody waits for a family that is held. */
bool store_wanted(struct store *s, const struct family *f);
/* Its owner found it damaged, and lets it go. */
void store_condemn(struct store *s, struct family *f, const char *why);
enum rc store_put_meta(struct store *s, struct family *f,
                       const struct family_meta *meta, struct err *e) MUST_USE;

/* Rows of count users in one call; values[i].ptr is NULL where there is none.
 * Values are lent until store_release_values. */
struct store_reads; /* scratch of one worker for up to max keys */
struct store_reads *store_reads_new(uint32_t max);
void store_reads_free(struct store_reads *r);
enum rc store_get(struct store *s, struct family *f, struct store_reads *r,
                  const struct slice *keys, uint32_t count,
                  struct slice *values, struct err *e) MUST_USE;
void store_release_values(struct store_reads *r);

/* Rows and metadata that become durable together. */
struct store_writes;
struct store_writes *store_writes_new(void);
void store_writes_free(struct store_writes *w);
void store_writes_row(struct store_writes *w, struct family *f,
                      struct slice key, struct slice row);
/* No row any more; its bytes leave the files in RocksDB's own time. */
void store_writes_remove(struct store_writes *w, struct family *f,
                         struct slice key);
/* No row any more, because of the record at offset; its bytes will be erased
 * from the files. A row may follow. */
void store_writes_forget(struct store_writes *w, struct family *f,
                         struct slice key, int64_t offset);
/* No row of those before; what follows may add some. */
void store_writes_clear(struct store_writes *w, struct family *f);
enum rc store_write(struct store *s, struct store_writes *w, struct family *f,
                    const struct family_meta *meta, struct err *e) MUST_USE;

/* A family filled from outside: rows, then where they stand. *out is NULL
 * where it has its own already. The caller holds it until finish or abandon. */
struct store_seed;
enum rc store_seed_begin(struct store_seed **out, struct store *s,
                         const char *name, struct err *e) MUST_USE;
enum rc store_seed_row(struct store_seed *d, struct slice user,
                       struct slice row, struct err *e) MUST_USE;
/* Frees d, also when it fails. */
enum rc store_seed_finish(struct store_seed *d, const struct family_meta *meta,
                          struct err *e) MUST_USE;
void store_seed_abandon(struct store_seed *d); /* d may be NULL */
/* The offset for which a family was filled; -1: it was not. */
int64_t store_seeded_at(struct store *s, const struct family *f);

/* For inspect and reset. */
typedef enum rc store_family_fn(void *user, const char *name,
                                const struct family_meta *meta, bool found,
                                struct err *e);
enum rc store_each_family(struct store *s, store_family_fn *fn, void *user,
                          struct err *e) MUST_USE;
typedef enum rc store_row_fn(void *user, struct slice key, struct slice row,
                             struct err *e);
enum rc store_each_row(struct store *s, const char *name, store_row_fn *fn,
                       void *user, struct err *e) MUST_USE;
/* For the sweep: at most max rows of an owned family, from the first after
 * that key on, in the order of keys. *ended: none is behind them. */
enum rc store_scan(struct store *s, struct family *f, struct slice after,
                   uint32_t max, bool *ended, store_row_fn *fn, void *user,
                   struct err *e) MUST_USE;
/* A family as it is now, to be read later by another thread; its owner takes
 * it. Until store_view_free the family stays, and so does what RocksDB would
 * compact away. */
struct store_view;
struct store_view *store_view_take(struct store *s, struct family *f,
                                   const struct family_meta *meta);
const struct family_meta *store_view_meta(const struct store_view *v);
const char *store_view_name(const struct store_view *v);
enum rc store_view_each(const struct store_view *v, store_row_fn *fn,
                        void *user, struct err *e) MUST_USE;
void store_view_free(struct store_view *v);
/* One row by user id, whoever owns the family; *row is NULL where there is
 * none. Copied: the caller frees it. */
enum rc store_find_row(struct store *s, const char *name, struct slice user,
                       uint8_t **row, size_t *size, struct err *e) MUST_USE;
/* Up to which offset rows were forgotten, and up to which the bytes of those
 * are gone from the files as well. -1: none yet. */
enum rc store_forgotten(struct store *s, const char *name, int64_t *forgotten,
                        int64_t *erased, struct err *e) MUST_USE;
enum rc store_drop(struct store *s, const char *name, struct err *e) MUST_USE;
/* Drops every family of a stage and topic, and counts them. */
enum rc store_drop_topic(struct store *s, const char *stage, const char *topic,
                         uint32_t *dropped, struct err *e) MUST_USE;
/* A family without rows that stands at an offset: what is before it in the
 * log will never be in its rows. There is no family of that name yet. */
enum rc store_begin_at(struct store *s, const char *name, uint32_t partitions,
                       int64_t offset, struct err *e) MUST_USE;

#endif
