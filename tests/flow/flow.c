#include "flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { READ_WAIT_MS = 100 };

void flow_ok(enum rc rc, const struct err *e)
{
    if (rc != RC_OK) fail_msg("%s", e->text);
}

void flow_start(struct flow *f)
{
    char servers[256];
    const char *sets[] = {servers, "kafka.reconnect.backoff.max.ms=200",
                          "kafka.retry.backoff.ms=20",
                          "kafka.consumer.session.timeout.ms=6000"};
    struct err e;

    flow_ok(mock_cluster_start(&f->cluster, 2, &e), &e);
    flow_ok(mock_cluster_topic(f->cluster, "in", FLOW_PARTITIONS, &e), &e);
    flow_ok(mock_cluster_topic(f->cluster, "out", FLOW_PARTITIONS, &e), &e);
    (void)snprintf(servers, sizeof servers, "kafka.bootstrap.servers=%s",
                   mock_cluster_servers(f->cluster));
    flow_ok(config_load(&f->config, NULL, sets, 4, &e), &e);
}

void flow_stop(struct flow *f)
{
    config_free(f->config);
    mock_cluster_stop(f->cluster);
}

void flow_produce(struct flow *f, uint32_t first, uint32_t count)
{
    static const char *const topics[] = {"in"};
    struct producer_options o = {
        .config = f->config, .topics = topics, .topic_count = 1};
    struct producer *p;
    struct err e;

    flow_ok(producer_open(&p, &o, &e), &e);
    for (uint32_t i = first; i < first + count; i++) {
        char key[16], value[16];
        struct header trace = {slice_str("trace"), slice_str(value)};
        struct message m = {
            .timestamp_ms = 1000 + i, .headers = &trace, .header_count = 1};
        (void)snprintf(key, sizeof key, "%u", i % 100);
        (void)snprintf(value, sizeof value, "%u", i);
        m.key = slice_str(key);
        m.value = trace.value = slice_str(value);
        flow_ok(producer_send(p, 0, &m, &e), &e);
    }
    flow_ok(producer_flush(p, PRODUCER_FLUSH_MS, &e), &e);
    producer_close(p);
}

struct source *flow_source(struct flow *f, const char *instance)
{
    static const char *const topics[] = {"in"};
    struct source_kafka_options o = {.config = f->config,
                                     .topics = topics,
                                     .topic_count = 1,
                                     .group = "flow",
                                     .instance = instance,
                                     .events_max = FLOW_BATCH};
    struct source *s = NULL;
    struct err e;

    flow_ok(source_kafka_open(&s, &o, &e), &e);
    return s;
}

struct sink *flow_sink(struct flow *f, struct source *s)
{
    struct sink_kafka_options o = {
        .config = f->config, .source = s, .topics = {"out", NULL, NULL}};
    struct sink *k = NULL;
    struct err e;

    flow_ok(sink_kafka_open(&k, &o, &e), &e);
    return k;
}

void reader_init(struct reader *r, struct source *s, struct sink *k)
{
    struct err e;
    memset(r, 0, sizeof *r);
    r->source = s;
    r->sink = k;
    flow_ok(batch_init(&r->batch, FLOW_BATCH, &e), &e);
}

void reader_fini(struct reader *r)
{
    sink_close(r->sink);
    source_close(r->source);
    batch_fini(&r->batch);
}

enum rc reader_commit(struct reader *r, struct err *e)
{
    struct source_position next[FLOW_PARTITIONS];
    uint32_t count = 0;

    for (uint32_t i = 0; i < FLOW_PARTITIONS; i++)
        if (r->owns[i]) next[count++] = r->owned[i];
    return count ? sink_commit(r->sink, next, count, e) : RC_OK;
}

void reader_change(struct reader *r)
{
    struct source_change c;
    struct err e;

    flow_ok(source_change(r->source, &c, &e), &e);
    if (c.kind == SOURCE_NO_CHANGE) return;
    r->changes++;
    if (c.kind == SOURCE_REVOKED) r->revoked += c.count;
    if (c.kind == SOURCE_REVOKED && reader_commit(r, &e) == RC_AGAIN)
        r->discards++;
    for (uint32_t i = 0; i < c.count; i++) {
        int32_t p = c.positions[i].partition;
        assert_in_range(p, 0, FLOW_PARTITIONS - 1);
        assert_int_equal(r->owns[p], c.kind != SOURCE_ASSIGNED);
        r->owns[p] = c.kind == SOURCE_ASSIGNED;
        r->owned[p] = c.positions[i];
        assert_int_equal(c.partitions, FLOW_PARTITIONS);
    }
    if (c.kind == SOURCE_ASSIGNED)
        flow_ok(source_assign(r->source, c.positions, c.count, &e), &e);
    else
        flow_ok(source_unassign(r->source, &e), &e);
}

