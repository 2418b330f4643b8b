#include "spine_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "framing.h"
#include "hash.h"
#include "log.h"
#include "model_dir.h"
#include "outputs.h"
#include "random_model.h"
#include "shapes.h"

enum {
    VALUE_BYTES = 128,
    MESSAGES_MAX = 1 << 16,
    SINK_BYTES = 64 << 20,
    SETS_MAX = 32,
};

#define DIE(e)                                                                 \
    do {                                                                       \
        (void)fprintf(stderr, "%s\n", (e)->text);                              \
        abort();                                                               \
    } while (0)

static const char SCHEMA[] = "{\"type\":\"record\",\"name\":\"E\",\"fields\":["
                             "{\"name\":\"user\",\"type\":\"string\"},"
                             "{\"name\":\"item\",\"type\":\"string\"},"
                             "{\"name\":\"id\",\"type\":\"string\"},"
                             "{\"name\":\"type\",\"type\":\"string\"},"
                             "{\"name\":\"time\",\"type\":{\"type\":\"long\","
                             "\"logicalType\":\"timestamp-millis\"}},"
                             "{\"name\":\"cents\",\"type\":\"long\"}]}";

/* --- Avro by hand, so that a fault of the encoder cannot hide ----------- */

static uint8_t *put_long(uint8_t *to, int64_t value)
{
    uint64_t z = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    for (; z >= 0x80; z >>= 7)
        *to++ = (uint8_t)(z | 0x80);
    *to++ = (uint8_t)z;
    return to;
}

static uint8_t *put_text(uint8_t *to, const char *text)
{
    size_t len = strlen(text);
    to = put_long(to, (int64_t)len);
    memcpy(to, text, len);
    return to + len;
}

static struct slice make_value(struct spine_log *log,
                               const struct spine_event *ev)
{
    uint8_t *start = arena_take(&log->bytes, VALUE_BYTES, 1), *to = start;
    char text[32];
    (void)snprintf(text, sizeof text, "user-%u", ev->user);
    to = put_text(to, text);
    (void)snprintf(text, sizeof text, "item-%u", ev->item);
    to = put_text(to, text);
    (void)snprintf(text, sizeof text, "e%u", ev->id);
    to = put_text(to, text);
    to = put_text(to, ev->type);
    to = put_long(to, ev->time_ms);
    to = put_long(to, ev->cents);
    return slice_of(start, (size_t)(to - start));
}

struct model *spine_model(uint32_t items, uint64_t seed)
{
    return spine_model_of(NULL, items, seed);
}

struct model *spine_model_of(const char *const *sets, uint32_t items,
                             uint64_t seed)
{
    const struct random_shape shape = {.layers = 2,
                                       .width = 16,
                                       .heads = 2,
                                       .ffn = 32,
                                       .window = SPINE_WINDOW,
                                       .items = items,
                                       .has_time = true,
                                       .kv_bf16 = true};
    struct random_shape with = shape;
    static char names[FEATURES_MAX][FEATURE_NAME_BYTES];
    const char *list[FEATURES_MAX];
    struct history_shape history;
    struct feature_shape features;
    struct config *c = spine_config(sets);
    struct model *m;
    struct spine_log log = {0};
    struct mapping *mapping;
    struct err e;
    if (schema_parse(&log.schema, slice_str(SCHEMA), &e) != RC_OK) DIE(&e);
    if (mapping_new(&mapping, c, log.schema, NULL, &e) != RC_OK) DIE(&e);
    shapes_init(&history, &features, c, mapping_fields(mapping));
    with.features = feature_row_count(&features);
    for (uint32_t f = 0; f < with.features; f++)
        list[f] = feature_row_name(&features, f, names[f], FEATURE_NAME_BYTES);
    m = random_model_named(with, (struct random_names){.features = list}, seed);
    mapping_free(mapping);
    schema_free(log.schema);
    config_free(c);
    return m;
}

void spine_log_begin(struct spine_log *log, uint32_t events_max)
{
    struct err e;
    log_set_level(LOG_ERROR); /* failures are the test's */
    *log = (struct spine_log){0};
    if (schema_parse(&log->schema, slice_str(SCHEMA), &e) != RC_OK) DIE(&e);
    log->records = calloc(events_max, sizeof *log->records);
    if (!log->records ||
        !arena_init(&log->bytes, (size_t)events_max * VALUE_BYTES))
        abort();
    for (int32_t p = 0; p < SPINE_PARTITIONS; p++)
        log->committed[p] = (struct committed){.partition = p, .offset = -1};
    log->model = spine_model(SPINE_ITEMS, SPINE_MODEL_SEED);
}

