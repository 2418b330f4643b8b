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

#include "log.h"
#include "shapes.h"
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
    if (m->shape[0] && !shapes_agree(m->shape, st->shape))
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

static void stand_labels(struct partition *p)
{
    const struct family_meta *m = &p->store->meta;
    p->labels.next = p->labels.first;
    if (m->label_checkpoint > p->labels.next)
        p->labels.next = m->label_checkpoint;
    p->labels.checkpoint = p->labels.next;
}

void state_stand(struct partition *p)
{
    const struct family_meta *m = &p->store->meta;
    p->checkpoint = p->next = m->checkpoint;
    p->seen_offset = m->seen_offset;
    p->seen_hash = m->seen_hash;
    p->stream_ms = p->committed_stream_ms = m->stream_ms;
    stand_labels(p);
}

void state_begin(const struct state *st, struct partition *p,
                 const struct partition_log *log)
{
    struct family_meta *m = &p->store->meta;
    /* Also where a reset began the family without them. */
    (void)snprintf(m->cluster_id, sizeof m->cluster_id, "%s",
                   log->cluster_id ? log->cluster_id : "");
    (void)snprintf(m->shape, sizeof m->shape, "%s", st->shape);
    p->partitions = log->partitions;
    p->store->swept_ms = INT64_MIN;
    state_stand(p);
}

/* Is the store, or the changelog, of this log at all? */
static enum rc check_same(const struct state *st, const char *name,
                          const struct partition *p,
                          const struct family_meta *m,
                          const struct partition_log *log, struct err *e)
{
    TRY(check_identity(st, name, m, log, e));
    return check_seen(name, p, m, log, e);
}

/* The changelog may be behind, but it must not be of something else, nor
 * ahead: then nothing here fits, and writing on would mix two states. */
static enum rc check_marker(const struct state *st, const char *name,
                            const struct partition *p,
                            const struct partition_log *log, struct err *e)
{
    char of[STORE_NAME_MAX + 32];
    struct family_meta m = *log->marker;
    (void)snprintf(of, sizeof of, "%s in the changelog", name);
    TRY(check_same(st, of, p, &m, log, e));
    if (m.checkpoint < log->log_start) m.checkpoint = log->log_start;
    return check_order(of, &m, log, p->committed, e);
}

/* Where the rows that are here stand, none being a case of that. */
static void place_here(struct state *st, struct partition *p,
                       const struct partition_log *log, bool found)
{
    struct partition_store *ps = p->store;
    struct family_meta *m = &ps->meta;
    if (!found) {
        bool folds = log->committed >= 0 && !st->options.keeps_none;
        int64_t first = folds ? log->log_start : p->committed;
        *m = (struct family_meta){.partitions = log->partitions,
                                  .checkpoint = first,
                                  .applied = first,
                                  .seen_offset = -1,
                                  .changelog_next = -1,
                                  .stream_ms = INT64_MIN};
    }
    ps->recorded = found && st->store;
    state_begin(st, p, log);
}

/* A group that never committed begins where the snapshot ends that the rows
 * come from. */
static enum rc begin_at_seed(const struct state *st, const char *name,
                             struct partition *p,
                             const struct partition_log *log, struct err *e)
{
    const struct family_meta *m = &p->store->meta;
    if (!st->options.base &&
        store_seeded_at(st->store, p->store->family) != m->applied)
        return RC_OK;
    if (m->applied > log->log_end)
        return ERR(e, RC_STOP,
                   "%s: the snapshot is as of offset %lld, the log ends at "
                   "%lld: it is of another topic",
                   name, (long long)m->applied, (long long)log->log_end);
    p->committed = m->applied;
    return RC_OK;
}

/* Compares log, store and changelog, and sets where p stands. */
static enum rc place(struct state *st, const char *name, struct partition *p,
                     const struct partition_log *log, bool found, struct err *e)
{
    struct family_meta *m = &p->store->meta;
    enum rc same = RC_OK, here;
    TRY(check_committed(name, log, e));
    p->committed = log->committed;
    if (log->committed < 0)
        p->committed =
            log->begin > log->log_start ? log->begin : log->log_start;
    if (found && log->committed < 0) TRY(begin_at_seed(st, name, p, log, e));
    if (log->marker) TRY(check_marker(st, name, p, log, e));
    if (found) same = here = check_same(st, name, p, m, log, e);
    if (found && same == RC_OK)
        here = check_order(name, m, log, p->committed, e);
    else if (!found)
        here = check_no_record(st, name, log, e);
    if (here == RC_AGAIN) return here;
    if (state_copy_pays(p, log, found, here == RC_OK)) {
        if (here != RC_OK)
            LOG(WARN, "RESTORE", "from the changelog, since: %s", e->text);
        return state_place_copy(st, p, log, found && same == RC_OK, e);
    }
    if (here != RC_OK) return here;
    place_here(st, p, log, found);
    TRY(state_place_sent(st, p, log, found, e));
    if (m->released_ms == 0) return RC_OK;
    m->released_ms = 0;
    return store_put_meta(st->store, p->store->family, m, e);
}

