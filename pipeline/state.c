/* state.c - rows in memory: found by user, read when missing, dropped when
 * least recently used. See state.h; partitions and writing behind are in
 * state_partition.c.
 *
 * Lists    A row is in the table, and in one of two lists: clean rows of all
 *          partitions by use, or its partition's dirty rows by dirty_since.
 *          Events come in offset order, so a row that becomes dirty goes to
 *          the end, and both lists cost O(1).
 * Bound    pool_used counts what all rows take, growth included. Before and
 *          after rows are read, clean ones leave until it fits. */
#include "state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hash.h"
#include "shapes.h"
#include "state_inside.h"
#include "train.h"

enum { TABLE_SIZE_FIRST = 1 << 12, ROW_BYTES_LEAST = 512 };

int64_t state_clock_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- new, free --------------------------------------------------------- */

enum rc state_new(struct state **out, struct store *store,
                  const struct state_options *o, struct err *e)
{
    struct state *st = calloc(1, sizeof *st);
    enum rc rc;
    *out = NULL;
    if (!st) return ERR(e, RC_STOP, "users' rows: no memory");
    assert((!o->scorer || o->forget) && (!o->base || !store));
    st->options = *o;
    st->store = store;
    history_shape_init(&st->options.history);
    shapes_describe(&st->options.history, &st->options.windows, st->shape,
                    sizeof st->shape);
    st->table_size = TABLE_SIZE_FIRST;
    /* With a store no more rows than that are in memory at once, so it never
     * grows while events wait. */
    while (store && st->table_size < o->cache_bytes / ROW_BYTES_LEAST)
        st->table_size *= 2;
    st->table = calloc(st->table_size, sizeof(struct user_state *));
    if (store) st->writes = store_writes_new();
    /* A quarter more: blocks of several sizes leave gaps between them. */
    if (!st->table)
        rc = ERR(e, RC_STOP, "users' rows: no memory");
    else
        rc = pool_new(&st->pool, o->cache_bytes + o->cache_bytes / 4, e);
    if (rc != RC_OK) {
        state_free(st);
        return rc;
    }
    st->options.history.pool = st->pool;
    st->options.windows.pool = st->pool;
    st->checkpoint_at_ms = st->now_ms = state_clock_ms();
    *out = st;
    return RC_OK;
}

void state_free(struct state *st)
{
    if (!st) return;
    state_drop_leaving(st);
    for (uint64_t i = 0; st->table && i < st->table_size; i++)
        while (st->table[i])
            state_drop_row(st, st->table[i]);
    for (uint32_t i = 0; i < st->partition_count; i++) {
        struct partition *p = st->partitions[i];
        if (p->store->family) store_release(st->store, p->store->family);
        state_changelog_fini(p);
        free(p->store);
        free(p);
    }
    free((void *)st->partitions);
    free((void *)st->table);
    store_reads_free(st->reads);
    store_writes_free(st->writes);
    free(st->keys);
    free(st->values);
    free((void *)st->loading);
    free(st->row_bytes);
    pool_free(st->pool);
    free(st);
}

const struct history_shape *state_history_shape(const struct state *st)
{
    return &st->options.history;
}

const struct windows_shape *state_windows_shape(const struct state *st)
{
    return &st->options.windows;
}

/* --- lists ------------------------------------------------------------- */

static void list_append(struct user_state **oldest, struct user_state **newest,
                        struct user_state *us)
{
    us->older = *newest;
    us->newer = NULL;
    if (*newest)
        (*newest)->newer = us;
    else
        *oldest = us;
    *newest = us;
}

static void list_remove(struct user_state **oldest, struct user_state **newest,
                        struct user_state *us)
{
    if (us->older)
        us->older->newer = us->newer;
    else
        *oldest = us->newer;
    if (us->newer)
        us->newer->older = us->older;
    else
        *newest = us->older;
    us->older = us->newer = NULL;
}

