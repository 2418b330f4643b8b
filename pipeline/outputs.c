#include "outputs.h"

#include <math.h>

#include "enrichment.h"
#include "framing.h"
#include "reason_text.h"
#include "schemas.h"

enum {
    FRAME_BYTES = 5,      /* Confluent: magic byte, schema id u32be */
    NUMBER_BYTES = 24,    /* a 64-bit number as text */
    FIXED_BYTES = 256,    /* of a record: numbers, lengths, hashes */
    PER_EVENT = 3,        /* score, list and profile, or one dead letter */
    EMBEDDING_MAX = 1024, /* numbers of a profile's */
    LIST_ITEM_DATUMS = 4, /* a record, its id, score and propensity */
    REASON_DATUMS = 7,    /* a record and its fields, one of them a union */
    RECORD_DATUMS = 32,   /* the rest of either record */
    ARENA_BYTES = 1 << 20,
};

/* All messages of a good event, or none: *fits is false when the arena is
 * full. */
typedef enum rc add_fn(struct outputs *o, const struct batch *b, uint32_t i,
                       bool *fits, struct err *e);

struct outputs {
    add_fn *add; /* the stage's */
    enum stage_id passes_to;
    uint32_t item_features;
    uint64_t item_names; /* of the features */
    const struct policy *policy;
    const struct model *model;
    const char *topic;
    struct schema *schemas[OUTPUTS]; /* NULL: dead letters have none */
    uint32_t schema_ids[OUTPUTS];
    const char *model_hash, *family;
    uint32_t width; /* D */
    bool framed, has_fraud, marks_repeated;
    uint32_t ignores;         /* bits 1 << enum output */
    struct message *messages; /* (PER_EVENT * batch.events.max) */
    uint32_t count;
    struct tape tape;
    struct reason_words *words; /* (reasons.count) of the score at hand */
    struct arena arena;
};

static const char *const SCHEMA_NAMES[OUTPUTS] = {
    [OUTPUT_FRAUD] = "fraud_score",
    [OUTPUT_RECOMMENDATIONS] = "recommendations",
    [OUTPUT_PROFILES] = "profile",
};

uint32_t outputs_datums_max(const struct config *c)
{
    uint32_t list = LIST_ITEM_DATUMS * c->recommend_items;
    uint32_t reasons = REASON_DATUMS * c->reasons_count;
    uint32_t most = list > reasons ? list : reasons;
    return RECORD_DATUMS + (most > EMBEDDING_MAX ? most : EMBEDDING_MAX);
}

enum rc outputs_parse_schemas(struct schema *out[OUTPUTS], struct err *e)
{
    for (uint32_t i = 0; i < OUTPUTS; i++) {
        out[i] = NULL;
        if (!SCHEMA_NAMES[i]) continue;
        TRY(schema_parse(&out[i], schemas_get(SCHEMA_NAMES[i]), e));
    }
    return RC_OK;
}

void outputs_free(struct outputs *o)
{
    if (!o) return;
    for (uint32_t i = 0; i < OUTPUTS; i++)
        schema_free(o->schemas[i]);
    free(o->messages);
    free(o->tape.at);
    free(o->words);
    arena_fini(&o->arena);
    free(o);
}

void outputs_set_serving(struct outputs *o, const struct model *model,
                         const struct policy *policy)
{
    const struct model_info *info = model ? model_info(model) : NULL;
    o->policy = policy;
    o->model = model;
    o->model_hash = info ? info->hash : NULL;
    o->family = info ? info->family : NULL;
    o->has_fraud = info && info->has_fraud;
    o->width = info ? info->width : 0;
}

/* --- one record on the tape --------------------------------------------- */

static struct datum *put(struct tape *t, enum datum_kind kind)
{
    assert(t->count < t->max);
    t->at[t->count] = (struct datum){.kind = (uint8_t)kind, .span = 1};
    return &t->at[t->count++];
}

static void put_text(struct tape *t, struct slice s)
{
    put(t, DATUM_STRING)->s = s;
}

