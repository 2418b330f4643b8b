#include "source_file.h"

#include <sys/stat.h>

#include "container.h"

/* One value of any size that a block may have always fits an empty arena. */
enum { ARENA_BYTES = CONTAINER_BLOCK_MAX + ARENA_ALIGN };

struct source_file {
    struct source source; /* first: the worker holds a pointer to it */
    const char *const *paths;
    uint32_t count;
    uint32_t at; /* file that is open */
    struct container_reader *reader;
    struct container_reader *first; /* stays open for its schema */
    struct arena arena;
    int64_t next;         /* offset of the next record to read */
    int64_t from;         /* records before it are read, not given */
    struct slice pending; /* read, but no room in the last batch */
    bool has_pending, ended, assigned, held;
    struct source_position position;
    uint64_t bytes_before; /* of the files before the open one */
    _Atomic uint64_t bytes_done;
    uint64_t bytes_total;
};

static struct source_file *self(struct source *s)
{
    return (struct source_file *)s;
}

/* Opens file number at; its schema must be that of the first. */
static enum rc open_file(struct source_file *s, uint32_t at, struct err *e)
{
    s->at = at;
    TRY(container_open(&s->reader, s->paths[at], e));
    if (s->first && !slice_equal(schema_json(container_schema(s->reader)),
                                 schema_json(container_schema(s->first))))
        return ERR(e, RC_STOP,
                   "%s: its schema differs from that of %s; give files of one "
                   "schema together",
                   s->paths[at], s->paths[0]);
    return RC_OK;
}

static void close_file(struct source_file *s)
{
    uint64_t done = 0, total = 0;
    if (!s->reader) return;
    container_progress(s->reader, &done, &total);
    s->bytes_before += total;
    container_close(s->reader);
    s->reader = NULL;
}

/* The next value of the log, whichever file it stands in. */
static enum rc read_value(struct source_file *s, struct slice *value,
                          struct err *e)
{
    for (;;) {
        bool file_ended = false;
        TRY(container_next(s->reader, value, &file_ended, e));
        if (!file_ended) return RC_OK;
        close_file(s);
        if (s->at + 1 == s->count) {
            s->ended = true;
            return RC_OK;
        }
        TRY(open_file(s, s->at + 1, e));
    }
}

/* Gives the record in hand to the batch; false when the arena is full. */
static bool give(struct source_file *s, struct batch *b)
{
    struct slice copy = arena_copy(&s->arena, s->pending);
    if (!copy.ptr) return false;
    b->records[b->count++] =
        (struct record){.offset = s->next, .timestamp_ms = -1, .value = copy};
    s->next++;
    s->has_pending = false;
    return true;
}

static void note_progress(struct source_file *s)
{
    uint64_t done = 0, total = 0;
    if (s->reader) container_progress(s->reader, &done, &total);
    atomic_store_explicit(&s->bytes_done, s->bytes_before + done,
                          memory_order_relaxed);
}

static enum rc file_poll(struct source *source, struct batch *b,
                         uint32_t wait_ms, struct err *e)
{
    struct source_file *s = self(source);
    (void)wait_ms; /* a file is there or it is not */
    if (!s->assigned || s->held) return RC_OK;
    while (b->count < b->events_max) {
        if (!s->has_pending && !s->ended) {
            TRY(read_value(s, &s->pending, e));
            s->has_pending = !s->ended;
        }
        if (!s->has_pending) break;
        if (s->next < s->from) {
            s->next++;
            s->has_pending = false;
        } else if (!give(s, b)) {
            break;
        }
    }
    note_progress(s);
    return RC_OK;
}

static void file_release(struct source *source)
{
    arena_reset(&self(source)->arena);
}

