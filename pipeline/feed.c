#include "feed.h"

#include <assert.h>
#include <stdlib.h>

#include "container.h"
#include "producer.h"
#include "row.h"

enum { CONFLUENT_HEADER_BYTES = 5 };

struct feed {
    struct container_writer *file;
    struct producer *producer;
    uint8_t *framed; /* header and value; NULL: values go out as they are */
    uint64_t count, bytes;
};

static enum rc open_topic(struct feed *f, const struct feed_target *t,
                          struct err *e)
{
    const struct producer_options o = {
        .config = t->config,
        .topics = &t->topic,
        .topic_count = 1,
        .bulk = true,
    };
    if (t->schema_id != FEED_PLAIN) {
        f->framed = malloc(ROW_BYTES_MAX + CONFLUENT_HEADER_BYTES);
        if (!f->framed) return ERR(e, RC_STOP, "no memory for messages");
        f->framed[0] = 0;
        for (int i = 0; i < 4; i++)
            f->framed[1 + i] = (uint8_t)(t->schema_id >> (24 - 8 * i));
    }
    return producer_open(&f->producer, &o, e);
}

enum rc feed_open(struct feed **out, const struct feed_target *t,
                  const struct schema *s, struct err *e)
{
    enum rc rc;
    struct feed *f = calloc(1, sizeof *f);
    if (!f) return ERR(e, RC_STOP, "no memory for an output");
    assert(!t->path != !t->topic);
    rc = t->path ? container_create(&f->file, t->path, s, t->codec, e)
                 : open_topic(f, t, e);
    if (rc != RC_OK) {
        feed_abandon(f);
        return rc;
    }
    *out = f;
    return RC_OK;
}

enum rc feed_put(struct feed *f, struct slice key, struct slice value,
                 int64_t timestamp_ms, struct err *e)
{
    struct message m = {
        .timestamp_ms = timestamp_ms, .key = key, .value = value};
    assert(value.len <= ROW_BYTES_MAX);
    f->count++;
    f->bytes += value.len;
    if (f->file) return container_append(f->file, value, e);
    if (f->framed) {
        memcpy(f->framed + CONFLUENT_HEADER_BYTES, value.ptr, value.len);
        m.value = slice_of(f->framed, CONFLUENT_HEADER_BYTES + value.len);
    }
    return producer_send(f->producer, 0, &m, e);
}

enum rc feed_finish(struct feed *f, struct err *e)
{
    enum rc rc;
    if (f->file) {
        rc = container_finish(f->file, e);
        f->file = NULL;
    } else {
        rc = producer_flush(f->producer, PRODUCER_FLUSH_MS, e);
    }
    feed_abandon(f);
    return rc;
}

void feed_abandon(struct feed *f)
{
    if (!f) return;
    if (f->file) container_abandon(f->file);
    if (f->producer) producer_close(f->producer);
    free(f->framed);
    free(f);
}

uint64_t feed_count(const struct feed *f)
{
    return f->count;
}

uint64_t feed_bytes(const struct feed *f)
{
    return f->bytes;
}
