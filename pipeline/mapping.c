/* mapping.c - messages to events: framing, decoding, then role by role. */
#include "mapping.h"

#include <math.h>
#include <stdlib.h>

#include "framing.h"
#include "hash.h"
#include "label.h"
#include "role_value.h"
#include "stages.h"
#include "train.h"
#include "utf8.h"

enum {
    TAPE_DATUMS_MAX = 1 << 16, /* values of one message, containers included */
    SCHEMA_WAIT_MS = 50,       /* in the batch, for a schema met first; then
                                  its partition is held */
    DETAIL_BYTES = 128,        /* what is kept of a decoder's message */
    TEXT_ROLES = 6 + EXTRA_MAX,
};

struct role {
    bool mapped;
    struct schema_field field;
};

struct mapping {
    const struct config *config;
    struct framing *framing;
    struct framing *label_framing; /* NULL: no labels come */
    struct schema *label_schema;
    struct tape tape;
    bool decoded; /* the tape holds the last event */

    struct role user, event_id, item, time, amount, type, category, channel,
        text, label;
    struct role numbers[EXTRA_MAX], categories[EXTRA_MAX];
    uint32_t number_count, category_count;
    struct time_unit time_unit;
    uint32_t amount_scale; /* 1 where the field counts 1/scale units */

    /* Where the top-level fields of the last event begin on the tape. */
    uint32_t *starts;
    uint32_t starts_max; /* as many as the roles need */

    /* Texts made of numbers, and details: sized so that no event can find it
     * full, since then what becomes of it would hang on its neighbours. */
    struct arena texts;
    uint32_t texts_events;
    size_t texts_event_bytes;
};

/* ------------------------------------------------------------ at start */

static enum rc role_map(struct mapping *m, struct role *r, const char *key,
                        const char *path, enum role_kind kind,
                        const struct schema *reader, struct err *e)
{
    *r = (struct role){0};
    if (!path || !path[0]) return RC_OK;
    if (schema_find(reader, path, &r->field, e) != RC_OK)
        return err_context(e, "%s = %s", key, path);
    if (!role_usable(kind, &r->field))
        return ERR(e, RC_STOP, "%s = %s: the field is a %s%s%s; it must be %s",
                   key, path, datum_kind_name(r->field.kind),
                   r->field.logical_type[0] ? " of logical type " : "",
                   r->field.logical_type, role_kinds(kind));
    r->mapped = true;
    if (r->field.path[0] >= m->starts_max) m->starts_max = r->field.path[0] + 1;
    return RC_OK;
}

static enum rc roles_map(struct mapping *m, const struct config *c,
                         const struct schema *reader, struct err *e)
{
    const struct {
        struct role *role;
        const char *key, *path;
        enum role_kind kind;
    } ROLES[] = {
        {&m->user, "role.user", c->role_user, ROLE_ID},
        {&m->event_id, "role.event_id", c->role_event_id, ROLE_ID},
        {&m->item, "role.item", c->role_item, ROLE_ID},
        {&m->time, "role.time", c->role_time, ROLE_TIME},
        {&m->amount, "role.amount", c->role_amount, ROLE_AMOUNT},
        {&m->type, "role.type", c->role_type, ROLE_ID},
        {&m->category, "role.category", c->role_category, ROLE_ID},
        {&m->channel, "role.channel", c->role_channel, ROLE_ID},
        {&m->text, "role.text", c->role_text, ROLE_TEXT},
        {&m->label, "role.label", c->role_label, ROLE_LABEL},
    };
    for (size_t i = 0; i < sizeof ROLES / sizeof ROLES[0]; i++)
        TRY(role_map(m, ROLES[i].role, ROLES[i].key, ROLES[i].path,
                     ROLES[i].kind, reader, e));
    if (!m->user.mapped)
        return ERR(e, RC_STOP,
                   "role.user is empty; name the field that says "
                   "whose event it is");
    if (m->time.mapped)
        m->time_unit = role_time_unit(&m->time.field, c->role_time_unit);
    m->amount_scale = c->role_amount_minor ? 1 : c->role_amount_scale;
    return RC_OK;
}

static enum rc features_map(struct mapping *m, const struct config *c,
                            const struct schema *reader, struct err *e)
{
    if (c->feature_numbers.count > EXTRA_MAX ||
        c->feature_categories.count > EXTRA_MAX)
        return ERR(e, RC_STOP,
                   "feature.numbers and feature.categories may "
                   "have %d fields each",
                   EXTRA_MAX);
    m->number_count = c->feature_numbers.count;
    m->category_count = c->feature_categories.count;
    for (uint32_t i = 0; i < m->number_count; i++)
        TRY(role_map(m, &m->numbers[i], "feature.numbers",
                     c->feature_numbers.at[i], ROLE_NUMBER, reader, e));
    for (uint32_t i = 0; i < m->category_count; i++)
        TRY(role_map(m, &m->categories[i], "feature.categories",
                     c->feature_categories.at[i], ROLE_ID, reader, e));
    return RC_OK;
}

