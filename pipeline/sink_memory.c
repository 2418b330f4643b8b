#include "sink_memory.h"

struct sink_memory {
    struct sink sink; /* first: the worker holds a pointer to it */
    struct message *messages;
    uint32_t messages_max, sent, final; /* final <= sent */
    struct arena bytes;
    size_t bytes_final; /* of bytes.used, as of the last commit */
    struct committed *committed;
    uint32_t partitions;
    uint32_t fail_sends, fail_commits; /* countdowns; 0: off */
    uint32_t fail_aborts;              /* how many still will */
    uint64_t commits;
};

static struct sink_memory *self(struct sink *k)
{
    return (struct sink_memory *)k;
}

static bool fails_now(uint32_t *countdown)
{
    if (*countdown == 0) return false;
    return --*countdown == 0;
}

static bool keep_headers(struct sink_memory *k, const struct message *in,
                         struct message *out)
{
    struct header *h =
        arena_take(&k->bytes, in->header_count, sizeof(struct header));
    if (!h) return false;
    for (uint32_t i = 0; i < in->header_count; i++) {
        h[i].name = arena_copy(&k->bytes, in->headers[i].name);
        h[i].value = arena_copy(&k->bytes, in->headers[i].value);
        if (!h[i].name.ptr || !h[i].value.ptr) return false;
    }
    out->headers = h;
    return true;
}

static bool keep(struct sink_memory *k, const struct message *in)
{
    struct message *out = &k->messages[k->sent];
    if (k->sent == k->messages_max) return false;
    *out = *in;
    out->key = arena_copy(&k->bytes, in->key);
    out->value = arena_copy(&k->bytes, in->value);
    if (!out->key.ptr || !out->value.ptr || !keep_headers(k, in, out))
        return false;
    /* None is not the same as an empty one. */
    if (!in->value.ptr) out->value = in->value;
    k->sent++;
    return true;
}

static enum rc memory_send(struct sink *sink, const struct message *m,
                           uint32_t count, struct err *e)
{
    struct sink_memory *k = self(sink);
    if (fails_now(&k->fail_sends))
        return ERR(e, RC_AGAIN, "memory sink: told to fail this send");
    for (uint32_t i = 0; i < count; i++)
        if (!keep(k, &m[i]))
            return ERR(e, RC_STOP,
                       "memory sink: full at %u messages, %zu bytes", k->sent,
                       k->bytes.used);
    return RC_OK;
}

static enum rc memory_commit(struct sink *sink,
                             const struct source_position *next, uint32_t count,
                             struct err *e)
{
    struct sink_memory *k = self(sink);
    if (fails_now(&k->fail_commits))
        return ERR(e, RC_AGAIN, "memory sink: told to fail this commit");
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t c = 0; c < k->partitions; c++)
            if (k->committed[c].input == next[i].input &&
                k->committed[c].partition == next[i].partition)
                k->committed[c].offset = next[i].offset;
    k->final = k->sent;
    k->bytes_final = k->bytes.used;
    k->commits++;
    return RC_OK;
}

static enum rc memory_abort(struct sink *sink, struct err *e)
{
    struct sink_memory *k = self(sink);
    if (k->fail_aborts > 0) {
        k->fail_aborts--;
        return ERR(e, RC_AGAIN, "memory sink: told to fail this abort");
    }
    k->sent = k->final;
    k->bytes.used = k->bytes_final;
    return RC_OK;
}

static void memory_close(struct sink *sink)
{
    struct sink_memory *k = self(sink);
    free(k->messages);
    arena_fini(&k->bytes);
    free(k);
}

static const struct sink_ops OPS = {
    .send = memory_send,
    .commit = memory_commit,
    .abort = memory_abort,
    .close = memory_close,
};

enum rc sink_memory_new(struct sink **out, uint32_t messages_max,
                        size_t bytes_max, struct committed *committed,
                        uint32_t partitions, struct err *e)
{
    struct sink_memory *k = calloc(1, sizeof *k);
    if (!k) return ERR(e, RC_STOP, "memory sink: no memory");
    k->sink.ops = &OPS;
    k->messages_max = messages_max;
    k->committed = committed;
    k->partitions = committed ? partitions : 0;
    k->messages = calloc(messages_max, sizeof *k->messages);
    if (!k->messages || !arena_init(&k->bytes, bytes_max)) {
        memory_close(&k->sink);
        return ERR(e, RC_STOP,
                   "memory sink: no memory for %u messages and %zu bytes",
                   messages_max, bytes_max);
    }
    *out = &k->sink;
    return RC_OK;
}

uint32_t sink_memory_count(const struct sink *k)
{
    return ((const struct sink_memory *)k)->final;
}

const struct message *sink_memory_at(const struct sink *sink, uint32_t i)
{
    const struct sink_memory *k = (const struct sink_memory *)sink;
    assert(i < k->final);
    return &k->messages[i];
}

void sink_memory_fail(struct sink *sink, uint32_t sends, uint32_t commits)
{
    self(sink)->fail_sends = sends;
    self(sink)->fail_commits = commits;
}

void sink_memory_fail_aborts(struct sink *sink, uint32_t aborts)
{
    self(sink)->fail_aborts = aborts;
}

uint64_t sink_memory_commits(const struct sink *k)
{
    return ((const struct sink_memory *)k)->commits;
}
