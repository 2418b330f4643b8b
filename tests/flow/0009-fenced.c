/* Goal: a worker that brokers take for another one with its id comes back by
 * itself; one that is thrown out again soon after stays out, with a reason.
 * Method: the command itself on the in-process cluster, whose answers to
 * heartbeats say so once and twice. */
#include "flow.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum {
    HEARTBEAT_KEY = 12,
    JOIN_S = 5,    /* to take its partitions at the start */
    REJOIN_S = 12, /* and when the group still waits for who it was before */
};

struct trouble {
    struct flow *flow;
    atomic_bool ended;
    bool came_back;
};

static void fence_in(const struct trouble *t, int seconds)
{
    const struct timespec wait = {.tv_sec = seconds};
    (void)nanosleep(&wait, NULL);
    rd_kafka_mock_push_request_errors(mock_cluster_handle(t->flow->cluster),
                                      HEARTBEAT_KEY, 1,
                                      RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID);
}

static void *make_trouble(void *arg)
{
    struct trouble *t = arg;
    fence_in(t, JOIN_S);
    fence_in(t, REJOIN_S);
    t->came_back = !atomic_load(&t->ended);
    return NULL;
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

static void test_fenced_twice(void **state)
{
    char dir[] = "/tmp/millrace-flow-XXXXXX";
    char schema[64], set_schema[96], set_state[96], set_servers[256];
    char *argv[] = {"run",
                    "--set",
                    set_servers,
                    "--set",
                    set_schema,
                    "--set",
                    set_state,
                    "--set",
                    "input.topic=in",
                    "--set",
                    "dead.letters.topic=out",
                    "--set",
                    "admin.listen=",
                    "--set",
                    "delivery=at_least_once",
                    NULL};
    struct flow f;
    struct trouble t = {.flow = &f};
    pthread_t thread;
    (void)state;

    assert_non_null(mkdtemp(dir));
    (void)snprintf(schema, sizeof schema, "%s/e.avsc", dir);
    (void)snprintf(set_schema, sizeof set_schema, "input.schema=%s", schema);
    (void)snprintf(set_state, sizeof set_state, "state.dir=%s/state", dir);
    write_schema(schema);
    flow_start(&f);
    (void)snprintf(set_servers, sizeof set_servers,
                   "kafka.bootstrap.servers=%s",
                   mock_cluster_servers(f.cluster));
    assert_int_equal(pthread_create(&thread, NULL, make_trouble, &t), 0);
    assert_int_equal(command_run(sizeof argv / sizeof *argv - 1, argv),
                     EXIT_FAILED);
    atomic_store(&t.ended, true);
    (void)pthread_join(thread, NULL);
    assert_true(t.came_back);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fenced_twice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
