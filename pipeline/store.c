/* store.c - see store.h. RocksDB is known here and in store_erase.c alone.
 *
 * Traps    An errptr must be NULL before each call; handles go before the
 *          database; its log is pinned by the quietest family unless
 *          max_total_wal_size says otherwise. */
#include "store.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "store_inside.h"

enum {
    ACQUIRE_WAIT_MS = 2000,
    WAL_BYTES_MIN = 16 << 20,
    OPEN_FILES_MAX = 256,
    BLOOM_BITS = 10,
    ARENA_BLOCK_BYTES = 64 << 10, /* a quiet family costs little */
    INFO_LOG_FATAL = 4,
    INFO_LOG_FILES = 2,
};

int64_t store_now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* RocksDB's word for bytes that are not those it wrote. */
static bool is_corruption(const char *error)
{
    return strncmp(error, "Corruption", 10) == 0;
}

static bool is_full(const char *error)
{
    return strstr(error, "No space left") != NULL ||
           strstr(error, "NoSpace") != NULL;
}

enum rc store_error(const struct store *s, const char *doing, char *error,
                    struct err *e)
{
    bool locked = strstr(error, "/LOCK") != NULL; /* the file's name */
    enum rc rc = RC_STOP;
    if (locked)
        (void)ERR(e, rc,
                  "state in %s: another process uses it (%s); stop that one, "
                  "or give each its own state.dir",
                  s->dir, error);
    else if (is_full(error))
        (void)ERR(e, rc,
                  "state in %s: %s: %s; make room, and start again if it has "
                  "stopped: nothing is lost",
                  s->dir, doing, error);
    else
        (void)ERR(e, rc,
                  "state in %s: %s: %s; start again, and if it stays, "
                  "`millrace reset` builds the state anew from the log",
                  s->dir, doing, error);
    rocksdb_free(error);
    return rc;
}

/* A database that has found damage while it wrote takes no more: only another
 * one helps. One that found the disk full looks every few seconds whether
 * there is room, and then takes writes again. */
static enum rc write_error(const struct store *s, const char *doing,
                           char *error, struct err *e)
{
    bool full = is_full(error);
    if (is_corruption(error)) store_dir_mark_damaged(s);
    (void)store_error(s, doing, error, e);
    return e->rc = full ? RC_AGAIN : RC_STOP;
}

/* --- open, close ------------------------------------------------------- */

size_t store_log_bytes_max(size_t memory_bytes)
{
    return memory_bytes > WAL_BYTES_MIN ? memory_bytes : WAL_BYTES_MIN;
}