static void list_leave(struct state *st, struct user_state *us)
{
    struct partition_store *ps = us->partition->store;
    if (us->dirty) {
        list_remove(&ps->dirty_oldest, &ps->dirty_newest, us);
        ps->dirty_rows--;
        st->dirty_rows--;
        st->dirty_bytes -= us->bytes;
    } else {
        list_remove(&st->clean_oldest, &st->clean_newest, us);
    }
}

/* --- the table --------------------------------------------------------- */

static struct user_state **table_slot(const struct state *st, uint64_t hash)
{
    return &st->table[hash & (st->table_size - 1)];
}

static struct user_state *table_find(const struct state *st,
                                     const struct partition *p, uint64_t hash,
                                     struct slice user)
{
    struct user_state *us = *table_slot(st, hash);
    while (us && (us->hash != hash || us->partition != p ||
                  !slice_equal(user, slice_of(us->key, us->key_len))))
        us = us->hash_next;
    return us;
}

/* Doubled when there are as many rows as slots; it stays where no memory is
 * left, and chains grow. */
static void table_grow(struct state *st)
{
    uint64_t size = st->table_size * 2;
    struct user_state **old = st->table;
    struct user_state **table = calloc(size, sizeof(struct user_state *));
    if (!table) return;
    st->table = table;
    st->table_size = size;
    for (uint64_t i = 0; i < size / 2; i++)
        for (struct user_state *us = old[i], *next; us; us = next) {
            struct user_state **slot = table_slot(st, us->hash);
            next = us->hash_next;
            us->hash_next = *slot;
            *slot = us;
        }
    free((void *)old);
}

static void table_remove(struct state *st, struct user_state *us)
{
    struct user_state **link = table_slot(st, us->hash);
    while (*link != us)
        link = &(*link)->hash_next;
    *link = us->hash_next;
    st->rows--;
}

/* --- rows -------------------------------------------------------------- */

static size_t row_bytes(const struct state *st, const struct user_state *us)
{
    return pool_block_bytes(sizeof *us + us->key_len) +
           pool_block_bytes((size_t)us->history.capacity *
                            st->options.history.stride) +
           windows_bytes(us->windows);
}

/* An empty row, in the table and in no list. */
static struct user_state *row_new(struct state *st, struct partition *p,
                                  uint64_t hash, struct slice user)
{
    struct user_state *us = pool_take(st->pool, sizeof *us + user.len);
    struct user_state **slot;
    if (st->rows >= st->table_size) table_grow(st);
    slot = table_slot(st, hash);
    *us = (struct user_state){.partition = p,
                              .hash = hash,
                              .key_len = (uint32_t)user.len,
                              .life = ++st->rows_begun,
                              .hash_next = *slot};
    memcpy(us->key, user.ptr, user.len);
    history_init(&us->history);
    us->windows = windows_new(&st->options.windows);
    *slot = us;
    st->rows++;
    return us;
}

/* A row that is in no table and in no list. */
static void row_free(struct state *st, struct user_state *us)
{
    if (us->context) st->options.forget(st->options.scorer, &us->context);
    history_fini(&st->options.history, &us->history);
    windows_free(&st->options.windows, us->windows);
    pool_give(st->pool, us, sizeof *us + us->key_len);
}

void state_drop_row(struct state *st, struct user_state *us)
{
    list_leave(st, us);
    table_remove(st, us);
    row_free(st, us);
}

void state_drop_leaving(struct state *st)
{
    while (st->leaving) {
        struct user_state *us = st->leaving;
        st->leaving = us->hash_next;
        row_free(st, us);
    }
}

void state_row_written(struct state *st, struct user_state *us)
{
    list_leave(st, us);
    us->dirty = us->forgotten = false;
    list_append(&st->clean_oldest, &st->clean_newest, us);
}

/* Clean rows leave, least recently used first, until the rest fits. Rows of
 * this batch stand at the end and stay. */
static void trim(struct state *st)
{
    while (pool_used(st->pool) > st->options.cache_bytes && st->clean_oldest &&
           st->clean_oldest->used_batch != st->batch_number) {
        state_drop_row(st, st->clean_oldest);
        st->evictions_total++;
    }
}

/* --- recall ------------------------------------------------------------ */

static struct slice key_of(const struct state *st, const struct event *ev)
{
    return st->options.key ? st->options.key(ev) : ev->user;
}