static void put_long(struct tape *t, enum datum_kind kind, int64_t i)
{
    put(t, kind)->i = i;
}

static void put_float(struct tape *t, enum datum_kind kind, double d)
{
    put(t, kind)->d = d;
}

/* The record's span, once its last field is on the tape. */
static void end_container(struct tape *t, uint32_t at, uint32_t count)
{
    t->at[at].count = count;
    t->at[at].span = t->count - at;
}

/* The fields that close both records: where it was made, and of what. */
static void put_origin(const struct outputs *o, struct tape *t,
                       const struct record *r)
{
    put_text(t, slice_str(o->model_hash));
    put_text(t, slice_str(o->family));
    put_text(t, slice_str(o->policy->hash));
    put_text(t, slice_str(o->topic));
    put_long(t, DATUM_INT, r->partition);
    put_long(t, DATUM_LONG, r->offset);
}

/* A union of null and a float or double. */
static void put_optional(struct tape *t, bool is_there, enum datum_kind kind,
                         double d)
{
    uint32_t at = t->count;
    put_long(t, DATUM_UNION, is_there ? 1 : 0);
    if (is_there)
        put_float(t, kind, d);
    else
        (void)put(t, DATUM_NULL);
    t->at[at].span = 2;
}

static void put_reason(const struct outputs *o, struct tape *t,
                       const struct reason *r, struct reason_words *words)
{
    uint32_t at = t->count;
    const char *name = NULL;
    if (r->part == REASON_FEATURE)
        name = model_feature_name(o->model, r->feature);
    reason_text(r, name, words);
    (void)put(t, DATUM_RECORD);
    put_text(t, slice_str(words->code));
    put_text(t, slice_str(words->text));
    put_text(t, slice_str(words->feature));
    put_optional(t, !isnan(r->value), DATUM_DOUBLE, (double)r->value);
    put_float(t, DATUM_FLOAT, (double)r->log_odds);
    end_container(t, at, 5);
}

static void put_reasons(struct outputs *o, struct tape *t,
                        const struct outcome *u)
{
    const struct reasons *r = u->reasons;
    uint32_t array;
    put_long(t, DATUM_ENUM, u->reasons_state);
    put_text(t, slice_str(r ? model_info(o->model)->reference : ""));
    put_optional(t, r, DATUM_FLOAT, r ? (double)r->base : 0);
    put_optional(t, r, DATUM_FLOAT, r ? (double)r->log_odds : 0);
    array = t->count;
    (void)put(t, DATUM_ARRAY);
    for (uint32_t i = 0; r && i < r->count; i++)
        put_reason(o, t, &r->at[i], &o->words[i]);
    end_container(t, array, r ? r->count : 0);
}

/* In the order of schemas/fraud_score.avsc. */
static void tape_fraud(struct outputs *o, struct tape *t, const struct batch *b,
                       uint32_t i)
{
    const struct event *ev = &b->events[i];
    const struct outcome *u = &b->outcomes[i];
    t->count = 0;
    (void)put(t, DATUM_RECORD);
    put_text(t, ev->event_id);
    put_text(t, ev->user);
    put_text(t, ev->item);
    put_long(t, DATUM_LONG, ev->time_ms);
    /* null for a model without a fraud head. */
    put_optional(t, o->has_fraud, DATUM_FLOAT, (double)u->fraud);
    put_float(t, DATUM_FLOAT, (double)u->anomaly);
    put_long(t, DATUM_BOOLEAN, u->flagged);
    put_float(t, DATUM_DOUBLE, o->policy->fraud_threshold);
    put_long(t, DATUM_LONG, u->label_offset);
    put_long(t, DATUM_LONG, ev->item_label_offset);
    put_reasons(o, t, u);
    put_origin(o, t, &b->records[i]);
    end_container(t, 0, 21);
}

