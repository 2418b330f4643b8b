/* store_erase.c - forgotten rows leave the files. See store.h, Erase.
 *
 * Order    The worker's batch holds the deletion and, under FORGOTTEN_KEY,
 *          the offset that asked for it. Afterwards this thread flushes every
 *          family, so that RocksDB lets go of the logs that hold the row,
 *          compacts the range of the key down to the last level, where old
 *          versions and the deletion itself go, has the list of files made
 *          anew, which names first and last keys, and notes the offset under
 *          ERASED_KEY. A start that finds the two apart compacts the family
 *          whole: which keys were meant is not kept.
 * Work     Requests wait ERASE_DELAY_MS for others. Beyond ERASE_KEYS_MAX the
 *          family is compacted whole. It reads and writes the files that
 *          overlap; the worker is not waited for. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bytes.h"
#include "log.h"
#include "store_inside.h"

enum { ERASE_DELAY_MS = 200, ERASE_KEYS_MAX = 64, FORCE_BOTTOMMOST = 2 };

struct erasure {
    struct family *family;
    int64_t offset;
    struct erasure *next;
    size_t key_len; /* 0: the whole family */
    char key[];
};

/* --- what is to be done ------------------------------------------------ */

static struct erasure *erasure_new(struct family *f, struct slice key,
                                   int64_t offset, struct erasure *next)
{
    struct erasure *x = malloc(sizeof *x + key.len);
    assert(x);
    *x = (struct erasure){
        .family = f, .offset = offset, .next = next, .key_len = key.len};
    if (key.len) memcpy(x->key, key.ptr, key.len);
    return x;
}

static void erasures_free(struct erasure *x)
{
    while (x) {
        struct erasure *next = x->next;
        free(x);
        x = next;
    }
}

void store_writes_forget(struct store_writes *w, struct family *f,
                         struct slice key, int64_t offset)
{
    char bytes[KEY_BYTES_MAX];
    uint8_t at[8];
    struct slice whole;
    assert(key.len < sizeof bytes);
    bytes[0] = 'u';
    memcpy(bytes + 1, key.ptr, key.len);
    whole = slice_of(bytes, 1 + key.len);
    (void)put_i64(at, offset);
    rocksdb_writebatch_delete_cf(w->batch, f->handle, bytes, whole.len);
    rocksdb_writebatch_put_cf(w->batch, f->handle, FORGOTTEN_KEY, 1,
                              (const char *)at, sizeof at);
    w->erasures = erasure_new(f, whole, offset, w->erasures);
}

/* With the mutex held. Takes x. A long list means all of the family. */
static void ask(struct store *s, struct erasure *x)
{
    x->family->lent++;
    x->next = s->erasures;
    s->erasures = x;
    if (++s->erasure_count > ERASE_KEYS_MAX) x->key_len = 0;
    (void)pthread_cond_signal(&s->asked);
}

void eraser_take(struct store *s, struct store_writes *w, bool written)
{
    if (!w->erasures) return;
    if (!written) {
        erasures_free(w->erasures);
        w->erasures = NULL;
        return;
    }
    (void)pthread_mutex_lock(&s->mutex);
    while (w->erasures) {
        struct erasure *x = w->erasures;
        w->erasures = x->next;
        ask(s, x);
    }
    (void)pthread_mutex_unlock(&s->mutex);
}

/* --- the two offsets --------------------------------------------------- */

static enum rc get_offset(struct store *s, const struct family *f,
                          const char *key, int64_t *out, struct err *e)
{
    char *error = NULL, *value;
    size_t size;
    *out = -1;
    value = rocksdb_get_cf(s->db, s->reading, f->handle, key, 1, &size, &error);
    if (error) return store_error(s, "reading what was forgotten", error, e);
    if (value && size == 8) *out = (int64_t)get_u64((const uint8_t *)value);
    rocksdb_free(value);
    return RC_OK;
}

static enum rc both_offsets(struct store *s, const struct family *f,
                            int64_t *forgotten, int64_t *erased, struct err *e)
{
    TRY(get_offset(s, f, FORGOTTEN_KEY, forgotten, e));
    return get_offset(s, f, ERASED_KEY, erased, e);
}

enum rc store_forgotten(struct store *s, const char *name, int64_t *forgotten,
                        int64_t *erased, struct err *e)
{
    const struct family *f = s->families;
    *forgotten = *erased = -1;
    while (f && strcmp(f->name, name) != 0)
        f = f->next;
    return f ? both_offsets(s, f, forgotten, erased, e) : RC_OK;
}

enum rc eraser_look(struct store *s, struct family *f, struct err *e)
{
    int64_t forgotten, erased;
    if (f->lent > 0) return RC_OK; /* it is at it */
    TRY(both_offsets(s, f, &forgotten, &erased, e));
    if (forgotten > erased)
        ask(s, erasure_new(f, slice_of(NULL, 0), forgotten, NULL));
    return RC_OK;
}

/* --- the thread -------------------------------------------------------- */