static enum rc reserve_reads(struct state *st, uint32_t count, struct err *e)
{
    if (count <= st->reads_max) return RC_OK;
    store_reads_free(st->reads);
    free(st->keys);
    free(st->values);
    free((void *)st->loading);
    st->reads = store_reads_new(count);
    st->keys = calloc(count, sizeof *st->keys);
    st->values = calloc(count, sizeof *st->values);
    st->loading = calloc(count, sizeof(struct user_state *));
    st->reads_max = count;
    if (!st->reads || !st->keys || !st->values || !st->loading)
        return ERR(e, RC_STOP, "users' rows: no memory for a batch of %u",
                   count);
    return RC_OK;
}

/* The row, found or begun; begun ones wait in their partition's list. */
static struct user_state *find_or_begin(struct state *st, struct partition *p,
                                        struct slice user)
{
    uint64_t hash = hash64(user);
    struct user_state *us = table_find(st, p, hash, user);
    if (us) {
        st->hits_total++;
        if (!us->dirty && !us->loading) {
            list_remove(&st->clean_oldest, &st->clean_newest, us);
            list_append(&st->clean_oldest, &st->clean_newest, us);
        }
    } else {
        st->misses_total++;
        us = row_new(st, p, hash, user);
        us->loading = true;
        us->newer = p->store->missing;
        p->store->missing = us;
    }
    us->used_batch = st->batch_number;
    return us;
}

/* No row is ahead of what the store says of all. */
static enum rc check_applied(const struct user_state *us, struct err *e)
{
    const struct family_meta *m = &us->partition->store->meta;
    int64_t label = windows_label_offset(us->windows);
    if (us->history.applied_offset >= m->applied)
        return ERR(e, RC_SKIP,
                   "state of partition %d, the user with hash %016llx: holds "
                   "offset %lld, the store says that it ends before %lld",
                   us->partition->id, (unsigned long long)us->hash,
                   (long long)us->history.applied_offset,
                   (long long)m->applied);
    /* Of a snapshot it is not known: 0. */
    if (us->partition->labels.open && m->label_applied > 0 &&
        label >= m->label_applied)
        return ERR(e, RC_SKIP,
                   "state of partition %d, the user with hash %016llx: holds "
                   "label %lld, the store says that they end before %lld",
                   us->partition->id, (unsigned long long)us->hash,
                   (long long)label, (long long)m->label_applied);
    return RC_OK;
}

/* RC_SKIP: the row is damaged. Users have no names here: texts are logged. */
static enum rc load_row(struct state *st, struct user_state *us,
                        struct slice bytes, struct err *e)
{
    struct slice user = slice_of(us->key, us->key_len);
    if (!bytes.ptr) return RC_OK; /* never seen */
    if (user_row_decode(&st->options.history, &st->options.windows, user, bytes,
                        &us->history, us->windows, e) != RC_OK)
        return err_context(e,
                           "state of partition %d, the user with hash %016llx",
                           us->partition->id, (unsigned long long)us->hash);
    return check_applied(us, e);
}

/* Without it the next owner of the partition begins anew; this one ends. */
static enum rc give_up_store(struct state *st, struct partition_store *ps,
                             struct err *e)
{
    store_condemn(st->store, ps->family, e->text);
    (void)err_context(e, "the partition's state is made anew at the next "
                         "start, from changelog or log");
    return e->rc = RC_STOP;
}

/* Reads what is missing of one partition. After a failure none of them is in
 * the table. */
