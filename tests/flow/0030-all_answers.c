/* Goal: whatever a broker answers to whichever request, once, three times or
 * for ten seconds, the worker does what the table says, and never hangs: it
 * goes on, and every event has its output, or it stops and says why.
 * Method: each row in a process of its own, several at a time, with a cluster
 * of its own: a worker with a model of random weights scores a small log from
 * topic to topic. The errors are pushed before its first request. What comes
 * out is counted by event. An event may come twice: this cluster neither keeps
 * the offsets of a transaction nor hides what was aborted. Two rows have no
 * errors, but brokers that are slow, or change places all the time.
 * MILLRACE_FAULTS_SCALE hand or long: each error also three times, and those
 * that pass by themselves for ten seconds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mock_cluster.h"
#include "producer.h"
#include "sink_kafka.h"
#include "source_kafka.h"
#include "spine_log.h"
#include "state.h"

enum {
    EVENTS = 300,
    USERS = 20,
    PARTITIONS = 2,
    BROKERS = 2,
    MOVES = 100,
    MOVE_MS = 100,
    SLOW_MS = 200,
    CHILDREN = 32,
    LONG_S = 10,
    CASE_S_MAX = 60,
    PUSHED_MAX = 1000,
};
enum { PASSED = 0, STOPPED = 10, AGAIN, LOST }; /* exit statuses */

/* Kafka's request types. */
enum api {
    PRODUCE = 0,
    FETCH = 1,
    LIST_OFFSETS = 2,
    METADATA = 3,
    OFFSET_COMMIT = 8,
    OFFSET_FETCH = 9,
    FIND_COORDINATOR = 10,
    JOIN_GROUP = 11,
    HEARTBEAT = 12,
    LEAVE_GROUP = 13,
    SYNC_GROUP = 14,
    INIT_PRODUCER_ID = 22,
    ADD_PARTITIONS_TO_TXN = 24,
    ADD_OFFSETS_TO_TXN = 25,
    END_TXN = 26,
    TXN_OFFSET_COMMIT = 28,
    NONE, /* no error is answered: */
    APIS
};

/* What the worker does about an error. */
enum reaction {
    GOES_ON, /* retried below us, or the batch is taken back and read again */
    STOPS,   /* RC_STOP, with a text */
};

/* What else the cluster does meanwhile. */
enum weather {
    CALM,
    SLOW,   /* every answer takes SLOW_MS */
    MOVING, /* leaders and the transactions' coordinator go round */
};

struct row {
    enum api api;
    const char *name;
    rd_kafka_resp_err_t error;
    enum reaction reaction;
    bool passes; /* it may pass by itself, so it may also last */
    enum weather weather;
};
#define ROW(api, error, reaction, passes)                                      \
    {                                                                          \
        api, #error, RD_KAFKA_RESP_ERR_##error, reaction, passes, CALM         \
    }
#define WEATHER(kind)                                                          \
    {                                                                          \
        NONE, #kind, RD_KAFKA_RESP_ERR_NO_ERROR, GOES_ON, false, kind          \
    }

/* --- one case, in a process of its own ---------------------------------- */

struct trial {
    const struct row *row;
    int times; /* 0: for LONG_S */
};

static void expect(enum rc rc, const struct err *e)
{
    if (rc == RC_OK) return;
    (void)fprintf(stderr, "%s\n", e->text);
    _exit(STOPPED);
}

/* Ends the errors that last, from outside: a call may be waiting in them. */
static void *clear_later(void *arg)
{
    const struct timespec t = {.tv_sec = LONG_S};
    const struct trial *trial = ((void **)arg)[0];
    (void)nanosleep(&t, NULL);
    rd_kafka_mock_clear_request_errors(((void **)arg)[1], trial->row->api);
    return NULL;
}

