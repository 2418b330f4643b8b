/* Goal: no record is too large or too decorated to get past: what its dead
 * letter cannot carry is left out, its reason never is.
 * Method: records and dead letters around the limit of a small
 * message.max.bytes, read back from the in-process cluster. */
#include "flow.h"

#include "outputs.h"

#include <string.h>

enum { LIMIT = 20000, BIG = 30000 };

static struct slice of_bytes(size_t len)
{
    static char bytes[BIG];
    memset(bytes, 'x', sizeof bytes);
    assert_true(len <= sizeof bytes);
    return slice_of(bytes, len);
}

static void start(struct flow *f, struct source **s, struct sink **k)
{
    struct sink_kafka_options o = {.topics = {[OUTPUT_DEAD_LETTERS] = "out"},
                                   .transactional_id = "flow"};
    char servers[256];
    const char *sets[] = {servers, "kafka.producer.message.max.bytes=20000"};
    struct err e;

    flow_start(f);
    config_free(f->config);
    (void)snprintf(servers, sizeof servers, "kafka.bootstrap.servers=%s",
                   mock_cluster_servers(f->cluster));
    flow_ok(config_load(&f->config, NULL, sets, 2, &e), &e);
    *s = flow_source(f, NULL);
    o.config = f->config;
    o.source = *s;
    flow_ok(sink_kafka_open(k, &o, &e), &e);
}

/* The one record of topic "out", lent until source_release and close. */
static const struct record *read_back(struct flow *f, struct source **s,
                                      struct batch *b)
{
    struct topic_range all = {.topic = "out", .partition = -1, .until = -1};
    struct source_change c;
    struct err e;

    flow_ok(source_range_open(s, f->config, &all, FLOW_BATCH, &e), &e);
    flow_ok(batch_init(b, FLOW_BATCH, &e), &e);
    flow_ok(source_change(*s, &c, &e), &e);
    flow_ok(source_assign(*s, c.positions, c.count, &e), &e);
    for (int tries = 0; b->count == 0 && tries < 100; tries++)
        flow_ok(source_poll(*s, b, 100, &e), &e);
    assert_int_equal(b->count, 1);
    return &b->records[0];
}

static struct slice header_of(const struct record *r, const char *name)
{
    for (uint32_t i = 0; i < r->header_count; i++)
        if (slice_equal(r->headers[i].name, slice_str(name)))
            return r->headers[i].value;
    return slice_of(NULL, 0);
}

/* Sends a dead letter of these sizes; what arrives has this key and value,
 * and all of its reason. */
static void expect(size_t key, size_t value, uint32_t headers, size_t key_left,
                   size_t value_left, uint32_t headers_left)
{
    static const char *const REASON[DEAD_LETTER_HEADERS] = {
        DEAD_LETTER_REASON,    DEAD_LETTER_DETAIL, DEAD_LETTER_TOPIC,
        DEAD_LETTER_PARTITION, DEAD_LETTER_OFFSET, DEAD_LETTER_TIMESTAMP};
    struct header all[SOURCE_HEADERS_MAX + DEAD_LETTER_HEADERS];
    struct message m = {.output = OUTPUT_DEAD_LETTERS,
                        .key = of_bytes(key),
                        .value = of_bytes(value),
                        .headers = all,
                        .header_count = headers + DEAD_LETTER_HEADERS};
    const struct record *r;
    struct source *live, *back;
    struct sink *k;
    struct flow f;
    struct batch b;
    struct err e;

    for (uint32_t i = 0; i < m.header_count; i++)
        all[i] = i < DEAD_LETTER_HEADERS
                     ? (struct header){slice_str(REASON[i]), slice_str("told")}
                     : (struct header){slice_str("own"), of_bytes(500)};
    start(&f, &live, &k);
    flow_ok(sink_send(k, &m, 1, &e), &e);
    flow_ok(sink_commit(k, NULL, 0, &e), &e);
    r = read_back(&f, &back, &b);
    assert_int_equal(r->key.len, key_left);
    assert_int_equal(r->value.len, value_left);
    for (uint32_t i = 0; i < DEAD_LETTER_HEADERS; i++)
        assert_true(slice_equal(header_of(r, REASON[i]), slice_str("told")));
    assert_int_equal(header_of(r, "own").len, headers_left > 0 ? 500 : 0);
    assert_int_equal(header_of(r, DEAD_LETTER_VALUE).len > 0,
                     value_left < value);
    assert_int_equal(header_of(r, DEAD_LETTER_KEY).len > 0, key_left < key);
    source_release(back);
    source_close(back);
    batch_fini(&b);
    sink_close(k);
    source_close(live);
    flow_stop(&f);
}

static void test_dead_letters(void **state)
{
    (void)state;
    expect(10, 1000, 3, 10, 1000, 3);
    expect(10, BIG, 3, 10, 0, 3);
    expect(BIG, 0, 3, 0, 0, 0);
    expect(BIG, BIG, 3, 0, 0, 0);
    expect(4000, 4000, SOURCE_HEADERS_MAX, 0, 0, 0);
    expect(100, 4000, SOURCE_HEADERS_MAX, 100, 0, SOURCE_HEADERS_MAX);
}

/* What a record brings in headers is bounded before it gets into outputs. */
static void test_headers_are_bounded(void **state)
{
    static const char *const topics[] = {"out"};
    struct header all[SOURCE_HEADERS_MAX * 2];
    struct producer_options o = {.topics = topics, .topic_count = 1};
    struct message m = {.key = slice_str("key"), .headers = all};
    const struct record *r;
    struct source *back;
    struct producer *p;
    struct flow f;
    struct batch b;
    struct err e;
    (void)state;

    for (uint32_t size = 0; size <= 1200; size += 400) {
        size_t most = SOURCE_HEADERS_BYTES_MAX / (size + 3), bytes = 0;
        flow_start(&f);
        o.config = f.config;
        m.header_count = SOURCE_HEADERS_MAX * 2;
        for (uint32_t i = 0; i < m.header_count; i++)
            all[i] = (struct header){slice_str("own"), of_bytes(size)};
        flow_ok(producer_open(&p, &o, &e), &e);
        flow_ok(producer_send(p, 0, &m, &e), &e);
        flow_ok(producer_flush(p, PRODUCER_FLUSH_MS, &e), &e);
        producer_close(p);
        r = read_back(&f, &back, &b);
        assert_int_equal(r->header_count,
                         most < SOURCE_HEADERS_MAX ? most : SOURCE_HEADERS_MAX);
        for (uint32_t i = 0; i < r->header_count; i++)
            bytes += r->headers[i].name.len + r->headers[i].value.len;
        assert_true(bytes <= SOURCE_HEADERS_BYTES_MAX);
        source_release(back);
        source_close(back);
        batch_fini(&b);
        flow_stop(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dead_letters),
        cmocka_unit_test(test_headers_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