static enum rc load_missing(struct state *st, struct partition *p,
                            struct err *e)
{
    struct partition_store *ps = p->store;
    uint32_t count = 0;
    enum rc rc = RC_OK;
    for (struct user_state *us = ps->missing; us; us = us->newer) {
        st->keys[count] = slice_of(us->key, us->key_len);
        st->loading[count++] = us;
    }
    ps->missing = NULL;
    if (count == 0) return RC_OK;
    for (uint32_t i = 0; st->options.base && i < count; i++)
        st->values[i] = snapshot_find(st->options.base, p->id, st->keys[i]);
    if (ps->family)
        rc = store_get(st->store, ps->family, st->reads, st->keys, count,
                       st->values, e);
    for (uint32_t i = 0; i < count; i++) {
        struct user_state *us = st->loading[i];
        if (rc == RC_OK && (ps->family || st->options.base))
            rc = load_row(st, us, st->values[i], e);
        us->newer = NULL;
        us->loading = false;
        list_append(&st->clean_oldest, &st->clean_newest, us);
    }
    if (ps->family) store_release_values(st->reads);
    if (rc == RC_SKIP) rc = ps->family ? give_up_store(st, ps, e) : RC_STOP;
    if (rc != RC_OK)
        for (uint32_t i = 0; i < count; i++)
            state_drop_row(st, st->loading[i]);
    return rc;
}

static enum rc load_all(struct state *st, struct err *e)
{
    enum rc rc = RC_OK;
    for (uint32_t i = 0; i < st->partition_count; i++) {
        struct err later;
        enum rc one =
            load_missing(st, st->partitions[i], rc == RC_OK ? e : &later);
        if (rc == RC_OK) rc = one;
    }
    trim(st);
    return rc;
}

static void begin_batch(struct state *st)
{
    state_drop_leaving(st);
    st->batch_number++;
    st->now_ms = state_clock_ms();
    trim(st);
}

enum rc state_recall(struct state *st, struct batch *b, struct err *e)
{
    TRY(reserve_reads(st, b->events_max, e));
    begin_batch(st);
    for (uint32_t i = 0; i < b->count; i++) {
        const struct event *ev = &b->events[i];
        struct slice key = key_of(st, ev);
        b->users[i] = NULL;
        if (ev->bad != BAD_NONE || key.len == 0) continue;
        assert(key.len <= st->options.user_bytes_max);
        b->users[i] = find_or_begin(st, b->partitions[i], key);
    }
    return load_all(st, e);
}

enum rc state_peek(struct state *st, struct partition *p, struct slice user,
                   struct user_state **out, struct err *e)
{
    struct user_state *us;
    *out = NULL;
    if (user.len == 0 || user.len > st->options.user_bytes_max) return RC_OK;
    TRY(reserve_reads(st, 1, e));
    begin_batch(st);
    us = find_or_begin(st, p, user);
    TRY(load_all(st, e));
    if (!state_is_empty(us)) *out = us;
    return RC_OK;
}

bool state_is_empty(const struct user_state *us)
{
    return us->history.events_total == 0 &&
           windows_label_offset(us->windows) < 0;
}

/* From the clean list to the end of its partition's dirty ones. */
static void become_dirty(struct state *st, struct user_state *us,
                         const struct log_place *place)
{
    struct partition_store *ps = us->partition->store;
    list_remove(&st->clean_oldest, &st->clean_newest, us);
    us->dirty = true;
    us->dirty_since = *place;
    us->dirty_at_ms = st->now_ms;
    us->bytes = row_bytes(st, us);
    assert(!ps->dirty_newest ||
           (ps->dirty_newest->dirty_since.offset <= place->offset &&
            ps->dirty_newest->dirty_since.labels <= place->labels));
    list_append(&ps->dirty_oldest, &ps->dirty_newest, us);
    ps->dirty_rows++;
    st->dirty_rows++;
    st->dirty_bytes += us->bytes;
}

void state_touched(struct state *st, struct user_state *us,
                   const struct log_place *place)
{
    size_t bytes;
    if (!us->dirty) {
        become_dirty(st, us, place);
        return;
    }
    bytes = row_bytes(st, us);
    st->dirty_bytes += bytes - us->bytes;
    us->bytes = bytes;
}

void state_label(struct state *st, struct user_state *us,
                 const struct event *ev, int64_t offset)
{
    const struct window_label l = {.event_id = ev->past.event_id,
                                   .time_ms = ev->time_ms,
                                   .known_ms = ev->labelled_at_ms,
                                   .fraud = ev->label == LABEL_FRAUD};
    if (windows_label(&st->options.windows, us->windows, offset, &l))
        state_touched(st, us, &ev->place);
}