/* Room for every text that count events may need. */
static bool texts_reserve(struct mapping *m, uint32_t count)
{
    if (count <= m->texts_events) return true;
    arena_fini(&m->texts);
    m->texts_events = count;
    return arena_init(&m->texts, count * m->texts_event_bytes);
}

static void texts_measure(struct mapping *m)
{
    const struct role *roles[TEXT_ROLES] = {
        &m->user, &m->event_id, &m->item, &m->type, &m->category, &m->channel};
    for (uint32_t i = 0; i < m->category_count; i++)
        roles[6 + i] = &m->categories[i];
    m->texts_event_bytes = arena_round(DETAIL_BYTES);
    for (uint32_t i = 0; i < 6 + m->category_count; i++) {
        struct datum widest = {.kind = (uint8_t)roles[i]->field.kind};
        widest.s.len = roles[i]->field.size;
        if (roles[i]->mapped)
            m->texts_event_bytes += arena_round(role_id_bytes(&widest));
    }
}

static enum rc mapping_fill(struct mapping *m, const struct config *c,
                            const struct schema *reader,
                            struct registry *registry, struct err *e)
{
    m->config = c;
    TRY(roles_map(m, c, reader, e));
    TRY(features_map(m, c, reader, e));
    TRY(framing_new(&m->framing, c, registry, reader, e));
    texts_measure(m);
    m->tape.max = TAPE_DATUMS_MAX;
    m->tape.at = malloc(TAPE_DATUMS_MAX * sizeof *m->tape.at);
    m->starts = calloc(m->starts_max, sizeof *m->starts);
    if (m->tape.at && m->starts && texts_reserve(m, c->batch_events_max))
        return RC_OK;
    return ERR(e, RC_STOP, "out of memory for a mapping");
}

enum rc mapping_new(struct mapping **out, const struct config *c,
                    const struct schema *reader, struct registry *registry,
                    struct err *e)
{
    struct mapping *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m) return ERR(e, RC_STOP, "out of memory for a mapping");
    if (mapping_fill(m, c, reader, registry, e) != RC_OK) {
        mapping_free(m);
        return RC_STOP;
    }
    *out = m;
    return RC_OK;
}

enum rc mapping_read_plain(struct mapping *m, const struct schema *writer,
                           const struct schema *reader, struct err *e)
{
    return framing_read_plain(m->framing, writer, reader, e);
}

enum rc mapping_read_labels(struct mapping *m, bool plain,
                            struct registry *registry, struct err *e)
{
    assert(!m->label_framing);
    TRY(label_schema(&m->label_schema, e));
    TRY(framing_new(&m->label_framing, m->config, registry, m->label_schema,
                    e));
    if (!plain) return RC_OK;
    return framing_read_plain(m->label_framing, m->label_schema,
                              m->label_schema, e);
}

void mapping_free(struct mapping *m)
{
    if (!m) return;
    framing_free(m->framing);
    framing_free(m->label_framing);
    schema_free(m->label_schema);
    free(m->tape.at);
    free(m->starts);
    arena_fini(&m->texts);
    free(m);
}

const struct tape *mapping_tape(const struct mapping *m)
{
    return m->decoded ? &m->tape : NULL;
}

void mapping_set_config(struct mapping *m, const struct config *c)
{
    m->config = c;
}

uint32_t mapping_fields(const struct mapping *m)
{
    return (m->item.mapped ? TRAIN_ITEM : 0u) |
           (m->type.mapped ? TRAIN_TYPE : 0u) |
           (m->category.mapped ? TRAIN_CATEGORY : 0u) |
           (m->channel.mapped ? TRAIN_CHANNEL : 0u) |
           (m->amount.mapped ? TRAIN_AMOUNT : 0u) |
           (m->time.mapped ? TRAIN_TIME : 0u);
}

/* ------------------------------------------------------------- an event */

/* One event on its way; a fault ends it. */
struct work {
    struct mapping *m;
    const struct record *r;
    struct event *ev;
    enum bad_reason bad;
    const char *detail;
};

static bool fault(struct work *w, enum bad_reason bad, const char *detail)
{
    w->bad = bad;
    w->detail = detail;
    return false;
}

static const struct datum *unwrap(const struct datum *d)
{
    while (d->kind == DATUM_UNION)
        d++;
    return d->kind == DATUM_NULL ? NULL : d;
}

