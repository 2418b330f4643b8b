/* store_seed.c - a family filled from outside, and one read by another thread
 * than its owner's: what snapshots need. See store.h.
 *
 * Whole    A family being filled has SEEDING_KEY and no metadata; who acquires
 *          one that a crash left so finds it empty. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "store_inside.h"

enum { BATCH_ROWS = 512 };

/* --- filling ----------------------------------------------------------- */

struct store_seed {
    struct store *store;
    struct family *family;
    rocksdb_writebatch_t *batch;
    uint32_t waiting; /* rows in the batch */
};

static enum rc write_batch(struct store_seed *d, struct err *e)
{
    char *error = NULL;
    rocksdb_write(d->store->db, d->store->writing, d->batch, &error);
    rocksdb_writebatch_clear(d->batch);
    d->waiting = 0;
    return error ? store_error(d->store, "filling a family", error, e) : RC_OK;
}

static void seed_free(struct store_seed *d)
{
    rocksdb_writebatch_destroy(d->batch);
    store_release(d->store, d->family);
    free(d);
}

enum rc store_seed_begin(struct store_seed **out, struct store *s,
                         const char *name, struct err *e)
{
    struct family_meta meta;
    struct store_seed *d;
    struct family *f;
    bool found;
    enum rc rc;
    *out = NULL;
    TRY(store_acquire(s, name, &f, &meta, &found, e));
    if (found) {
        store_release(s, f);
        return RC_OK;
    }
    d = calloc(1, sizeof *d);
    assert(d);
    *d = (struct store_seed){
        .store = s, .family = f, .batch = rocksdb_writebatch_create()};
    rocksdb_writebatch_put_cf(d->batch, f->handle, SEEDING_KEY, 1, "", 0);
    rc = write_batch(d, e);
    if (rc != RC_OK) {
        seed_free(d);
        return rc;
    }
    *out = d;
    return RC_OK;
}

enum rc store_seed_row(struct store_seed *d, struct slice user,
                       struct slice row, struct err *e)
{
    char key[KEY_BYTES_MAX];
    if (user.len >= sizeof key)
        return ERR(e, RC_STOP, "state: a user's id of %zu bytes", user.len);
    key[0] = 'u';
    memcpy(key + 1, user.ptr, user.len);
    rocksdb_writebatch_put_cf(d->batch, d->family->handle, key, 1 + user.len,
                              (const char *)row.ptr, row.len);
    return ++d->waiting < BATCH_ROWS ? RC_OK : write_batch(d, e);
}

enum rc store_seed_finish(struct store_seed *d, const struct family_meta *meta,
                          struct err *e)
{
    uint8_t at[8], bytes[FAMILY_META_BYTES_MAX];
    size_t size = family_meta_encode(meta, bytes);
    enum rc rc;
    (void)put_i64(at, meta->applied);
    rocksdb_writebatch_put_cf(d->batch, d->family->handle, META_KEY, 1,
                              (const char *)bytes, size);
    rocksdb_writebatch_put_cf(d->batch, d->family->handle, SEEDED_KEY, 1,
                              (const char *)at, sizeof at);
    rocksdb_writebatch_delete_cf(d->batch, d->family->handle, SEEDING_KEY, 1);
    rc = write_batch(d, e);
    seed_free(d);
    return rc;
}

void store_seed_abandon(struct store_seed *d)
{
    if (d) seed_free(d);
}

/* A small value of a family; NULL: none, or it cannot be read. */
static char *get_value(struct store *s, const struct family *f, const char *key,
                       size_t *size)
{
    char *error = NULL;
    char *value =
        rocksdb_get_cf(s->db, s->reading, f->handle, key, 1, size, &error);
    if (error) rocksdb_free(error);
    return value;
}

bool store_is_seeding(struct store *s, const struct family *f)
{
    size_t size;
    char *value = get_value(s, f, SEEDING_KEY, &size);
    bool seeding = value != NULL;
    rocksdb_free(value);
    return seeding;
}

int64_t store_seeded_at(struct store *s, const struct family *f)
{
    size_t size;
    char *value = get_value(s, f, SEEDED_KEY, &size);
    int64_t at =
        value && size == 8 ? (int64_t)get_u64((const uint8_t *)value) : -1;
    rocksdb_free(value);
    return at;
}

/* --- a view ------------------------------------------------------------ */

struct store_view {
    struct store *store;
    struct family *family;
    const rocksdb_snapshot_t *at;
    struct family_meta meta;
};

struct store_view *store_view_take(struct store *s, struct family *f,
                                   const struct family_meta *meta)
{
    struct store_view *v = calloc(1, sizeof *v);
    assert(v && f->held);
    *v = (struct store_view){.store = s,
                             .family = f,
                             .at = rocksdb_create_snapshot(s->db),
                             .meta = *meta};
    (void)pthread_mutex_lock(&s->mutex);
    f->lent++;
    (void)pthread_mutex_unlock(&s->mutex);
    return v;
}

const struct family_meta *store_view_meta(const struct store_view *v)
{
    return &v->meta;
}

const char *store_view_name(const struct store_view *v)
{
    return v->family->name;
}

enum rc store_view_each(const struct store_view *v, store_row_fn *fn,
                        void *user, struct err *e)
{
    rocksdb_readoptions_t *reading = rocksdb_readoptions_create();
    rocksdb_iterator_t *it;
    char *error = NULL;
    enum rc rc = RC_OK;
    rocksdb_readoptions_set_snapshot(reading, v->at);
    rocksdb_readoptions_set_fill_cache(reading, 0);
    it = rocksdb_create_iterator_cf(v->store->db, reading, v->family->handle);
    for (rocksdb_iter_seek(it, "u", 1); rc == RC_OK && rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        size_t key_len, len;
        const char *key = rocksdb_iter_key(it, &key_len);
        const char *row = rocksdb_iter_value(it, &len);
        if (key_len < 1 || key[0] != 'u') break;
        rc = fn(user, slice_of(key + 1, key_len - 1), slice_of(row, len), e);
    }
    rocksdb_iter_get_error(it, &error);
    if (rc == RC_OK && error)
        rc = store_error(v->store, "reading rows", error, e);
    else if (error)
        rocksdb_free(error);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(reading);
    return rc;
}

void store_view_free(struct store_view *v)
{
    struct store *s = v->store;
    rocksdb_release_snapshot(s->db, v->at);
    (void)pthread_mutex_lock(&s->mutex);
    v->family->lent--;
    (void)pthread_cond_broadcast(&s->released);
    (void)pthread_mutex_unlock(&s->mutex);
    free(v);
}
