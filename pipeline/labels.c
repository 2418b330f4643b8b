#include "labels.h"

#include "container.h"
#include "framing.h"
#include "hash.h"
#include "log.h"
#include "map64.h"
#include "schemas.h"
#include "source_kafka.h"
#include "train.h"

/* Places of the fields in schemas/label.avsc; a test holds them to it. */
enum { FIELD_EVENT_ID = 0, FIELD_LABEL = 4, FIELD_LABELLED_AT = 5, FIELDS };

enum {
    BATCH_EVENTS = 256,
    POLL_WAIT_MS = 1000,
};

struct labels {
    struct map64 at;   /* event id -> time << 1 | label */
    int64_t newest_ms; /* when the last of them became known */
};

static enum rc labels_new(struct labels **out, struct schema **reader,
                          struct err *e)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return ERR(e, RC_STOP, "labels: no memory");
    (*out)->newest_ms = INT64_MIN;
    return schema_parse(reader, schemas_get("label"), e);
}

/* One plain datum. RC_SKIP: it is no label. */
static enum rc keep(struct labels *l, const struct decoder *d,
                    struct slice value, struct err *e)
{
    struct datum at[1 + FIELDS], *fields = at + 1;
    struct tape tape = {.at = at, .max = 1 + FIELDS};
    uint64_t key, label, *place;
    int64_t at_ms;
    bool made;
    TRY(decoder_decode(d, value, &tape, e));
    key = hash64(fields[FIELD_EVENT_ID].s);
    at_ms = fields[FIELD_LABELLED_AT].i;
    label = (uint64_t)at_ms << 1 | (fields[FIELD_LABEL].i != 0 ? 1 : 0);
    if (key == 0) return ERR(e, RC_SKIP, "a label without event_id");
    place = map64_put(&l->at, key, label, &made);
    if (!place) return ERR(e, RC_STOP, "labels: no memory");
    if (at_ms >= (int64_t)*place >> 1) *place = label;
    if (at_ms > l->newest_ms) l->newest_ms = at_ms;
    return RC_OK;
}

/* --- files -------------------------------------------------------------- */

static enum rc read_records(struct labels *l, struct container_reader *r,
                            const struct decoder *d, const char *path,
                            struct err *e)
{
    for (;;) {
        struct slice value;
        bool ended = false;
        TRY(container_next(r, &value, &ended, e));
        if (ended) return RC_OK;
        if (keep(l, d, value, e) != RC_OK) {
            (void)err_context(e, "%s: reading a label", path);
            return RC_STOP;
        }
    }
}

static enum rc read_file(struct labels *l, const char *path,
                         const struct schema *reader, struct err *e)
{
    struct container_reader *r = NULL;
    struct decoder *d = NULL;
    enum rc rc = container_open(&r, path, e);
    if (rc != RC_OK) return rc;
    rc = decoder_compile(&d, container_schema(r), reader, e);
    if (rc != RC_OK)
        (void)err_context(e, "%s: not a file of labels (schemas/label.avsc)",
                          path);
    else
        rc = read_records(l, r, d, path, e);
    decoder_free(d);
    container_close(r);
    return rc;
}

enum rc labels_read(struct labels **out, const char *const *paths,
                    uint32_t count, struct err *e)
{
    struct schema *reader = NULL;
    enum rc rc = labels_new(out, &reader, e);
    for (uint32_t i = 0; rc == RC_OK && i < count; i++)
        rc = read_file(*out, paths[i], reader, e);
    schema_free(reader);
    if (rc != RC_OK) {
        labels_free(*out);
        *out = NULL;
    }
    return rc;
}

/* --- a topic ------------------------------------------------------------ */

/* What reading labels.topic needs. */
struct label_topic {
    struct labels *labels;
    struct source *source;
    struct registry *registry; /* NULL: values name no schema */
    struct framing *framing;
    struct batch batch;
};

static enum rc keep_message(struct label_topic *t, const struct record *r,
                            struct err *e)
{
    struct framed framed;
    TRY(framing_require(t->framing, r, &framed, e));
    return keep(t->labels, framed.decoder, framed.avro, e);
}

static enum rc read_messages(struct label_topic *t, const char *topic,
                             struct err *e)
{
    while (!source_ended(t->source)) {
        batch_reset(&t->batch);
        TRY(source_poll(t->source, &t->batch, POLL_WAIT_MS, e));
        for (uint32_t i = 0; i < t->batch.count; i++) {
            const struct record *r = &t->batch.records[i];
            enum rc rc = keep_message(t, r, e);
            if (rc == RC_SKIP)
                LOG(WARN, "BADLABEL", "topic=%s partition=%d offset=%lld: %s",
                    topic, r->partition, (long long)r->offset, e->text);
            else if (rc != RC_OK)
                return rc;
        }
        source_release(t->source);
    }
    return RC_OK;
}

static enum rc assign_all(struct source *s, struct err *e)
{
    struct source_change change;
    TRY(source_change(s, &change, e));
    if (change.kind != SOURCE_ASSIGNED) return RC_OK; /* no partition */
    for (uint32_t i = 0; i < change.count; i++)
        change.positions[i].offset = change.positions[i].log_start;
    return source_assign(s, change.positions, change.count, e);
}

static enum rc open_topic(struct label_topic *t, const struct config *c,
                          const struct schema *reader, struct err *e)
{
    const struct topic_range all = {
        .topic = c->labels_topic, .partition = -1, .until = -1};
    if (framing_names_schemas(c))
        TRY(registry_open(&t->registry, c, reader, e));
    TRY(framing_new(&t->framing, c, t->registry, reader, e));
    TRY(batch_init(&t->batch, BATCH_EVENTS, e));
    TRY(source_range_open(&t->source, c, &all, BATCH_EVENTS, e));
    return assign_all(t->source, e);
}

enum rc labels_read_topic(struct labels **out, const struct config *c,
                          struct err *e)
{
    struct label_topic t = {0};
    struct schema *reader = NULL;
    enum rc rc = labels_new(&t.labels, &reader, e);
    if (rc == RC_OK) rc = open_topic(&t, c, reader, e);
    if (rc == RC_OK) rc = read_messages(&t, c->labels_topic, e);
    if (t.source) source_close(t.source);
    batch_fini(&t.batch);
    framing_free(t.framing);
    registry_close(t.registry);
    schema_free(reader);
    if (rc != RC_OK) {
        labels_free(t.labels);
        return err_context(e, "labels.topic %s", c->labels_topic);
    }
    *out = t.labels;
    return RC_OK;
}

void labels_free(struct labels *l)
{
    if (!l) return;
    map64_fini(&l->at);
    free(l);
}

size_t labels_count(const struct labels *l)
{
    return l->at.count;
}

int8_t labels_find(const struct labels *l, uint64_t event_id, int64_t time_ms,
                   int64_t known_ms, int64_t delay_ms)
{
    const uint64_t *value;
    if (!l || event_id == 0) return LABEL_UNKNOWN;
    value = map64_get(&l->at, event_id);
    if (value && (int64_t)*value >> 1 < known_ms)
        return *value & 1 ? LABEL_FRAUD : LABEL_GOOD;
    if (value) return LABEL_UNKNOWN; /* it is not known yet, nor is silence */
    if (known_ms > l->newest_ms) known_ms = l->newest_ms;
    return known_ms >= INT64_MIN + delay_ms && time_ms <= known_ms - delay_ms
               ? LABEL_GOOD
               : LABEL_UNKNOWN;
}
