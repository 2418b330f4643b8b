/* Goal: records go from a topic through source, sink and back, with key,
 * time and headers, and a group goes on where it committed.
 * Method: numbered records on the in-process cluster; two lives of one
 * group member; a range read of what came out. */
#include "flow.h"

#include <string.h>

static uint8_t seen[FLOW_RECORDS_MAX];

static void read_until(struct reader *r, uint32_t count)
{
    uint32_t got = 0;
    for (int tries = 0; got < count && tries < 200; tries++)
        got += reader_step(r, 100, seen);
    assert_int_equal(got, count);
}

static void expect_once(uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++)
        if (seen[i] != 1) fail_msg("record %u seen %u times", i, seen[i]);
}

static void test_two_lives(void **state)
{
    struct flow f;
    struct reader r;
    struct source *s;
    struct err e;
    (void)state;

    flow_start(&f);
    flow_produce(&f, 0, 1000);
    memset(seen, 0, sizeof seen);
    s = flow_source(&f, "one");
    reader_init(&r, s, flow_sink(&f, s));
    read_until(&r, 1000);
    flow_ok(reader_commit(&r, &e), &e);
    reader_fini(&r);
    expect_once(0, 1000);

    /* The second life begins after the commit, and only there. */
    flow_produce(&f, 1000, 500);
    s = flow_source(&f, "one");
    reader_init(&r, s, flow_sink(&f, s));
    read_until(&r, 500);
    flow_ok(reader_commit(&r, &e), &e);
    reader_fini(&r);
    expect_once(0, 1500);

    memset(seen, 0, sizeof seen);
    flow_read_all(&f, "out", seen);
    expect_once(0, 1500);
    flow_stop(&f);
}

static void test_what_a_record_carries(void **state)
{
    struct flow f;
    struct topic_range all = {.topic = "in", .partition = -1, .until = -1};
    struct source *s;
    struct source_change c;
    struct batch b;
    struct err e;
    uint32_t checked = 0;
    (void)state;

    flow_start(&f);
    flow_produce(&f, 7, 1);
    flow_ok(source_range_open(&s, f.config, &all, FLOW_BATCH, &e), &e);
    assert_int_equal(source_range_records(s), 1);
    flow_ok(batch_init(&b, FLOW_BATCH, &e), &e);
    flow_ok(source_change(s, &c, &e), &e);
    assert_int_equal(c.kind, SOURCE_ASSIGNED);
    assert_int_equal(c.count, 1); /* empty partitions are not read */
    flow_ok(source_assign(s, c.positions, c.count, &e), &e);
    while (!source_ended(s)) {
        batch_reset(&b);
        flow_ok(source_poll(s, &b, 100, &e), &e);
        for (uint32_t i = 0; i < b.count; i++, checked++) {
            const struct record *rec = &b.records[i];
            assert_true(slice_equal(rec->key, slice_str("7")));
            assert_true(slice_equal(rec->value, slice_str("7")));
            assert_int_equal(rec->timestamp_ms, 1007);
            assert_int_equal(rec->header_count, 1);
            assert_true(slice_equal(rec->headers[0].name, slice_str("trace")));
            assert_true(slice_equal(rec->headers[0].value, slice_str("7")));
        }
        source_release(s);
    }
    assert_int_equal(checked, 1);
    batch_fini(&b);
    source_close(s);
    flow_stop(&f);
}

/* From and until cut every partition; what is outside the log is cut off. */
static void test_a_part_of_a_log(void **state)
{
    struct flow f;
    struct topic_range part = {
        .topic = "in", .partition = -1, .from = 10, .until = 20};
    struct source *s;
    struct err e;
    (void)state;

    flow_start(&f);
    flow_produce(&f, 0, 1000);
    flow_ok(source_range_open(&s, f.config, &part, FLOW_BATCH, &e), &e);
    assert_int_equal(source_range_records(s), 10 * FLOW_PARTITIONS);
    source_close(s);
    part = (struct topic_range){
        .topic = "in", .partition = 0, .from = 0, .until = 1 << 20};
    flow_ok(source_range_open(&s, f.config, &part, FLOW_BATCH, &e), &e);
    assert_in_range(source_range_records(s), 1, 999);
    source_close(s);
    part.partition = FLOW_PARTITIONS;
    assert_int_equal(source_range_open(&s, f.config, &part, FLOW_BATCH, &e),
                     RC_STOP);
    flow_stop(&f);
}

static void test_what_is_missing(void **state)
{
    static const char *const topics[] = {"absent"};
    struct flow f;
    struct producer_options o = {.topics = topics, .topic_count = 1};
    struct producer *p;
    const char *sets[] = {"kafka.no.such.property=1",
                          "kafka.bootstrap.servers=127.0.0.1:1"};
    struct config *c;
    struct err e;
    (void)state;

    flow_start(&f);
    o.config = f.config;
    rd_kafka_mock_topic_set_error(mock_cluster_handle(f.cluster), "absent",
                                  RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    assert_int_equal(producer_open(&p, &o, &e), RC_STOP);
    assert_non_null(strstr(e.text, "topics --create"));
    flow_ok(config_load(&c, NULL, sets, 2, &e), &e);
    o.config = c;
    assert_int_equal(producer_open(&p, &o, &e), RC_STOP);
    assert_non_null(strstr(e.text, "no.such.property"));
    config_free(c);
    flow_ok(config_load(&c, NULL, sets, 0, &e), &e);
    o.config = c;
    assert_int_equal(producer_open(&p, &o, &e), RC_STOP);
    assert_non_null(strstr(e.text, "bootstrap.servers"));
    config_free(c);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_record_carries),
        cmocka_unit_test(test_a_part_of_a_log),
        cmocka_unit_test(test_two_lives),
        cmocka_unit_test(test_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
