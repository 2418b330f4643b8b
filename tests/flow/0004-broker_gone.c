/* Goal: a broker that goes and comes back costs time, not records.
 * Method: the brokers of the in-process cluster are switched off one after
 * the other while records are read and written. */
#include "flow.h"

#include <string.h>

enum { RECORDS = 2000, STEPS_MAX = 1000 };

static uint8_t seen[FLOW_RECORDS_MAX];

static void test_gone_and_back(void **state)
{
    struct flow f;
    struct reader r;
    struct source *s;
    struct err e;
    uint32_t got = 0, steps = 0;
    (void)state;

    flow_start(&f);
    flow_produce(&f, 0, RECORDS);
    memset(seen, 0, sizeof seen);
    s = flow_source(&f, "one");
    reader_init(&r, s, flow_sink(&f, s));
    while (got < 300 && steps++ < STEPS_MAX)
        got += reader_step(&r, 50, seen);
    for (int broker = 1; broker <= 2; broker++) {
        rd_kafka_mock_cluster_t *m = mock_cluster_handle(f.cluster);
        assert_int_equal(rd_kafka_mock_broker_set_down(m, broker), 0);
        for (int i = 0; i < 10; i++)
            got += reader_step(&r, 20, seen);
        assert_int_equal(rd_kafka_mock_broker_set_up(m, broker), 0);
        for (int i = 0; i < 10; i++)
            got += reader_step(&r, 20, seen);
    }
    while (got < RECORDS && steps++ < STEPS_MAX)
        got += reader_step(&r, 50, seen);
    assert_int_equal(got, RECORDS);
    flow_ok(reader_commit(&r, &e), &e);
    reader_fini(&r);
    memset(seen, 0, sizeof seen);
    flow_read_all(&f, "out", seen);
    for (uint32_t i = 0; i < RECORDS; i++)
        if (seen[i] != 1) fail_msg("record %u written %u times", i, seen[i]);
    flow_stop(&f);
}

/* All brokers gone: close must not wait for them. */
static void test_close_is_bounded(void **state)
{
    struct flow f;
    struct reader r;
    struct source *s;
    uint64_t from_ns;
    uint32_t steps = 0;
    (void)state;

    flow_start(&f);
    flow_produce(&f, 0, 100);
    memset(seen, 0, sizeof seen);
    s = flow_source(&f, "one");
    reader_init(&r, s, flow_sink(&f, s));
    for (uint32_t got = 0; got < 100 && steps++ < STEPS_MAX;)
        got += reader_step(&r, 50, seen);
    rd_kafka_mock_broker_set_down(mock_cluster_handle(f.cluster), 1);
    rd_kafka_mock_broker_set_down(mock_cluster_handle(f.cluster), 2);
    (void)reader_step(&r, 200, seen);
    from_ns = metrics_now_ns();
    reader_fini(&r);
    assert_true(metrics_now_ns() - from_ns < 4000000000u);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gone_and_back),
        cmocka_unit_test(test_close_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
