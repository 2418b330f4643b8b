#include "source_merge.h"

#include <stdlib.h>

#include "stages.h"

/* One partition: a batch of it that is read ahead. */
struct lane {
    struct source *source;
    struct batch ahead;
    uint32_t at;      /* of ahead: the next to give */
    int64_t clock_ms; /* newest time up to it; INT64_MIN: none */
    int32_t partition;
    size_t label_at, label_end; /* in by_place: of its partition */
};

/* One label of a run that is followed. */
struct placed {
    int32_t partition;
    int64_t offset;
    size_t index; /* in labels_in_order */
};

struct source_merge {
    struct source source; /* first: the worker holds a pointer to it */
    struct lane lanes[SOURCE_MERGE_MAX];
    uint32_t count;
    struct mapping *times;
    const struct labels *labels;
    struct schema *label_schema;
    size_t label_at, label_count; /* by time */
    source_merge_known_fn *known; /* NULL: so they come */
    void *known_user;
    struct placed *by_place;  /* (label_count) by partition and offset */
    struct arena label_bytes; /* of the labels in the last batch */
    struct source_position positions[SOURCE_MERGE_MAX];
};

static struct source_merge *self(struct source *s)
{
    return (struct source_merge *)s;
}

/* --- order -------------------------------------------------------------- */

static bool has_next(const struct lane *l)
{
    return l->at < l->ahead.count;
}

/* When the next of a lane happens: its own time, or that of one before it. */
static int64_t next_ms(const struct lane *l)
{
    const struct event *ev = &l->ahead.events[l->at];
    bool timed = ev->bad == BAD_NONE && !ev->forget;
    return timed && ev->time_ms > l->clock_ms ? ev->time_ms : l->clock_ms;
}

/* Where an event belongs is not known without its time. */
static enum rc check_schemas(const struct batch *b, struct err *e)
{
    for (uint32_t i = 0; i < b->count; i++)
        if (b->events[i].waits)
            return ERR(e, RC_AGAIN,
                       "partition %d, offset %lld: its schema is still to come",
                       b->records[i].partition,
                       (long long)b->records[i].offset);
    return RC_OK;
}

/* Reads on where a lane has given all it had. False: it has more, but not
 * yet, or what it gave is still lent. */
static enum rc fill(struct source_merge *s, struct lane *l, bool lent,
                    uint32_t wait_ms, bool *ready, struct err *e)
{
    *ready = true;
    if (has_next(l) || (source_ended(l->source) && l->ahead.count == 0))
        return RC_OK;
    *ready = false;
    if (lent && l->ahead.count > 0) return RC_OK;
    source_release(l->source);
    batch_reset(&l->ahead);
    l->at = 0;
    if (!source_ended(l->source))
        TRY(source_poll(l->source, &l->ahead, wait_ms, e));
    event_decode(s->times, &l->ahead);
    TRY(check_schemas(&l->ahead, e));
    *ready = l->ahead.count > 0 || source_ended(l->source);
    return RC_OK;
}

static enum rc fill_all(struct source_merge *s, bool lent, uint32_t wait_ms,
                        bool *ready, struct err *e)
{
    *ready = true;
    for (uint32_t i = 0; i < s->count && *ready; i++)
        TRY(fill(s, &s->lanes[i], lent, wait_ms, ready, e));
    return RC_OK;
}

static struct lane *earliest(struct source_merge *s)
{
    struct lane *best = NULL;
    for (uint32_t i = 0; i < s->count; i++) {
        struct lane *l = &s->lanes[i];
        if (has_next(l) && (!best || next_ms(l) < next_ms(best))) best = l;
    }
    return best;
}

static bool knew(const struct source_merge *s, const struct lane *l)
{
    return l && l->label_at < l->label_end &&
           s->by_place[l->label_at].offset <=
               s->known(s->known_user, &l->ahead.records[l->at]);
}

/* Does the next label come before the next event of l, NULL being none? */
static bool label_is_due(const struct source_merge *s, const struct lane *l)
{
    if (s->known) return knew(s, l);
    if (s->label_at == s->label_count) return false;
    return !l || labels_in_order(s->labels, s->label_at)->labelled_at_ms <=
                     next_ms(l);
}

