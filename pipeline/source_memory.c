#include "source_memory.h"

enum { PARTITIONS_MAX = 64 };

struct planned {
    enum source_change_kind kind;
    uint64_t given;
};

struct source_memory {
    struct source source; /* first: the worker holds a pointer to it */
    const struct record *records;
    uint32_t count;
    const struct committed *committed;
    uint32_t partitions;
    int64_t from[PARTITIONS_MAX]; /* next offset to give; -1: not assigned */
    bool held[PARTITIONS_MAX];
    uint32_t at; /* index of the next record to look at */
    uint64_t given;
    bool assigned;
    struct planned planned[SOURCE_MEMORY_CHANGES];
    uint32_t planned_count;
    bool repeats;
    struct source_position positions[PARTITIONS_MAX];
};

static struct source_memory *self(struct source *s)
{
    return (struct source_memory *)s;
}

static uint32_t slot_of(const struct source_memory *s, uint32_t input,
                        int32_t partition)
{
    uint32_t i = 0;
    while (i < s->partitions && (s->committed[i].input != input ||
                                 s->committed[i].partition != partition))
        i++;
    return i;
}

static bool change_waits(const struct source_memory *s)
{
    return !s->assigned ||
           (s->planned_count > 0 && s->given >= s->planned[0].given);
}

static enum rc memory_poll(struct source *source, struct batch *b,
                           uint32_t wait_ms, struct err *e)
{
    struct source_memory *s = self(source);
    (void)wait_ms; /* nothing more ever comes */
    (void)e;
    while (s->at < s->count && b->count < b->events_max && !change_waits(s)) {
        const struct record *r = &s->records[s->at++];
        uint32_t slot = slot_of(s, r->input, r->partition);
        assert(slot < s->partitions);
        if (s->from[slot] < 0 || r->offset < s->from[slot]) continue;
        if (s->held[slot]) continue;
        b->records[b->count++] = *r;
        if (!s->repeats) s->from[slot] = r->offset + 1;
        s->given++;
    }
    return RC_OK;
}

static void memory_release(struct source *source)
{
    (void)source; /* records stay where they are */
}

/* Where the log of one partition starts and ends, among the records. */
static void fill_position(const struct source_memory *s, uint32_t slot,
                          struct source_position *p)
{
    *p = (struct source_position){.input = s->committed[slot].input,
                                  .partition = s->committed[slot].partition,
                                  .committed = s->committed[slot].offset,
                                  .log_start = -1};
    for (uint32_t i = 0; i < s->count; i++) {
        if (slot_of(s, s->records[i].input, s->records[i].partition) != slot)
            continue;
        if (p->log_start < 0) p->log_start = s->records[i].offset;
        p->log_end = s->records[i].offset + 1;
    }
    if (p->log_start < 0) p->log_start = 0;
}

static enum rc memory_change(struct source *source, struct source_change *out,
                             struct err *e)
{
    struct source_memory *s = self(source);
    (void)e;
    *out = (struct source_change){.kind = SOURCE_NO_CHANGE,
                                  .positions = s->positions,
                                  .count = s->partitions,
                                  .cluster_id = "",
                                  .partitions = s->partitions};
    if (!change_waits(s)) return RC_OK;
    for (uint32_t i = 0; i < s->partitions; i++)
        fill_position(s, i, &s->positions[i]);
    out->kind = s->assigned ? s->planned[0].kind : SOURCE_ASSIGNED;
    return RC_OK;
}

static enum rc memory_seek(struct source *source,
                           const struct source_position *at, uint32_t count,
                           struct err *e)
{
    struct source_memory *s = self(source);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = slot_of(s, at[i].input, at[i].partition);
        if (slot == s->partitions || at[i].offset < 0)
            return ERR(e, RC_STOP,
                       "memory source: cannot seek partition %d to %lld",
                       at[i].partition, (long long)at[i].offset);
        s->from[slot] = at[i].offset;
        s->held[slot] = false;
    }
    s->at = 0; /* poll leaves out what lies before the new positions */
    return RC_OK;
}

