#include "random_model.h"

#include "hash.h"

#include <math.h>
#include <stdlib.h>

enum { NAME_BYTES = 24, FEATURE_NAMES = 64, START_MS = 1600000000 };

static void fail(const char *what)
{
    (void)fprintf(stderr, "random model: %s\n", what);
    abort();
}

static uint64_t item_hash(uint64_t item)
{
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof name, "item-%u", (unsigned)item);
    return hash64(slice_str(name));
}

static void add_field(struct behaviour_config *c, const char *name,
                      enum field_kind kind, uint32_t ids)
{
    struct behaviour_field *f = &c->field[c->field_count++];
    (void)snprintf(f->name, sizeof f->name, "%s", name);
    f->kind = kind;
    f->rows = field_rows(kind, ids, c->item_buckets);
    f->predicted = kind != FIELD_LATE;
}

static struct behaviour_config config_of(const struct random_shape *s)
{
    struct behaviour_config c = {
        .layers = s->layers,
        .width = s->width,
        .heads = s->heads,
        .ffn = s->ffn,
        .window = s->window,
        .items = s->items,
        .item_buckets = 8,
        .has_time = s->has_time,
        .kv_bf16 = s->kv_bf16,
        .features = s->features,
        .bins = BINS,
        .fraud_heads = s->features > 0 ? 2 : 0,
        .fraud_width = s->features > 0 ? 16 : 0,
    };
    if (s->items > 0) add_field(&c, "item", FIELD_ITEM, s->items);
    add_field(&c, "type", FIELD_TYPE, 0);
    add_field(&c, "amount_level", FIELD_AMOUNT_LEVEL, 0);
    add_field(&c, "amount_ratio", FIELD_AMOUNT_RATIO, 0);
    if (s->has_time) {
        add_field(&c, "gap", FIELD_GAP, 0);
        add_field(&c, "hour", FIELD_HOUR, 0);
        add_field(&c, "weekday", FIELD_WEEKDAY, 0);
        add_field(&c, "late", FIELD_LATE, 0);
    }
    return c;
}

static void name_items(struct model *m, uint32_t items, bool generated)
{
    struct vocabulary_entry *entries = calloc(items + 1, sizeof *entries);
    char(*names)[NAME_BYTES] = calloc(items + 1, sizeof *names);
    struct err e;
    if (!entries || !names) fail("no memory");
    for (uint32_t i = 0; i < items; i++) {
        (void)snprintf(names[i], sizeof names[i],
                       generated ? "i%06u" : "item-%u", i);
        entries[i].text = slice_str(names[i]);
        entries[i].hash = hash64(entries[i].text);
        entries[i].events = items - i;
    }
    if (vocabulary_build(&m->tokeniser.vocabulary[m->item_field], entries,
                         items, items, &e) != RC_OK)
        fail(e.text);
    free(entries);
    free(names);
}

/* Also what training starts at zero or one, so that no term is idle. */
static void start_values(struct model *m, uint64_t seed)
{
    params_start(&m->params, seed, m->values);
    for (uint32_t t = 0; t < m->params.count; t++) {
        const struct tensor *tensor = &m->params.tensor[t];
        size_t reals = (size_t)tensor->rows * tensor->cols;
        if (tensor->start == START_NORMAL) continue;
        for (size_t i = 0; i < reals; i++)
            m->values[tensor->offset + i] +=
                draw_unit(draw(seed + 1, t, i)) - 0.5f;
    }
}

static void start_tables(struct model *m)
{
    const struct behaviour_config *c = &m->params.config;
    struct head_tables *t = &m->tables;
    for (uint32_t f = 0; f < c->features; f++) {
        t->feature_scale[f] = 1;
        for (uint32_t b = 0; b <= c->bins; b++)
            t->feature_border[f * (c->bins + 1) + b] = (float)b - 4;
    }
    t->calibration[0] = 1;
    t->reference_count =
        c->items < REFERENCE_ITEMS ? c->items : REFERENCE_ITEMS;
    for (uint32_t i = 0; i < t->reference_count; i++)
        t->reference[i] = i;
    t->depth = 10;
    for (uint32_t i = 0; i < QUANTILE_POINTS; i++) {
        t->total_quantile[i] = (float)i;
        for (uint32_t f = 0; f < FIELDS_MAX; f++)
            t->field_quantile[f][i] = (float)i / 4;
        for (uint32_t k = 0; k < OWN_MEASURES; k++)
            t->own_quantile[k][i] = (float)i / 8;
    }
}

/* One feature in three is usually missing. */
static void start_reference(struct model *m, uint64_t seed)
{
    const struct behaviour_config *c = &m->params.config;
    real hidden[WIDTH_MAX];
    float features[FEATURE_NAMES];
    for (uint32_t k = 0; k < c->width; k++)
        hidden[k] = draw_unit(draw(seed + 2, k, 0)) - 0.5f;
    for (uint32_t f = 0; f < c->features; f++)
        features[f] = f % 3 == 2 ? NAN : draw_unit(draw(seed + 2, f, 1)) * 4;
    model_set_reference(m, hidden, features);
}

struct model *random_model(struct random_shape shape, uint64_t seed)
{
    return random_model_named(shape, (struct random_names){0}, seed);
}

struct model *random_model_named(struct random_shape shape,
                                 struct random_names given, uint64_t seed)
{
    struct behaviour_config c = config_of(&shape);
    char names[FEATURE_NAMES][NAME_BYTES];
    const char *list[FEATURE_NAMES];
    struct model *m;
    struct err e;

    if (shape.features > FEATURE_NAMES) fail("too many features");
    for (uint32_t f = 0; f < shape.features; f++) {
        (void)snprintf(names[f], sizeof names[f], "feature_%u", f);
        list[f] = given.features ? given.features[f] : names[f];
    }
    if (behaviour_config_check(&c, &e) != RC_OK) fail(e.text);
    if (model_new(&m, &c, 100, list, &e) != RC_OK) fail(e.text);
    if (shape.items > 0) name_items(m, shape.items, given.generated_items);
    start_values(m, seed);
    start_tables(m);
    if (shape.features > 0) start_reference(m, seed);
    m->behaviour = behaviour_new(&m->params, m->values);
    m->heads = heads_new(&m->params, m->values, &m->tables);
    if (shape.items > 0)
        m->items =
            top_k_index_new(params_of(&m->params, m->values,
                                      m->params.embedding[m->item_field]),
                            shape.items, shape.width);
    if (!m->behaviour || !m->heads || (shape.items > 0 && !m->items))
        fail("no memory");
    return m;
}

struct past_event random_event(const struct random_shape *shape, uint64_t seed,
                               uint64_t user, uint64_t n)
{
    uint64_t bits = draw(seed, user, n);
    struct past_event ev = {
        .time_ms = (int64_t)START_MS * 1000 + (int64_t)(n * 7200000) +
                   (int64_t)(bits % 10000000),
        .gap_ms = n == 0 ? -1 : (int64_t)(bits >> 40),
        .amount = (int64_t)(bits % 100000),
        .item = item_hash(hash_mix(bits) % (shape->items + 1)),
        .event_id = bits,
        .type = 1 + bits % 5,
        .amount_log_ratio = (float)(bits % 1000) / 200 - 2.5f,
        .flags = bits % 16 == 0 ? PAST_LATE : 0,
    };
    return ev;
}
