#include "labels.h"

#include "container.h"
#include "framing.h"
#include "hash.h"
#include "log.h"
#include "map64.h"
#include "source_kafka.h"
#include "train.h"

enum {
    BATCH_EVENTS = 256,
    POLL_WAIT_MS = 1000,
    LIST_FIRST = 1024,
    TEXT_BLOCK_BYTES = 1 << 20,
};

/* Texts of labels, one after the other. */
struct text_block {
    struct text_block *next;
    size_t used;
    uint8_t bytes[];
};

/* Where it was read is what decides between equals. */
struct listed {
    struct label label;
    size_t number;
    int32_t partition;
    int64_t offset;
};

struct labels {
    struct map64 at;   /* event id -> time << 1 | label */
    int64_t newest_ms; /* when the last of them became known */
    struct listed *list;
    size_t count, room;
    struct text_block *texts;
};

static enum rc labels_new(struct labels **out, struct schema **reader,
                          struct err *e)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return ERR(e, RC_STOP, "labels: no memory");
    (*out)->newest_ms = INT64_MIN;
    return label_schema(reader, e);
}

/* --- all of them, in order ---------------------------------------------- */

static uint8_t *take_bytes(struct labels *l, size_t bytes)
{
    struct text_block *b = l->texts;
    if (!b || bytes > TEXT_BLOCK_BYTES - b->used) {
        b = malloc(sizeof *b + TEXT_BLOCK_BYTES);
        if (!b) return NULL;
        b->next = l->texts;
        b->used = 0;
        l->texts = b;
    }
    b->used += bytes;
    return b->bytes + b->used - bytes;
}

static struct slice move_text(uint8_t **to, struct slice s)
{
    struct slice moved = slice_of(*to, s.len);
    if (s.len > 0) memcpy(*to, s.ptr, s.len);
    *to += s.len;
    return moved;
}

static enum rc keep_label(struct labels *l, const struct label *label,
                          const struct record *at, struct err *e)
{
    size_t bytes = label->event_id.len + label->user.len + label->item.len;
    uint8_t *to;
    struct label *kept;
    if (bytes > TEXT_BLOCK_BYTES)
        return ERR(e, RC_SKIP, "a label with ids of %zu bytes", bytes);
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : LIST_FIRST;
        void *bigger = realloc(l->list, room * sizeof *l->list);
        if (!bigger) return ERR(e, RC_STOP, "labels: no memory");
        l->list = bigger;
        l->room = room;
    }
    to = take_bytes(l, bytes);
    if (!to) return ERR(e, RC_STOP, "labels: no memory");
    l->list[l->count] = (struct listed){
        .label = *label,
        .number = l->count,
        .partition = at ? at->partition : 0,
        .offset = at ? at->offset : (int64_t)l->count,
    };
    kept = &l->list[l->count++].label;
    kept->event_id = move_text(&to, label->event_id);
    kept->user = move_text(&to, label->user);
    kept->item = move_text(&to, label->item);
    return RC_OK;
}

static int by_known(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;
    if (x->label.labelled_at_ms != y->label.labelled_at_ms)
        return x->label.labelled_at_ms < y->label.labelled_at_ms ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

static void put_in_order(struct labels *l)
{
    if (l->count > 0) qsort(l->list, l->count, sizeof *l->list, by_known);
}

size_t labels_read_count(const struct labels *l)
{
    return l->count;
}

const struct label *labels_in_order(const struct labels *l, size_t index)
{
    assert(index < l->count);
    return &l->list[index].label;
}

void labels_place(const struct labels *l, size_t index, int32_t *partition,
                  int64_t *offset)
{
    assert(index < l->count);
    *partition = l->list[index].partition;
    *offset = l->list[index].offset;
}

/* --- the newest of each event ------------------------------------------- */

/* One plain datum. RC_SKIP: it is no label. */
static enum rc keep(struct labels *l, const struct decoder *d,
                    struct slice value, const struct record *at, struct err *e)
{
    struct label read;
    uint64_t key, label, *place;
    bool made;
    TRY(label_decode(d, value, &read, e));
    TRY(keep_label(l, &read, at, e));
    key = hash64(read.event_id);
    label = (uint64_t)read.labelled_at_ms << 1 | (read.fraud ? 1 : 0);
    place = map64_put(&l->at, key, label, &made);
    if (!place) return ERR(e, RC_STOP, "labels: no memory");
    if (read.labelled_at_ms >= (int64_t)*place >> 1) *place = label;
    if (read.labelled_at_ms > l->newest_ms) l->newest_ms = read.labelled_at_ms;
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
        if (keep(l, d, value, NULL, e) != RC_OK) {
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
        return rc;
    }
    put_in_order(*out);
    return RC_OK;
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
    return keep(t->labels, framed.decoder, framed.avro, r, e);
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
                          const char *topic, const struct schema *reader,
                          struct err *e)
{
    const struct topic_range all = {
        .topic = topic, .partition = -1, .until = -1};
    if (framing_names_schemas(c))
        TRY(registry_open(&t->registry, c, reader, e));
    TRY(framing_new(&t->framing, c, t->registry, reader, e));
    TRY(batch_init(&t->batch, BATCH_EVENTS, e));
    TRY(source_range_open(&t->source, c, &all, BATCH_EVENTS, e));
    return assign_all(t->source, e);
}

enum rc labels_read_topic(struct labels **out, const struct config *c,
                          const char *topic, struct err *e)
{
    struct label_topic t = {0};
    struct schema *reader = NULL;
    enum rc rc = labels_new(&t.labels, &reader, e);
    if (rc == RC_OK) rc = open_topic(&t, c, topic, reader, e);
    if (rc == RC_OK) rc = read_messages(&t, topic, e);
    if (t.source) source_close(t.source);
    batch_fini(&t.batch);
    framing_free(t.framing);
    registry_close(t.registry);
    schema_free(reader);
    if (rc != RC_OK) {
        labels_free(t.labels);
        return err_context(e, "labels of topic %s", topic);
    }
    put_in_order(t.labels);
    *out = t.labels;
    return RC_OK;
}

void labels_free(struct labels *l)
{
    if (!l) return;
    map64_fini(&l->at);
    while (l->texts) {
        struct text_block *next = l->texts->next;
        free(l->texts);
        l->texts = next;
    }
    free(l->list);
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