bool state_remove_row(struct state *st, struct partition *p, struct slice user)
{
    const struct log_place now = state_now(p);
    uint64_t hash = hash64(user);
    struct user_state *us = table_find(st, p, hash, user);
    if (us && us->dirty) return false;
    if (us) state_drop_row(st, us);
    us = row_new(st, p, hash, user);
    list_append(&st->clean_oldest, &st->clean_newest, us);
    become_dirty(st, us, &now);
    return true;
}

/* Takes us out of its list and puts fresh where it stood: what the store
 * lacks of a dirty row is as old as before. */
static void list_replace(struct user_state *us, struct user_state *fresh,
                         struct user_state **oldest, struct user_state **newest)
{
    fresh->older = us->older;
    fresh->newer = us->newer;
    *(us->older ? &us->older->newer : oldest) = fresh;
    *(us->newer ? &us->newer->older : newest) = fresh;
    us->older = us->newer = NULL;
}

struct user_state *state_begin_anew(struct state *st, struct user_state *us)
{
    struct partition_store *ps = us->partition->store;
    struct user_state *fresh;
    table_remove(st, us);
    fresh =
        row_new(st, us->partition, us->hash, slice_of(us->key, us->key_len));
    fresh->used_batch = us->used_batch;
    fresh->dirty = us->dirty;
    fresh->dirty_since = us->dirty_since;
    fresh->dirty_at_ms = us->dirty_at_ms;
    fresh->bytes = us->bytes;
    fresh->forgotten = us->forgotten;
    if (us->dirty)
        list_replace(us, fresh, &ps->dirty_oldest, &ps->dirty_newest);
    else
        list_replace(us, fresh, &st->clean_oldest, &st->clean_newest);
    us->hash_next = st->leaving;
    st->leaving = us;
    return fresh;
}

struct user_state *state_forget(struct state *st, struct user_state *us,
                                const struct log_place *place)
{
    bool empty = state_is_empty(us) && !us->dirty;
    if (empty || place->offset <= us->history.applied_offset) return us;
    us = state_begin_anew(st, us);
    us->forgotten = true;
    us->history.applied_offset = place->offset;
    state_touched(st, us, place);
    return us;
}

void state_set_scorer(struct state *st, struct scorer *scorer)
{
    assert(!scorer || st->options.forget);
    st->options.scorer = scorer;
}

void state_set_checkpoint(struct state *st, uint32_t rows, uint32_t age_ms)
{
    st->options.checkpoint_rows = rows;
    st->options.checkpoint_age_ms = age_ms;
}

uint32_t state_cached_rows(const struct state *st, uint64_t *bucket,
                           uint32_t buckets, struct user_state **out,
                           uint32_t max)
{
    uint32_t found = 0;
    for (; buckets > 0 && found < max && *bucket < st->table_size; buckets--)
        for (struct user_state *us = st->table[(*bucket)++]; us && found < max;
             us = us->hash_next)
            if (us->context) out[found++] = us;
    if (*bucket >= st->table_size) *bucket = 0;
    return found;
}

struct user_state *state_row_in_memory(const struct state *st, uint32_t input,
                                       int32_t partition, uint64_t hash,
                                       struct slice user)
{
    const struct partition *p = state_partition(st, input, partition);
    return p ? table_find(st, p, hash, user) : NULL;
}

bool state_full(const struct state *st)
{
    return st->store && st->dirty_bytes > st->options.cache_bytes / 2;
}

struct state_stats state_stats(const struct state *st)
{
    return (struct state_stats){.hits_total = st->hits_total,
                                .misses_total = st->misses_total,
                                .rows_written_total = st->rows_written_total,
                                .evictions_total = st->evictions_total,
                                .rows_expired_total = st->rows_expired_total,
                                .rows_sent_total = st->rows_sent_total,
                                .rows_kept_out_total = st->rows_kept_out_total,
                                .write_failures_total =
                                    st->write_failures_total,
                                .cache_bytes = pool_used(st->pool),
                                .rows = st->rows,
                                .dirty_rows = st->dirty_rows};
}