/* In the order of schemas/recommendations.avsc. */
static void tape_list(struct outputs *o, struct tape *t, const struct batch *b,
                      uint32_t i)
{
    const struct event *ev = &b->events[i];
    const struct outcome *u = &b->outcomes[i];
    uint32_t array;
    t->count = 0;
    (void)put(t, DATUM_RECORD);
    put_text(t, ev->user);
    put_text(t, ev->event_id);
    put_long(t, DATUM_LONG, ev->time_ms);
    array = t->count;
    (void)put(t, DATUM_ARRAY);
    for (uint32_t k = 0; k < u->list_count; k++) {
        uint32_t item = t->count;
        (void)put(t, DATUM_RECORD);
        put_text(t, u->list[k].item);
        put_float(t, DATUM_FLOAT, (double)u->list[k].score);
        put_float(t, DATUM_DOUBLE, u->list[k].propensity);
        end_container(t, item, 3);
    }
    end_container(t, array, u->list_count);
    put_text(t, slice_str(list_source_name(u->list_source)));
    put_long(t, DATUM_LONG, u->catalogue_offset);
    put_origin(o, t, &b->records[i]);
    end_container(t, 0, 12);
}

/* null for a model without segments. */
static void put_segment(struct tape *t, int32_t segment)
{
    uint32_t at = t->count;
    put_long(t, DATUM_UNION, segment >= 0);
    if (segment >= 0)
        put_long(t, DATUM_INT, segment);
    else
        (void)put(t, DATUM_NULL);
    t->at[at].span = 2;
}

/* In the order of schemas/profile.avsc. */
static void tape_profile(struct outputs *o, struct tape *t,
                         const struct batch *b, uint32_t i)
{
    const struct event *ev = &b->events[i];
    const struct outcome *u = &b->outcomes[i];
    uint32_t array;
    t->count = 0;
    (void)put(t, DATUM_RECORD);
    put_text(t, ev->user);
    put_text(t, ev->event_id);
    put_long(t, DATUM_LONG, ev->time_ms);
    put_long(t, DATUM_LONG, (int64_t)u->n + 1);
    put_segment(t, u->segment);
    array = t->count;
    (void)put(t, DATUM_ARRAY);
    for (uint32_t d = 0; d < o->width; d++)
        put_float(t, DATUM_FLOAT, (double)u->hidden[d]);
    end_container(t, array, o->width);
    put_origin(o, t, &b->records[i]);
    end_container(t, 0, 12);
}

/* --- messages ----------------------------------------------------------- */

/* More than the encoded tape can take. */
static size_t tape_bytes_max(const struct tape *t)
{
    size_t bytes = FRAME_BYTES;
    for (uint32_t i = 0; i < t->count; i++)
        bytes += 10 + t->at[i].s.len; /* 10: the longest number */
    return bytes;
}

/* Encodes the tape into the arena. *fits is false, and nothing happened,
 * when the arena is full. */
static enum rc encode_value(struct outputs *o, enum output output,
                            struct slice *value, bool *fits, struct err *e)
{
    size_t size = tape_bytes_max(&o->tape), head = 0, used = 0;
    uint32_t id = o->schema_ids[output];
    uint8_t *out = arena_take(&o->arena, size, 1);
    *fits = out != NULL;
    if (!out) return RC_OK;
    if (o->framed) {
        out[0] = 0;
        for (uint32_t i = 0; i < 4; i++)
            out[1 + i] = (uint8_t)(id >> (24 - 8 * i));
        head = FRAME_BYTES;
    }
    if (encoder_encode(o->schemas[output], &o->tape, out + head, size - head,
                       &used, e) != RC_OK)
        /* The tape is ours and follows the schema, but texts come from
         * events: the mapping promised UTF-8 and bounded lengths. */
        return ERR(e, RC_STOP, "outputs: %s does not encode: %s",
                   SCHEMA_NAMES[output], e->text);
    *value = slice_of(out, head + used);
    return RC_OK;
}

/* What a header says of its message's own bytes, or event, is not true of an
 * output. */
static bool is_of_input(const struct header *h)
{
    return slice_equal(h->name, slice_str(FRAMING_VALUE_HEADER)) ||
           slice_equal(h->name, slice_str(FRAMING_KEY_HEADER)) ||
           slice_equal(h->name, slice_str(ENRICHMENT_HEADER));
}

