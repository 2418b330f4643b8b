/* Goal: what brokers answer in bad hours costs repeats at worst (at least
 * once), never a record; what no retry mends stops with a reason.
 * Method: error codes pushed into the in-process cluster, then everything
 * that came out is counted. */
#include "flow.h"

#include <string.h>

enum { PRODUCE_KEY = 0, OFFSET_COMMIT_KEY = 8, RECORDS = 600 };

static uint8_t seen[FLOW_RECORDS_MAX];

static void push(struct flow *f, int16_t api, rd_kafka_resp_err_t error,
                 int times)
{
    while (times-- > 0)
        rd_kafka_mock_push_request_errors(mock_cluster_handle(f->cluster), api,
                                          1, error);
}

static void open_reader(struct flow *f, struct reader *r)
{
    struct source *s = flow_source(f, "one");
    reader_init(r, s, flow_sink(f, s));
    memset(seen, 0, sizeof seen);
}

static void join_group(struct reader *r)
{
    for (int tries = 0; r->changes == 0 && tries < 300; tries++)
        (void)reader_step(r, 100, seen);
    assert_int_equal(r->changes, 1);
}

/* Until each of the first RECORDS numbers was seen. */
static void read_all(struct reader *r)
{
    uint32_t got = 0;
    for (int tries = 0; got < RECORDS && tries < 300; tries++) {
        (void)reader_step(r, 100, seen);
        got = 0;
        for (uint32_t i = 0; i < RECORDS; i++)
            got += seen[i] > 0;
    }
    assert_int_equal(got, RECORDS);
}

/* Retriable errors of produce are retried below us, in order, once each. */
static void test_produce_is_retried(void **state)
{
    struct flow f;
    struct reader r;
    struct err e;
    (void)state;

    flow_start(&f);
    flow_produce(&f, 0, RECORDS);
    open_reader(&f, &r);
    push(&f, PRODUCE_KEY, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, 3);
    push(&f, PRODUCE_KEY, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, 2);
    read_all(&r);
    flow_ok(reader_commit(&r, &e), &e);
    reader_fini(&r);
    memset(seen, 0, sizeof seen);
    flow_read_all(&f, "out", seen);
    for (uint32_t i = 0; i < RECORDS; i++)
        assert_int_equal(seen[i], 1);
    flow_stop(&f);
}

/* A message that a broker refuses for good: the offset must not be
 * committed, and the text must say what was refused. */
static void test_a_refused_message_commits_nothing(void **state)
{
    struct flow f;
    struct reader r;
    struct source_position before[FLOW_PARTITIONS];
    struct err e;
    (void)state;

    flow_start(&f);
    flow_produce(&f, 0, RECORDS);
    open_reader(&f, &r);
    join_group(&r);
    push(&f, PRODUCE_KEY, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 8);
    read_all(&r);
    assert_int_equal(reader_commit(&r, &e), RC_STOP);
    assert_non_null(strstr(e.text, "not delivered"));
    assert_non_null(strstr(e.text, "'out'"));
    reader_fini(&r);

    open_reader(&f, &r);
    join_group(&r);
    memcpy(before, r.owned, sizeof before);
    for (uint32_t i = 0; i < FLOW_PARTITIONS; i++)
        assert_int_equal(before[i].committed, -1);
    reader_fini(&r);
    flow_stop(&f);
}

/* A commit that the group's coordinator refuses: the member was thrown out,
 * is told so, and begins again from its last commit. */
static void test_a_refused_commit_is_again(void **state)
{
    struct flow f;
    struct reader r;
    struct err e;
    uint32_t changes, steps = 0;
    (void)state;

    flow_start(&f);
    flow_produce(&f, 0, RECORDS);
    open_reader(&f, &r);
    read_all(&r);
    changes = r.changes;
    push(&f, OFFSET_COMMIT_KEY, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, 1);
    assert_int_equal(reader_commit(&r, &e), RC_AGAIN);
    assert_non_null(strstr(e.text, "committing offsets"));
    memset(seen, 0, sizeof seen);
    while (r.changes < changes + 2 && steps++ < 200) /* lost, assigned */
        (void)reader_step(&r, 100, seen);
    read_all(&r);
    flow_ok(reader_commit(&r, &e), &e);
    reader_fini(&r);
    flow_stop(&f);
}

/* After a failed batch the worker goes back to the commit: the same records
 * come again, in order, and none that was queued in between. */
static void test_seek_reads_again(void **state)
{
    struct flow f;
    struct reader r;
    struct source_position start[FLOW_PARTITIONS];
    struct err e;
    (void)state;

    flow_start(&f);
    flow_produce(&f, 0, RECORDS);
    open_reader(&f, &r);
    join_group(&r);
    for (uint32_t i = 0; i < FLOW_PARTITIONS; i++) {
        start[i] = r.owned[i];
        start[i].offset = 0;
    }
    memset(seen, 0, sizeof seen);
    for (uint32_t got = 0; got < RECORDS / 2;)
        got += reader_step(&r, 100, seen);
    flow_ok(sink_abort(r.sink, &e), &e);
    flow_ok(source_seek(r.source, start, FLOW_PARTITIONS, &e), &e);
    memcpy(r.owned, start, sizeof start);
    memset(seen, 0, sizeof seen);
    read_all(&r);
    for (uint32_t i = 0; i < RECORDS; i++)
        assert_int_equal(seen[i], 1);
    reader_fini(&r);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_produce_is_retried),
        cmocka_unit_test(test_a_refused_message_commits_nothing),
        cmocka_unit_test(test_a_refused_commit_is_again),
        cmocka_unit_test(test_seek_reads_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