/* The value of a role, or NULL where it is null or not mapped. */
static const struct datum *get(const struct mapping *m, const struct role *r)
{
    const struct datum *d;
    if (!r->mapped) return NULL;
    d = unwrap(&m->tape.at[m->starts[r->field.path[0]]]);
    for (uint32_t depth = 1; d && depth < r->field.depth; depth++) {
        d++;
        for (uint32_t i = 0; i < r->field.path[depth]; i++)
            d += d->span;
        d = unwrap(d);
    }
    return d;
}

/* False: the event itself is null. */
static bool starts_find(struct mapping *m)
{
    const struct datum *record = unwrap(m->tape.at);
    uint32_t at;
    if (!record) return false;
    at = (uint32_t)(record - m->tape.at) + 1;
    for (uint32_t i = 0; i < m->starts_max; i++) {
        m->starts[i] = at;
        at += m->tape.at[at].span;
    }
    return true;
}

/* Empty where the role has no value. */
static struct slice id_text(struct mapping *m, const struct role *r)
{
    const struct datum *d = get(m, r);
    size_t bytes;
    if (!d) return slice_of(NULL, 0);
    bytes = role_id_bytes(d);
    return role_id(d, bytes ? arena_take(&m->texts, bytes, 1) : NULL);
}

static bool text_id(struct work *w, const struct role *r, const char *detail,
                    struct slice *out)
{
    *out = id_text(w->m, r);
    if (out->len > MAPPING_ID_BYTES_MAX || !utf8_valid(*out))
        return fault(w, BAD_TEXT, detail);
    return true;
}

static bool take_user(struct work *w, struct slice user, const char *none)
{
    if (user.len == 0) return fault(w, BAD_USER, none);
    if (user.len > w->m->config->user_bytes_max)
        return fault(w, BAD_USER, "the user id is longer than user.bytes.max");
    if (!utf8_valid(user)) return fault(w, BAD_TEXT, "user is not UTF-8");
    w->ev->user = user;
    return true;
}

static bool set_user(struct work *w)
{
    return take_user(w, id_text(w->m, &w->m->user), "no user");
}

static bool set_forgotten(struct work *w)
{
    w->ev->forget = true;
    return take_user(w, w->r->key, "neither a value nor a key");
}

static bool set_ids(struct work *w)
{
    struct mapping *m = w->m;
    struct event *ev = w->ev;
    if (!text_id(w, &m->item, "item is not UTF-8, or over 1024 bytes",
                 &ev->item))
        return false;
    if (!text_id(w, &m->event_id, "event id is not UTF-8, or over 1024 bytes",
                 &ev->event_id))
        return false;
    ev->past.item = hash64(ev->item);
    ev->past.event_id = hash64(ev->event_id);
    ev->past.type = hash64(id_text(m, &m->type));
    ev->past.category = hash64(id_text(m, &m->category));
    ev->past.channel = hash64(id_text(m, &m->channel));
    return true;
}

static bool set_time(struct work *w)
{
    const struct mapping *m = w->m;
    const struct datum *d = get(m, &m->time);
    int64_t ahead_max = m->config->time_future_max;
    int64_t logged = w->r->timestamp_ms, ms;
    if (!m->time.mapped) {
        w->ev->time_ms = w->r->offset;
        w->ev->past.flags |= PAST_NO_TIME;
    } else {
        if (!d) return fault(w, BAD_TIME, "no time");
        if (!role_time(d, m->time_unit, &ms))
            return fault(w, BAD_TIME, "not a time in the years 1 to 9999");
        if (ahead_max > 0 && logged >= 0 && ms > logged &&
            ms - logged > ahead_max)
            return fault(w, BAD_TIME,
                         "ahead of the log by more than "
                         "time.future.max");
        w->ev->time_ms = ms;
    }
    w->ev->past.time_ms = w->ev->time_ms;
    return true;
}

static bool set_amount(struct work *w)
{
    const struct mapping *m = w->m;
    const struct datum *d = get(m, &m->amount);
    if (!d) {
        w->ev->past.flags |= PAST_NO_AMOUNT;
        return true;
    }
    if (role_amount(d, &m->amount.field, m->amount_scale, &w->ev->past.amount))
        return true;
    return fault(w, BAD_AMOUNT,
                 "the amount is not finite, or beyond 10^15 "
                 "units of 1/role.amount.scale");
}

static bool set_text(struct work *w)
{
    const struct datum *d = get(w->m, &w->m->text);
    if (!d) return true;
    if (!utf8_valid(d->s)) return fault(w, BAD_TEXT, "text is not UTF-8");
    w->ev->text = d->s;
    w->ev->text_cut = d->s.len > w->m->config->text_bytes_max;
    if (w->ev->text_cut)
        w->ev->text.len = utf8_floor(d->s, w->m->config->text_bytes_max);
    return true;
}