static bool any_of_input(const struct record *r)
{
    for (uint32_t i = 0; i < r->header_count; i++)
        if (is_of_input(&r->headers[i])) return true;
    return false;
}

/* The event's own headers, those of its schema left out, and the mark of one
 * that repeats another. False when the arena is full. */
static bool take_headers(struct outputs *o, const struct record *r, bool marked,
                         struct message *m)
{
    struct header *h;
    uint32_t n = 0;
    m->headers = r->headers;
    m->header_count = r->header_count;
    if (!marked && !any_of_input(r)) return true;
    h = arena_take(&o->arena, r->header_count + 1, sizeof(struct header));
    if (!h) return false;
    if (marked)
        h[n++] = (struct header){slice_str(REPEATED_HEADER), slice_str("1")};
    for (uint32_t i = 0; i < r->header_count; i++)
        if (!is_of_input(&r->headers[i])) h[n++] = r->headers[i];
    m->headers = h;
    m->header_count = n;
    return true;
}

/* False when the arena is full. */
static bool add_message(struct outputs *o, const struct batch *b, uint32_t i,
                        enum output output, struct slice value)
{
    const struct event *ev = &b->events[i];
    const struct record *r = &b->records[i];
    bool no_time = ev->past.flags & PAST_NO_TIME, in_log = r->timestamp_ms >= 0;
    bool marked = b->outcomes[i].repeated && o->marks_repeated;
    struct message m = {
        .output = output,
        .timestamp_ms = in_log || no_time ? r->timestamp_ms : ev->time_ms,
        .key = ev->user,
        .value = value,
    };
    if (!take_headers(o, r, marked, &m)) return false;
    o->messages[o->count++] = m;
    return true;
}

static struct slice number_text(struct arena *a, long long number)
{
    char *text = arena_take(a, NUMBER_BYTES, 1);
    if (!text) return slice_of(NULL, 0);
    return slice_of(text, (size_t)snprintf(text, NUMBER_BYTES, "%lld", number));
}

/* False when the arena is full. */
static bool add_dead_letter(struct outputs *o, const struct batch *b,
                            uint32_t i)
{
    const struct record *r = &b->records[i];
    struct slice partition = number_text(&o->arena, r->partition);
    struct slice offset = number_text(&o->arena, r->offset);
    struct slice timestamp = number_text(&o->arena, r->timestamp_ms);
    struct header *h =
        arena_take(&o->arena, DEAD_LETTER_HEADERS + r->header_count, sizeof *h);
    if (!partition.ptr || !offset.ptr || !timestamp.ptr || !h) return false;
    h[0] = (struct header){slice_str(DEAD_LETTER_REASON),
                           slice_str(bad_reason_name(b->events[i].bad))};
    h[1] = (struct header){slice_str(DEAD_LETTER_DETAIL),
                           slice_str(b->events[i].detail)};
    h[2] = (struct header){slice_str(DEAD_LETTER_TOPIC), slice_str(o->topic)};
    h[3] = (struct header){slice_str(DEAD_LETTER_PARTITION), partition};
    h[4] = (struct header){slice_str(DEAD_LETTER_OFFSET), offset};
    h[5] = (struct header){slice_str(DEAD_LETTER_TIMESTAMP), timestamp};
    if (r->header_count > 0)
        memcpy(h + DEAD_LETTER_HEADERS, r->headers,
               r->header_count * sizeof *h);
    o->messages[o->count++] = (struct message){
        .output = OUTPUT_DEAD_LETTERS,
        .timestamp_ms = r->timestamp_ms,
        .key = r->key,
        .value = r->value,
        .headers = h,
        .header_count = DEAD_LETTER_HEADERS + r->header_count,
    };
    return true;
}

static bool is_made(const struct outputs *o, enum output output)
{
    return !(o->ignores & (1u << output));
}

typedef void tape_fn(struct outputs *o, struct tape *t, const struct batch *b,
                     uint32_t i);
