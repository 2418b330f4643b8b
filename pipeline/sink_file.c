#include "sink_file.h"

#include "container.h"

enum { FRAME_BYTES = 5 }; /* magic byte, schema id u32be */

struct sink_file {
    struct sink sink; /* first: the worker holds a pointer to it */
    struct container_writer *writers[OUTPUTS];
    bool framed;
    uint64_t since_commit;
};

static struct sink_file *self(struct sink *k)
{
    return (struct sink_file *)k;
}

static enum rc file_send(struct sink *sink, const struct message *m,
                         uint32_t count, struct err *e)
{
    struct sink_file *k = self(sink);
    for (uint32_t i = 0; i < count; i++) {
        struct container_writer *w = k->writers[m[i].output];
        struct slice value = m[i].value;
        if (!w) continue;
        if (k->framed) {
            assert(value.len >= FRAME_BYTES);
            value = slice_of(value.ptr + FRAME_BYTES, value.len - FRAME_BYTES);
        }
        TRY(container_append(w, value, e));
        k->since_commit++;
    }
    return RC_OK;
}

static enum rc file_commit(struct sink *sink,
                           const struct source_position *next, uint32_t count,
                           struct err *e)
{
    (void)next;
    (void)count;
    (void)e;
    self(sink)->since_commit = 0;
    return RC_OK;
}

static enum rc file_abort(struct sink *sink, struct err *e)
{
    if (self(sink)->since_commit == 0) return RC_OK;
    return ERR(e, RC_STOP,
               "file sink: %llu values are written and cannot be taken back; "
               "run the command again",
               (unsigned long long)self(sink)->since_commit);
}

static void file_close(struct sink *sink)
{
    struct sink_file *k = self(sink);
    for (uint32_t i = 0; i < OUTPUTS; i++)
        if (k->writers[i]) container_abandon(k->writers[i]);
    free(k);
}

static const struct sink_ops OPS = {
    .send = file_send,
    .commit = file_commit,
    .abort = file_abort,
    .close = file_close,
};

enum rc sink_file_create(struct sink **out,
                         const struct sink_file_output outputs[OUTPUTS],
                         const char *codec, bool framed, struct err *e)
{
    struct sink_file *k = calloc(1, sizeof *k);
    if (!k) return ERR(e, RC_STOP, "file sink: no memory");
    k->sink.ops = &OPS;
    k->framed = framed;
    for (uint32_t i = 0; i < OUTPUTS; i++) {
        if (!outputs[i].path) {
            k->sink.ignores |= 1u << i;
            continue;
        }
        if (container_create(&k->writers[i], outputs[i].path, outputs[i].schema,
                             codec, e) != RC_OK) {
            file_close(&k->sink);
            return e->rc;
        }
    }
    *out = &k->sink;
    return RC_OK;
}

enum rc sink_file_finish(struct sink *sink, struct err *e)
{
    struct sink_file *k = self(sink);
    for (uint32_t i = 0; i < OUTPUTS; i++) {
        struct container_writer *w = k->writers[i];
        if (!w) continue;
        k->writers[i] = NULL; /* finish takes it, whatever comes of it */
        TRY(container_finish(w, e));
    }
    return RC_OK;
}