/* Without a store the base says where the rows stand. */
static enum rc take_base(const struct state *st, struct partition *p,
                         bool *found, struct err *e)
{
    const struct snapshot_info *info = snapshot_info(st->options.base);
    const struct snapshot_part *part =
        snapshot_find_part(st->options.base, p->id);
    if (!part)
        return ERR(e, RC_STOP, "snapshot: it does not have partition %d",
                   p->id);
    snapshot_meta(info, part, &p->store->meta);
    *found = true;
    return RC_OK;
}

/* As of events, only that labels without a record of theirs are all folded:
 * a store from before they came knows none. */
enum rc state_open_labels(const struct state *st, struct partition *p,
                          const struct partition_log *log, struct err *e)
{
    const struct family_meta *m = &p->store->meta;
    char name[32];
    (void)snprintf(name, sizeof name, "labels of partition %d", p->id);
    TRY(check_committed(name, log, e));
    p->labels = (struct label_stand){
        .open = true, .committed = log->committed, .first = log->log_start};
    if (log->committed < 0) {
        p->labels.committed =
            log->begin > log->log_start ? log->begin : log->log_start;
        if (m->label_applied == 0) p->labels.first = p->labels.committed;
    }
    if (st->options.keeps_none) p->labels.first = p->labels.committed;
    if (!p->restoring && m->label_applied > p->labels.committed)
        return ERR(e, RC_STOP,
                   "state of partition %d: holds labels up to %lld, the group "
                   "has committed only up to %lld: the store leads the "
                   "log; " RESET_ADVICE,
                   p->id, (long long)m->label_applied,
                   (long long)p->labels.committed);
    if (m->label_applied > 0 && m->label_checkpoint < log->log_start)
        return ERR(
            e, RC_STOP,
            "state of partition %d: needs labels from offset %lld, "
            "their log starts at %lld: retention was faster; " RESET_ADVICE,
            p->id, (long long)m->label_checkpoint, (long long)log->log_start);
    stand_labels(p);
    return RC_OK;
}

bool state_folds(const struct partition *p)
{
    return p->next < p->committed || p->labels.next < p->labels.committed;
}