static void push_errors(const struct trial *t, struct mock_cluster *m)
{
    static void *arg[2];
    static pthread_t thread;
    bool lasts = t->times == 0 || t->row->reaction == STOPS;
    int count = lasts ? PUSHED_MAX : t->times;
    while (count-- > 0)
        rd_kafka_mock_push_request_errors(
            mock_cluster_handle(m), (int16_t)t->row->api, 1, t->row->error);
    if (t->times > 0) return;
    arg[0] = (void *)(uintptr_t)t;
    arg[1] = mock_cluster_handle(m);
    (void)pthread_create(&thread, NULL, clear_later, arg);
}

/* Not the group's: this cluster asserts where a member joins it twice. */
static void move_all(rd_kafka_mock_cluster_t *m, int32_t broker)
{
    for (int32_t p = 0; p < PARTITIONS; p++) {
        (void)rd_kafka_mock_partition_set_leader(m, "in", p, broker);
        (void)rd_kafka_mock_partition_set_leader(m, "fraud", p, broker);
        broker = BROKERS + 1 - broker;
    }
    (void)rd_kafka_mock_coordinator_set(m, "transaction", "table.one", broker);
}

static void *keep_moving(void *cluster)
{
    const struct timespec t = {.tv_nsec = MOVE_MS * 1000000L};
    for (int i = 0; i < MOVES; i++) {
        move_all(cluster, 1 + i % BROKERS);
        (void)nanosleep(&t, NULL);
    }
    return NULL;
}

static void make_weather(enum weather weather, struct mock_cluster *m)
{
    rd_kafka_mock_cluster_t *cluster = mock_cluster_handle(m);
    pthread_t thread;
    for (int32_t i = 1; weather == SLOW && i <= BROKERS; i++)
        (void)rd_kafka_mock_broker_set_rtt(cluster, i, SLOW_MS);
    if (weather == MOVING)
        (void)pthread_create(&thread, NULL, keep_moving, cluster);
}

static void produce_log(const struct config *c, const struct spine_log *log)
{
    static const char *const topics[] = {"in"};
    const struct producer_options o = {
        .config = c, .topics = topics, .topic_count = 1};
    struct producer *p;
    struct err e;
    expect(producer_open(&p, &o, &e), &e);
    for (uint32_t i = 0; i < log->count; i++) {
        const struct record *r = &log->records[i];
        char key[] = {(char)('a' + r->partition), 0};
        const struct message m = {.timestamp_ms = r->timestamp_ms,
                                  .key = slice_str(key),
                                  .value = r->value};
        expect(producer_send(p, 0, &m, &e), &e);
    }
    expect(producer_flush(p, PRODUCER_FLUSH_MS, &e), &e);
    producer_close(p);
}

/* Which events have a score: the first field of a score is their id. */
static uint32_t scored_events(const struct config *c)
{
    const struct topic_range all = {
        .topic = "fraud", .partition = -1, .until = -1};
    static uint8_t seen[EVENTS];
    uint32_t found = 0;
    struct source_change change;
    struct source *s;
    struct batch b;
    struct err e;
    expect(source_range_open(&s, c, &all, EVENTS, &e), &e);
    expect(batch_init(&b, EVENTS, &e), &e);
    expect(source_change(s, &change, &e), &e);
    if (change.kind == SOURCE_ASSIGNED)
        expect(source_assign(s, change.positions, change.count, &e), &e);
    while (!source_ended(s)) {
        batch_reset(&b);
        expect(source_poll(s, &b, 100, &e), &e);
        for (uint32_t i = 0; i < b.count; i++) {
            const uint8_t *id = b.records[i].value.ptr + 5; /* header */
            uint32_t n = (uint32_t)strtoul((const char *)id + 2, NULL, 10);
            if (n < EVENTS && !seen[n]++) found++;
        }
        source_release(s);
    }
    batch_fini(&b);
    source_close(s);
    return found;
}

static bool all_committed(const struct worker *w)
{
    struct partition *at[PARTITIONS];
    int64_t sum = 0;
    uint32_t n = state_partitions(worker_state(w), at, PARTITIONS);
    for (uint32_t i = 0; i < n; i++)
        sum += at[i]->committed;
    return n == PARTITIONS && sum == EVENTS;
}

