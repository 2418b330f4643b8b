/* state_partition.c - where each partition's log, commits and store stand:
 * on assignment, after a commit, after a failure. See state.h.
 *
 * The store's record of a partition (struct family_meta) is written in one
 * write batch with the rows that it speaks of, and says:
 *   checkpoint  every event before it is in the rows; fold from here (I3)
 *   applied     no row holds an event at or after it. It is at most the
 *               committed offset, so the store never leads the log (I2)
 *   stream_ms   the newest event time before the checkpoint, so that an event
 *               that is folded again expires the rows that it did (I3)
 *   seen        a record of the log and its hash, by which a topic that was
 *               made anew is told from the one that the rows come from */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state_inside.h"

/* --- on assignment ----------------------------------------------------- */

/* Ends a message about a partition that cannot go on. */
#define RESET_ADVICE                                                           \
    "`millrace reset` builds offsets and state anew from the log"

/* Is the store's record of this cluster, topic and configuration? */
static enum rc check_identity(const struct state *st, const char *name,
                              const struct family_meta *m,
                              const struct partition_log *log, struct err *e)
{
    const char *cluster_id = log->cluster_id ? log->cluster_id : "";
    if (m->cluster_id[0] && strcmp(m->cluster_id, cluster_id) != 0)
        return ERR(e, RC_STOP,
                   "state of %s: made from Kafka cluster '%s', this one is "
                   "'%s'; use another state.dir, or " RESET_ADVICE,
                   name, m->cluster_id, cluster_id);
    if (m->partitions != log->partitions)
        return ERR(e, RC_STOP,
                   "state of %s: the topic had %u partitions, now it has %u, "
                   "so users have moved; " RESET_ADVICE,
                   name, m->partitions, log->partitions);
    if (m->shape[0] && strcmp(m->shape, st->shape) != 0)
        return ERR(e, RC_STOP,
                   "state of %s: its rows were made with other options (%s; "
                   "now %s); set them back, or " RESET_ADVICE,
                   name, m->shape, st->shape);
    return RC_OK;
}

/* Log start <= checkpoint <= committed <= log end. */
static enum rc check_order(const char *name, const struct family_meta *m,
                           const struct partition_log *log, int64_t committed,
                           struct err *e)
{
    if (m->applied > committed && log->committed < 0)
        return ERR(e, RC_STOP,
                   "state of %s: holds events up to %lld, but the group has "
                   "no committed offset; " RESET_ADVICE,
                   name, (long long)m->applied);
    if (m->applied > committed)
        return ERR(
            e, RC_STOP,
            "state of %s: holds events up to %lld, the group has "
            "committed only up to %lld: the store leads the log; " RESET_ADVICE,
            name, (long long)m->applied, (long long)committed);
    if (m->checkpoint < log->log_start)
        return ERR(e, RC_STOP,
                   "state of %s: needs the log from offset %lld, which starts "
                   "at %lld: retention was faster; " RESET_ADVICE,
                   name, (long long)m->checkpoint, (long long)log->log_start);
    return RC_OK;
}

/* Is the record that the store has seen still where it was? */
static enum rc check_seen(const char *name, const struct partition *p,
                          const struct family_meta *m,
                          const struct partition_log *log, struct err *e)
{
    uint64_t hash;
    if (!log->hash_at || m->seen_offset < log->log_start) return RC_OK;
    TRY(log->hash_at(log->user, p->input, p->id, m->seen_offset, &hash, e));
    if (hash == m->seen_hash) return RC_OK;
    return ERR(e, RC_STOP,
               "state of %s: the record at offset %lld is %s: the topic was "
               "made anew; " RESET_ADVICE,
               name, (long long)m->seen_offset,
               hash ? "another than the one it had seen" : "gone");
}

/* Without a record of its own the state is that of the whole log. */
static enum rc check_no_record(const struct state *st, const char *name,
                               const struct partition_log *log, struct err *e)
{
    if (log->committed < 0 || log->log_start == 0 || !st->store) return RC_OK;
    return ERR(e, RC_STOP,
               "state of %s: this host has none, the group has committed up "
               "to %lld, and the log no longer begins at 0 but at %lld; bring "
               "back the state.dir that has it, or " RESET_ADVICE,
               name, (long long)log->committed, (long long)log->log_start);
}

