/* Goal: what generate and import write to a topic is what they write to a
 * file, where a consumer looks for it: in the partition of its user, in the
 * user's order, with its time, and with a Confluent header if asked for.
 * Method: a generated stream into a topic of the in-process cluster, read
 * back and compared with the same stream made again. */
#include "flow.h"

#include <stdlib.h>

#include "feed.h"
#include "generate_row.h"
#include "partition.h"

enum {
    EVENTS = 2000,
    SCHEMA_ID = 0x01020304,
    HEADER_BYTES = 5,
    WAIT_MS = 100,
};

static struct generator *open_stream(struct generate_rows **rows)
{
    struct generate_options o;
    struct generator *g;
    struct err e;
    generate_options_default(&o);
    o.events = EVENTS;
    o.users = 50;
    flow_ok(generator_new(&g, &o, &e), &e);
    if (rows) flow_ok(generate_rows_new(rows, o.seed, &e), &e);
    return g;
}

static void put_stream(struct flow *f, uint32_t schema_id)
{
    const struct feed_target target = {
        .topic = "in", .config = f->config, .schema_id = schema_id};
    struct generate_rows *rows;
    struct generator *g = open_stream(&rows);
    struct generated ev;
    struct feed *to;
    struct err e;
    flow_ok(feed_open(&to, &target, generate_event_schema(rows), &e), &e);
    while (generator_next(g, &ev)) {
        struct slice key, value;
        flow_ok(generate_event(rows, &ev, &key, &value, &e), &e);
        flow_ok(feed_put(to, key, value, ev.time_ms, &e), &e);
    }
    assert_int_equal(feed_count(to), EVENTS);
    flow_ok(feed_finish(to, &e), &e);
    generator_free(g);
    generate_rows_free(rows);
}

/* The stream again, and which of its events were read. */
struct expected {
    struct generate_rows *rows;
    struct generated events[EVENTS];
    bool seen[EVENTS];
    uint32_t header_bytes, read;
    int64_t last_ms[FLOW_PARTITIONS];
};

static void expect_record(struct expected *x, const struct record *r)
{
    struct slice key, value;
    struct err e;
    const struct generated *ev;
    struct slice got = slice_of(r->value.ptr + x->header_bytes,
                                r->value.len - x->header_bytes);
    uint32_t n = 0;
    assert_true(r->partition < FLOW_PARTITIONS);
    assert_true(r->timestamp_ms >= x->last_ms[r->partition]);
    x->last_ms[r->partition] = r->timestamp_ms;
    while (n < EVENTS &&
           (x->seen[n] || x->events[n].time_ms != r->timestamp_ms))
        n++;
    assert_true(n < EVENTS);
    ev = &x->events[n];
    x->seen[n] = true;
    x->read++;
    flow_ok(generate_event(x->rows, ev, &key, &value, &e), &e);
    assert_true(slice_equal(key, r->key));
    assert_true(slice_equal(value, got));
    assert_int_equal(r->partition, partition_of(key, FLOW_PARTITIONS));
    if (x->header_bytes > 0)
        assert_memory_equal(r->value.ptr, "\0\1\2\3\4", HEADER_BYTES);
}

static void expect_stream(struct flow *f, uint32_t header_bytes)
{
    const struct topic_range all = {
        .topic = "in", .partition = -1, .until = -1};
    struct expected *x = calloc(1, sizeof *x);
    struct generator *g;
    struct source_change c;
    struct source *s;
    struct batch b;
    struct err e;
    assert_non_null(x);
    x->header_bytes = header_bytes;
    g = open_stream(&x->rows);
    for (uint32_t i = 0; i < EVENTS; i++)
        assert_true(generator_next(g, &x->events[i]));
    flow_ok(source_range_open(&s, f->config, &all, FLOW_BATCH, &e), &e);
    flow_ok(batch_init(&b, FLOW_BATCH, &e), &e);
    flow_ok(source_change(s, &c, &e), &e);
    if (c.kind == SOURCE_ASSIGNED)
        flow_ok(source_assign(s, c.positions, c.count, &e), &e);
    while (!source_ended(s)) {
        batch_reset(&b);
        flow_ok(source_poll(s, &b, WAIT_MS, &e), &e);
        for (uint32_t i = 0; i < b.count; i++)
            expect_record(x, &b.records[i]);
        source_release(s);
    }
    assert_int_equal(x->read, EVENTS);
    batch_fini(&b);
    source_close(s);
    generator_free(g);
    generate_rows_free(x->rows);
    free(x);
}

static void test_plain(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    put_stream(&f, FEED_PLAIN);
    expect_stream(&f, 0);
    flow_stop(&f);
}

static void test_confluent_header(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    put_stream(&f, SCHEMA_ID);
    expect_stream(&f, HEADER_BYTES);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_confluent_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