static tape_fn *const TAPES[OUTPUTS] = {
    [OUTPUT_FRAUD] = tape_fraud,
    [OUTPUT_RECOMMENDATIONS] = tape_list,
    [OUTPUT_PROFILES] = tape_profile,
};

/* Whether a scored event makes one. */
static bool is_due(const struct event *ev, enum output output)
{
    switch (output) {
    case OUTPUT_FRAUD:
        return true;
    case OUTPUT_RECOMMENDATIONS:
        return ev->recommend;
    case OUTPUT_PROFILES:
        return ev->profile;
    default:
        return false;
    }
}

static enum rc add_scores(struct outputs *o, const struct batch *b, uint32_t i,
                          bool *fits, struct err *e)
{
    uint32_t before = o->count;
    if (!b->outcomes[i].scored) return RC_OK;
    for (uint32_t k = 0; *fits && k < OUTPUTS; k++) {
        struct slice value = slice_of(NULL, 0);
        if (!TAPES[k] || !is_due(&b->events[i], k) || !is_made(o, k)) continue;
        TAPES[k](o, &o->tape, b, i);
        TRY(encode_value(o, k, &value, fits, e));
        if (*fits) *fits = add_message(o, b, i, k, value);
    }
    if (!*fits) o->count = before;
    return RC_OK;
}

/* --- what is passed on -------------------------------------------------- */

static bool is_enrichment(const struct header *h)
{
    return slice_equal(h->name, slice_str(ENRICHMENT_HEADER));
}

static struct message passed(const struct record *r, enum output output,
                             struct slice key)
{
    return (struct message){.output = output,
                            .timestamp_ms = r->timestamp_ms,
                            .key = key,
                            .value = r->value,
                            .headers = r->headers,
                            .header_count = r->header_count};
}

/* In front, where nothing cuts it off, and in place of any that came. */
static bool enrich_headers(struct outputs *o, const struct batch *b, uint32_t i,
                           struct message *m)
{
    const struct record *r = &b->records[i];
    const struct outcome *u = &b->outcomes[i];
    size_t bytes = enrichment_bytes(o->item_features);
    uint8_t *value = arena_take(&o->arena, bytes, 1);
    struct header *h =
        arena_take(&o->arena, r->header_count + 1, sizeof(struct header));
    uint32_t n = 1;
    if (!value || !h) return false;
    enrichment_encode(u->features, o->item_features, o->item_names,
                      u->label_offset, value);
    h[0] =
        (struct header){slice_str(ENRICHMENT_HEADER), slice_of(value, bytes)};
    for (uint32_t k = 0; k < r->header_count; k++)
        if (!is_enrichment(&r->headers[k])) h[n++] = r->headers[k];
    m->headers = h;
    m->header_count = n;
    return true;
}

/* Also one that says that a user shall be forgotten. */
static enum rc add_enriched(struct outputs *o, const struct batch *b,
                            uint32_t i, bool *fits, struct err *e)
{
    const struct event *ev = &b->events[i];
    struct message m = passed(&b->records[i], OUTPUT_PASSED, ev->user);
    (void)e;
    if (ev->fold || ev->is_label) return RC_OK;
    *fits = ev->forget || enrich_headers(o, b, i, &m);
    if (*fits) o->messages[o->count++] = m;
    return RC_OK;
}

static enum rc add_routed(struct outputs *o, const struct batch *b, uint32_t i,
                          bool *fits, struct err *e)
{
    const struct event *ev = &b->events[i];
    const struct record *r = &b->records[i];
    bool by_item = o->passes_to == STAGE_ITEMS && ev->item.len > 0;
    (void)fits;
    (void)e;
    if (ev->fold) return RC_OK;
    if (!ev->is_label)
        o->messages[o->count++] =
            passed(r, OUTPUT_PASSED, by_item ? ev->item : ev->user);
    if (ev->is_label && ev->item.len > 0 && is_made(o, OUTPUT_ITEM_LABELS))
        o->messages[o->count++] = passed(r, OUTPUT_ITEM_LABELS, ev->item);
    if (ev->is_label && is_made(o, OUTPUT_USER_LABELS))
        o->messages[o->count++] = passed(r, OUTPUT_USER_LABELS, ev->user);
    return RC_OK;
}