static enum rc check_committed(const char *name,
                               const struct partition_log *log, struct err *e)
{
    if (log->committed < 0) return RC_OK;
    if (log->committed < log->log_start)
        return ERR(e, RC_STOP,
                   "%s: the group stands at offset %lld, the log starts at "
                   "%lld: events were lost to retention; " RESET_ADVICE,
                   name, (long long)log->committed, (long long)log->log_start);
    if (log->committed > log->log_end)
        return ERR(e, RC_STOP,
                   "%s: the group stands at offset %lld, the log ends at "
                   "%lld: the topic was made anew; " RESET_ADVICE,
                   name, (long long)log->committed, (long long)log->log_end);
    return RC_OK;
}

/* Compares log and store, and sets where p stands. */
static enum rc place(struct state *st, const char *name, struct partition *p,
                     const struct partition_log *log, bool found, struct err *e)
{
    struct family_meta *m = &p->store->meta;
    TRY(check_committed(name, log, e));
    p->committed = log->committed;
    if (log->committed < 0)
        p->committed =
            log->begin > log->log_start ? log->begin : log->log_start;
    if (!found) {
        int64_t first = log->committed < 0 ? p->committed : log->log_start;
        TRY(check_no_record(st, name, log, e));
        *m = (struct family_meta){.partitions = log->partitions,
                                  .checkpoint = first,
                                  .applied = first,
                                  .seen_offset = -1,
                                  .stream_ms = INT64_MIN};
    } else {
        TRY(check_identity(st, name, m, log, e));
        TRY(check_order(name, m, log, p->committed, e));
        TRY(check_seen(name, p, m, log, e));
    }
    /* Also where a reset began the family without them. */
    (void)snprintf(m->cluster_id, sizeof m->cluster_id, "%s",
                   log->cluster_id ? log->cluster_id : "");
    (void)snprintf(m->shape, sizeof m->shape, "%s", st->shape);
    if (m->released_ms != 0) {
        m->released_ms = 0;
        TRY(store_put_meta(st->store, p->store->family, m, e));
    }
    p->store->recorded = found;
    p->store->swept_ms = INT64_MIN;
    p->checkpoint = p->next = m->checkpoint;
    p->seen_offset = m->seen_offset;
    p->seen_hash = m->seen_hash;
    p->stream_ms = p->committed_stream_ms = m->stream_ms;
    p->partitions = log->partitions;
    return RC_OK;
}

static void partition_add(struct state *st, struct partition *p)
{
    if (st->partition_count == st->partition_max) {
        st->partition_max = st->partition_max ? 2 * st->partition_max : 8;
        st->partitions = (struct partition **)realloc(
            (void *)st->partitions,
            st->partition_max * sizeof(struct partition *));
        assert(st->partitions);
    }
    st->partitions[st->partition_count++] = p;
}

enum rc state_open_partition(struct state *st, uint32_t input, int32_t id,
                             const struct partition_log *log,
                             struct partition **out, struct err *e)
{
    char name[STORE_NAME_MAX];
    struct partition *p = calloc(1, sizeof *p);
    bool found = false;
    enum rc rc;
    assert(p && !state_partition(st, input, id));
    *out = NULL;
    *p = (struct partition){.input = input, .id = id};
    p->store = calloc(1, sizeof *p->store);
    assert(p->store);
    rc = store_family_name(name, st->options.stage, st->options.topic, id, e);
    if (rc == RC_OK && st->store)
        rc = store_acquire(st->store, name, &p->store->family, &p->store->meta,
                           &found, e);
    if (rc == RC_OK) rc = place(st, name, p, log, found, e);
    if (rc != RC_OK) {
        if (p->store->family) store_release(st->store, p->store->family);
        free(p->store);
        free(p);
        return rc;
    }
    partition_add(st, p);
    *out = p;
    return RC_OK;
}

