#include "verify.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "catalogue.h"
#include "container.h"
#include "hash.h"
#include "map64.h"
#include "outputs.h"
#include "snapshot.h"
#include "topic_scan.h"

enum {
    /* Of a score on its tape: the record, then one datum a field, but two of
     * the probability. */
    FRAUD_LABEL_OFFSET_AT = 10,
    FRAME_BYTES = 5, /* Confluent: magic byte, schema id u32be */
    BATCH_EVENTS = 256,
    ENTRIES_FIRST = 4096,
    /* All records end with model, family, policy, topic, partition, offset. */
    TAIL_MODEL = 0,
    TAIL_FAMILY,
    TAIL_POLICY,
    TAIL_TOPIC,
    TAIL_PARTITION,
    TAIL_OFFSET,
    TAIL_DATUMS,
    FILES_MAX = 64,
};

enum seen { SEEN_NOT, SEEN_EQUAL, SEEN_DIFFERS };

struct entry {
    uint64_t value; /* hash64 of its bytes */
    int64_t offset;
    int64_t knew; /* a list: of the catalogue; a score: of labels */
    int32_t partition;
    uint8_t output;
    _Atomic uint8_t seen; /* enum seen; written by one worker */
};

/* Where an output stands in the log. */
struct place {
    int32_t partition; /* -1: nowhere */
    int64_t offset;
    enum output output;
};

/* Bytes of our own. */
struct copy {
    uint8_t *at;
    size_t len;
    bool there;
};

/* The events of a partition that the replay reads. */
struct part {
    int32_t partition;
    int64_t from, until;
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

    struct part *parts; /* NULL: all is compared */
    uint32_t part_count;
    const char *files[FILES_MAX];
    uint32_t file_count;
    bool topics; /* were read too */

    pthread_mutex_t mutex; /* over the first of those made that is not as
                              recorded: rare, and then it is looked at once */
    struct place made_at;
    struct copy made;
    const struct place *wanted; /* reading again for this one's bytes */
    struct copy recorded;
};

struct verify_sink {
    struct sink sink; /* first: the worker holds a pointer to it */
    struct verify *verify;
    struct sink *inner;
    struct tape tape; /* its own: sinks work at the same time */
};