static void open_edges(struct spine_run *r, bool transactions)
{
    static const char *const topics[] = {"in"};
    const struct source_kafka_options source = {.config = r->config,
                                                .topics = topics,
                                                .topic_count = 1,
                                                .group = "table",
                                                .instance = "one",
                                                .events_max = 64};
    struct sink_kafka_options sink = {.config = r->config,
                                      .topics = {"fraud", NULL, NULL},
                                      .transactional_id =
                                          transactions ? "table.one" : NULL};
    struct err e;
    expect(source_kafka_open(&r->source, &source, &e), &e);
    sink.source = r->source;
    expect(sink_kafka_open(&r->sink, &sink, &e), &e);
    r->options.source = r->source;
    r->options.sink = r->sink;
}

static int run_trial(const struct trial *t)
{
    char servers[256];
    const char *sets[] = {servers,
                          "commit.interval=20ms",
                          "poll.wait.ms=10",
                          "kafka.retry.backoff.ms=10",
                          "kafka.reconnect.backoff.max.ms=100",
                          "kafka.consumer.session.timeout.ms=6000",
                          "kafka.consumer.heartbeat.interval.ms=100",
                          "kafka.topic.metadata.refresh.fast.interval.ms=50",
                          NULL};
    struct mock_cluster *m;
    struct spine_log log;
    struct spine_run r;
    struct err e;
    spine_log_make(&log, EVENTS, USERS, 3);
    expect(mock_cluster_start(&m, BROKERS, &e), &e);
    expect(mock_cluster_topic(m, "in", PARTITIONS, &e), &e);
    expect(mock_cluster_topic(m, "fraud", PARTITIONS, &e), &e);
    (void)snprintf(servers, sizeof servers, "kafka.bootstrap.servers=%s",
                   mock_cluster_servers(m));
    spine_run_open(&r, &log, sets);
    produce_log(r.config, &log);
    if (t->row->api != NONE) push_errors(t, m);
    make_weather(t->row->weather, m);
    open_edges(&r, t->row->api != OFFSET_COMMIT);
    r.options.finite = false;
    r.options.pause_ms_max = t->times > 0 ? 1 : WORKER_PAUSE_MS_MAX;
    r.options.topic = "in";
    spine_run_start(&r);
    while (!all_committed(r.worker)) {
        enum rc rc = worker_step(r.worker, &e);
        if (rc == RC_AGAIN) return AGAIN; /* its own matter to settle */
        expect(rc, &e);
    }
    worker_free(r.worker);
    sink_close(r.sink);
    source_close(r.source);
    return scored_events(r.config) == EVENTS ? PASSED : LOST;
}

/* --- all cases, several at a time ---------------------------------------- */

struct child {
    pid_t pid; /* 0: none */
    struct trial trial;
    FILE *words;
};

static struct child children[CHILDREN];
static uint32_t wrong_of[APIS]; /* trials that did not go as their row says */

static void start_child(struct child *c, struct trial trial)
{
    c->trial = trial;
    c->words = tmpfile();
    assert_non_null(c->words);
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid > 0) return;
    (void)dup2(fileno(c->words), STDERR_FILENO);
    (void)alarm(CASE_S_MAX);
    _exit(run_trial(&c->trial));
}

static const char *what_became(int status)
{
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGALRM ? "hung" : "crashed";
    switch (WEXITSTATUS(status)) {
    case PASSED:
        return "went on";
    case STOPPED:
        return "stopped";
    case AGAIN:
        return "gave RC_AGAIN up";
    default:
        return "lost events";
    }
}

static void judge(const struct child *c, int status)
{
    const char *became = what_became(status);
    bool stops = c->trial.row->reaction == STOPS;
    char words[512] = "";
    size_t used;
    rewind(c->words);
    used = fread(words, 1, sizeof words - 1, c->words);
    words[used] = '\0';
    if (strcmp(became, stops ? "stopped" : "went on") == 0 &&
        (!stops || used > 0))
        return;
    wrong_of[c->trial.row->api]++;
    print_error("request %d, %s, %d times (0: lasting): %s: %s\n",
                c->trial.row->api, c->trial.row->name, c->trial.times, became,
                words);
}