struct partition *state_partition(const struct state *st, uint32_t input,
                                  int32_t id)
{
    for (uint32_t i = 0; i < st->partition_count; i++)
        if (st->partitions[i]->input == input && st->partitions[i]->id == id)
            return st->partitions[i];
    return NULL;
}

uint32_t state_partitions(const struct state *st, struct partition **out,
                          uint32_t max)
{
    for (uint32_t i = 0; i < st->partition_count && i < max; i++)
        out[i] = st->partitions[i];
    return st->partition_count;
}

void state_pass(struct partition *p, const struct record *r, struct event *ev)
{
    ev->fold = r->offset < p->committed; /* I3 */
    if (ev->bad == BAD_NONE && !ev->forget &&
        !(ev->past.flags & PAST_NO_TIME) && ev->time_ms > p->stream_ms)
        p->stream_ms = ev->time_ms;
    ev->stream_ms = p->stream_ms;
    if (r->offset >= p->next) {
        p->next = r->offset + 1;
        p->seen_offset = r->offset;
        p->seen_hash = record_hash(r);
    }
    if (ev->fold) p->committed_stream_ms = p->stream_ms;
}

/* --- writing behind ---------------------------------------------------- */

static enum rc write_row(struct state *st, struct user_state *us, struct err *e)
{
    const struct history_shape *hs = &st->options.history;
    const struct windows_shape *ws = &st->options.windows;
    struct slice user = slice_of(us->key, us->key_len);
    struct family *f = us->partition->store->family;
    size_t size = user_row_encoded_size(hs, ws, &us->history, us->windows);
    if (us->forgotten)
        store_writes_forget(st->writes, f, user, us->history.applied_offset);
    else if (us->history.events_total == 0)
        store_writes_remove(st->writes, f, user);
    if (us->history.events_total == 0) return RC_OK; /* and so has no row */
    if (size > st->row_bytes_max) {
        free(st->row_bytes);
        st->row_bytes_max = 2 * size;
        st->row_bytes = malloc(st->row_bytes_max);
        if (!st->row_bytes)
            return ERR(e, RC_STOP,
                       "users' rows: no memory for one of %zu bytes", size);
    }
    (void)user_row_encode(hs, ws, user, &us->history, us->windows,
                          st->row_bytes);
    store_writes_row(st->writes, f, user, slice_of(st->row_bytes, size));
    return RC_OK;
}

/* Writes the count rows that are longest dirty, and where they stand. The
 * rows leave the dirty list only once they are in the store. */
static enum rc write_oldest(struct state *st, struct partition *p,
                            uint64_t count, struct err *e)
{
    struct partition_store *ps = p->store;
    struct family_meta meta = ps->meta;
    struct user_state *us = ps->dirty_oldest;
    assert(p->next <= p->committed); /* I2 */
    for (uint64_t i = 0; i < count; i++, us = us->newer)
        TRY(write_row(st, us, e));
    meta.checkpoint = us ? us->dirty_since : p->next;
    meta.stream_ms = us ? us->dirty_stream_ms : p->stream_ms;
    if (meta.applied < p->next) meta.applied = p->next;
    meta.seen_offset = p->seen_offset;
    meta.seen_hash = p->seen_hash;
    meta.unsent = true;
    TRY(store_write(st->store, st->writes, ps->family, &meta, e));
    ps->meta = meta;
    ps->recorded = true;
    p->checkpoint = meta.checkpoint;
    for (uint64_t i = 0; i < count; i++)
        state_row_written(st, ps->dirty_oldest);
    st->rows_written_total += count;
    return RC_OK;
}

/* In steps, so that a write batch stays small. One step also where there is
 * no row to write, so that a stretch of bad events moves the checkpoint. */
static enum rc write_some(struct state *st, struct partition *p, uint64_t count,
                          struct err *e)
{
    if (count == 0 && p->store->meta.checkpoint >= p->next) return RC_OK;
    do {
        uint64_t step =
            count < CHECKPOINT_CHUNK_ROWS ? count : CHECKPOINT_CHUNK_ROWS;
        TRY(write_oldest(st, p, step, e));
        count -= step;
    } while (count > 0);
    return RC_OK;
}

