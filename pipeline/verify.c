#include "verify.h"

#include <stdatomic.h>

#include "container.h"
#include "hash.h"
#include "map64.h"
#include "outputs.h"
#include "source_kafka.h"

enum {
    FRAME_BYTES = 5, /* Confluent: magic byte, schema id u32be */
    BATCH_EVENTS = 256,
    POLL_WAIT_MS = 1000,
    ENTRIES_FIRST = 4096,
    /* Both records end with model, family, policy, topic, partition, offset. */
    TAIL_MODEL = 0,
    TAIL_FAMILY,
    TAIL_POLICY,
    TAIL_TOPIC,
    TAIL_PARTITION,
    TAIL_OFFSET,
    TAIL_DATUMS,
    RECORD_DATUMS = 24,
    LIST_ITEM_DATUMS = 3,
};

enum seen { SEEN_NOT, SEEN_EQUAL, SEEN_DIFFERS };

struct entry {
    uint64_t value; /* hash64 of its bytes */
    int64_t offset;
    int32_t partition;
    _Atomic uint8_t seen; /* enum seen; written by one worker */
};

struct verify {
    const struct config *config;
    const struct model_info *model;
    struct schema *schemas[OUTPUTS];
    struct decoder *decoders[OUTPUTS];
    struct tape tape;
    struct map64 places; /* output and place -> index in entries */
    struct entry *entries;
    size_t room;
    uint32_t outputs; /* bits 1 << enum output: recorded */
    uint64_t repeated;
    _Atomic uint64_t extra;
};

struct verify_sink {
    struct sink sink; /* first: the worker holds a pointer to it */
    struct verify *verify;
    struct sink *inner;
    struct tape tape; /* its own: sinks work at the same time */
};

static uint32_t datums_max(const struct config *c)
{
    return RECORD_DATUMS + LIST_ITEM_DATUMS * c->recommend_items;
}

enum rc verify_new(struct verify **out, const struct config *c,
                   const struct model *model, struct err *e)
{
    struct verify *v = calloc(1, sizeof *v);
    enum rc rc;
    if (!v) return ERR(e, RC_STOP, "verify: no memory");
    v->config = c;
    v->model = model_info(model);
    v->tape.max = datums_max(c);
    v->tape.at = calloc(v->tape.max, sizeof *v->tape.at);
    rc = v->tape.at ? outputs_parse_schemas(v->schemas, e)
                    : ERR(e, RC_STOP, "verify: no memory");
    for (uint32_t k = 0; rc == RC_OK && k < OUTPUTS; k++)
        if (v->schemas[k])
            rc = decoder_compile(&v->decoders[k], v->schemas[k], v->schemas[k],
                                 e);
    if (rc != RC_OK) {
        verify_free(v);
        return rc;
    }
    *out = v;
    return RC_OK;
}

void verify_free(struct verify *v)
{
    if (!v) return;
    for (uint32_t k = 0; k < OUTPUTS; k++) {
        decoder_free(v->decoders[k]);
        schema_free(v->schemas[k]);
    }
    map64_fini(&v->places);
    free(v->entries);
    free(v->tape.at);
    free(v);
}

uint64_t verify_recorded(const struct verify *v)
{
    return v->places.count;
}

/* --- recorded outputs --------------------------------------------------- */

static uint64_t place_key(enum output output, int64_t partition, int64_t offset)
{
    uint64_t key =
        draw((uint64_t)output, (uint64_t)partition, (uint64_t)offset);
    return key ? key : 1;
}

/* The datums that close the record of a plain value. */
static enum rc decode_tail(const struct verify *v, enum output output,
                           struct slice value, struct tape *t,
                           const struct datum **tail, struct err *e)
{
    TRY(decoder_decode(v->decoders[output], value, t, e));
    *tail = &t->at[t->count - TAIL_DATUMS];
    return RC_OK;
}

