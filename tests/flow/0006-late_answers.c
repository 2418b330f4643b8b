/* Goal: what nobody answered in time is decided right when the answer comes
 * late, or never: an offset commit, the end of a transaction.
 * Method: delays and errors pushed into the in-process cluster, which keeps
 * no offsets of transactions: how a lost one ended is told to it before. */
#include "flow.h"

#include <string.h>

enum {
    OFFSET_COMMIT_KEY = 8,
    OFFSET_FETCH_KEY = 9,
    END_TXN_KEY = 26,
    TXN_OFFSET_COMMIT_KEY = 28,
    RECORDS = 300,
    WAIT_MS = 400,
};

static uint8_t seen[FLOW_RECORDS_MAX];

static struct sink *open_sink(struct flow *f, struct source *s,
                              const char *transactional_id)
{
    struct sink_kafka_options o = {.config = f->config,
                                   .source = s,
                                   .topics = {"out", NULL, NULL},
                                   .transactional_id = transactional_id,
                                   .offsets_wait_ms = WAIT_MS};
    struct sink *k = NULL;
    struct err e;

    flow_ok(sink_kafka_open(&k, &o, &e), &e);
    return k;
}

static void open_reader(struct flow *f, struct reader *r,
                        const char *transactional_id)
{
    struct source *s;
    uint32_t got = 0;

    flow_start(f);
    rd_kafka_mock_coordinator_set(mock_cluster_handle(f->cluster), "group",
                                  "flow", 1);
    flow_produce(f, 0, RECORDS);
    s = flow_source(f, "one");
    reader_init(r, s, open_sink(f, s, transactional_id));
    memset(seen, 0, sizeof seen);
    for (int tries = 0; got < RECORDS && tries < 300; tries++)
        got += reader_step(r, 100, seen);
    assert_int_equal(got, RECORDS);
}

static void close_reader(struct flow *f, struct reader *r)
{
    reader_fini(r);
    flow_stop(f);
}

static void delay(struct flow *f, int16_t api, int ms)
{
    rd_kafka_mock_broker_push_request_error_rtts(
        mock_cluster_handle(f->cluster), 1, api, 1, RD_KAFKA_RESP_ERR_NO_ERROR,
        ms);
}

static void push(struct flow *f, int16_t api, rd_kafka_resp_err_t error)
{
    rd_kafka_mock_push_request_errors(mock_cluster_handle(f->cluster), api, 1,
                                      error);
}

/* The answer to the first commit comes while the second one waits, and is
 * not the second one's. */
static void test_a_late_answer_is_nobodys(void **state)
{
    struct flow f;
    struct reader r;
    struct err e;
    (void)state;

    open_reader(&f, &r, NULL);
    delay(&f, OFFSET_COMMIT_KEY, WAIT_MS * 3 / 2);
    delay(&f, OFFSET_COMMIT_KEY, WAIT_MS * 5);
    assert_int_equal(reader_commit(&r, &e), RC_AGAIN);
    assert_non_null(strstr(e.text, "committing offsets"));
    assert_int_equal(reader_commit(&r, &e), RC_AGAIN);
    close_reader(&f, &r);
}

/* The group stands at what the reader has read, less behind; and then the
 * end of a transaction that commits all of it is lost. */
static enum rc lose_an_end(struct flow *f, struct reader *r, int64_t behind,
                           struct err *e)
{
    enum rc rc;

    for (uint32_t i = 0; i < FLOW_PARTITIONS; i++)
        r->owned[i].offset -= behind;
    flow_ok(reader_commit(r, e), e);
    for (uint32_t i = 0; i < FLOW_PARTITIONS; i++)
        r->owned[i].offset += behind;
    sink_close(r->sink);
    r->sink = open_sink(f, r->source, "flow");
    push(f, END_TXN_KEY, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH);
    rc = reader_commit(r, e);
    sink_close(r->sink);
    r->sink = open_sink(f, r->source, NULL);
    return rc;
}

static void test_a_lost_end(void **state)
{
    struct flow f;
    struct reader r;
    struct err e;
    (void)state;

    open_reader(&f, &r, NULL);
    /* The offsets are there: it happened. */
    flow_ok(lose_an_end(&f, &r, 0, &e), &e);
    /* They are not: it did not. */
    assert_int_equal(lose_an_end(&f, &r, 1, &e), RC_AGAIN);
    /* Others have taken the partitions since, and gone on. */
    flow_ok(lose_an_end(&f, &r, -1, &e), &e);
    /* Nobody tells: going on would be to score again what may be out. */
    push(&f, OFFSET_FETCH_KEY, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
    assert_int_equal(lose_an_end(&f, &r, 0, &e), RC_STOP);
    assert_non_null(strstr(e.text, "unknown"));
    close_reader(&f, &r);
}

/* After an end that was lost the same sink goes on. */
static void test_on_after_a_lost_end(void **state)
{
    struct flow f;
    struct reader r;
    struct err e;
    (void)state;

    open_reader(&f, &r, "flow");
    push(&f, TXN_OFFSET_COMMIT_KEY, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH);
    assert_int_equal(reader_commit(&r, &e), RC_AGAIN);
    flow_ok(sink_abort(r.sink, &e), &e);
    flow_ok(reader_commit(&r, &e), &e);
    close_reader(&f, &r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_late_answer_is_nobodys),
        cmocka_unit_test(test_a_lost_end),
        cmocka_unit_test(test_on_after_a_lost_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
