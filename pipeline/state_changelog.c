/* state_changelog.c - rows to the changelog and back. See changelog.h and
 * state.h.
 *
 * Claim    The newest marker says: every event before its checkpoint is in
 *          the changelog's rows. So rows that are stored without being sent
 *          (`unsent`: a changelog that was switched on, a fold too long for
 *          the memory) keep it where it is, until all stored rows have been
 *          sent again, some with each commit. A row that is too large keeps
 *          it at the oldest of its events that the changelog lacks.
 * Way      Sent with a commit, then stored: the store is never ahead of the
 *          changelog, so whoever takes the changelog has what was here. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "log.h"
#include "state_inside.h"

enum {
    SENT_AGAIN_ROWS = 512, /* with one commit */
    ROWS_PER_EVENT = 4,    /* restored in the time in which one is folded */
};

static struct log_place place_of(const struct family_meta *m)
{
    return (struct log_place){m->checkpoint, m->stream_ms, m->label_checkpoint};
}

/* --- on assignment ----------------------------------------------------- */

/* Where the changelog is further on, and reading it is less work than folding
 * the events between; or there is nothing else. */
bool state_copy_pays(const struct partition *p, const struct partition_log *log,
                     bool found, bool here)
{
    const struct family_meta *m = &p->store->meta;
    int64_t from = log->changelog_start, saved;
    if (!log->marker || log->marker->checkpoint < log->log_start) return false;
    if (!here) return true;
    if (found && m->changelog_next > from) from = m->changelog_next;
    saved = log->marker->checkpoint - (found ? m->checkpoint : log->log_start);
    return saved > 0 && saved > (log->changelog_end - from) / ROWS_PER_EVENT;
}

enum rc state_place_copy(struct state *st, struct partition *p,
                         const struct partition_log *log, bool same,
                         struct err *e)
{
    struct partition_store *ps = p->store;
    struct family_meta *m = &ps->meta;
    bool go_on = same && m->changelog_next >= log->changelog_start &&
                 m->changelog_next <= log->changelog_end;
    if (!go_on)
        *m = (struct family_meta){.partitions = log->partitions,
                                  .seen_offset = -1,
                                  .changelog_next = log->changelog_start,
                                  .stream_ms = INT64_MIN};
    m->released_ms = 0;
    if (m->applied < p->committed) m->applied = p->committed;
    if (m->label_applied < p->labels.committed)
        m->label_applied = p->labels.committed;
    state_begin(st, p, log);
    ps->recorded = true;
    ps->held.offset = -1;
    p->restoring = true;
    TRY(changelog_copy_begin(&ps->copy, st->store, ps->family, m, !go_on,
                             log->changelog_end, e));
    /* It may stand before the place where the copy goes on. */
    ps->copy.marker = *log->marker;
    ps->copy.marked = true;
    return RC_OK;
}

static enum rc begin_sending_again(struct partition_store *ps, struct err *e)
{
    ps->after_len = ps->reached_len = 0;
    if (ps->after) return RC_OK;
    ps->after = malloc(STATE_USER_BYTES_MAX);
    ps->reached = malloc(STATE_USER_BYTES_MAX);
    if (ps->after && ps->reached) return RC_OK;
    return ERR(e, RC_STOP, "state: no memory to fill the changelog");
}

enum rc state_place_sent(struct state *st, struct partition *p,
                         const struct partition_log *log, bool found,
                         struct err *e)
{
    struct partition_store *ps = p->store;
    ps->held.offset = -1;
    ps->marked = (struct log_place){-1, INT64_MIN, 0};
    if (log->marker) ps->marked = place_of(log->marker);
    if (!st->options.changelog || !found) return RC_OK;
    /* Rows copied from elsewhere may be newer than their marker. */
    if (ps->meta.changelog_next >= 0 && ps->meta.applied < p->committed)
        ps->meta.applied = p->committed;
    if (ps->marked.offset < ps->meta.checkpoint) ps->meta.unsent = true;
    return ps->meta.unsent ? begin_sending_again(ps, e) : RC_OK;
}

void state_changelog_fini(struct partition *p)
{
    struct partition_store *ps = p->store;
    if (ps->copy.writes) changelog_copy_fini(&ps->copy);
    free(ps->after);
    free(ps->reached);
}

struct changelog_copy *state_copy(const struct partition *p)
{
    assert(p->restoring);
    return &p->store->copy;
}

void state_restored(struct partition *p)
{
    struct partition_store *ps = p->store;
    ps->meta = ps->copy.meta;
    if (ps->meta.applied < p->committed) ps->meta.applied = p->committed;
    if (ps->meta.label_applied < p->labels.committed)
        ps->meta.label_applied = p->labels.committed;
    changelog_copy_fini(&ps->copy);
    ps->marked = place_of(&ps->meta);
    state_stand(p);
    p->restoring = false;
}

/* --- what goes with a commit ------------------------------------------- */

bool state_sends(const struct state *st, const struct partition *p, bool whole)
{
    const struct partition_store *ps = p->store;
    if (!st->options.changelog || p->restoring || state_folds(p)) return false;
    if (ps->chosen > 0 || ps->after) return true;
    return whole && state_stands(p, 0).checkpoint > ps->marked.offset;
}