/* How many rows of p are to be written now: its share of a pace that takes
 * the age limit for all that is dirty, or more where rows are older. */
static uint64_t slice_rows(const struct state *st, const struct partition *p)
{
    uint64_t age_ms = st->options.checkpoint_age_ms;
    uint64_t since_ms = (uint64_t)(st->now_ms - st->checkpoint_at_ms);
    uint64_t dirty = p->store->dirty_rows, paced, due = 0;
    const struct user_state *us = p->store->dirty_oldest;
    if (state_full(st)) return dirty;
    paced = since_ms >= age_ms ? dirty : dirty * since_ms / age_ms;
    while (us && us->dirty_at_ms + (int64_t)age_ms <= st->now_ms &&
           due < st->options.checkpoint_rows) {
        us = us->newer;
        due++;
    }
    return paced > due ? paced : due;
}

enum rc state_checkpoint(struct state *st, bool all, struct err *e)
{
    uint64_t left =
        state_full(st) ? st->dirty_rows : st->options.checkpoint_rows;
    if (!st->store) return RC_OK;
    st->now_ms = state_clock_ms();
    for (uint32_t i = 0; i < st->partition_count; i++) {
        struct partition *p = st->partitions[i];
        uint64_t count = all ? p->store->dirty_rows : slice_rows(st, p);
        if (!all && count > left) count = left;
        if (count == 0 && !all) continue;
        TRY(write_some(st, p, count, e));
        if (!all) left -= count;
    }
    st->checkpoint_at_ms = st->now_ms;
    return all ? RC_OK : state_sweep(st, e);
}

void state_committed(struct state *st)
{
    for (uint32_t i = 0; i < st->partition_count; i++) {
        struct partition *p = st->partitions[i];
        if (p->committed < p->next) {
            p->committed = p->next;
            p->committed_stream_ms = p->stream_ms;
        }
    }
}

/* --- after a failure, and letting go ----------------------------------- */

/* Dirty rows may hold more than the commit. All of them go, as after a crash,
 * and the log is read again from the oldest event that no row holds. */
static void rewind_partition(struct state *st, struct partition *p)
{
    struct partition_store *ps = p->store;
    if (p->next > p->committed) {
        p->next = p->committed;
        p->stream_ms = p->committed_stream_ms;
    }
    if (ps->dirty_oldest && ps->dirty_oldest->dirty_since < p->next) {
        p->next = ps->dirty_oldest->dirty_since;
        p->stream_ms = ps->dirty_oldest->dirty_stream_ms;
    }
    while (ps->dirty_oldest)
        state_drop_row(st, ps->dirty_oldest);
}

void state_rewind(struct state *st)
{
    state_drop_leaving(st);
    for (uint32_t i = 0; i < st->partition_count; i++)
        rewind_partition(st, st->partitions[i]);
}

static void drop_rows_of(struct state *st, const struct partition *p)
{
    state_drop_leaving(st);
    for (uint64_t i = 0; i < st->table_size; i++)
        for (struct user_state *us = st->table[i], *next; us; us = next) {
            next = us->hash_next;
            if (us->partition == p) state_drop_row(st, us);
        }
}

enum rc state_close_partition(struct state *st, struct partition *p, bool keep,
                              struct err *e)
{
    struct partition_store *ps = p->store;
    enum rc rc = RC_OK;
    uint32_t at = 0;
    if (ps->family && keep) rc = write_some(st, p, ps->dirty_rows, e);
    drop_rows_of(st, p);
    if (ps->recorded && rc == RC_OK) {
        ps->meta.released_ms = store_now_ms();
        rc = store_put_meta(st->store, ps->family, &ps->meta, e);
    }
    if (ps->family) store_release(st->store, ps->family);
    while (st->partitions[at] != p)
        at++;
    st->partitions[at] = st->partitions[--st->partition_count];
    free(ps);
    free(p);
    return rc;
}