static uint32_t number_of(const struct record *rec)
{
    char text[16] = "";
    size_t len = rec->value.len; /* what follows may be filling */
    assert_true(len > 0);
    memcpy(text, rec->value.ptr, len < sizeof text ? len : sizeof text - 1);
    return (uint32_t)strtoul(text, NULL, 10);
}

uint32_t reader_step(struct reader *r, uint32_t wait_ms, uint8_t *seen)
{
    struct batch *b = &r->batch;
    uint32_t count;
    struct err e;

    reader_change(r);
    batch_reset(b);
    flow_ok(source_poll(r->source, b, wait_ms, &e), &e);
    for (uint32_t i = 0; i < b->count; i++) {
        struct record *rec = &b->records[i];
        struct message m = {.output = OUTPUT_FRAUD,
                            .timestamp_ms = rec->timestamp_ms,
                            .key = rec->key,
                            .value = rec->value,
                            .headers = rec->headers,
                            .header_count = rec->header_count};
        uint32_t number = number_of(rec);
        assert_in_range(number, 0, FLOW_RECORDS_MAX - 1);
        assert_true(r->owns[rec->partition]);
        assert_true(rec->offset >= r->owned[rec->partition].offset);
        r->owned[rec->partition].offset = rec->offset + 1;
        seen[number]++;
        flow_ok(sink_send(r->sink, &m, 1, &e), &e);
    }
    count = b->count;
    source_release(r->source);
    return count;
}

void flow_read_all(struct flow *f, const char *topic, uint8_t *seen)
{
    struct topic_range all = {.topic = topic, .partition = -1, .until = -1};
    struct source *s;
    struct source_change c;
    struct batch b;
    struct err e;

    flow_ok(source_range_open(&s, f->config, &all, FLOW_BATCH, &e), &e);
    flow_ok(batch_init(&b, FLOW_BATCH, &e), &e);
    flow_ok(source_change(s, &c, &e), &e);
    if (c.kind == SOURCE_ASSIGNED)
        flow_ok(source_assign(s, c.positions, c.count, &e), &e);
    while (!source_ended(s)) {
        batch_reset(&b);
        flow_ok(source_poll(s, &b, READ_WAIT_MS, &e), &e);
        for (uint32_t i = 0; i < b.count; i++)
            seen[number_of(&b.records[i])]++;
        source_release(s);
    }
    batch_fini(&b);
    source_close(s);
}

static void write_schema(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs("{\"type\":\"record\",\"name\":\"E\",\"fields\":"
                "[{\"name\":\"user\",\"type\":\"string\"}]}",
                f);
    assert_int_equal(fclose(f), 0);
}

int flow_run(struct flow *f, uint32_t workers)
{
    char dir[] = "/tmp/millrace-flow-XXXXXX";
    char path[64], schema[96], state[96], count[32], servers[256], clean[64];
    char *argv[] = {"run",
                    "--set",
                    servers,
                    "--set",
                    schema,
                    "--set",
                    state,
                    "--set",
                    count,
                    "--set",
                    "input.topic=in",
                    "--set",
                    "dead.letters.topic=out",
                    "--set",
                    "admin.listen=",
                    "--set",
                    "delivery=at_least_once",
                    NULL};
    int status;

    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/e.avsc", dir);
    (void)snprintf(schema, sizeof schema, "input.schema=%s", path);
    (void)snprintf(state, sizeof state, "state.dir=%s/state", dir);
    (void)snprintf(count, sizeof count, "workers=%u", workers);
    (void)snprintf(clean, sizeof clean, "rm -rf '%s'", dir);
    (void)snprintf(servers, sizeof servers, "kafka.bootstrap.servers=%s",
                   mock_cluster_servers(f->cluster));
    write_schema(path);
    status = command_run(sizeof argv / sizeof *argv - 1, argv);
    assert_int_equal(system(clean), 0);
    return status;
}
