/* store_inside.h - what the files store*.c share: the database, its families,
 * the thread that erases, the folder. */
#ifndef MILLRACE_STORE_INSIDE_H
#define MILLRACE_STORE_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include <rocksdb/c.h>

#include "store.h"

enum {
    PATH_MAX_BYTES = 1024,
    KEY_BYTES_MAX = 4096 + 1, /* 'u' and the longest user.bytes.max */
    INSTANCE_CHARS = 12,
};

/* Keys of a family that are no rows. */
#define META_KEY      "m" /* struct family_meta */
#define FORGOTTEN_KEY "f" /* newest offset at which a row was forgotten */
#define SEEDING_KEY   "i" /* being filled (store_seed.c) */
#define SEEDED_KEY    "s" /* the offset it was filled for */
#define ERASED_KEY    "e" /* up to which of those the bytes are gone */

struct family {
    char *name;
    rocksdb_column_family_handle_t *handle;
    bool held;
    bool wanted;    /* by somebody who waits for its release */
    bool condemned; /* damaged: its next owner finds it empty */
    uint32_t lent;  /* to threads that read or compact it: it stays */
    struct family *next;
};

struct erasure;

struct store {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *reading;
    rocksdb_writeoptions_t *writing;
    rocksdb_cache_t *cache;
    rocksdb_column_family_handle_t *default_family; /* no rows */
    struct family *families;
    pthread_mutex_t mutex; /* families, who holds them, and erasures */
    pthread_cond_t released;
    char dir[PATH_MAX_BYTES];
    char instance[INSTANCE_CHARS + 1];
    uint64_t keep_ms;
    bool read_only;
    _Atomic uint64_t rebuilds; /* of families, or all at once */

    /* store_erase.c's: */
    pthread_t eraser;
    pthread_cond_t asked;
    struct erasure *erasures;
    uint32_t erasure_count;
    bool erasing, stopping;
};

struct store_writes {
    rocksdb_writebatch_t *batch;
    struct erasure *erasures; /* due once the batch is written */
};

/* Turns RocksDB's error into ours and frees it; doing: "reading rows". */
enum rc store_error(const struct store *s, const char *doing, char *error,
                    struct err *e);

/* The folder and its small files. */
#define STORE_ASIDE "rocksdb.damaged"
enum store_dir { STORE_DIR_EMPTY, STORE_DIR_STORE, STORE_DIR_DAMAGED };
enum rc store_dir_make(const struct store *s, struct err *e) MUST_USE;
enum rc store_dir_version(const struct store *s, struct err *e) MUST_USE;
enum rc store_dir_instance(struct store *s, struct err *e) MUST_USE;
/* e says what is wrong with a damaged one. */
enum store_dir store_dir_look(const struct store *s, struct err *e);
/* The next start puts the database aside; one is kept. */
void store_dir_mark_damaged(const struct store *s);
enum rc store_dir_put_aside(const struct store *s, struct err *e) MUST_USE;

/* RC_SKIP: damaged in a way that RocksDB would not see (store_files.c). Only
 * while no process has it open. */
enum rc store_files_check(const struct store *s, struct err *e) MUST_USE;

bool store_is_seeding(struct store *s, const struct family *f);

enum rc eraser_start(struct store *s, struct err *e) MUST_USE;
void eraser_stop(struct store *s); /* what is left is done at the next start */
/* A batch that forgets was written, or was not: its list is taken. */
void eraser_take(struct store *s, struct store_writes *w, bool written);
/* With the mutex held: what an earlier process left of f. */
enum rc eraser_look(struct store *s, struct family *f, struct err *e) MUST_USE;

#endif