enum rc verify_new(struct verify **out, const struct config *c,
                   const struct model *model, struct err *e)
{
    struct verify *v = calloc(1, sizeof *v);
    enum rc rc;
    if (!v) return ERR(e, RC_STOP, "verify: no memory");
    (void)pthread_mutex_init(&v->mutex, NULL);
    v->made_at.partition = -1;
    v->config = c;
    v->model = model_info(model);
    v->tape.max = outputs_datums_max(c);
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
    (void)pthread_mutex_destroy(&v->mutex);
    map64_fini(&v->places);
    free(v->parts);
    free(v->made.at);
    free(v->recorded.at);
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

int64_t verify_catalogue_offset(void *user, const struct record *r)
{
    const struct verify *v = user;
    const uint64_t *index = map64_get(
        &v->places, place_key(OUTPUT_RECOMMENDATIONS, r->partition, r->offset));
    return index ? v->entries[*index].knew : CATALOGUE_UNPLANNED;
}

int64_t verify_label_offset(void *user, const struct record *r)
{
    const struct verify *v = user;
    const uint64_t *index =
        map64_get(&v->places, place_key(OUTPUT_FRAUD, r->partition, r->offset));
    return index ? v->entries[*index].knew : -1;
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

static bool keep_copy(struct copy *to, struct slice bytes)
{
    void *bigger = realloc(to->at, bytes.len + 1);
    if (!bigger) return false;
    *to = (struct copy){.at = bigger, .len = bytes.len, .there = true};
    if (bytes.len > 0) memcpy(bigger, bytes.ptr, bytes.len);
    return true;
}

/* Ascending by partition, offset, output; nowhere comes last. */
static bool is_before(const struct place *a, const struct place *b)
{
    if (b->partition < 0) return a->partition >= 0;
    if (a->partition != b->partition)
        return a->partition >= 0 && a->partition < b->partition;
    if (a->offset != b->offset) return a->offset < b->offset;
    return a->output < b->output;
}

static enum rc add_entry(struct verify *v, enum output output, uint64_t key,
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
                       .output = (uint8_t)output,
                       .offset = tail[TAIL_OFFSET].i};
    /* In lists it stands before what closes both records. */
    v->entries[*index].knew = output == OUTPUT_RECOMMENDATIONS
                                  ? tail[-1].i
                                  : v->tape.at[FRAUD_LABEL_OFFSET_AT].i;
    return RC_OK;
}

/* Of several records of one place the last that differs from what was made
 * says most. */
static enum rc look_for_wanted(struct verify *v, enum output output,
                               const struct datum *tail, struct slice value,
                               struct err *e)
{
    const struct place *w = v->wanted;
    struct slice made = slice_of(v->made.at, v->made.len);
    if (output != w->output || tail[TAIL_PARTITION].i != w->partition ||
        tail[TAIL_OFFSET].i != w->offset)
        return RC_OK;
    if (v->recorded.there && slice_equal(value, made)) return RC_OK;
    if (keep_copy(&v->recorded, value)) return RC_OK;
    return ERR(e, RC_STOP, "verify: no memory");
}

static enum rc record(struct verify *v, enum output output, struct slice value,
                      struct err *e)
{
    const struct datum *tail;
    TRY(decode_tail(v, output, value, &v->tape, &tail, e));
    if (v->wanted) return look_for_wanted(v, output, tail, value, e);
    TRY(check_origin(v, tail, e));
    v->outputs |= 1u << output;
    return add_entry(
        v, output,
        place_key(output, tail[TAIL_PARTITION].i, tail[TAIL_OFFSET].i), tail,
        hash64(value), e);
}

/* Each has a field that no other has. */
static enum output output_of(const struct schema *s)
{
    struct schema_field field;
    struct err none;
    if (schema_find(s, "probability", &field, &none) == RC_OK)
        return OUTPUT_FRAUD;
    return schema_find(s, "embedding", &field, &none) == RC_OK
               ? OUTPUT_PROFILES
               : OUTPUT_RECOMMENDATIONS;
}

static enum rc record_file(struct verify *v, struct container_reader *r,
                           struct err *e)
{
    enum output output = output_of(container_schema(r));
    for (;;) {
        struct slice value;
        bool ended = false;
        TRY(container_next(r, &value, &ended, e));
        if (ended) return RC_OK;
        TRY(record(v, output, value, e));
    }
}

static enum rc read_file(struct verify *v, const char *path, struct err *e)
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

enum rc verify_read_file(struct verify *v, const char *path, struct err *e)
{
    if (v->file_count == FILES_MAX)
        return ERR(e, RC_STOP, "%s: more than %d recorded files; join them",
                   path, FILES_MAX);
    v->files[v->file_count++] = path;
    return read_file(v, path, e);
}

struct recording {
    struct verify *verify;
    enum output output;
};

static enum rc record_value(void *user, struct slice value, struct err *e)
{
    const struct recording *r = user;
    return record(r->verify, r->output, value, e);
}

static enum rc record_topic(struct verify *v, enum output output,
                            const char *topic, struct err *e)
{
    struct recording r = {v, output};
    if (!topic[0]) return RC_OK;
    if (topic_scan_output(v->config, topic, record_value, &r, e) == RC_OK)
        return RC_OK;
    (void)err_context(e, "a recorded output");
    return RC_STOP;
}

enum rc verify_read_topics(struct verify *v, struct err *e)
{
    v->topics = true;
    TRY(record_topic(v, OUTPUT_FRAUD, v->config->output_fraud_topic, e));
    TRY(record_topic(v, OUTPUT_RECOMMENDATIONS,
                     v->config->output_recommendations_topic, e));
    return record_topic(v, OUTPUT_PROFILES, v->config->output_profile_topic, e);
}

/* --- where the replay begins -------------------------------------------- */

static enum rc add_part(struct verify *v, struct part part, struct err *e)
{
    void *bigger = realloc(v->parts, (v->part_count + 1) * sizeof *v->parts);
    if (!bigger) return ERR(e, RC_STOP, "verify: no memory");
    v->parts = bigger;
    v->parts[v->part_count++] = part;
    return RC_OK;
}

static enum rc begin_files(struct verify *v, const struct snapshot *base,
                           struct err *e)
{
    uint32_t count = 0;
    const struct snapshot_part *parts =
        base ? snapshot_parts(base, &count) : NULL;
    if (!base)
        return add_part(v, (struct part){.from = 0, .until = INT64_MAX}, e);
    for (uint32_t i = 0; i < count; i++)
        TRY(add_part(
            v, (struct part){parts[i].partition, parts[i].offset, INT64_MAX},
            e));
    return RC_OK;
}

static enum rc begin_partition(struct verify *v,
                               const struct topic_range *range,
                               const struct snapshot *base,
                               const struct source_position *at, struct err *e)
{
    const struct snapshot_part *part =
        base ? snapshot_find_part(base, at->partition) : NULL;
    int64_t from = at->log_start;
    if (range->from > from) from = range->from;
    if (part) from = part->offset;
    if (!base && from > 0)
        return ERR(e, RC_SKIP,
                   "verify: partition %d of %s would be replayed from offset "
                   "%lld with empty rows, which lack the events before it; "
                   "begin at offset 0 or with --snapshot",
                   at->partition, range->topic, (long long)from);
    if (from < at->log_start)
        return ERR(e, RC_SKIP,
                   "verify: the snapshot is as of offset %lld of partition %d, "
                   "but %s begins at %lld; take a newer snapshot",
                   (long long)from, at->partition, range->topic,
                   (long long)at->log_start);
    return add_part(v,
                    (struct part){at->partition, from,
                                  range->until < 0 ? INT64_MAX : range->until},
                    e);
}

static enum rc begin_topic(struct verify *v, const struct topic_range *range,
                           const struct snapshot *base, struct err *e)
{
    struct source_change change = {0};
    struct source *s;
    enum rc rc;
    TRY(source_range_open(&s, v->config, range, BATCH_EVENTS, e));
    rc = source_change(s, &change, e);
    for (uint32_t i = 0; rc == RC_OK && i < change.count; i++)
        rc = begin_partition(v, range, base, &change.positions[i], e);
    source_close(s);
    return rc;
}

enum rc verify_begin(struct verify *v, const struct topic_range *range,
                     const char *snapshot, struct err *e)
{
    struct snapshot *base = NULL;
    enum rc rc;
    if (snapshot) TRY(snapshot_open(&base, snapshot, e));
    rc = range ? begin_topic(v, range, base, e) : begin_files(v, base, e);
    snapshot_close(base);
    return rc;
}

/* Of the events that are replayed. */
static bool is_inside(const struct verify *v, const struct entry *at)
{
    for (uint32_t i = 0; i < v->part_count; i++)
        if (v->parts[i].partition == at->partition)
            return at->offset >= v->parts[i].from &&
                   at->offset < v->parts[i].until;
    return v->part_count == 0;
}

/* --- what the replay makes ---------------------------------------------- */

static struct verify_sink *self(struct sink *k)
{
    return (struct verify_sink *)k;
}

static enum rc keep_first(struct verify *v, struct place place,
                          struct slice value, struct err *e)
{
    enum rc rc = RC_OK;
    (void)pthread_mutex_lock(&v->mutex);
    if (is_before(&place, &v->made_at)) {
        v->made_at = place;
        if (!keep_copy(&v->made, value))
            rc = ERR(e, RC_STOP, "verify: no memory");
    }
    (void)pthread_mutex_unlock(&v->mutex);
    return rc;
}

static enum rc look(struct verify_sink *k, const struct message *m,
                    struct err *e)
{
    struct verify *v = k->verify;
    size_t head =
        v->config->output_format == OUTPUT_CONFLUENT ? FRAME_BYTES : 0;
    struct slice value = slice_of(m->value.ptr + head, m->value.len - head);
    const struct datum *tail;
    struct place place;
    struct entry *at;
    uint64_t *index;
    TRY(decode_tail(v, m->output, value, &k->tape, &tail, e));
    index = map64_get(&v->places, place_key(m->output, tail[TAIL_PARTITION].i,
                                            tail[TAIL_OFFSET].i));
    place = (struct place){(int32_t)tail[TAIL_PARTITION].i, tail[TAIL_OFFSET].i,
                           m->output};
    if (!index) {
        atomic_fetch_add(&v->extra, 1);
        return keep_first(v, place, value, e);
    }
    at = &v->entries[*index];
    if (at->seen == SEEN_NOT)
        at->seen = at->value == hash64(value) ? SEEN_EQUAL : SEEN_DIFFERS;
    return at->seen == SEEN_EQUAL ? RC_OK : keep_first(v, place, value, e);
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
    struct datum *at = calloc(outputs_datums_max(v->config), sizeof *at);
    if (!k || !at) {
        free(k);
        free(at);
        return ERR(e, RC_STOP, "verify: no memory");
    }
    k->sink.ops = &OPS;
    k->sink.ignores = inner->ignores & ~v->outputs;
    k->verify = v;
    k->inner = inner;
    k->tape = (struct tape){.at = at, .max = outputs_datums_max(v->config)};
    *out = &k->sink;
    return RC_OK;
}

/* --- the result --------------------------------------------------------- */

void verify_result(const struct verify *v, struct verify_result *out)
{
    struct place first = v->made_at;
    *out = (struct verify_result){.extra = v->extra, .repeated = v->repeated};
    for (size_t i = 0; i < v->places.count; i++) {
        const struct entry *at = &v->entries[i];
        const struct place place = {at->partition, at->offset,
                                    (enum output)at->output};
        if (!is_inside(v, at)) {
            out->outside++;
            continue;
        }
        out->equal += at->seen == SEEN_EQUAL;
        out->differ += at->seen == SEEN_DIFFERS;
        out->missing += at->seen == SEEN_NOT;
        if (at->seen != SEEN_EQUAL && is_before(&place, &first)) first = place;
    }
    out->partition = first.partition;
    out->offset = first.offset;
    out->output = first.output;
}

enum rc verify_first(struct verify *v, struct slice *recorded,
                     struct slice *made, struct err *e)
{
    struct verify_result r;
    struct place first;
    enum rc rc = RC_OK;
    *recorded = *made = (struct slice){0};
    verify_result(v, &r);
    first = (struct place){r.partition, r.offset, r.output};
    if (first.partition < 0) return RC_OK;
    if (is_before(&first, &v->made_at)) v->made.there = false; /* missing */
    v->wanted = &first;
    for (uint32_t i = 0; rc == RC_OK && i < v->file_count; i++)
        rc = read_file(v, v->files[i], e);
    if (rc == RC_OK && v->topics) rc = verify_read_topics(v, e);
    v->wanted = NULL;
    if (v->recorded.there)
        *recorded = slice_of(v->recorded.at, v->recorded.len);
    if (v->made.there) *made = slice_of(v->made.at, v->made.len);
    return rc;
}

const struct schema *verify_schema(const struct verify *v, enum output output)
{
    return v->schemas[output];
}
