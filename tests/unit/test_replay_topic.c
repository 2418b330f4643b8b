/* test_replay_topic.c - goal: a topic replays as a file does, scores can go
 * back to topics, and labels can come from one.
 * Method: the log of spine_log.h on librdkafka's in-process cluster, keyed
 * by user. Scores are joined by event id with those of a run in memory:
 * probability and anomaly must be the same bits, wherever the event stood. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hash.h"
#include "labels.h"
#include "logged_lists.h"
#include "map64.h"
#include "mock_cluster.h"
#include "model_dir.h"
#include "outputs.h"
#include "producer.h"
#include "replay.h"
#include "schemas.h"
#include "spine_log.h"
#include "train.h"

enum { EVENTS = 900, USERS = 30, SEED = 61, PARTITIONS = 3, TEXT = 256 };

static struct spine_log the_log;
static struct mock_cluster *cluster;
static struct config *config;
static char schema_path[] = "/tmp/millrace-topic-XXXXXX";

static void ok(enum rc rc, const struct err *e)
{
    if (rc != RC_OK) fail_msg("%s", e->text);
}

/* The user of an event: its first field, a string. */
static struct slice user_of(const struct record *r)
{
    return slice_of(r->value.ptr + 1, r->value.ptr[0] / 2);
}

static void produce_events(void)
{
    const char *topics[] = {"events"};
    const struct producer_options o = {
        .config = config, .topics = topics, .topic_count = 1, .bulk = true};
    struct producer *p;
    struct err e;
    ok(producer_open(&p, &o, &e), &e);
    for (uint32_t i = 0; i < EVENTS; i++) {
        const struct record *r = &the_log.records[i];
        const struct message m = {.timestamp_ms = r->timestamp_ms,
                                  .key = user_of(r),
                                  .value = r->value};
        ok(producer_send(p, 0, &m, &e), &e);
    }
    ok(producer_flush(p, PRODUCER_FLUSH_MS, &e), &e);
    producer_close(p);
}

static int start(void **state)
{
    static const char *const NAMES[] = {"events", "fraud", "lists", "labels"};
    char servers[TEXT], schema[TEXT];
    const char *sets[] = {servers,
                          schema,
                          "input.topic=events",
                          "output.fraud.topic=fraud",
                          "output.recommendations.topic=lists",
                          "labels.topic=labels",
                          NULL};
    struct slice json;
    struct err e;
    FILE *f;
    (void)state;
    spine_log_make(&the_log, EVENTS, USERS, SEED);
    ok(mock_cluster_start(&cluster, 1, &e), &e);
    for (uint32_t i = 0; i < 4; i++)
        ok(mock_cluster_topic(cluster, NAMES[i], PARTITIONS, &e), &e);
    f = fdopen(mkstemp(schema_path), "w");
    json = schema_json(the_log.schema);
    assert_int_equal(fwrite(json.ptr, 1, json.len, f), json.len);
    assert_int_equal(fclose(f), 0);
    (void)snprintf(servers, TEXT, "kafka.bootstrap.servers=%s",
                   mock_cluster_servers(cluster));
    (void)snprintf(schema, TEXT, "input.schema=%s", schema_path);
    config = spine_config(sets);
    produce_events();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    (void)remove(schema_path);
    config_free(config);
    mock_cluster_stop(cluster);
    spine_log_free(&the_log);
    return 0;
}

/* --- scores by event id ------------------------------------------------- */

/* Of a framed fraud score: hash of the event id, bits of both scores. */
static uint64_t scores_of(struct slice value, uint64_t *id)
{
    static struct decoder *d;
    struct schema *schemas[OUTPUTS];
    struct datum at[32];
    struct tape tape = {.at = at, .max = 32};
    struct err e;
    float fraud, anomaly;
    uint32_t bits[2];
    if (!d) {
        ok(outputs_parse_schemas(schemas, &e), &e);
        ok(decoder_compile(&d, schemas[OUTPUT_FRAUD], schemas[OUTPUT_FRAUD],
                           &e),
           &e);
        for (uint32_t k = 0; k < OUTPUTS; k++)
            schema_free(schemas[k]);
    }
    ok(decoder_decode(d, slice_of(value.ptr + 5, value.len - 5), &tape, &e),
       &e);
    *id = hash64(at[1].s);
    fraud = (float)at[6].d; /* a union's datum, then its branch */
    anomaly = (float)at[7].d;
    memcpy(&bits[0], &fraud, 4);
    memcpy(&bits[1], &anomaly, 4);
    return (uint64_t)bits[0] << 32 | bits[1];
}

static void expect_scores(struct map64 *out)
{
    struct spine_run r;
    spine_run_open(&r, &the_log, NULL);
    spine_run_start(&r);
    spine_run_to_end(&r);
    for (uint32_t i = 0; i < sink_memory_count(r.sink); i++) {
        const struct message *m = sink_memory_at(r.sink, i);
        uint64_t id, scores;
        bool made;
        if (m->output != OUTPUT_FRAUD) continue;
        scores = scores_of(m->value, &id);
        assert_non_null(map64_put(out, id, scores, &made));
        assert_true(made);
    }
    spine_run_close(&r);
}

