/* state_export.c - rows for a snapshot: of a state in memory, or views of the
 * store. See state.h. */
#include <assert.h>
#include <stdlib.h>

#include "state_inside.h"

struct exporting {
    struct state *st;
    struct partition *p;
    const struct state_export *x;
};

static enum rc give(const struct exporting *t, struct user_state *us,
                    struct err *e)
{
    const struct state *st = t->st;
    const struct history_shape *hs = &st->options.history;
    const struct windows_shape *ws = &st->options.windows;
    struct slice user = slice_of(us->key, us->key_len);
    int64_t applied = us->history.applied_offset;
    size_t size = user_row_encoded_size(hs, ws, &us->history, us->windows);
    uint8_t *bytes = malloc(size);
    enum rc rc;
    if (!bytes)
        return ERR(e, RC_STOP, "users' rows: no memory for one of %zu bytes",
                   size);
    if (t->x->anew) us->history.applied_offset = -1;
    (void)user_row_encode(hs, ws, user, &us->history, us->windows, bytes);
    us->history.applied_offset = applied;
    rc = t->x->row(t->x->user, user, slice_of(bytes, size), e);
    free(bytes);
    return rc;
}

/* Through memory, where a newer one may be, or an empty one of a user that
 * was forgotten. */
static enum rc give_of_base(void *user, struct slice key, struct slice row,
                            struct err *e)
{
    const struct exporting *t = user;
    struct user_state *us;
    (void)row;
    if (t->x->share && !t->x->share(t->x->user, key)) return RC_OK;
    TRY(state_peek(t->st, t->p, key, &us, e));
    return us ? give(t, us, e) : RC_OK;
}

enum rc state_export(struct state *st, struct partition *p,
                     const struct state_export *x, struct err *e)
{
    struct exporting t = {.st = st, .p = p, .x = x};
    const struct snapshot *base = st->options.base;
    assert(!st->store);
    if (base) TRY(snapshot_each(base, p->id, give_of_base, &t, e));
    for (uint64_t i = 0; i < st->table_size; i++)
        for (struct user_state *us = st->table[i]; us; us = us->hash_next) {
            struct slice key = slice_of(us->key, us->key_len);
            if (us->partition != p || us->history.events_total == 0 ||
                (base && snapshot_find(base, p->id, key).ptr))
                continue;
            TRY(give(&t, us, e));
        }
    return RC_OK;
}

static enum rc check_unfolded(const struct state *st, struct err *e)
{
    for (uint32_t i = 0; i < st->partition_count; i++)
        if (st->partitions[i]->restoring ||
            st->partitions[i]->next != st->partitions[i]->committed)
            return ERR(e, RC_AGAIN, "partition %d folds",
                       st->partitions[i]->id);
    return RC_OK;
}

static enum rc check_stored(const struct state *st, struct err *e)
{
    for (uint32_t i = 0; i < st->partition_count; i++) {
        const struct family_meta *m = &st->partitions[i]->store->meta;
        if (m->checkpoint != m->applied ||
            m->checkpoint != st->partitions[i]->next)
            return ERR(e, RC_AGAIN, "partition %d is stored as of %lld to %lld",
                       st->partitions[i]->id, (long long)m->checkpoint,
                       (long long)m->applied);
    }
    return RC_OK;
}

enum rc state_views(struct state *st, state_view_fn *fn, void *user,
                    struct err *e)
{
    TRY(check_unfolded(st, e));
    TRY(check_stored(st, e));
    for (uint32_t i = 0; i < st->partition_count; i++) {
        const struct partition_store *ps = st->partitions[i]->store;
        fn(user, store_view_take(st->store, ps->family, &ps->meta));
    }
    return RC_OK;
}

const struct family_meta *state_meta(const struct partition *p)
{
    return &p->store->meta;
}