/* Half of the memory for what is not yet in files, half for blocks read. */
static void set_options(struct store *s, size_t memory_bytes)
{
    rocksdb_block_based_table_options_t *table =
        rocksdb_block_based_options_create();
    rocksdb_options_t *o = s->options = rocksdb_options_create();
    s->cache = rocksdb_cache_create_lru(memory_bytes / 2);
    rocksdb_block_based_options_set_block_cache(table, s->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    rocksdb_options_set_block_based_table_factory(o, table);
    rocksdb_block_based_options_destroy(table);

    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_db_write_buffer_size(o, memory_bytes / 2);
    rocksdb_options_set_write_buffer_size(o, memory_bytes / 4);
    rocksdb_options_set_arena_block_size(o, ARENA_BLOCK_BYTES);
    rocksdb_options_set_max_total_wal_size(o,
                                           store_log_bytes_max(memory_bytes));
    /* Written anew with every change: the list of files names their first
     * and last key, and a forgotten user shall not stay in its history. */
    rocksdb_options_set_max_manifest_file_size(o, 1);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    /* Hardly a word: once a line of its LOG could not be written, the next
     * one aborts the process (7.8.3, with its asserts), and a full disk must
     * end in a message. */
    rocksdb_options_set_info_log_level(o, INFO_LOG_FATAL);
    rocksdb_options_set_keep_log_file_num(o, INFO_LOG_FILES);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    s->reading = rocksdb_readoptions_create();
    s->writing = rocksdb_writeoptions_create(); /* not forced: store.h, Log */
}

static void family_add(struct store *s, const char *name,
                       rocksdb_column_family_handle_t *handle)
{
    struct family *f = calloc(1, sizeof *f);
    char *copy = strdup(name);
    assert(f && copy);
    *f = (struct family){.name = copy, .handle = handle, .next = s->families};
    s->families = f;
}

/* Files that are gone are damage too: nobody else removes them. */
static bool is_damage(const char *error)
{
    return is_corruption(error) || strstr(error, "No such file") != NULL;
}

static enum rc open_families(struct store *s, const char *path, char **names,
                             size_t count, bool *damaged, struct err *e)
{
    rocksdb_column_family_handle_t **handles = calloc(count, sizeof(void *));
    const rocksdb_options_t **options = calloc(count, sizeof(void *));
    char *error = NULL;
    assert(handles && options);
    for (size_t i = 0; i < count; i++)
        options[i] = s->options;
    if (s->read_only)
        s->db = rocksdb_open_for_read_only_column_families(
            s->options, path, (int)count, (const char *const *)names, options,
            handles, 0, &error);
    else
        s->db = rocksdb_open_column_families(s->options, path, (int)count,
                                             (const char *const *)names,
                                             options, handles, &error);
    for (size_t i = 0; !error && i < count; i++) {
        if (strcmp(names[i], "default") == 0)
            s->default_family = handles[i];
        else
            family_add(s, names[i], handles[i]);
    }
    free(handles);
    free(options);
    if (!error) return RC_OK;
    *damaged = is_damage(error);
    return store_error(s, "opening it", error, e);
}

static enum rc open_database(struct store *s, bool *damaged, struct err *e)
{
    char path[PATH_MAX_BYTES + 16];
    char *fresh[] = {(char *)(uintptr_t) "default"}, *error = NULL;
    char **names;
    size_t count;
    enum rc rc;
    (void)snprintf(path, sizeof path, "%s/rocksdb", s->dir);
    *damaged = false;
    switch (store_dir_look(s, e)) {
    case STORE_DIR_EMPTY:
        if (s->read_only)
            return ERR(e, RC_STOP, "state: %s holds no store", s->dir);
        return open_families(s, path, fresh, 1, damaged, e);
    case STORE_DIR_DAMAGED:
        *damaged = true;
        return RC_STOP;
    case STORE_DIR_STORE:
        break;
    }
    /* A reader looks while files change. */
    if (!s->read_only && store_files_check(s, e) != RC_OK) {
        *damaged = true;
        return RC_STOP;
    }
    names = rocksdb_list_column_families(s->options, path, &count, &error);
    if (error) { /* and yet a list */
        rocksdb_list_column_families_destroy(names, count);
        *damaged = is_damage(error);
        return store_error(s, "listing its families", error, e);
    }
    rc = open_families(s, path, names, count, damaged, e);
    rocksdb_list_column_families_destroy(names, count);
    return rc;
}

/* What cannot be opened is put aside, and the store begins empty: partitions
 * take their state from the changelog or the log, or say that they cannot. */
static enum rc open_or_begin(struct store *s, struct err *e)
{
    bool damaged;
    enum rc rc;
    TRY(store_dir_version(s, e));
    rc = open_database(s, &damaged, e);
    if (rc == RC_OK || !damaged || s->read_only) return rc;
    LOG(ERROR, "STATEDAMAGED",
        "%s; it is put aside as %s/" STORE_ASIDE
        ", and made anew from changelog or log",
        e->text, s->dir);
    TRY(store_dir_put_aside(s, e));
    s->rebuilds = 1;
    return open_database(s, &damaged, e);
}

static enum rc sweep(struct store *s, bool opening, struct err *e);
static enum rc family_remove(struct store *s, struct family *f, struct err *e);

/* *again: it turned out to be damaged, and may be opened once more. */
static enum rc open_once(struct store **out, const struct store_options *o,
                         bool *again, struct err *e)
{
    struct store *s = calloc(1, sizeof *s);
    enum rc rc;
    *out = NULL;
    if (!s) return ERR(e, RC_STOP, "state: no memory");
    (void)pthread_mutex_init(&s->mutex, NULL);
    (void)pthread_cond_init(&s->released, NULL);
    (void)pthread_cond_init(&s->asked, NULL);
    s->keep_ms = o->keep_ms;
    s->read_only = o->read_only;
    set_options(s, o->memory_bytes);
    if (snprintf(s->dir, sizeof s->dir, "%s", o->dir) >= (int)sizeof s->dir)
        rc = ERR(e, RC_STOP, "state.dir: longer than %zu bytes", sizeof s->dir);
    else
        rc = s->read_only ? RC_OK : store_dir_make(s, e);
    if (rc == RC_OK) rc = open_or_begin(s, e);
    if (rc == RC_OK) rc = store_dir_instance(s, e);
    if (rc == RC_OK && !s->read_only) rc = sweep(s, true, e);
    if (rc == RC_OK && !s->read_only) rc = eraser_start(s, e);
    *again = false;
    if (rc != RC_OK) {
        struct err damage;
        *again = !s->read_only && s->db &&
                 store_dir_look(s, &damage) == STORE_DIR_DAMAGED;
        store_close(s);
        return rc;
    }
    *out = s;
    return RC_OK;
}

enum rc store_open(struct store **out, const struct store_options *o,
                   struct err *e)
{
    bool again;
    enum rc rc = open_once(out, o, &again, e);
    if (rc != RC_OK && again) rc = open_once(out, o, &again, e);
    return rc;
}

/* So that the next process does not meet what this one has found. */
static void drop_condemned(struct store *s)
{
    struct family *f = s->families, *next;
    for (; f; f = next) {
        struct err e;
        next = f->next;
        if (f->condemned && family_remove(s, f, &e) != RC_OK)
            LOG(ERROR, "STATE", "%s", e.text);
    }
}

void store_close(struct store *s)
{
    if (!s) return;
    eraser_stop(s);
    drop_condemned(s);
    while (s->families) {
        struct family *f = s->families;
        assert(!f->held && f->lent == 0);
        s->families = f->next;
        rocksdb_column_family_handle_destroy(f->handle);
        free(f->name);
        free(f);
    }
    if (s->default_family)
        rocksdb_column_family_handle_destroy(s->default_family);
    if (s->db) rocksdb_close(s->db);
    rocksdb_readoptions_destroy(s->reading);
    rocksdb_writeoptions_destroy(s->writing);
    rocksdb_options_destroy(s->options);
    rocksdb_cache_destroy(s->cache);
    (void)pthread_cond_destroy(&s->released);
    (void)pthread_cond_destroy(&s->asked);
    (void)pthread_mutex_destroy(&s->mutex);
    free(s);
}

uint64_t store_rebuilds(const struct store *s)
{
    return atomic_load(&s->rebuilds);
}

const char *store_instance(const struct store *s)
{
    return s->instance;
}

/* --- metadata ---------------------------------------------------------- */

/* With the mutex held, or before there are threads. */
static void condemn(struct store *s, struct family *f, const char *why)
{
    if (f->condemned || s->read_only) return;
    f->condemned = true;
    atomic_fetch_add(&s->rebuilds, 1);
    LOG(ERROR, "STATEDAMAGED",
        "family=%s: %s; it is made anew from changelog or log", f->name, why);
}

void store_condemn(struct store *s, struct family *f, const char *why)
{
    (void)pthread_mutex_lock(&s->mutex);
    condemn(s, f, why);
    (void)pthread_mutex_unlock(&s->mutex);
}

/* RC_SKIP: it is damaged. */
static enum rc meta_get(struct store *s, const struct family *f,
                        struct family_meta *meta, bool *found, struct err *e)
{
    char *error = NULL, *value;
    size_t size;
    enum rc rc;
    *meta = (struct family_meta){0};
    *found = false;
    value = rocksdb_get_cf(s->db, s->reading, f->handle, META_KEY, 1, &size,
                           &error);
    if (error && is_corruption(error)) {
        (void)store_error(s, "reading metadata", error, e);
        return e->rc = RC_SKIP;
    }
    if (error) return store_error(s, "reading metadata", error, e);
    if (!value) return RC_OK;
    rc = family_meta_decode(meta, f->name, slice_of(value, size), e);
    *found = rc == RC_OK;
    if (rc != RC_OK && !family_meta_is_newer(slice_of(value, size)))
        e->rc = rc = RC_SKIP;
    rocksdb_free(value);
    return rc;
}

/* The same where a damaged one may go. */
static enum rc meta_or_condemn(struct store *s, struct family *f,
                               struct family_meta *meta, bool *found,
                               struct err *e)
{
    enum rc rc = f->condemned ? RC_OK : meta_get(s, f, meta, found, e);
    if (rc == RC_SKIP) condemn(s, f, e->text);
    if (f->condemned) *found = false;
    return rc == RC_SKIP ? RC_OK : rc;
}

enum rc store_put_meta(struct store *s, struct family *f,
                       const struct family_meta *meta, struct err *e)
{
    uint8_t bytes[FAMILY_META_BYTES_MAX];
    size_t size = family_meta_encode(meta, bytes);
    char *error = NULL;
    rocksdb_put_cf(s->db, s->writing, f->handle, META_KEY, 1,
                   (const char *)bytes, size, &error);
    return error ? write_error(s, "writing metadata", error, e) : RC_OK;
}

/* --- families ---------------------------------------------------------- */

enum rc store_family_name(char out[STORE_NAME_MAX], const char *stage,
                          const char *topic, int32_t partition, struct err *e)
{
    if (snprintf(out, STORE_NAME_MAX, "%s/%s/%d", stage, topic, partition) >=
        STORE_NAME_MAX)
        return ERR(e, RC_STOP, "state: the name of topic %s is too long",
                   topic);
    return RC_OK;
}

static struct family *family_find(const struct store *s, const char *name)
{
    struct family *f = s->families;
    while (f && strcmp(f->name, name) != 0)
        f = f->next;
    return f;
}

static enum rc family_remove(struct store *s, struct family *f, struct err *e)
{
    struct family **link = &s->families;
    char *error = NULL;
    rocksdb_drop_column_family(s->db, f->handle, &error);
    if (error) return write_error(s, "dropping a family", error, e);
    while (*link != f)
        link = &(*link)->next;
    *link = f->next;
    rocksdb_column_family_handle_destroy(f->handle);
    free(f->name);
    free(f);
    return RC_OK;
}

/* Drops what nobody has owned for state.keep. At the start nobody owns
 * anything yet: what a crash left as owned counts from now on. */
static enum rc sweep(struct store *s, bool opening, struct err *e)
{
    int64_t now_ms = store_now_ms();
    struct family *f = s->families, *next;
    for (; f; f = next) {
        struct family_meta meta;
        bool found;
        next = f->next;
        if (f->held || f->lent > 0) continue;
        TRY(meta_or_condemn(s, f, &meta, &found, e));
        if (f->condemned) {
            TRY(family_remove(s, f, e));
            continue;
        }
        if (!found) continue;
        if (meta.released_ms == 0 && opening) {
            meta.released_ms = now_ms;
            TRY(store_put_meta(s, f, &meta, e));
        } else if (meta.released_ms != 0 && s->keep_ms > 0 &&
                   now_ms - meta.released_ms > (int64_t)s->keep_ms) {
            LOG(INFO, "STATEDROP", "family=%s unowned_ms=%lld", f->name,
                (long long)(now_ms - meta.released_ms));
            TRY(family_remove(s, f, e));
        }
    }
    return RC_OK;
}

/* With the mutex held: the family, held by nobody, or NULL after waiting. */
static struct family *wait_released(struct store *s, const char *name,
                                    bool *busy)
{
    struct family *f;
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ACQUIRE_WAIT_MS / 1000;
    *busy = false;
    while ((f = family_find(s, name)) != NULL &&
           (f->held || (f->condemned && f->lent > 0))) {
        f->wanted = true;
        if (pthread_cond_timedwait(&s->released, &s->mutex, &until) != 0) {
            *busy = true;
            return NULL;
        }
    }
    return f;
}

static enum rc family_make(struct store *s, const char *name,
                           struct family **out, struct err *e)
{
    char *error = NULL;
    rocksdb_column_family_handle_t *handle =
        rocksdb_create_column_family(s->db, s->options, name, &error);
    if (error) return write_error(s, "making a family", error, e);
    family_add(s, name, handle);
    *out = s->families;
    return RC_OK;
}

static enum rc acquire_locked(struct store *s, const char *name,
                              struct family **out, struct family_meta *meta,
                              bool *found, struct err *e)
{
    bool busy;
    struct family *f = wait_released(s, name, &busy);
    *meta = (struct family_meta){0};
    *found = false;
    if (busy)
        return ERR(e, RC_AGAIN,
                   "state of %s: another worker has held it for %d ms", name,
                   ACQUIRE_WAIT_MS);
    if (f) TRY(meta_or_condemn(s, f, meta, found, e));
    if (f && (f->condemned || (!*found && store_is_seeding(s, f)))) {
        TRY(family_remove(s, f, e));
        f = NULL;
    }
    if (!f) TRY(family_make(s, name, &f, e));
    TRY(eraser_look(s, f, e));
    f->held = true;
    *out = f;
    return sweep(s, false, e);
}

enum rc store_acquire(struct store *s, const char *name, struct family **out,
                      struct family_meta *meta, bool *found, struct err *e)
{
    enum rc rc;
    *out = NULL;
    (void)pthread_mutex_lock(&s->mutex);
    rc = acquire_locked(s, name, out, meta, found, e);
    (void)pthread_mutex_unlock(&s->mutex);
    if (rc != RC_OK && *out) {
        store_release(s, *out);
        *out = NULL;
    }
    return rc;
}

void store_release(struct store *s, struct family *f)
{
    (void)pthread_mutex_lock(&s->mutex);
    assert(f->held);
    f->held = f->wanted = false;
    (void)pthread_cond_broadcast(&s->released);
    (void)pthread_mutex_unlock(&s->mutex);
}

bool store_wanted(struct store *s, const struct family *f)
{
    bool wanted;
    (void)pthread_mutex_lock(&s->mutex);
    wanted = f->wanted;
    (void)pthread_mutex_unlock(&s->mutex);
    return wanted;
}

enum rc store_drop(struct store *s, const char *name, struct err *e)
{
    struct family *f;
    enum rc rc = RC_OK;
    (void)pthread_mutex_lock(&s->mutex);
    f = family_find(s, name);
    if (f && (f->held || f->lent > 0))
        rc = ERR(e, RC_STOP, "state of %s: it is in use", name);
    else if (f)
        rc = family_remove(s, f, e);
    (void)pthread_mutex_unlock(&s->mutex);
    return rc;
}

enum rc store_drop_topic(struct store *s, const char *stage, const char *topic,
                         uint32_t *dropped, struct err *e)
{
    char start[STORE_NAME_MAX];
    size_t length =
        (size_t)snprintf(start, sizeof start, "%s/%s/", stage, topic);
    struct family *f = s->families, *next;
    *dropped = 0;
    for (; f; f = next) {
        next = f->next;
        if (length >= sizeof start || strncmp(f->name, start, length) != 0 ||
            strchr(f->name + length, '/'))
            continue;
        TRY(store_drop(s, f->name, e));
        ++*dropped;
    }
    return RC_OK;
}

enum rc store_begin_at(struct store *s, const char *name, uint32_t partitions,
                       int64_t offset, struct err *e)
{
    struct family_meta before, meta = {.partitions = partitions,
                                       .checkpoint = offset,
                                       .applied = offset,
                                       .stream_ms = INT64_MIN,
                                       .released_ms = store_now_ms(),
                                       .seen_offset = -1};
    struct family *f;
    bool found;
    enum rc rc;
    TRY(store_acquire(s, name, &f, &before, &found, e));
    rc = found ? ERR(e, RC_STOP, "state of %s: it is there already", name)
               : store_put_meta(s, f, &meta, e);
    store_release(s, f);
    return rc;
}

static enum rc read_error(struct store *s, struct family *f, const char *doing,
                          char *error, struct err *e)
{
    if (is_corruption(error)) store_condemn(s, f, error);
    return store_error(s, doing, error, e);
}

/* --- rows -------------------------------------------------------------- */

struct store_reads {
    uint32_t max, filled;
    const char **keys;
    size_t *key_sizes;
    char **errors;
    rocksdb_pinnableslice_t **values;
    char *key_bytes; /* grows to the longest batch of keys */
    size_t key_bytes_max;
};

struct store_reads *store_reads_new(uint32_t max)
{
    struct store_reads *r = calloc(1, sizeof *r);
    assert(r && max > 0);
    r->max = max;
    r->keys = calloc(max, sizeof *r->keys);
    r->key_sizes = calloc(max, sizeof *r->key_sizes);
    r->errors = calloc(max, sizeof *r->errors);
    r->values = calloc(max, sizeof(rocksdb_pinnableslice_t *));
    assert(r->keys && r->key_sizes && r->errors && r->values);
    return r;
}

void store_reads_free(struct store_reads *r)
{
    if (!r) return;
    store_release_values(r);
    free((void *)r->keys);
    free(r->key_sizes);
    free((void *)r->errors);
    free((void *)r->values);
    free(r->key_bytes);
    free(r);
}

void store_release_values(struct store_reads *r)
{
    for (uint32_t i = 0; i < r->filled; i++) {
        if (r->values[i]) rocksdb_pinnableslice_destroy(r->values[i]);
        r->values[i] = NULL;
    }
    r->filled = 0;
}

/* Row keys are 'u' and the user's id, one after the other in key_bytes. */
static void fill_keys(struct store_reads *r, const struct slice *keys,
                      uint32_t count)
{
    size_t bytes = 0;
    char *to;
    for (uint32_t i = 0; i < count; i++)
        bytes += 1 + keys[i].len;
    if (bytes > r->key_bytes_max) {
        free(r->key_bytes);
        r->key_bytes_max = 2 * bytes;
        r->key_bytes = malloc(r->key_bytes_max);
        assert(r->key_bytes);
    }
    to = r->key_bytes;
    for (uint32_t i = 0; i < count; i++) {
        r->keys[i] = to;
        r->key_sizes[i] = 1 + keys[i].len;
        *to++ = 'u';
        if (keys[i].len) memcpy(to, keys[i].ptr, keys[i].len);
        to += keys[i].len;
        r->errors[i] = NULL;
    }
}

enum rc store_get(struct store *s, struct family *f, struct store_reads *r,
                  const struct slice *keys, uint32_t count,
                  struct slice *values, struct err *e)
{
    char *first_error = NULL;
    assert(count <= r->max && r->filled == 0);
    fill_keys(r, keys, count);
    r->filled = count;
    rocksdb_batched_multi_get_cf(s->db, s->reading, f->handle, count, r->keys,
                                 r->key_sizes, r->values, r->errors, false);
    for (uint32_t i = 0; i < count; i++) {
        size_t len = 0;
        const char *ptr = r->values[i]
                              ? rocksdb_pinnableslice_value(r->values[i], &len)
                              : NULL;
        values[i] = slice_of(ptr, len);
        if (!r->errors[i]) continue;
        if (first_error)
            rocksdb_free(r->errors[i]);
        else
            first_error = r->errors[i];
    }
    if (!first_error) return RC_OK;
    store_release_values(r);
    return read_error(s, f, "reading rows", first_error, e);
}

struct store_writes *store_writes_new(void)
{
    struct store_writes *w = calloc(1, sizeof *w);
    assert(w);
    w->batch = rocksdb_writebatch_create();
    return w;
}

void store_writes_free(struct store_writes *w)
{
    if (!w) return;
    eraser_take(NULL, w, false);
    rocksdb_writebatch_destroy(w->batch);
    free(w);
}

void store_writes_row(struct store_writes *w, struct family *f,
                      struct slice key, struct slice row)
{
    char bytes[KEY_BYTES_MAX];
    assert(key.len < sizeof bytes);
    bytes[0] = 'u';
    memcpy(bytes + 1, key.ptr, key.len);
    rocksdb_writebatch_put_cf(w->batch, f->handle, bytes, 1 + key.len,
                              (const char *)row.ptr, row.len);
}

void store_writes_remove(struct store_writes *w, struct family *f,
                         struct slice key)
{
    char bytes[KEY_BYTES_MAX];
    assert(key.len < sizeof bytes);
    bytes[0] = 'u';
    memcpy(bytes + 1, key.ptr, key.len);
    rocksdb_writebatch_delete_cf(w->batch, f->handle, bytes, 1 + key.len);
}

/* Rows of all users lie between 'u' and the byte after it. */
void store_writes_clear(struct store_writes *w, struct family *f)
{
    rocksdb_writebatch_delete_range_cf(w->batch, f->handle, "u", 1, "v", 1);
}

enum rc store_write(struct store *s, struct store_writes *w, struct family *f,
                    const struct family_meta *meta, struct err *e)
{
    uint8_t bytes[FAMILY_META_BYTES_MAX];
    size_t size = family_meta_encode(meta, bytes);
    char *error = NULL;
    rocksdb_writebatch_put_cf(w->batch, f->handle, META_KEY, 1,
                              (const char *)bytes, size);
    rocksdb_write(s->db, s->writing, w->batch, &error);
    rocksdb_writebatch_clear(w->batch);
    eraser_take(s, w, !error);
    return error ? write_error(s, "writing rows", error, e) : RC_OK;
}

/* --- for inspect and reset --------------------------------------------- */

enum rc store_each_family(struct store *s, store_family_fn *fn, void *user,
                          struct err *e)
{
    for (struct family *f = s->families; f; f = f->next) {
        struct family_meta meta;
        bool found;
        TRY(meta_get(s, f, &meta, &found, e));
        TRY(fn(user, f->name, &meta, found, e));
    }
    return RC_OK;
}

/* From the first row after the key, at most max of them. *ended: there is
 * none behind the last. */
static enum rc each_row(struct store *s, struct family *f,
                        rocksdb_iterator_t *it, struct slice after,
                        uint64_t max, bool *ended, store_row_fn *fn, void *user,
                        struct err *e)
{
    char from[KEY_BYTES_MAX], *error = NULL;
    uint64_t count = 0;
    assert(after.len < sizeof from);
    from[0] = 'u';
    if (after.len) memcpy(from + 1, after.ptr, after.len);
    *ended = false;
    for (rocksdb_iter_seek(it, from, 1 + after.len); count < max;
         rocksdb_iter_next(it)) {
        size_t key_len, len;
        const char *key = NULL, *row;
        if (rocksdb_iter_valid(it)) key = rocksdb_iter_key(it, &key_len);
        *ended = !key || key_len < 1 || key[0] != 'u';
        if (*ended) break;
        if (slice_equal(after, slice_of(key + 1, key_len - 1))) continue;
        row = rocksdb_iter_value(it, &len);
        TRY(fn(user, slice_of(key + 1, key_len - 1), slice_of(row, len), e));
        count++;
    }
    rocksdb_iter_get_error(it, &error);
    return error ? read_error(s, f, "reading rows", error, e) : RC_OK;
}

enum rc store_each_row(struct store *s, const char *name, store_row_fn *fn,
                       void *user, struct err *e)
{
    struct family *f = family_find(s, name);
    rocksdb_iterator_t *it;
    bool ended;
    enum rc rc;
    if (!f) return ERR(e, RC_STOP, "state in %s: no family %s", s->dir, name);
    it = rocksdb_create_iterator_cf(s->db, s->reading, f->handle);
    rc = each_row(s, f, it, slice_of(NULL, 0), UINT64_MAX, &ended, fn, user, e);
    rocksdb_iter_destroy(it);
    return rc;
}

enum rc store_scan(struct store *s, struct family *f, struct slice after,
                   uint32_t max, bool *ended, store_row_fn *fn, void *user,
                   struct err *e)
{
    rocksdb_readoptions_t *reading = rocksdb_readoptions_create();
    rocksdb_iterator_t *it;
    enum rc rc;
    /* Rows that nobody has asked for must not drive others out. */
    rocksdb_readoptions_set_fill_cache(reading, 0);
    it = rocksdb_create_iterator_cf(s->db, reading, f->handle);
    rc = each_row(s, f, it, after, max, ended, fn, user, e);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(reading);
    return rc;
}

enum rc store_find_row(struct store *s, const char *name, struct slice user,
                       uint8_t **row, size_t *size, struct err *e)
{
    const struct family *f = family_find(s, name);
    char key[KEY_BYTES_MAX], *error = NULL, *value;
    *row = NULL;
    *size = 0;
    if (!f || user.len >= sizeof key) return RC_OK;
    key[0] = 'u';
    memcpy(key + 1, user.ptr, user.len);
    value = rocksdb_get_cf(s->db, s->reading, f->handle, key, 1 + user.len,
                           size, &error);
    if (error) return store_error(s, "reading a row", error, e);
    if (!value) return RC_OK;
    *row = malloc(*size ? *size : 1);
    assert(*row);
    memcpy(*row, value, *size);
    rocksdb_free(value);
    return RC_OK;
}