static enum rc check_origin(const struct verify *v, const struct datum *tail,
                            struct err *e)
{
    if (!slice_equal(tail[TAIL_MODEL].s, slice_str(v->model->hash)))
        return ERR(e, RC_STOP,
                   "recorded by model %.*s, model.dir holds %s; replay with "
                   "the model of the record",
                   (int)tail[TAIL_MODEL].s.len,
                   (const char *)tail[TAIL_MODEL].s.ptr, v->model->hash);
    if (!slice_equal(tail[TAIL_FAMILY].s, slice_str(v->model->family)))
        return ERR(e, RC_STOP,
                   "recorded with kernel family %.*s, this machine has %s: "
                   "their last bits differ; verify on a machine like the "
                   "recording one",
                   (int)tail[TAIL_FAMILY].s.len,
                   (const char *)tail[TAIL_FAMILY].s.ptr, v->model->family);
    return RC_OK;
}

static enum rc add_entry(struct verify *v, uint64_t key,
                         const struct datum *tail, uint64_t value,
                         struct err *e)
{
    bool made;
    uint64_t *index = map64_put(&v->places, key, v->places.count, &made);
    if (index && made && *index == v->room) {
        size_t room = v->room ? v->room * 2 : ENTRIES_FIRST;
        void *bigger = realloc(v->entries, room * sizeof *v->entries);
        if (!bigger) index = NULL;
        if (bigger) v->entries = bigger;
        if (bigger) v->room = room;
    }
    if (!index) return ERR(e, RC_STOP, "verify: no memory");
    if (!made) {
        /* At least once may record an output again: the same bytes. */
        if (v->entries[*index].value == value)
            v->repeated++;
        else
            v->entries[*index].seen = SEEN_DIFFERS;
        return RC_OK;
    }
    v->entries[*index] =
        (struct entry){.value = value,
                       .partition = (int32_t)tail[TAIL_PARTITION].i,
                       .offset = tail[TAIL_OFFSET].i};
    return RC_OK;
}

static enum rc record(struct verify *v, enum output output, struct slice value,
                      struct err *e)
{
    const struct datum *tail;
    TRY(decode_tail(v, output, value, &v->tape, &tail, e));
    TRY(check_origin(v, tail, e));
    v->outputs |= 1u << output;
    return add_entry(
        v, place_key(output, tail[TAIL_PARTITION].i, tail[TAIL_OFFSET].i), tail,
        hash64(value), e);
}

static enum rc record_file(struct verify *v, struct container_reader *r,
                           struct err *e)
{
    struct schema_field field;
    struct err none;
    enum output output =
        schema_find(container_schema(r), "probability", &field, &none) == RC_OK
            ? OUTPUT_FRAUD
            : OUTPUT_RECOMMENDATIONS;
    for (;;) {
        struct slice value;
        bool ended = false;
        TRY(container_next(r, &value, &ended, e));
        if (ended) return RC_OK;
        TRY(record(v, output, value, e));
    }
}

enum rc verify_read_file(struct verify *v, const char *path, struct err *e)
{
    struct container_reader *r;
    enum rc rc = container_open(&r, path, e);
    if (rc != RC_OK) return rc;
    rc = record_file(v, r, e);
    container_close(r);
    if (rc == RC_OK) return RC_OK;
    (void)err_context(e, "%s: a recorded output", path);
    return RC_STOP;
}

static enum rc record_messages(struct verify *v, enum output output,
                               struct source *s, struct batch *b, struct err *e)
{
    size_t head =
        v->config->output_format == OUTPUT_CONFLUENT ? FRAME_BYTES : 0;
    struct source_change change;
    TRY(source_change(s, &change, e));
    for (uint32_t i = 0; i < change.count; i++)
        change.positions[i].offset = change.positions[i].log_start;
    if (change.kind == SOURCE_ASSIGNED)
        TRY(source_assign(s, change.positions, change.count, e));
    while (!source_ended(s)) {
        batch_reset(b);
        TRY(source_poll(s, b, POLL_WAIT_MS, e));
        for (uint32_t i = 0; i < b->count; i++) {
            struct slice value = b->records[i].value;
            if (value.len < head)
                return ERR(e, RC_SKIP, "a value without its header");
            TRY(record(v, output, slice_of(value.ptr + head, value.len - head),
                       e));
        }
        source_release(s);
    }
    return RC_OK;
}