static void set_features(struct work *w)
{
    struct mapping *m = w->m;
    struct past_event *past = &w->ev->past;
    const struct datum *d = get(m, &m->label);
    w->ev->label = d ? role_label(d) : LABEL_UNKNOWN;
    w->ev->labelled_at_ms = w->ev->time_ms;
    for (uint32_t i = 0; i < EXTRA_MAX; i++) {
        d = i < m->number_count ? get(m, &m->numbers[i]) : NULL;
        past->number[i] = d ? role_number(d, &m->numbers[i].field) : NAN;
        past->categorical[i] =
            i < m->category_count ? hash64(id_text(m, &m->categories[i])) : 0;
    }
}

/* Finds the decoder of the message and its Avro bytes. */
static bool unframe(struct work *w, struct framing *framing, struct framed *out)
{
    if (w->r->value.len > w->m->config->record_bytes_max)
        return fault(w, BAD_TOO_LARGE, "longer than record.bytes.max");
    *out = framing_look(framing, w->r);
    w->ev->waits = out->waits;
    if (out->waits) return false;
    return out->decoder ? true : fault(w, BAD_SCHEMA_ID, out->fault);
}

static bool fault_bytes(struct work *w, const struct err *e)
{
    char *detail = arena_take(&w->m->texts, DETAIL_BYTES, 1);
    (void)snprintf(detail, DETAIL_BYTES, "%.*s", DETAIL_BYTES - 1, e->text);
    return fault(w, BAD_BYTES, detail);
}

static bool decode(struct work *w)
{
    struct mapping *m = w->m;
    struct framed framed;
    struct err e;
    if (!unframe(w, m->framing, &framed)) return false;
    m->decoded =
        decoder_decode(framed.decoder, framed.avro, &m->tape, &e) == RC_OK;
    return m->decoded ? true : fault_bytes(w, &e);
}

static bool event_fill(struct work *w)
{
    w->m->decoded = false;
    if (!w->r->value.ptr) return set_forgotten(w);
    if (!decode(w)) return false;
    if (!starts_find(w->m)) return fault(w, BAD_USER, "the event is null");
    if (!set_user(w) || !set_ids(w) || !set_time(w) || !set_amount(w) ||
        !set_text(w))
        return false;
    set_features(w);
    return true;
}

/* A record of the input of labels. One that names no item is of its user
 * alone. */
static bool label_fill(struct work *w)
{
    struct event *ev = w->ev;
    struct framed framed;
    struct label l;
    struct err e;
    ev->is_label = true;
    if (!w->r->value.ptr) return fault(w, BAD_BYTES, "a label without a value");
    if (!unframe(w, w->m->label_framing, &framed)) return false;
    if (label_decode(framed.decoder, framed.avro, &l, &e) != RC_OK)
        return fault_bytes(w, &e);
    if (l.event_id.len > MAPPING_ID_BYTES_MAX ||
        l.item.len > MAPPING_ID_BYTES_MAX)
        return fault(w, BAD_BYTES, "a label with an id over 1024 bytes");
    ev->event_id = l.event_id;
    ev->item = l.item;
    ev->past.event_id = hash64(l.event_id);
    ev->past.time_ms = ev->time_ms = l.time_ms;
    ev->labelled_at_ms = l.labelled_at_ms;
    ev->label = l.fraud ? LABEL_FRAUD : LABEL_GOOD;
    return take_user(w, l.user, "a label without a user");
}

static void event_decode_one(struct mapping *m, struct batch *b, uint32_t i)
{
    struct work w = {.m = m, .r = &b->records[i], .ev = &b->events[i]};
    *w.ev = (struct event){
        .label = LABEL_UNKNOWN, .fold = w.ev->fold, .item_label_offset = -1};
    if (!(w.r->input == INPUT_LABELS ? label_fill(&w) : event_fill(&w)) &&
        !w.ev->waits)
        batch_mark(b, i, w.bad, w.detail);
}

void event_decode(struct mapping *m, struct batch *b)
{
    bool room = texts_reserve(m, b->events_max);
    uint32_t waiting = 0;
    assert(room); /* only a batch larger than the first ever takes more */
    arena_reset(&m->texts);
    for (uint32_t i = 0; i < b->count; i++) {
        event_decode_one(m, b, i);
        waiting += b->events[i].waits;
    }
    if (waiting == 0) return;
    (void)framing_await(m->framing, SCHEMA_WAIT_MS);
    if (m->label_framing) (void)framing_await(m->label_framing, SCHEMA_WAIT_MS);
    for (uint32_t i = 0; i < b->count; i++)
        if (b->events[i].waits) event_decode_one(m, b, i);
}

uint32_t mapping_answers(const struct mapping *m)
{
    return framing_answers(m->framing) +
           (m->label_framing ? framing_answers(m->label_framing) : 0);
}
