/* Goal: brokers that are slow to take outputs slow the sender down; what
 * waits stays within output.queue, and nothing is lost or sent twice.
 * Method: a producer with the smallest queue, and brokers that answer a tenth
 * of a second late. The queue is looked at after every send. */
#include "flow.h"

#include <stdio.h>
#include <string.h>

enum {
    RECORDS = 300,
    RECORD_BYTES = 1000,
    QUEUE_BYTES = 64 << 10, /* the least that output.queue may be */
    LATE_MS = 100,
};

static uint8_t seen[FLOW_RECORDS_MAX];

static struct config *config_of(struct flow *f)
{
    char servers[256];
    const char *sets[] = {servers, "output.queue=64KiB"};
    struct config *c;
    struct err e;
    (void)snprintf(
        servers, sizeof servers, "kafka.bootstrap.servers=%s",
        kafka_property(f->config, KAFKA_PRODUCER, "bootstrap.servers"));
    flow_ok(config_load(&c, NULL, sets, 2, &e), &e);
    return c;
}

/* The number, as flow_read_all wants it, and zeros. */
static void send_one(struct producer *p, uint32_t number)
{
    char value[RECORD_BYTES], key[16];
    struct message m = {.timestamp_ms = 1000 + number};
    struct err e;
    memset(value, 0, sizeof value);
    (void)snprintf(value, sizeof value, "%u", number);
    (void)snprintf(key, sizeof key, "%u", number % 100);
    m.key = slice_str(key);
    m.value = slice_of(value, sizeof value);
    flow_ok(producer_send(p, 0, &m, &e), &e);
}

static void answer_late(struct flow *f, int ms)
{
    for (int32_t broker = 1; broker <= 2; broker++)
        rd_kafka_mock_broker_set_rtt(mock_cluster_handle(f->cluster), broker,
                                     ms);
}

static void test_what_waits_is_bounded(void **state)
{
    static const char *const topics[] = {"out"};
    struct producer_options o = {.topics = topics, .topic_count = 1};
    struct producer *p;
    struct flow f;
    struct err e;
    uint64_t from_ns;
    int most = 0;
    (void)state;

    flow_start(&f);
    o.config = config_of(&f);
    flow_ok(producer_open(&p, &o, &e), &e);
    answer_late(&f, LATE_MS);
    from_ns = metrics_now_ns();
    for (uint32_t i = 0; i < RECORDS; i++) {
        int waiting;
        send_one(p, i);
        waiting = rd_kafka_outq_len(producer_handle(p));
        if (waiting > most) most = waiting;
    }
    assert_in_range(most, 10, QUEUE_BYTES / RECORD_BYTES + 1);
    /* All but a queueful has been acknowledged meanwhile. */
    assert_true(metrics_now_ns() - from_ns > UINT64_C(2) * LATE_MS * 1000000);
    flow_ok(producer_flush(p, PRODUCER_FLUSH_MS, &e), &e);
    producer_close(p);
    answer_late(&f, 0);
    memset(seen, 0, sizeof seen);
    flow_read_all(&f, "out", seen);
    for (uint32_t i = 0; i < RECORDS; i++)
        if (seen[i] != 1) fail_msg("record %u seen %u times", i, seen[i]);
    config_free((struct config *)(uintptr_t)o.config);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_waits_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