void spine_log_add(struct spine_log *log, const struct spine_event *ev)
{
    static const struct header TRACE[] = {
        {{(const uint8_t *)"trace", 5}, {(const uint8_t *)"abc", 3}}};
    int32_t p = (int32_t)(ev->user % SPINE_PARTITIONS);
    log->records[log->count] = (struct record){
        .partition = p,
        .offset = log->next[p]++,
        .timestamp_ms =
            ev->logged_ms ? ev->logged_ms : 1600000000000 + log->count,
        .key = slice_str("k"),
        .value = make_value(log, ev),
        .headers = TRACE,
        .header_count = 1,
    };
    log->count++;
}

void spine_log_make(struct spine_log *log, uint32_t events, uint32_t users,
                    uint64_t seed)
{
    spine_log_begin(log, events);
    for (uint32_t i = 0; i < events; i++) {
        uint64_t bits = draw(seed, i, 0);
        int64_t late_ms = bits % 13 == 0 ? 3 * 3600000 : 0;
        spine_log_add(log,
                      &(struct spine_event){
                          /* Some users have many events, most have few. */
                          .user = (uint32_t)(draw(seed, i, 1) % users *
                                             (draw(seed, i, 2) % 1000) / 1000),
                          .item = (uint32_t)((bits >> 8) % (SPINE_ITEMS + 5)),
                          .id = i,
                          .type = bits % 3 == 0 ? "buy" : "view",
                          .time_ms = INT64_C(1600000000000) +
                                     (int64_t)i * 600000 - late_ms,
                          .cents = (int64_t)((bits >> 20) % 100000)});
    }
}

void spine_log_free(struct spine_log *log)
{
    model_free(log->model);
    schema_free(log->schema);
    free(log->records);
    arena_fini(&log->bytes);
}

struct config *spine_config(const char *const *sets)
{
    const char *all[SETS_MAX] = {
        "role.user=user",          "role.item=item",
        "role.event_id=id",        "role.type=type",
        "role.time=time",          "role.amount=cents",
        "role.amount.minor=true",  "history.events=32",
        "windows=1h,1d",           "batch.events.max=16",
        "recommend.items=5",       "delivery=exactly_once",
        "time.future.max=0",       "log.level=error",
        "state.checkpoint.rows=8", "reasons.per_second=0"};
    uint32_t count = 16;
    struct config *c;
    struct err e;
    for (; sets && *sets; sets++)
        all[count++] = *sets;
    if (config_load(&c, NULL, all, count, &e) != RC_OK) DIE(&e);
    return c;
}

/* --- runs --------------------------------------------------------------- */

static void open_input(struct spine_run *r, const struct spine_log *log)
{
    struct err e;
    if (mapping_new(&r->mapping, r->config, log->schema, r->registry, &e) !=
            RC_OK ||
        source_memory_new(&r->source, log->records, log->count, r->committed,
                          SPINE_PARTITIONS, &e) != RC_OK)
        DIE(&e);
    r->options.source = r->source;
    r->options.mapping = r->mapping;
}

void spine_run_open(struct spine_run *r, const struct spine_log *log,
                    const char *const *sets)
{
    struct err e;
    *r = (struct spine_run){.config = spine_config(sets)};
    memcpy(r->committed, log->committed, sizeof r->committed);
    if (sink_memory_new(&r->sink, MESSAGES_MAX, SINK_BYTES, r->committed,
                        SPINE_PARTITIONS, &e) != RC_OK ||
        metrics_new(&r->metrics, 1, &e) != RC_OK)
        DIE(&e);
    if (!*r->config->output_profile_topic)
        r->sink->ignores |= 1u << OUTPUT_PROFILES;
    if (framing_names_schemas(r->config) &&
        registry_open(&r->registry, r->config, log->schema, &e) != RC_OK)
        DIE(&e);
    r->options = (struct worker_options){
        .config = r->config,
        .model = log->model,
        .sink = r->sink,
        .topic = "events",
        .context_bytes_max = 4 << 20,
        .cache_bytes = 4 << 20,
        .finite = true,
        .share_count = 1,
        .pause_ms_max = 1,
        .metrics = metrics_worker(r->metrics, 0),
    };
    open_input(r, log);
}

void spine_run_start(struct spine_run *r)
{
    struct err e;
    if (worker_new(&r->worker, &r->options, &e) != RC_OK) DIE(&e);
}

