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

static void test_fenced_twice(void **state)
{
    struct flow f;
    struct trouble t = {.flow = &f};
    pthread_t thread;
    (void)state;

    flow_start(&f);
    assert_int_equal(pthread_create(&thread, NULL, make_trouble, &t), 0);
    assert_int_equal(flow_run(&f, 1), EXIT_FAILED);
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