/* False: no more room for its bytes in this batch. */
static bool give_label(struct source_merge *s, struct lane *lane,
                       struct batch *b)
{
    size_t *next = s->known ? &lane->label_at : &s->label_at;
    struct placed at = {.offset = (int64_t)*next, .index = *next};
    const struct label *l;
    size_t size, used;
    uint8_t *bytes;
    struct err e;
    enum rc rc;
    if (s->known) at = s->by_place[*next];
    l = labels_in_order(s->labels, at.index);
    size = label_bytes_max(l);
    bytes = arena_take(&s->label_bytes, size, 1);
    if (!bytes) return false;
    rc = label_encode(s->label_schema, l, bytes, size, &used, &e);
    assert(rc == RC_OK); /* it was decoded from such a record */
    b->records[b->count++] = (struct record){.input = INPUT_LABELS,
                                             .partition = at.partition,
                                             .offset = at.offset,
                                             .timestamp_ms = l->labelled_at_ms,
                                             .key = l->user,
                                             .value = slice_of(bytes, used)};
    (*next)++;
    return true;
}

static void give_event(struct lane *l, struct batch *b)
{
    l->clock_ms = next_ms(l);
    b->records[b->count++] = l->ahead.records[l->at++];
}

static enum rc merge_poll(struct source *source, struct batch *b,
                          uint32_t wait_ms, struct err *e)
{
    struct source_merge *s = self(source);
    while (b->count < b->events_max) {
        struct lane *l;
        bool ready;
        TRY(fill_all(s, b->count > 0, wait_ms, &ready, e));
        if (!ready) break;
        l = earliest(s);
        if (label_is_due(s, l)) {
            if (!give_label(s, l, b)) break;
        } else if (l) {
            give_event(l, b);
        } else {
            break;
        }
    }
    return RC_OK;
}

/* Lanes are released when they read on. */
static void merge_release(struct source *source)
{
    arena_reset(&self(source)->label_bytes);
}

/* --- assignment --------------------------------------------------------- */

static enum rc merge_change(struct source *source, struct source_change *out,
                            struct err *e)
{
    struct source_merge *s = self(source);
    *out = (struct source_change){.positions = s->positions};
    for (uint32_t i = 0; i < s->count; i++) {
        struct source_change one;
        TRY(source_change(s->lanes[i].source, &one, e));
        if (one.kind == SOURCE_NO_CHANGE) continue;
        assert(one.kind == SOURCE_ASSIGNED && one.count == 1);
        s->lanes[i].partition = one.positions[0].partition;
        s->positions[out->count++] = one.positions[0];
        out->kind = one.kind;
        out->cluster_id = one.cluster_id;
        out->partitions = one.partitions;
    }
    return RC_OK;
}

/* Those of its partition. */
static void find_labels(const struct source_merge *s, struct lane *l)
{
    size_t at = 0, end;
    if (!s->known) return;
    while (at < s->label_count && s->by_place[at].partition < l->partition)
        at++;
    end = at;
    while (end < s->label_count && s->by_place[end].partition == l->partition)
        end++;
    l->label_at = at;
    l->label_end = end;
}

static void begin_anew(struct source_merge *s)
{
    s->label_at = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        struct lane *l = &s->lanes[i];
        source_release(l->source);
        batch_reset(&l->ahead);
        l->at = 0;
        l->clock_ms = INT64_MIN;
        find_labels(s, l);
    }
}

typedef enum rc go_fn(struct source *s, const struct source_position *at,
                      uint32_t count, struct err *e);

static enum rc go(struct source_merge *s, const struct source_position *at,
                  uint32_t count, bool first, struct err *e)
{
    begin_anew(s);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < s->count; k++) {
            const struct source_ops *ops = s->lanes[k].source->ops;
            if (s->lanes[k].partition != at[i].partition) continue;
            TRY((first ? ops->assign : ops->seek)(s->lanes[k].source, &at[i], 1,
                                                  e));
        }
    return RC_OK;
}

static enum rc merge_assign(struct source *source,
                            const struct source_position *at, uint32_t count,
                            struct err *e)
{
    return go(self(source), at, count, true, e);
}

static enum rc merge_seek(struct source *source,
                          const struct source_position *at, uint32_t count,
                          struct err *e)
{
    return go(self(source), at, count, false, e);
}

static enum rc merge_unassign(struct source *source, struct err *e)
{
    struct source_merge *s = self(source);
    for (uint32_t i = 0; i < s->count; i++)
        TRY(source_unassign(s->lanes[i].source, e));
    return RC_OK;
}

/* A merged log has one order, so no partition can wait alone, and no state
 * goes on with it: its worker asks for neither. */
static enum rc merge_hold(struct source *source,
                          const struct source_position *at, uint32_t count,
                          struct err *e)
{
    (void)source;
    (void)at;
    return ERR(e, RC_STOP, "merged log: %u partitions cannot wait", count);
}