static enum rc file_change(struct source *source, struct source_change *out,
                           struct err *e)
{
    struct source_file *s = self(source);
    (void)e;
    *out = (struct source_change){.kind = SOURCE_NO_CHANGE,
                                  .positions = &s->position,
                                  .count = 1,
                                  .cluster_id = "",
                                  .partitions = 1};
    if (s->assigned) return RC_OK;
    out->kind = SOURCE_ASSIGNED;
    s->position =
        (struct source_position){.committed = -1, .log_end = INT64_MAX};
    return RC_OK;
}

static enum rc file_seek(struct source *source,
                         const struct source_position *at, uint32_t count,
                         struct err *e)
{
    struct source_file *s = self(source);
    assert(count == 1 && at[0].offset >= 0);
    close_file(s);
    s->bytes_before = 0;
    s->has_pending = false;
    s->ended = false;
    s->held = false;
    s->next = 0;
    s->from = at[0].offset;
    return open_file(s, 0, e);
}

static enum rc file_hold(struct source *source,
                         const struct source_position *at, uint32_t count,
                         struct err *e)
{
    (void)at;
    (void)e;
    assert(count == 1);
    self(source)->held = true;
    return RC_OK;
}

static enum rc file_assign(struct source *source,
                           const struct source_position *at, uint32_t count,
                           struct err *e)
{
    TRY(file_seek(source, at, count, e));
    self(source)->assigned = true;
    return RC_OK;
}

static enum rc file_add(struct source *source,
                        const struct source_position *all, uint32_t count,
                        uint32_t added, struct err *e)
{
    assert(added == 1);
    return file_assign(source, all, count, e);
}

static enum rc file_unassign(struct source *source, struct err *e)
{
    (void)e;
    self(source)->assigned = false;
    return RC_OK;
}

/* Files are read from their beginning, with no state before. */
static enum rc file_hash_at(struct source *source, uint32_t input,
                            int32_t partition, int64_t offset, uint64_t *hash,
                            struct err *e)
{
    (void)source;
    *hash = 0;
    return ERR(e, RC_STOP,
               "file source: input %u, partition %d, offset %lld: "
               "a file is no log that a state could continue",
               input, partition, (long long)offset);
}

static bool file_ended(const struct source *source)
{
    const struct source_file *s = (const struct source_file *)source;
    return s->ended && !s->has_pending && !s->held;
}

static void file_close(struct source *source)
{
    struct source_file *s = self(source);
    if (s->reader) container_close(s->reader);
    if (s->first) container_close(s->first);
    arena_fini(&s->arena);
    free(s);
}

static const struct source_ops OPS = {
    .poll = file_poll,
    .release = file_release,
    .change = file_change,
    .assign = file_assign,
    .add = file_add,
    .unassign = file_unassign,
    .seek = file_seek,
    .hash_at = file_hash_at,
    .hold = file_hold,
    .ended = file_ended,
    .close = file_close,
};

enum rc source_file_open(struct source **out, const char *const *paths,
                         uint32_t count, struct err *e)
{
    struct source_file *s;
    enum rc rc;
    if (count == 0) return ERR(e, RC_STOP, "file source: no file given");
    s = calloc(1, sizeof *s);
    if (!s || !arena_init(&s->arena, ARENA_BYTES)) {
        free(s);
        return ERR(e, RC_STOP, "file source: no memory");
    }
    s->source.ops = &OPS;
    s->paths = paths;
    s->count = count;
    rc = container_open(&s->first, paths[0], e);
    for (uint32_t i = 0; rc == RC_OK && i < count; i++) {
        struct stat st;
        if (stat(paths[i], &st) == 0) s->bytes_total += (uint64_t)st.st_size;
    }
    if (rc != RC_OK) {
        file_close(&s->source);
        return rc;
    }
    *out = &s->source;
    return RC_OK;
}

const struct schema *source_file_schema(const struct source *source)
{
    return container_schema(((const struct source_file *)source)->first);
}

void source_file_progress(const struct source *source, uint64_t *done,
                          uint64_t *total)
{
    const struct source_file *s = (const struct source_file *)source;
    *done = atomic_load_explicit(&s->bytes_done, memory_order_relaxed);
    *total = s->bytes_total;
}