struct sending {
    struct state *st;
    struct partition *p;
    state_emit_fn *emit;
    void *user;
};

/* Too large a row keeps the marker where the changelog lacks nothing. */
static void keep_out(const struct sending *x, struct slice user,
                     struct slice row, struct log_place since)
{
    struct partition_store *ps = x->p->store;
    x->st->rows_kept_out_total++;
    if (ps->held.offset < 0 || since.offset < ps->held.offset) ps->held = since;
    LOG(WARN, "ROWLARGE",
        "partition=%d user_hash=%016llx row_bytes=%zu limit=%u: not in the "
        "changelog, whose marker stays at %lld",
        x->p->id, (unsigned long long)hash64(user), row.len,
        x->st->options.row_bytes_max, (long long)ps->held.offset);
}

static enum rc send_row(const struct sending *x, struct slice user,
                        struct slice row, struct log_place since, struct err *e)
{
    uint8_t key[STATE_USER_BYTES_MAX + CHANGELOG_KEY_EXTRA];
    assert(user.len <= STATE_USER_BYTES_MAX);
    if (row.len > x->st->options.row_bytes_max) {
        keep_out(x, user, row, since);
        return RC_OK;
    }
    x->st->rows_sent_total++;
    return x->emit(x->user, x->p->id, changelog_row_key(user, key), row, e);
}

static enum rc send_stored(void *user, struct slice key, struct slice row,
                           struct err *e)
{
    struct sending *x = user;
    struct partition_store *ps = x->p->store;
    memcpy(ps->reached, key.ptr, key.len);
    ps->reached_len = (uint32_t)key.len;
    /* What of it the changelog lacks is not known: nothing after what the
     * newest marker claims. */
    return send_row(x, key, row,
                    ps->marked.offset > 0 ? ps->marked
                                          : (struct log_place){0, INT64_MIN, 0},
                    e);
}

/* Before the dirty rows, of which some are newer than those stored. */
static enum rc send_again(struct sending *x, struct err *e)
{
    struct partition_store *ps = x->p->store;
    memcpy(ps->reached, ps->after, ps->after_len);
    ps->reached_len = ps->after_len;
    return store_scan(x->st->store, ps->family,
                      slice_of(ps->after, ps->after_len), SENT_AGAIN_ROWS,
                      &ps->complete, send_stored, x, e);
}

static enum rc send_marker(const struct sending *x, struct err *e)
{
    struct partition_store *ps = x->p->store;
    struct family_meta m = state_stands(x->p, ps->chosen);
    uint8_t bytes[FAMILY_META_BYTES_MAX];
    m.released_ms = 0;
    m.changelog_next = -1;
    m.unsent = false;
    if (ps->held.offset >= 0 && m.checkpoint > ps->held.offset) {
        m.checkpoint = ps->held.offset;
        m.stream_ms = ps->held.stream_ms;
        m.label_checkpoint = ps->held.labels;
    }
    ps->marking = place_of(&m);
    return x->emit(x->user, x->p->id, changelog_marker_key(),
                   slice_of(bytes, family_meta_encode(&m, bytes)), e);
}

static enum rc send_partition(struct sending *x, struct err *e)
{
    struct partition_store *ps = x->p->store;
    const struct user_state *us = ps->dirty_oldest;
    ps->complete = false;
    ps->marking = ps->marked;
    if (ps->after) TRY(send_again(x, e));
    for (uint64_t i = 0; i < ps->chosen; i++, us = us->newer) {
        struct slice row;
        TRY(state_encode(x->st, us, &row, e));
        TRY(send_row(x, slice_of(us->key, us->key_len), row, us->dirty_since,
                     e));
    }
    return ps->after && !ps->complete ? RC_OK : send_marker(x, e);
}

enum rc state_send(struct state *st, state_emit_fn *emit, void *user,
                   struct err *e)
{
    for (uint32_t i = 0; i < st->partition_count; i++) {
        struct sending x = {
            .st = st, .p = st->partitions[i], .emit = emit, .user = user};
        if (x.p->sending) TRY(send_partition(&x, e));
    }
    return RC_OK;
}

/* --- after it ---------------------------------------------------------- */

void state_sent(struct partition *p)
{
    struct partition_store *ps = p->store;
    ps->marked = ps->marking;
    if (!ps->after) return;
    memcpy(ps->after, ps->reached, ps->reached_len);
    ps->after_len = ps->reached_len;
    if (!ps->complete) return;
    free(ps->after);
    free(ps->reached);
    ps->after = ps->reached = NULL;
}

enum rc state_note_sent(const struct state *st, struct partition *p,
                        uint64_t count, struct family_meta *meta, struct err *e)
{
    struct partition_store *ps = p->store;
    if (count > 0) meta->changelog_next = -1;
    if (ps->complete) meta->unsent = false;
    ps->complete = false;
    if (count > 0 && (!p->sending || ps->held.offset >= 0)) meta->unsent = true;
    /* Stored while folding: the changelog gets them afterwards. */
    if (st->options.changelog && count > 0 && !p->sending)
        return begin_sending_again(ps, e);
    return RC_OK;
}