/* Waits for one child; its place. NULL: there is none. */
static struct child *reap(void)
{
    int status;
    pid_t pid = wait(&status);
    struct child *c = children;
    if (pid < 0) return NULL;
    while (c->pid != pid)
        c++;
    judge(c, status);
    (void)fclose(c->words);
    c->pid = 0;
    return c;
}

static void run_row(const struct row *row, int times)
{
    static uint32_t started;
    struct child *c = started < CHILDREN ? &children[started++] : reap();
    assert_non_null(c);
    start_child(c, (struct trial){.row = row, .times = times});
}

static bool by_hand(void)
{
    const char *scale = getenv("MILLRACE_FAULTS_SCALE");
    return scale && strcmp(scale, "short") != 0;
}

/* The table: request, answer, reaction, whether it may pass by itself. What
 * stops is a matter of rights, of a broken set-up or of our own identity:
 * there the answer stays, and going on would hide it. */
static const struct row ROWS[] = {
    ROW(METADATA, LEADER_NOT_AVAILABLE, GOES_ON, true),
    ROW(METADATA, REQUEST_TIMED_OUT, GOES_ON, true),
    ROW(METADATA, BROKER_NOT_AVAILABLE, GOES_ON, true),
    ROW(FIND_COORDINATOR, COORDINATOR_NOT_AVAILABLE, GOES_ON, true),
    ROW(FIND_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS, GOES_ON, true),
    ROW(FIND_COORDINATOR, REQUEST_TIMED_OUT, GOES_ON, true),
    ROW(FIND_COORDINATOR, TRANSACTIONAL_ID_AUTHORIZATION_FAILED, STOPS, false),
    ROW(JOIN_GROUP, COORDINATOR_LOAD_IN_PROGRESS, GOES_ON, true),
    ROW(JOIN_GROUP, COORDINATOR_NOT_AVAILABLE, GOES_ON, true),
    ROW(JOIN_GROUP, NOT_COORDINATOR, GOES_ON, true),
    ROW(JOIN_GROUP, REBALANCE_IN_PROGRESS, GOES_ON, true),
    ROW(JOIN_GROUP, UNKNOWN_MEMBER_ID, GOES_ON, true),
    ROW(JOIN_GROUP, ILLEGAL_GENERATION, GOES_ON, true),
    ROW(JOIN_GROUP, GROUP_AUTHORIZATION_FAILED, STOPS, false),
    ROW(JOIN_GROUP, FENCED_INSTANCE_ID, STOPS, false),
    ROW(JOIN_GROUP, INCONSISTENT_GROUP_PROTOCOL, GOES_ON, true),
    ROW(SYNC_GROUP, COORDINATOR_LOAD_IN_PROGRESS, GOES_ON, true),
    ROW(SYNC_GROUP, NOT_COORDINATOR, GOES_ON, true),
    ROW(SYNC_GROUP, REBALANCE_IN_PROGRESS, GOES_ON, true),
    ROW(SYNC_GROUP, UNKNOWN_MEMBER_ID, GOES_ON, true),
    ROW(SYNC_GROUP, ILLEGAL_GENERATION, GOES_ON, true),
    ROW(SYNC_GROUP, GROUP_AUTHORIZATION_FAILED, GOES_ON, false),
    ROW(SYNC_GROUP, FENCED_INSTANCE_ID, STOPS, false),
    ROW(HEARTBEAT, COORDINATOR_NOT_AVAILABLE, GOES_ON, true),
    ROW(HEARTBEAT, NOT_COORDINATOR, GOES_ON, true),
    ROW(HEARTBEAT, REBALANCE_IN_PROGRESS, GOES_ON, true),
    ROW(HEARTBEAT, UNKNOWN_MEMBER_ID, GOES_ON, true),
    ROW(HEARTBEAT, ILLEGAL_GENERATION, GOES_ON, true),
    ROW(HEARTBEAT, FENCED_INSTANCE_ID, STOPS, false),
    ROW(LEAVE_GROUP, COORDINATOR_NOT_AVAILABLE, GOES_ON, true),
    ROW(LEAVE_GROUP, NOT_COORDINATOR, GOES_ON, true),
    ROW(LEAVE_GROUP, UNKNOWN_MEMBER_ID, GOES_ON, true),
    ROW(LEAVE_GROUP, GROUP_AUTHORIZATION_FAILED, GOES_ON, false),
    ROW(LIST_OFFSETS, NOT_LEADER_FOR_PARTITION, GOES_ON, true),
    ROW(LIST_OFFSETS, LEADER_NOT_AVAILABLE, GOES_ON, true),
    ROW(LIST_OFFSETS, UNKNOWN_TOPIC_OR_PART, GOES_ON, true),
    ROW(LIST_OFFSETS, REQUEST_TIMED_OUT, GOES_ON, true),
    ROW(LIST_OFFSETS, TOPIC_AUTHORIZATION_FAILED, STOPS, false),
    ROW(OFFSET_FETCH, COORDINATOR_LOAD_IN_PROGRESS, GOES_ON, true),
    ROW(OFFSET_FETCH, NOT_COORDINATOR, GOES_ON, true),
    ROW(OFFSET_FETCH, REQUEST_TIMED_OUT, GOES_ON, true),
    ROW(OFFSET_FETCH, GROUP_AUTHORIZATION_FAILED, STOPS, false),
    ROW(FETCH, NOT_LEADER_FOR_PARTITION, GOES_ON, true),
    ROW(FETCH, LEADER_NOT_AVAILABLE, GOES_ON, true),
    ROW(FETCH, REQUEST_TIMED_OUT, GOES_ON, true),
    ROW(FETCH, UNKNOWN_TOPIC_OR_PART, GOES_ON, true),
    ROW(FETCH, KAFKA_STORAGE_ERROR, GOES_ON, true),
    ROW(FETCH, FENCED_LEADER_EPOCH, GOES_ON, true),
    ROW(FETCH, UNKNOWN, GOES_ON, true),
    ROW(FETCH, TOPIC_AUTHORIZATION_FAILED, STOPS, false),
    ROW(OFFSET_COMMIT, COORDINATOR_LOAD_IN_PROGRESS, GOES_ON, true),
    ROW(OFFSET_COMMIT, COORDINATOR_NOT_AVAILABLE, GOES_ON, true),
    ROW(OFFSET_COMMIT, NOT_COORDINATOR, GOES_ON, true),
    ROW(OFFSET_COMMIT, REQUEST_TIMED_OUT, GOES_ON, true),
    ROW(OFFSET_COMMIT, REBALANCE_IN_PROGRESS, GOES_ON, true),
    ROW(OFFSET_COMMIT, ILLEGAL_GENERATION, GOES_ON, true),
    ROW(OFFSET_COMMIT, UNKNOWN_MEMBER_ID, GOES_ON, true),
    ROW(OFFSET_COMMIT, GROUP_AUTHORIZATION_FAILED, STOPS, false),
    ROW(INIT_PRODUCER_ID, COORDINATOR_NOT_AVAILABLE, GOES_ON, true),
    ROW(INIT_PRODUCER_ID, NOT_COORDINATOR, GOES_ON, true),
    ROW(INIT_PRODUCER_ID, COORDINATOR_LOAD_IN_PROGRESS, GOES_ON, true),
    ROW(INIT_PRODUCER_ID, CONCURRENT_TRANSACTIONS, GOES_ON, true),
    ROW(INIT_PRODUCER_ID, TRANSACTIONAL_ID_AUTHORIZATION_FAILED, STOPS, false),
    ROW(INIT_PRODUCER_ID, CLUSTER_AUTHORIZATION_FAILED, STOPS, false),
    ROW(INIT_PRODUCER_ID, INVALID_TRANSACTION_TIMEOUT, STOPS, false),
    ROW(ADD_PARTITIONS_TO_TXN, CONCURRENT_TRANSACTIONS, GOES_ON, true),
    ROW(ADD_PARTITIONS_TO_TXN, COORDINATOR_NOT_AVAILABLE, GOES_ON, true),
    ROW(ADD_PARTITIONS_TO_TXN, NOT_COORDINATOR, GOES_ON, true),
    ROW(ADD_PARTITIONS_TO_TXN, COORDINATOR_LOAD_IN_PROGRESS, GOES_ON, true),
    ROW(ADD_PARTITIONS_TO_TXN, UNKNOWN_TOPIC_OR_PART, GOES_ON, false),
    ROW(ADD_PARTITIONS_TO_TXN, UNKNOWN_PRODUCER_ID, GOES_ON, false),
    ROW(ADD_PARTITIONS_TO_TXN, INVALID_PRODUCER_ID_MAPPING, GOES_ON, false),
    ROW(ADD_PARTITIONS_TO_TXN, INVALID_PRODUCER_EPOCH, GOES_ON, false),
    ROW(ADD_PARTITIONS_TO_TXN, INVALID_TXN_STATE, GOES_ON, false),
    ROW(ADD_PARTITIONS_TO_TXN, TOPIC_AUTHORIZATION_FAILED, STOPS, false),
    ROW(ADD_PARTITIONS_TO_TXN, TRANSACTIONAL_ID_AUTHORIZATION_FAILED, STOPS,
        false),
    ROW(PRODUCE, NOT_LEADER_FOR_PARTITION, GOES_ON, true),
    ROW(PRODUCE, NOT_ENOUGH_REPLICAS, GOES_ON, true),
    ROW(PRODUCE, NOT_ENOUGH_REPLICAS_AFTER_APPEND, GOES_ON, true),
    ROW(PRODUCE, REQUEST_TIMED_OUT, GOES_ON, true),
    ROW(PRODUCE, KAFKA_STORAGE_ERROR, GOES_ON, true),
    ROW(PRODUCE, OUT_OF_ORDER_SEQUENCE_NUMBER, GOES_ON, false),
    ROW(PRODUCE, UNKNOWN_PRODUCER_ID, GOES_ON, false),
    ROW(PRODUCE, INVALID_PRODUCER_EPOCH, GOES_ON, false),
    ROW(PRODUCE, TOPIC_AUTHORIZATION_FAILED, STOPS, false),
    ROW(ADD_OFFSETS_TO_TXN, CONCURRENT_TRANSACTIONS, GOES_ON, true),
    ROW(ADD_OFFSETS_TO_TXN, COORDINATOR_NOT_AVAILABLE, GOES_ON, true),
    ROW(ADD_OFFSETS_TO_TXN, NOT_COORDINATOR, GOES_ON, true),
    ROW(ADD_OFFSETS_TO_TXN, UNKNOWN_PRODUCER_ID, GOES_ON, false),
    ROW(ADD_OFFSETS_TO_TXN, INVALID_PRODUCER_EPOCH, GOES_ON, false),
    ROW(ADD_OFFSETS_TO_TXN, INVALID_TXN_STATE, GOES_ON, false),
    ROW(ADD_OFFSETS_TO_TXN, TRANSACTIONAL_ID_AUTHORIZATION_FAILED, STOPS,
        false),
    ROW(ADD_OFFSETS_TO_TXN, GROUP_AUTHORIZATION_FAILED, STOPS, false),
    ROW(TXN_OFFSET_COMMIT, COORDINATOR_NOT_AVAILABLE, GOES_ON, true),
    ROW(TXN_OFFSET_COMMIT, NOT_COORDINATOR, GOES_ON, true),
    ROW(TXN_OFFSET_COMMIT, COORDINATOR_LOAD_IN_PROGRESS, GOES_ON, true),
    ROW(TXN_OFFSET_COMMIT, REQUEST_TIMED_OUT, GOES_ON, true),
    ROW(TXN_OFFSET_COMMIT, ILLEGAL_GENERATION, GOES_ON, false),
    ROW(TXN_OFFSET_COMMIT, UNKNOWN_MEMBER_ID, GOES_ON, false),
    ROW(TXN_OFFSET_COMMIT, FENCED_INSTANCE_ID, GOES_ON, false),
    ROW(TXN_OFFSET_COMMIT, INVALID_PRODUCER_EPOCH, GOES_ON, false),
    ROW(TXN_OFFSET_COMMIT, TRANSACTIONAL_ID_AUTHORIZATION_FAILED, STOPS, false),
    ROW(TXN_OFFSET_COMMIT, GROUP_AUTHORIZATION_FAILED, STOPS, false),
    ROW(END_TXN, CONCURRENT_TRANSACTIONS, GOES_ON, true),
    ROW(END_TXN, COORDINATOR_NOT_AVAILABLE, GOES_ON, true),
    ROW(END_TXN, NOT_COORDINATOR, GOES_ON, true),
    ROW(END_TXN, COORDINATOR_LOAD_IN_PROGRESS, GOES_ON, true),
    ROW(END_TXN, UNKNOWN_PRODUCER_ID, GOES_ON, false),
    ROW(END_TXN, INVALID_PRODUCER_EPOCH, GOES_ON, false),
    ROW(END_TXN, INVALID_TXN_STATE, GOES_ON, false),
    ROW(END_TXN, TRANSACTIONAL_ID_AUTHORIZATION_FAILED, STOPS, false),
    WEATHER(SLOW),
    WEATHER(MOVING),
};
enum { ROW_COUNT = sizeof ROWS / sizeof *ROWS };