void spine_run_to_end(struct spine_run *r)
{
    const atomic_bool stop = false;
    struct err e;
    if (worker_run(r->worker, &stop, &e) != RC_OK) fail_msg("%s", e.text);
}

void spine_run_crash(struct spine_run *r)
{
    struct err e;
    worker_free(r->worker);
    r->worker = NULL;
    source_close(r->source);
    mapping_free(r->mapping);
    assert_int_equal(sink_abort(r->sink, &e), RC_OK);
}

void spine_run_again(struct spine_run *r, const struct spine_log *log)
{
    open_input(r, log);
    spine_run_start(r);
}

void spine_run_close(struct spine_run *r)
{
    if (r->worker) {
        worker_free(r->worker);
        source_close(r->source);
        mapping_free(r->mapping);
    }
    registry_close(r->registry);
    sink_close(r->sink);
    metrics_free(r->metrics);
    config_free(r->config);
}

uint64_t spine_run_count(const struct spine_run *r, enum metrics_counter c)
{
    return metrics_sum(r->metrics, c);
}

/* --- outputs ------------------------------------------------------------ */

/* Source partition and offset: the last two fields of both records, the
 * same two headers of a dead letter. */
static void place_of(const struct message *m, struct decoder *const *decoders,
                     struct spine_output *out)
{
    struct datum at[128];
    struct tape tape = {.at = at, .max = 128};
    struct err e;
    if (m->output == OUTPUT_DEAD_LETTERS) {
        const struct header *h = &m->headers[3];
        out->partition = atoll((const char *)h[0].value.ptr);
        out->offset = atoll((const char *)h[1].value.ptr);
        return;
    }
    /* Five bytes of Confluent header. */
    if (decoder_decode(decoders[m->output],
                       slice_of(m->value.ptr + 5, m->value.len - 5), &tape,
                       &e) != RC_OK)
        fail_msg("%s", e.text);
    out->partition = at[tape.count - 2].i;
    out->offset = at[tape.count - 1].i;
}

static int by_place(const void *a, const void *b)
{
    const struct spine_output *x = a, *y = b;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (int)x->message->output - (int)y->message->output;
}

struct spine_outputs spine_outputs_of(const struct spine_run *runs,
                                      uint32_t count)
{
    struct schema *schemas[OUTPUTS];
    struct decoder *decoders[OUTPUTS] = {0};
    struct spine_outputs all = {0};
    struct err e;
    if (outputs_parse_schemas(schemas, &e) != RC_OK) DIE(&e);
    for (uint32_t k = 0; k < OUTPUTS; k++)
        if (schemas[k] &&
            decoder_compile(&decoders[k], schemas[k], schemas[k], &e) != RC_OK)
            DIE(&e);
    all.at = calloc((size_t)count * MESSAGES_MAX, sizeof *all.at);
    for (uint32_t r = 0; r < count; r++)
        for (uint32_t i = 0; i < sink_memory_count(runs[r].sink); i++) {
            struct spine_output *out = &all.at[all.count++];
            out->message = sink_memory_at(runs[r].sink, i);
            place_of(out->message, decoders, out);
        }
    qsort(all.at, all.count, sizeof *all.at, by_place);
    for (uint32_t k = 0; k < OUTPUTS; k++) {
        decoder_free(decoders[k]);
        schema_free(schemas[k]);
    }
    return all;
}

void spine_outputs_free(struct spine_outputs *o)
{
    free(o->at);
}

static void assert_slices(struct slice a, struct slice b)
{
    assert_int_equal(a.len, b.len);
    if (a.len > 0) assert_memory_equal(a.ptr, b.ptr, a.len);
}

void spine_outputs_same(const struct spine_outputs *a,
                        const struct spine_outputs *b)
{
    assert_int_equal(a->count, b->count);
    for (uint32_t i = 0; i < a->count; i++) {
        const struct message *x = a->at[i].message, *y = b->at[i].message;
        assert_int_equal(x->output, y->output);
        assert_int_equal(x->timestamp_ms, y->timestamp_ms);
        assert_slices(x->key, y->key);
        assert_slices(x->value, y->value);
        assert_int_equal(x->header_count, y->header_count);
        for (uint32_t h = 0; h < x->header_count; h++) {
            assert_slices(x->headers[h].name, y->headers[h].name);
            assert_slices(x->headers[h].value, y->headers[h].value);
        }
    }
}