/* Every message of a topic. */
static uint32_t read_topic(const char *topic, const struct map64 *scores)
{
    const struct topic_range range = {
        .topic = topic, .partition = -1, .until = -1};
    struct source_change change;
    struct source *s;
    struct batch b;
    struct err e;
    uint32_t count = 0;
    ok(source_range_open(&s, config, &range, 64, &e), &e);
    ok(batch_init(&b, 64, &e), &e);
    ok(source_change(s, &change, &e), &e);
    for (uint32_t i = 0; i < change.count; i++)
        change.positions[i].offset = 0;
    ok(source_assign(s, change.positions, change.count, &e), &e);
    while (!source_ended(s)) {
        batch_reset(&b);
        ok(source_poll(s, &b, 200, &e), &e);
        for (uint32_t i = 0; i < b.count; i++, count++) {
            uint64_t id, got, *expected;
            if (!scores) continue;
            got = scores_of(b.records[i].value, &id);
            expected = map64_get(scores, id);
            assert_non_null(expected);
            assert_true(*expected == got);
        }
        source_release(s);
    }
    batch_fini(&b);
    source_close(s);
    return count;
}

static void test_topic_to_topics(void **state)
{
    struct map64 expected = {0};
    (void)state;
    expect_scores(&expected);
    for (uint32_t workers = 1; workers <= 2; workers++) {
        struct replay_options o = {
            .config = config,
            .model = the_log.model,
            .range = {.topic = "events", .partition = -1, .until = -1},
            .workers = workers,
            .to_topics = true,
        };
        struct metrics *metrics;
        struct replay *r;
        struct err e;
        ok(metrics_new(&metrics, workers, &e), &e);
        o.metrics = metrics;
        ok(replay_start(&r, &o, &e), &e);
        ok(replay_join(r, &e), &e);
        assert_int_equal(metrics_sum(metrics, COUNT_events_scored), EVENTS);
        replay_free(r);
        metrics_free(metrics);
        assert_int_equal(read_topic("fraud", &expected), workers * EVENTS);
        assert_int_equal(read_topic("lists", NULL), workers * EVENTS);
    }
    map64_fini(&expected);
}

/* Bytes of the first output that is not equal. */
static struct {
    bool recorded, made;
} shown;

/* A replay of a range of the topic against what the topics hold by now. */
static enum rc verify_range(uint32_t workers, struct topic_range range,
                            struct verify_result *out, struct err *e)
{
    struct replay_options o = {
        .config = config,
        .model = the_log.model,
        .range = range,
        .workers = workers,
        .codec = "null",
    };
    struct slice recorded, made;
    struct metrics *metrics;
    struct replay *r;
    enum rc rc;
    ok(verify_new(&o.verify, config, the_log.model, e), e);
    rc = verify_begin(o.verify, &range, NULL, e);
    if (rc == RC_OK) rc = verify_read_topics(o.verify, e);
    if (rc == RC_OK) {
        ok(metrics_new(&metrics, workers, e), e);
        o.metrics = metrics;
        ok(replay_start(&r, &o, e), e);
        ok(replay_join(r, e), e);
        verify_result(o.verify, out);
        ok(verify_first(o.verify, &recorded, &made, e), e);
        shown.recorded = recorded.ptr;
        shown.made = made.ptr;
        replay_free(r);
        metrics_free(metrics);
    }
    verify_free(o.verify);
    return rc;
}

static enum rc verify_again(uint32_t workers, struct verify_result *out,
                            struct err *e)
{
    const struct topic_range all = {
        .topic = "events", .partition = -1, .until = -1};
    return verify_range(workers, all, out, e);
}

/* The topics hold every output twice, as at least once may leave them. */
static void test_verify(void **state)
{
    struct verify_result v;
    struct model_info *info = &the_log.model->info;
    double threshold = config->fraud_threshold;
    char first = info->hash[0];
    const char *family = info->family;
    struct err e;
    (void)state;
    for (uint32_t workers = 1; workers <= 2; workers++) {
        ok(verify_again(workers, &v, &e), &e);
        assert_int_equal(v.equal, 2 * EVENTS);
        assert_int_equal(v.repeated, 2 * EVENTS);
        assert_int_equal(v.differ + v.missing + v.extra, 0);
        assert_int_equal(v.partition, -1);
        assert_false(shown.recorded || shown.made);
    }
    /* Another policy: its hash stands in every score and every list. */
    config->fraud_threshold = 0.25;
    ok(verify_again(1, &v, &e), &e);
    config->fraud_threshold = threshold;
    assert_int_equal(v.equal, 0);
    assert_int_equal(v.differ, 2 * EVENTS);
    assert_int_equal(v.partition, 0);
    assert_int_equal(v.offset, 0);
    assert_int_equal(v.output, OUTPUT_FRAUD);
    assert_true(shown.recorded && shown.made);
    info->hash[0] = first == '0' ? '1' : '0';
    assert_int_equal(verify_again(1, &v, &e), RC_STOP);
    info->hash[0] = first;
    assert_non_null(strstr(e.text, "recorded by model"));
    info->family = "abacus";
    assert_int_equal(verify_again(1, &v, &e), RC_STOP);
    info->family = family;
    assert_non_null(strstr(e.text, "kernel family"));
}

