/* state_sweep.c - rows that have expired (admit.h) leave the store.
 *
 * Slices   After a commit SWEEP_ROWS rows of one partition are looked at, so
 *          that no commit is slow. A pass over a partition begins when its
 *          stream time has moved by a SWEEP_PART of state.ttl: a row stays
 *          little longer than that, and a quiet store is left alone.
 * Safe     Stream time as of the commit decides, and it only grows: every
 *          event still to come finds such a row expired, whether it is there
 *          or not.
 * Way      An expired row becomes an empty dirty one, and so goes the way of
 *          all rows: what writes it makes a deletion of it, in the store and
 *          wherever else rows are copied to. Dirty rows are left alone: they
 *          may be younger than what is stored, and they come by again. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "state_inside.h"

enum { SWEEP_ROWS = 64, SWEEP_PARTS = 16 };

struct sweep {
    struct state *st;
    struct partition *p;
};

static enum rc look(void *user, struct slice key, struct slice row,
                    struct err *e)
{
    struct sweep *w = user;
    struct partition_store *ps = w->p->store;
    int64_t offset, newest_ms;
    (void)e;
    assert(key.len <= w->st->options.user_bytes_max);
    memcpy(ps->sweep_key, key.ptr, key.len);
    ps->sweep_key_len = key.len;
    /* A damaged row is for whoever reads it: it may be needed. */
    if (user_row_head(key, row, &offset, &newest_ms, &(struct err){0}) ==
            RC_OK &&
        admit_expired(w->st->options.admit, newest_ms, w->p->stream_ms))
        w->st->rows_expired_total += state_remove_row(w->st, w->p, key);
    return RC_OK;
}

/* A pass is under way, or it is time for the next. */
static bool sweep_due(const struct state *st, const struct partition *p)
{
    const struct partition_store *ps = p->store;
    int64_t step_ms = st->options.admit->ttl_ms / SWEEP_PARTS;
    if (!ps->recorded || p->stream_ms == INT64_MIN) return false;
    if (p->next != p->committed) return false; /* folding */
    return ps->sweeping || ps->swept_ms == INT64_MIN ||
           p->stream_ms - ps->swept_ms > step_ms;
}

static enum rc sweep_some(struct state *st, struct partition *p, struct err *e)
{
    struct partition_store *ps = p->store;
    struct sweep w = {.st = st, .p = p};
    bool ended;
    if (!ps->sweeping) {
        ps->sweeping = true;
        ps->sweep_key_len = 0;
        ps->swept_ms = p->stream_ms;
    }
    TRY(store_scan(st->store, ps->family,
                   slice_of(ps->sweep_key, ps->sweep_key_len), SWEEP_ROWS,
                   &ended, look, &w, e));
    ps->sweeping = !ended;
    return RC_OK;
}

enum rc state_sweep(struct state *st, struct err *e)
{
    const struct admit *a = st->options.admit;
    if (!st->store || !a || a->ttl_ms == 0 || state_full(st)) return RC_OK;
    for (uint32_t i = 0; i < st->partition_count; i++) {
        uint32_t at = (st->sweep_next + i) % st->partition_count;
        if (!sweep_due(st, st->partitions[at])) continue;
        st->sweep_next = at + 1;
        return sweep_some(st, st->partitions[at], e);
    }
    return RC_OK;
}