static char *flush_all(struct store *s, struct family **families,
                       uint32_t count)
{
    rocksdb_flushoptions_t *o = rocksdb_flushoptions_create();
    char *error = NULL;
    rocksdb_flushoptions_set_wait(o, 1);
    for (uint32_t i = 0; i < count && !error; i++)
        rocksdb_flush_cf(s->db, o, families[i]->handle, &error);
    rocksdb_flushoptions_destroy(o);
    return error;
}

static void compact(struct store *s, const struct erasure *list)
{
    rocksdb_compactoptions_t *o = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_exclusive_manual_compaction(o, 0);
    rocksdb_compactoptions_set_bottommost_level_compaction(o, FORCE_BOTTOMMOST);
    for (const struct erasure *x = list; x; x = x->next) {
        const char *key = x->key_len ? x->key : NULL;
        rocksdb_compact_range_cf_opt(s->db, x->family->handle, o, key,
                                     x->key_len, key, x->key_len);
    }
    rocksdb_compactoptions_destroy(o);
}

/* Any change makes a list without the files that the last change removed. */
static char *renew_manifest(struct store *s)
{
    struct family all = {.handle = s->default_family};
    struct family *one = &all;
    char *error = NULL;
    rocksdb_put_cf(s->db, s->writing, s->default_family, ERASED_KEY, 1, "", 0,
                   &error);
    return error ? error : flush_all(s, &one, 1);
}

/* After all of the list is done: how far each family has come. */
static char *note_erased(struct store *s, const struct erasure *list)
{
    char *error = NULL;
    for (const struct erasure *x = list; x && !error; x = x->next) {
        int64_t offset = x->offset;
        uint8_t at[8];
        for (const struct erasure *y = list; y; y = y->next)
            if (y->family == x->family && y->offset > offset)
                offset = y->offset;
        (void)put_i64(at, offset);
        rocksdb_put_cf(s->db, s->writing, x->family->handle, ERASED_KEY, 1,
                       (const char *)at, sizeof at, &error);
    }
    return error;
}

/* Every family, lent: logs go only when none needs them. */
static struct family **lend_all(struct store *s, uint32_t *count)
{
    struct family **all;
    *count = 0;
    for (struct family *f = s->families; f; f = f->next)
        ++*count;
    all = calloc(*count + 1, sizeof(struct family *));
    assert(all);
    *count = 0;
    for (struct family *f = s->families; f; f = f->next) {
        f->lent++;
        all[(*count)++] = f;
    }
    return all;
}

static void erase(struct store *s, const struct erasure *list,
                  struct family **families, uint32_t count)
{
    char *error = flush_all(s, families, count);
    if (!error) {
        compact(s, list);
        error = renew_manifest(s);
    }
    if (!error) error = note_erased(s, list);
    if (!error) return;
    LOG(WARN, "ERASE",
        "forgotten rows are gone, but not yet from the files in %s: %s; it is "
        "tried again at the next start",
        s->dir, error);
    rocksdb_free(error);
}

/* With the mutex held; it is let go meanwhile. */
static void erase_round(struct store *s)
{
    struct erasure *list = s->erasures;
    uint32_t count;
    struct family **families = lend_all(s, &count);
    s->erasures = NULL;
    s->erasure_count = 0;
    (void)pthread_mutex_unlock(&s->mutex);
    erase(s, list, families, count);
    (void)pthread_mutex_lock(&s->mutex);
    for (const struct erasure *x = list; x; x = x->next)
        x->family->lent--;
    for (uint32_t i = 0; i < count; i++)
        families[i]->lent--;
    (void)pthread_cond_broadcast(&s->released);
    free((void *)families);
    erasures_free(list);
}

static void wait_for_others(struct store *s)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ERASE_DELAY_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!s->stopping &&
           pthread_cond_timedwait(&s->asked, &s->mutex, &until) == 0)
        ;
}

static void *eraser_main(void *arg)
{
    struct store *s = arg;
    (void)pthread_mutex_lock(&s->mutex);
    while (!s->stopping) {
        if (!s->erasures) {
            (void)pthread_cond_wait(&s->asked, &s->mutex);
            continue;
        }
        wait_for_others(s);
        if (!s->stopping) erase_round(s);
    }
    (void)pthread_mutex_unlock(&s->mutex);
    return NULL;
}

enum rc eraser_start(struct store *s, struct err *e)
{
    if (pthread_create(&s->eraser, NULL, eraser_main, s) != 0)
        return ERR(e, RC_STOP, "state in %s: no thread to erase with", s->dir);
    s->erasing = true;
    return RC_OK;
}

void eraser_stop(struct store *s)
{
    if (!s->erasing) return;
    (void)pthread_mutex_lock(&s->mutex);
    s->stopping = true;
    (void)pthread_cond_signal(&s->asked);
    (void)pthread_mutex_unlock(&s->mutex);
    (void)pthread_join(s->eraser, NULL);
    for (const struct erasure *x = s->erasures; x; x = x->next)
        x->family->lent--;
    erasures_free(s->erasures);
    s->erasures = NULL;
    s->erasing = false;
}
