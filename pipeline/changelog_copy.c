#include "changelog_copy.h"

#include <assert.h>

enum { BATCH_ROWS = 1024, BATCH_BYTES = 4 << 20 };

static enum rc write_batch(struct changelog_copy *c, struct err *e)
{
    c->meta.changelog_next = c->next;
    TRY(store_write(c->store, c->writes, c->family, &c->meta, e));
    c->pending = 0;
    c->pending_bytes = 0;
    return RC_OK;
}

enum rc changelog_copy_begin(struct changelog_copy *c, struct store *s,
                             struct family *f, const struct family_meta *meta,
                             bool clear, int64_t end, struct err *e)
{
    assert(meta->changelog_next >= 0);
    *c = (struct changelog_copy){
        .store = s,
        .family = f,
        .meta = *meta,
        .writes = store_writes_new(),
        .next = meta->changelog_next,
        .from = meta->changelog_next,
        .end = end,
    };
    if (clear) store_writes_clear(c->writes, f);
    return write_batch(c, e);
}

void changelog_copy_fini(struct changelog_copy *c)
{
    store_writes_free(c->writes);
    *c = (struct changelog_copy){0};
}

/* Without a user it is a reset: what is here says nothing any more. */
static void take_gone(struct changelog_copy *c, struct slice user)
{
    if (user.len > 0) {
        store_writes_forget(c->writes, c->family, user, c->meta.applied);
        return;
    }
    c->marked = false;
    c->meta.checkpoint = 0;
}

enum rc changelog_copy_take(struct changelog_copy *c,
                            const struct changelog_record *r, int64_t offset,
                            struct err *e)
{
    switch (r->kind) {
    case CHANGELOG_ROW:
        store_writes_row(c->writes, c->family, r->user, r->row);
        break;
    case CHANGELOG_GONE:
        take_gone(c, r->user);
        break;
    case CHANGELOG_MARKER:
        c->marker = r->marker;
        c->marked = true;
        break;
    }
    c->next = offset + 1;
    if (c->end < c->next) c->end = c->next;
    if (r->kind == CHANGELOG_MARKER) return RC_OK;
    c->rows++;
    c->pending_bytes += r->user.len + r->row.len;
    if (++c->pending < BATCH_ROWS && c->pending_bytes < BATCH_BYTES)
        return RC_OK;
    return write_batch(c, e);
}

enum rc changelog_copy_end(struct changelog_copy *c, int64_t offset,
                           struct err *e)
{
    bool moved = c->marked && (c->marker.checkpoint != c->meta.checkpoint ||
                               c->marker.applied != c->meta.applied);
    bool unsent = c->meta.unsent;
    int64_t released_ms = c->meta.released_ms;
    if (offset > c->next) c->next = offset;
    c->end = c->next;
    if (!moved && c->pending == 0) return RC_OK;
    if (moved) {
        c->meta = c->marker;
        c->meta.unsent = unsent;
        c->meta.released_ms = released_ms;
    }
    return write_batch(c, e);
}