/* The lists of the topic, by the events after which they were made; each
 * stands there twice. */
static void test_logged_lists(void **state)
{
    struct logged_lists *l;
    uint32_t count = 0, found = 0;
    struct err e;
    (void)state;
    ok(logged_lists_read_topic(&l, config, &e), &e);
    assert_int_equal(logged_lists_count(l), EVENTS);
    for (int32_t p = 0; p < PARTITIONS; p++)
        for (int64_t at = 0; at < EVENTS; at++) {
            const struct logged_place *list =
                logged_lists_find(l, p, at, &count);
            if (!list) continue;
            found++;
            assert_int_equal(count, config->recommend_items);
            assert_true(list[0].item != 0 && list[0].propensity == 1);
        }
    assert_int_equal(found, EVENTS);
    assert_null(logged_lists_find(l, PARTITIONS, 0, &count));
    logged_lists_free(l);
}

/* Only from offset 0, or with rows; what is not replayed is not compared. */
static void test_verify_part(void **state)
{
    struct topic_range range = {
        .topic = "events", .partition = 1, .from = 10, .until = 50};
    struct verify_result v;
    struct err e;
    (void)state;
    assert_int_equal(verify_range(1, range, &v, &e), RC_SKIP);
    assert_non_null(strstr(e.text, "offset 10"));
    assert_non_null(strstr(e.text, "--snapshot"));
    range.from = 0;
    ok(verify_range(1, range, &v, &e), &e);
    assert_int_equal(v.equal, 2 * 50);
    assert_int_equal(v.outside, 2 * (EVENTS - 50));
    assert_int_equal(v.differ + v.missing + v.extra, 0);
    assert_int_equal(v.partition, -1);
}

/* Offsets cut a topic as they say. */
static void test_range(void **state)
{
    struct replay_options o = {
        .config = config,
        .range = {.topic = "events", .partition = 1, .from = 10, .until = 50},
        .workers = 1,
        .codec = "null",
    };
    struct metrics *metrics;
    struct replay *r;
    struct err e;
    (void)state;
    ok(metrics_new(&metrics, 1, &e), &e);
    o.metrics = metrics;
    ok(replay_start(&r, &o, &e), &e);
    ok(replay_join(r, &e), &e);
    assert_int_equal(metrics_sum(metrics, COUNT_events), 40);
    replay_free(r);
    metrics_free(metrics);
}

/* --- labels ------------------------------------------------------------- */

/* Label of e<i>; what is no label stands between them. */
static size_t label_bytes(uint32_t i, uint8_t *out)
{
    struct datum at[7] = {{.kind = DATUM_RECORD, .count = 6, .span = 7}};
    struct tape tape = {.at = at, .max = 7, .count = 7};
    struct schema *s;
    struct err e;
    char id[16];
    size_t used;
    (void)snprintf(id, sizeof id, "e%u", i);
    for (uint32_t f = 1; f <= 3; f++)
        at[f] =
            (struct datum){.kind = DATUM_STRING, .span = 1, .s = slice_str(id)};
    at[4] = (struct datum){.kind = DATUM_LONG, .span = 1};
    at[5] = (struct datum){.kind = DATUM_INT, .span = 1, .i = i % 2};
    at[6] = (struct datum){.kind = DATUM_LONG, .span = 1, .i = 1000 + i};
    ok(schema_parse(&s, schemas_get("label"), &e), &e);
    ok(encoder_encode(s, &tape, out, 128, &used, &e), &e);
    schema_free(s);
    return used;
}

static void test_labels(void **state)
{
    const char *topics[] = {"labels"};
    const struct producer_options o = {
        .config = config, .topics = topics, .topic_count = 1};
    struct producer *p;
    struct labels *l;
    struct err e;
    (void)state;
    ok(labels_read_topic(&l, config, config->labels_topic, &e), &e);
    assert_int_equal(labels_count(l), 0); /* nothing came yet */
    labels_free(l);
    ok(producer_open(&p, &o, &e), &e);
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t bytes[128];
        struct message m = {.timestamp_ms = i, .key = slice_str("k")};
        m.value = slice_of(bytes, label_bytes(i, bytes) - (i % 50 == 7));
        ok(producer_send(p, 0, &m, &e), &e);
    }
    ok(producer_flush(p, PRODUCER_FLUSH_MS, &e), &e);
    producer_close(p);
    ok(labels_read_topic(&l, config, config->labels_topic, &e), &e);
    assert_int_equal(labels_count(l), 196); /* four were cut short */
    assert_int_equal(labels_find(l, hash64(slice_str("e9")), 0, INT64_MAX, 0),
                     LABEL_FRAUD);
    assert_int_equal(labels_find(l, hash64(slice_str("e8")), 0, INT64_MAX, 0),
                     LABEL_GOOD);
    labels_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topic_to_topics),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_verify_part),
        cmocka_unit_test(test_logged_lists),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_labels),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