/* Once each; by hand also three times, and for LONG_S what may last. */
static int run_all(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROW_COUNT; i++)
        run_row(&ROWS[i], 1);
    for (uint32_t i = 0; by_hand() && i < ROW_COUNT; i++) {
        if (ROWS[i].reaction == STOPS) continue;
        run_row(&ROWS[i], 3);
        if (ROWS[i].passes) run_row(&ROWS[i], 0);
    }
    while (reap())
        continue;
    return 0;
}

#define TEST(api)                                                              \
    static void test_##api(void **state)                                       \
    {                                                                          \
        (void)state;                                                           \
        assert_int_equal(wrong_of[api], 0);                                    \
    }
TEST(METADATA)
TEST(FIND_COORDINATOR)
TEST(JOIN_GROUP)
TEST(SYNC_GROUP)
TEST(HEARTBEAT)
TEST(LEAVE_GROUP)
TEST(LIST_OFFSETS)
TEST(OFFSET_FETCH)
TEST(FETCH)
TEST(OFFSET_COMMIT)
TEST(INIT_PRODUCER_ID)
TEST(ADD_PARTITIONS_TO_TXN)
TEST(PRODUCE)
TEST(ADD_OFFSETS_TO_TXN)
TEST(TXN_OFFSET_COMMIT)
TEST(END_TXN)
TEST(NONE)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_METADATA),
        cmocka_unit_test(test_FIND_COORDINATOR),
        cmocka_unit_test(test_JOIN_GROUP),
        cmocka_unit_test(test_SYNC_GROUP),
        cmocka_unit_test(test_HEARTBEAT),
        cmocka_unit_test(test_LEAVE_GROUP),
        cmocka_unit_test(test_LIST_OFFSETS),
        cmocka_unit_test(test_OFFSET_FETCH),
        cmocka_unit_test(test_FETCH),
        cmocka_unit_test(test_OFFSET_COMMIT),
        cmocka_unit_test(test_INIT_PRODUCER_ID),
        cmocka_unit_test(test_ADD_PARTITIONS_TO_TXN),
        cmocka_unit_test(test_PRODUCE),
        cmocka_unit_test(test_ADD_OFFSETS_TO_TXN),
        cmocka_unit_test(test_TXN_OFFSET_COMMIT),
        cmocka_unit_test(test_END_TXN),
        cmocka_unit_test(test_NONE),
    };
    return cmocka_run_group_tests(tests, run_all, NULL);
}