static enum rc merge_add(struct source *source,
                         const struct source_position *all, uint32_t count,
                         uint32_t added, struct err *e)
{
    (void)source;
    (void)all;
    return ERR(e, RC_STOP, "merged log: %u of %u partitions cannot be added",
               added, count);
}

static enum rc merge_hash_at(struct source *source, uint32_t input,
                             int32_t partition, int64_t offset, uint64_t *hash,
                             struct err *e)
{
    struct source_merge *s = self(source);
    for (uint32_t k = 0; k < s->count; k++)
        if (s->lanes[k].partition == partition)
            return source_hash_at(s->lanes[k].source, input, partition, offset,
                                  hash, e);
    *hash = 0;
    return RC_OK;
}

static bool merge_ended(const struct source *source)
{
    const struct source_merge *s = (const struct source_merge *)source;
    for (uint32_t i = 0; i < s->count; i++)
        if (has_next(&s->lanes[i]) || !source_ended(s->lanes[i].source))
            return false;
    return s->known || s->label_at == s->label_count;
}

static void merge_close(struct source *source)
{
    struct source_merge *s = self(source);
    for (uint32_t i = 0; i < s->count; i++) {
        source_close(s->lanes[i].source);
        batch_fini(&s->lanes[i].ahead);
    }
    mapping_free(s->times);
    schema_free(s->label_schema);
    arena_fini(&s->label_bytes);
    free(s->by_place);
    free(s);
}

static const struct source_ops OPS = {
    .poll = merge_poll,
    .release = merge_release,
    .change = merge_change,
    .assign = merge_assign,
    .add = merge_add,
    .unassign = merge_unassign,
    .seek = merge_seek,
    .hold = merge_hold,
    .hash_at = merge_hash_at,
    .ended = merge_ended,
    .close = merge_close,
};

/* --- open --------------------------------------------------------------- */

static int by_partition(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static enum rc place_labels(struct source_merge *s, struct err *e)
{
    if (!s->known) return RC_OK;
    s->by_place = calloc(s->label_count + 1, sizeof *s->by_place);
    if (!s->by_place) return ERR(e, RC_STOP, "merged log: no memory");
    for (size_t i = 0; i < s->label_count; i++) {
        struct placed *at = &s->by_place[i];
        at->index = i;
        labels_place(s->labels, i, &at->partition, &at->offset);
    }
    qsort(s->by_place, s->label_count, sizeof *s->by_place, by_partition);
    return RC_OK;
}

static enum rc take_labels(struct source_merge *s, uint32_t events_max,
                           struct err *e)
{
    size_t longest = 1;
    if (!s->labels) return RC_OK;
    s->label_count = labels_read_count(s->labels);
    for (size_t i = 0; i < s->label_count; i++) {
        size_t bytes = label_bytes_max(labels_in_order(s->labels, i));
        if (bytes > longest) longest = bytes;
    }
    if (longest < 128) longest = 128;
    TRY(place_labels(s, e));
    TRY(label_schema(&s->label_schema, e));
    if (!arena_init(&s->label_bytes,
                    events_max * arena_round(128) + arena_round(longest)))
        return ERR(e, RC_STOP, "merged log: no memory");
    return RC_OK;
}

enum rc source_merge_open(struct source **out,
                          const struct source_merge_options *o, struct err *e)
{
    struct source_merge *s = calloc(1, sizeof *s);
    enum rc rc = RC_OK;
    assert(o->count > 0 && o->count <= SOURCE_MERGE_MAX);
    if (!s) {
        for (uint32_t i = 0; i < o->count; i++)
            source_close(o->events[i]);
        mapping_free(o->times);
        return ERR(e, RC_STOP, "merged log: no memory");
    }
    s->source.ops = &OPS;
    s->times = o->times;
    s->labels = o->labels;
    s->known = o->labels ? o->known : NULL;
    s->known_user = o->known_user;
    for (uint32_t i = 0; i < o->count; i++) {
        s->lanes[i] = (struct lane){
            .source = o->events[i], .clock_ms = INT64_MIN, .partition = -1};
        s->count++;
    }
    for (uint32_t i = 0; rc == RC_OK && i < o->count; i++)
        rc = batch_init(&s->lanes[i].ahead, o->events_max, e);
    if (rc == RC_OK) rc = take_labels(s, o->events_max, e);
    if (rc != RC_OK) {
        merge_close(&s->source);
        return rc;
    }
    *out = &s->source;
    return RC_OK;
}