static enum rc record_topic(struct verify *v, enum output output,
                            const char *topic, struct err *e)
{
    const struct topic_range all = {
        .topic = topic, .partition = -1, .until = -1};
    struct source *s = NULL;
    struct batch b;
    enum rc rc;
    if (!topic[0]) return RC_OK;
    TRY(batch_init(&b, BATCH_EVENTS, e));
    rc = source_range_open(&s, v->config, &all, BATCH_EVENTS, e);
    if (rc == RC_OK) rc = record_messages(v, output, s, &b, e);
    if (s) source_close(s);
    batch_fini(&b);
    if (rc == RC_OK) return RC_OK;
    (void)err_context(e, "topic %s: a recorded output", topic);
    return RC_STOP;
}

enum rc verify_read_topics(struct verify *v, struct err *e)
{
    TRY(record_topic(v, OUTPUT_FRAUD, v->config->output_fraud_topic, e));
    return record_topic(v, OUTPUT_RECOMMENDATIONS,
                        v->config->output_recommendations_topic, e);
}

/* --- what the replay makes ---------------------------------------------- */

static struct verify_sink *self(struct sink *k)
{
    return (struct verify_sink *)k;
}

static enum rc look(struct verify_sink *k, const struct message *m,
                    struct err *e)
{
    struct verify *v = k->verify;
    size_t head =
        v->config->output_format == OUTPUT_CONFLUENT ? FRAME_BYTES : 0;
    struct slice value = slice_of(m->value.ptr + head, m->value.len - head);
    const struct datum *tail;
    struct entry *at;
    uint64_t *index;
    TRY(decode_tail(v, m->output, value, &k->tape, &tail, e));
    index = map64_get(&v->places, place_key(m->output, tail[TAIL_PARTITION].i,
                                            tail[TAIL_OFFSET].i));
    if (!index) {
        atomic_fetch_add(&v->extra, 1);
        return RC_OK;
    }
    at = &v->entries[*index];
    if (at->seen == SEEN_NOT)
        at->seen = at->value == hash64(value) ? SEEN_EQUAL : SEEN_DIFFERS;
    return RC_OK;
}

static enum rc verify_send(struct sink *sink, const struct message *m,
                           uint32_t count, struct err *e)
{
    struct verify_sink *k = self(sink);
    for (uint32_t i = 0; i < count; i++)
        if (k->verify->outputs & (1u << m[i].output)) TRY(look(k, &m[i], e));
    return sink_send(k->inner, m, count, e);
}

static enum rc verify_commit(struct sink *sink,
                             const struct source_position *next, uint32_t count,
                             struct err *e)
{
    return sink_commit(self(sink)->inner, next, count, e);
}

static enum rc verify_abort(struct sink *sink, struct err *e)
{
    return sink_abort(self(sink)->inner, e);
}

static void verify_close(struct sink *sink)
{
    struct verify_sink *k = self(sink);
    sink_close(k->inner);
    free(k->tape.at);
    free(k);
}

static const struct sink_ops OPS = {
    .send = verify_send,
    .commit = verify_commit,
    .abort = verify_abort,
    .close = verify_close,
};

enum rc verify_sink(struct sink **out, struct verify *v, struct sink *inner,
                    struct err *e)
{
    struct verify_sink *k = calloc(1, sizeof *k);
    struct datum *at = calloc(datums_max(v->config), sizeof *at);
    if (!k || !at) {
        free(k);
        free(at);
        return ERR(e, RC_STOP, "verify: no memory");
    }
    k->sink.ops = &OPS;
    k->sink.ignores = inner->ignores & ~v->outputs;
    k->verify = v;
    k->inner = inner;
    k->tape = (struct tape){.at = at, .max = datums_max(v->config)};
    *out = &k->sink;
    return RC_OK;
}

void verify_result(const struct verify *v, struct verify_result *out)
{
    *out = (struct verify_result){
        .extra = v->extra, .repeated = v->repeated, .partition = -1};
    for (size_t i = 0; i < v->places.count; i++) {
        const struct entry *at = &v->entries[i];
        out->equal += at->seen == SEEN_EQUAL;
        out->differ += at->seen == SEEN_DIFFERS;
        out->missing += at->seen == SEEN_NOT;
        if (at->seen == SEEN_EQUAL || out->partition >= 0) continue;
        out->partition = at->partition;
        out->offset = at->offset;
    }
}