/* --- a batch ------------------------------------------------------------ */

/* All messages of event i, or none when the arena is full. */
static enum rc add_event(struct outputs *o, const struct batch *b, uint32_t i,
                         bool *fits, struct err *e)
{
    const struct event *ev = &b->events[i];
    *fits = true;
    if (ev->bad == BAD_NONE) return o->add(o, b, i, fits, e);
    if (!ev->fold && is_made(o, OUTPUT_DEAD_LETTERS))
        *fits = add_dead_letter(o, b, i);
    return RC_OK;
}

enum rc outputs_encode(struct outputs *o, const struct batch *b, uint32_t *next,
                       const struct message **messages, uint32_t *count,
                       struct err *e)
{
    uint32_t from = *next;
    arena_reset(&o->arena);
    o->count = 0;
    for (; *next < b->count; (*next)++) {
        bool fits;
        TRY(add_event(o, b, *next, &fits, e));
        if (!fits && *next == from)
            return ERR(e, RC_STOP,
                       "outputs: partition %d, offset %lld makes more than "
                       "%zu bytes; lower recommend.items",
                       b->records[from].partition,
                       (long long)b->records[from].offset, o->arena.size);
        if (!fits) break;
    }
    *messages = o->messages;
    *count = o->count;
    return RC_OK;
}

/* --- taking memory ------------------------------------------------------ */

static void set_stage(struct outputs *o, const struct outputs_options *from)
{
    static add_fn *const ADD[STAGES] = {
        [STAGE_USERS] = add_scores,
        [STAGE_ITEMS] = add_enriched,
        [STAGE_ROUTE] = add_routed,
    };
    o->add = ADD[from->stage];
    o->passes_to =
        stages_has(from->config, STAGE_ITEMS) ? STAGE_ITEMS : STAGE_USERS;
    if (from->stage != STAGE_ITEMS) return;
    o->item_features = windows_features(from->windows);
    o->item_names = enrichment_names(from->windows);
}

enum rc outputs_new(struct outputs **out, const struct outputs_options *from,
                    struct err *e)
{
    struct outputs *o = calloc(1, sizeof *o);
    const struct config *c = from->config;
    size_t list_bytes = (size_t)c->recommend_items * (64 + FIXED_BYTES) +
                        (size_t)c->reasons_count * sizeof *o->words;
    if (!o) return ERR(e, RC_STOP, "outputs: no memory");
    set_stage(o, from);
    o->topic = from->topic;
    o->ignores = from->ignores;
    o->marks_repeated = c->repeat_policy == REPEAT_REEMIT;
    o->framed = c->output_format == OUTPUT_CONFLUENT;
    o->schema_ids[OUTPUT_FRAUD] = c->output_fraud_schema_id;
    o->schema_ids[OUTPUT_RECOMMENDATIONS] = c->output_recommendations_schema_id;
    o->schema_ids[OUTPUT_PROFILES] = c->output_profile_schema_id;
    if (from->schema_ids)
        memcpy(o->schema_ids, from->schema_ids, sizeof o->schema_ids);
    o->messages =
        calloc((size_t)PER_EVENT * c->batch_events_max, sizeof *o->messages);
    o->tape.max = outputs_datums_max(c);
    o->tape.at = calloc(o->tape.max, sizeof *o->tape.at);
    o->words = calloc(c->reasons_count, sizeof *o->words);
    if (!o->messages || !o->tape.at || !o->words ||
        !arena_init(&o->arena,
                    ARENA_BYTES + 2 * c->record_bytes_max + list_bytes)) {
        outputs_free(o);
        return ERR(e, RC_STOP, "outputs: no memory; lower batch.events.max");
    }
    if (outputs_parse_schemas(o->schemas, e) != RC_OK) {
        outputs_free(o);
        return e->rc;
    }
    *out = o;
    return RC_OK;
}