struct log_place state_now(const struct partition *p)
{
    return (struct log_place){p->next, p->stream_ms, p->labels.next};
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
    if (rc == RC_OK && st->options.base) rc = take_base(st, p, &found, e);
    if (rc == RC_OK) rc = place(st, name, p, log, found, e);
    if (rc != RC_OK) {
        if (p->store->family) store_release(st->store, p->store->family);
        state_changelog_fini(p);
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

static void pass_label(struct partition *p, const struct record *r,
                       struct event *ev)
{
    ev->fold = r->offset < p->labels.committed; /* I3 */
    ev->place = (struct log_place){p->next, p->stream_ms, r->offset};
    if (r->offset >= p->labels.next) p->labels.next = r->offset + 1;
}

void state_pass(struct partition *p, const struct record *r, struct event *ev)
{
    if (ev->is_label) {
        pass_label(p, r, ev);
        return;
    }
    ev->fold = r->offset < p->committed; /* I3 */
    if (ev->bad == BAD_NONE && !ev->forget &&
        !(ev->past.flags & PAST_NO_TIME) && ev->time_ms > p->stream_ms)
        p->stream_ms = ev->time_ms;
    ev->place = (struct log_place){r->offset, p->stream_ms, p->labels.next};
    if (r->offset >= p->next) {
        p->next = r->offset + 1;
        p->seen_offset = r->offset;
        p->seen_hash = record_hash(r);
    }
    if (ev->fold) p->committed_stream_ms = p->stream_ms;
}

/* --- writing behind ---------------------------------------------------- */

enum rc state_encode(struct state *st, const struct user_state *us,
                     struct slice *out, struct err *e)
{
    const struct history_shape *hs = &st->options.history;
    const struct windows_shape *ws = &st->options.windows;
    struct slice user = slice_of(us->key, us->key_len);
    size_t size = user_row_encoded_size(hs, ws, &us->history, us->windows);
    *out = slice_of(NULL, 0);
    if (state_is_empty(us)) return RC_OK; /* and so has no row */
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
    *out = slice_of(st->row_bytes, size);
    return RC_OK;
}

static enum rc write_row(struct state *st, struct user_state *us, struct err *e)
{
    struct slice user = slice_of(us->key, us->key_len), row;
    struct family *f = us->partition->store->family;
    TRY(state_encode(st, us, &row, e));
    if (us->forgotten)
        store_writes_forget(st->writes, f, user, us->history.applied_offset);
    else if (row.len == 0)
        store_writes_remove(st->writes, f, user);
    if (row.len > 0) store_writes_row(st->writes, f, user, row);
    return RC_OK;
}

struct family_meta state_stands(const struct partition *p, uint64_t count)
{
    struct family_meta meta = p->store->meta;
    const struct user_state *us = p->store->dirty_oldest;
    struct log_place at;
    for (; count > 0; count--)
        us = us->newer;
    at = us ? us->dirty_since : state_now(p);
    meta.checkpoint = at.offset;
    meta.stream_ms = at.stream_ms;
    meta.label_checkpoint = at.labels;
    if (meta.applied < p->next) meta.applied = p->next;
    if (meta.label_applied < p->labels.next)
        meta.label_applied = p->labels.next;
    meta.seen_offset = p->seen_offset;
    meta.seen_hash = p->seen_hash;
    return meta;
}

/* Writes the count rows that are longest dirty, and where they stand. The
 * rows leave the dirty list only once they are in the store. */
static enum rc write_oldest(struct state *st, struct partition *p,
                            uint64_t count, struct err *e)
{
    struct partition_store *ps = p->store;
    struct family_meta meta = state_stands(p, count);
    struct user_state *us = ps->dirty_oldest;
    assert(p->next <= p->committed); /* I2 */
    assert(p->labels.next <= p->labels.committed);
    for (uint64_t i = 0; i < count; i++, us = us->newer)
        TRY(write_row(st, us, e));
    TRY(state_note_sent(st, p, count, &meta, e));
    TRY(store_write(st->store, st->writes, ps->family, &meta, e));
    ps->meta = meta;
    ps->recorded = true;
    p->checkpoint = meta.checkpoint;
    p->labels.checkpoint = meta.label_checkpoint;
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
    const struct family_meta *m = &p->store->meta;
    if (count == 0 && m->checkpoint >= p->next &&
        m->label_checkpoint >= p->labels.next && !p->store->complete)
        return RC_OK;
    do {
        uint64_t step =
            count < CHECKPOINT_CHUNK_ROWS ? count : CHECKPOINT_CHUNK_ROWS;
        TRY(write_oldest(st, p, step, e));
        count -= step;
    } while (count > 0);
    return RC_OK;
}

/* With a changelog: a marker for a row or two is not worth it. */
static bool too_soon(const struct state *st)
{
    int64_t since_ms = st->now_ms - st->checkpoint_at_ms;
    return st->options.changelog && !state_full(st) &&
           since_ms * SLICES_PER_AGE < (int64_t)st->options.checkpoint_age_ms;
}

static void note_full(struct state *st, const struct err *e)
{
    st->write_failures_total++;
    LOG_RARE(ERROR, "DISKFULL", "%s", e->text);
}

/* While the disk is full rows stay dirty, and are tried again after the next
 * commit; the end comes when they fill their half of the cache. Who takes a
 * partition over folds what was not written. */
static enum rc write_or_wait(struct state *st, struct partition *p,
                             uint64_t count, struct err *e)
{
    enum rc rc = write_some(st, p, count, e);
    if (rc != RC_AGAIN) return rc;
    note_full(st, e);
    if (!state_full(st) || p->leaving) return RC_OK;
    (void)err_context(e, "no room in state.cache for more that is not stored");
    return e->rc = RC_STOP;
}

/* How many rows of p are to be written now: its share of a pace that takes
 * the age limit for all that is dirty, or more where rows are older. */
static uint64_t paced_rows(const struct state *st, const struct partition *p)
{
    uint64_t age_ms = st->options.checkpoint_age_ms;
    uint64_t since_ms = (uint64_t)(st->now_ms - st->checkpoint_at_ms);
    uint64_t dirty = p->store->dirty_rows, paced, due = 0;
    const struct user_state *us = p->store->dirty_oldest;
    if (state_full(st)) return dirty;
    if (too_soon(st)) return 0;
    paced = since_ms >= age_ms ? dirty : dirty * since_ms / age_ms;
    while (us && us->dirty_at_ms + (int64_t)age_ms <= st->now_ms &&
           due < st->options.checkpoint_rows) {
        us = us->newer;
        due++;
    }
    return paced > due ? paced : due;
}

static uint64_t rows_to_write(const struct state *st, const struct partition *p,
                              bool all)
{
    if (p->restoring) return 0;
    /* What the changelog has of its rows is newer, until it has folded. */
    if (st->options.changelog && state_folds(p))
        return state_full(st) ? p->store->dirty_rows : 0;
    return all || p->leaving ? p->store->dirty_rows : paced_rows(st, p);
}

void state_choose(struct state *st, bool all)
{
    uint64_t left =
        state_full(st) ? st->dirty_rows : st->options.checkpoint_rows;
    st->now_ms = state_clock_ms();
    for (uint32_t i = 0; i < st->partition_count; i++) {
        struct partition *p = st->partitions[i];
        uint64_t count = st->store ? rows_to_write(st, p, all) : 0;
        bool whole = all || p->leaving;
        if (!whole && count > left) count = left;
        p->store->chosen = count;
        p->sending = state_sends(st, p, whole);
        if (!whole) left -= count;
    }
    st->chosen = true;
}

enum rc state_checkpoint(struct state *st, bool all, struct err *e)
{
    uint64_t written = st->rows_written_total;
    if (!st->store) return RC_OK;
    if (!st->chosen || all) state_choose(st, all);
    st->chosen = false;
    for (uint32_t i = 0; i < st->partition_count; i++) {
        struct partition *p = st->partitions[i];
        uint64_t count = p->store->chosen;
        p->store->chosen = 0;
        if (count == 0 && !all && !p->leaving && !p->sending) continue;
        if (p->restoring) continue;
        if (p->sending) state_sent(p);
        TRY(all ? write_some(st, p, count, e) : write_or_wait(st, p, count, e));
    }
    if (!st->options.changelog || st->rows_written_total > written)
        st->checkpoint_at_ms = st->now_ms;
    return all ? RC_OK : state_sweep(st, e);
}

bool state_due(const struct state *st)
{
    for (uint32_t i = 0; st->store && i < st->partition_count; i++) {
        const struct partition *p = st->partitions[i];
        const struct user_state *us = p->store->dirty_oldest;
        if (p->restoring || state_folds(p)) continue;
        if (p->store->after) return true;
        if (us && !too_soon(st) &&
            us->dirty_at_ms + (int64_t)st->options.checkpoint_age_ms <=
                st->now_ms)
            return true;
    }
    return false;
}

void state_committed(struct state *st)
{
    for (uint32_t i = 0; i < st->partition_count; i++) {
        struct partition *p = st->partitions[i];
        if (state_folds(p)) continue;
        if (p->committed < p->next) {
            p->committed = p->next;
            p->committed_stream_ms = p->stream_ms;
            p->committed_reasons = p->reasons;
        }
        if (p->labels.committed < p->labels.next)
            p->labels.committed = p->labels.next;
    }
}

/* --- after a failure, and letting go ----------------------------------- */

static void rewind_to(struct partition *p, const struct log_place *place)
{
    if (place->labels < p->labels.next) p->labels.next = place->labels;
    if (place->offset >= p->next) return;
    p->next = place->offset;
    p->stream_ms = place->stream_ms;
}

/* Dirty rows may hold more than the commit. All of them go, as after a crash,
 * and the log is read again from the oldest event that no row holds. */
static void rewind_partition(struct state *st, struct partition *p)
{
    struct partition_store *ps = p->store;
    p->reasons = p->committed_reasons;
    if (p->next > p->committed) {
        p->next = p->committed;
        p->stream_ms = p->committed_stream_ms;
    }
    if (p->labels.next > p->labels.committed)
        p->labels.next = p->labels.committed;
    if (ps->dirty_oldest) rewind_to(p, &ps->dirty_oldest->dirty_since);
    while (ps->dirty_oldest)
        state_drop_row(st, ps->dirty_oldest);
    ps->chosen = 0;
    ps->complete = false;
    p->sending = false;
    if (st->options.from_start) state_stand(p);
}

void state_rewind(struct state *st)
{
    state_drop_leaving(st);
    st->chosen = false;
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
    /* With a changelog, what could be stored was sent and stored before. */
    if (ps->family && keep && !st->options.changelog)
        rc = write_some(st, p, ps->dirty_rows, e);
    drop_rows_of(st, p);
    if (p->restoring) ps->meta = ps->copy.meta;
    if (ps->recorded && rc == RC_OK) {
        ps->meta.released_ms = store_now_ms();
        rc = store_put_meta(st->store, ps->family, &ps->meta, e);
    }
    if (rc == RC_AGAIN) {
        note_full(st, e); /* the next owner folds what was not written */
        rc = RC_OK;
    }
    if (ps->family) store_release(st->store, ps->family);
    while (st->partitions[at] != p)
        at++;
    st->partitions[at] = st->partitions[--st->partition_count];
    state_changelog_fini(p);
    free(ps);
    free(p);
    return rc;
}