static enum rc memory_hold(struct source *source,
                           const struct source_position *at, uint32_t count,
                           struct err *e)
{
    struct source_memory *s = self(source);
    (void)e;
    for (uint32_t i = 0; i < count; i++)
        s->held[slot_of(s, at[i].input, at[i].partition)] = true;
    return RC_OK;
}

static bool any_held(const struct source_memory *s)
{
    for (uint32_t i = 0; i < s->partitions; i++)
        if (s->held[i]) return true;
    return false;
}

static enum rc memory_assign(struct source *source,
                             const struct source_position *at, uint32_t count,
                             struct err *e)
{
    TRY(memory_seek(source, at, count, e));
    self(source)->assigned = true;
    return RC_OK;
}

static enum rc memory_add(struct source *source,
                          const struct source_position *all, uint32_t count,
                          uint32_t added, struct err *e)
{
    return memory_seek(source, all + count - added, added, e);
}

static enum rc memory_unassign(struct source *source, struct err *e)
{
    struct source_memory *s = self(source);
    (void)e;
    assert(s->assigned);
    for (uint32_t i = 0; i < s->partitions; i++) {
        s->from[i] = -1;
        s->held[i] = false;
    }
    s->assigned = false;
    if (s->planned_count > 0 && s->given >= s->planned[0].given) {
        s->planned_count--;
        memmove(&s->planned[0], &s->planned[1],
                s->planned_count * sizeof s->planned[0]);
    }
    return RC_OK;
}

static enum rc memory_hash_at(struct source *source, uint32_t input,
                              int32_t partition, int64_t offset, uint64_t *hash,
                              struct err *e)
{
    const struct source_memory *s = self(source);
    (void)e;
    *hash = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct record *r = &s->records[i];
        if (r->input == input && r->partition == partition &&
            r->offset == offset)
            *hash = record_hash(r);
    }
    return RC_OK;
}

static bool memory_ended(const struct source *source)
{
    const struct source_memory *s = (const struct source_memory *)source;
    return s->assigned && s->at == s->count && !change_waits(s) && !any_held(s);
}

static void memory_close(struct source *source)
{
    free(self(source));
}

static const struct source_ops OPS = {
    .poll = memory_poll,
    .release = memory_release,
    .change = memory_change,
    .assign = memory_assign,
    .add = memory_add,
    .unassign = memory_unassign,
    .seek = memory_seek,
    .hash_at = memory_hash_at,
    .hold = memory_hold,
    .ended = memory_ended,
    .close = memory_close,
};

enum rc source_memory_new(struct source **out, const struct record *records,
                          uint32_t count, const struct committed *committed,
                          uint32_t partitions, struct err *e)
{
    struct source_memory *s;
    if (partitions == 0 || partitions > PARTITIONS_MAX)
        return ERR(e, RC_STOP, "memory source: %u partitions, at most %d",
                   partitions, PARTITIONS_MAX);
    s = calloc(1, sizeof *s);
    if (!s) return ERR(e, RC_STOP, "memory source: no memory");
    s->source.ops = &OPS;
    s->records = records;
    s->count = count;
    s->committed = committed;
    s->partitions = partitions;
    for (uint32_t i = 0; i < partitions; i++)
        s->from[i] = -1;
    *out = &s->source;
    return RC_OK;
}

void source_memory_change(struct source *source, enum source_change_kind kind,
                          uint64_t given)
{
    struct source_memory *s = self(source);
    assert(kind == SOURCE_REVOKED || kind == SOURCE_LOST);
    assert(s->planned_count < SOURCE_MEMORY_CHANGES);
    s->planned[s->planned_count++] =
        (struct planned){.kind = kind, .given = given};
}

void source_memory_repeats(struct source *source)
{
    self(source)->repeats = true;
}

uint64_t source_memory_given(const struct source *source)
{
    return ((const struct source_memory *)source)->given;
}
