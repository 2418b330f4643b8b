/* Goal    Operators' tools get true answers, whatever else they send.
 * Method  A server on a free loopback port, spoken to over raw sockets, so
 *         that broken requests can be sent too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin.h"

enum { ANSWER_BYTES = 262144 };

static struct metrics *metrics;
static struct admin *admin;
static char answer[ANSWER_BYTES];

static int start(void **state)
{
    struct err e;
    struct admin_options o = {.listen = "127.0.0.1:0", .quiet_s_max = 5};
    (void)state;
    if (metrics_new(&metrics, 2, &e) != RC_OK) return -1;
    o.metrics = metrics;
    return admin_start(&admin, &o, &e) == RC_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    admin_stop(admin);
    metrics_free(metrics);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(admin_port(admin)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

/* Sends bytes, reads until the server closes; the status, 0 for none. */
static int exchange(const char *bytes, size_t len)
{
    size_t used = 0;
    ssize_t got;
    int status = 0, fd = dial();
    (void)!send(fd, bytes, len, MSG_NOSIGNAL);
    while ((got = recv(fd, answer + used, sizeof answer - 1 - used, 0)) > 0)
        used += (size_t)got;
    answer[used] = 0;
    (void)close(fd);
    return sscanf(answer, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

static int request(const char *method, const char *path)
{
    char text[512];
    int len = snprintf(text, sizeof text,
                       "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                       method, path);
    return exchange(text, (size_t)len);
}

static const char *body(void)
{
    const char *at = strstr(answer, "\r\n\r\n");
    return at ? at + 4 : "";
}

/* The health document; its reasons as one text in reasons. */
static bool read_health(const char *name, char *reasons, size_t size)
{
    json_error_t fault;
    json_t *root = json_loads(body(), 0, &fault);
    json_t *list = json_object_get(root, "reasons");
    bool good = json_is_true(json_object_get(root, name));
    assert_non_null(root);
    assert_int_equal(json_array_size(json_object_get(root, "workers")), 2);
    *reasons = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        size_t used = strlen(reasons);
        (void)snprintf(reasons + used, size - used, "%s; ",
                       json_string_value(json_array_get(list, i)));
    }
    json_decref(root);
    return good;
}

static void be(uint32_t worker, enum worker_phase phase, double partitions,
               double folding)
{
    struct worker_metrics *m = metrics_worker(metrics, worker);
    metrics_gauge(m, GAUGE_partitions, partitions);
    metrics_gauge(m, GAUGE_partitions_folding, folding);
    metrics_phase(m, phase);
}

static void test_metrics_page(void **state)
{
    (void)state;
    metrics_add(metrics_worker(metrics, 1), COUNT_events, 42);
    assert_int_equal(request("GET", "/metrics"), 200);
    assert_non_null(strstr(answer, "text/plain; version=0.0.4"));
    assert_non_null(strstr(body(), "millrace_events_total{worker=\"1\"} 42\n"));
    assert_int_equal(request("HEAD", "/metrics"), 200);
    assert_string_equal(body(), "");
}

static void test_ready_says_why_not(void **state)
{
    char reasons[1024];
    (void)state;
    be(0, PHASE_STARTING, 0, 0);
    be(1, PHASE_STARTING, 0, 0);
    assert_int_equal(request("GET", "/readyz"), 503);
    assert_false(read_health("ready", reasons, sizeof reasons));
    assert_non_null(strstr(reasons, "no partition is assigned"));

    be(0, PHASE_FOLDING, 4, 3);
    be(1, PHASE_SCORING, 4, 0);
    assert_int_equal(request("GET", "/readyz"), 503);
    assert_false(read_health("ready", reasons, sizeof reasons));
    assert_string_equal(reasons, "worker 0: folds 3 of 4 partitions; ");

    /* More workers than partitions: the idle one does not keep us back. */
    be(0, PHASE_STARTING, 0, 0);
    assert_int_equal(request("GET", "/readyz"), 200);
    assert_true(read_health("ready", reasons, sizeof reasons));
    assert_string_equal(reasons, "");

    be(1, PHASE_DRAINING, 4, 0);
    assert_int_equal(request("GET", "/readyz"), 503);
    assert_false(read_health("ready", reasons, sizeof reasons));
    assert_string_equal(reasons, "worker 1: drains, to stop; ");
    assert_int_equal(request("GET", "/livez"), 200); /* no reason to kill */
}

static void test_live_until_a_loop_stands(void **state)
{
    struct worker_metrics *m = metrics_worker(metrics, 1);
    char reasons[1024];
    (void)state;
    be(0, PHASE_SCORING, 4, 0);
    be(1, PHASE_SCORING, 4, 0);
    assert_int_equal(request("GET", "/livez"), 200);
    assert_true(read_health("live", reasons, sizeof reasons));
    atomic_store(&m->turned_ns, metrics_now_ns() - 6000000000u);
    assert_int_equal(request("GET", "/livez"), 503);
    assert_false(read_health("live", reasons, sizeof reasons));
    assert_non_null(strstr(reasons, "worker 1: its loop last turned 6 s ago"));
    assert_int_equal(request("GET", "/readyz"), 503);
}

static void test_other_requests(void **state)
{
    static const char *const METHODS[] = {"POST", "PUT", "DELETE", "PATCH",
                                          "OPTIONS"};
    (void)state;
    assert_int_equal(request("GET", "/"), 404);
    assert_int_equal(request("GET", "/metrics/"), 404);
    assert_int_equal(request("GET", "/../etc/passwd"), 404);
    assert_int_equal(request("POST", "/nowhere"), 404);
    for (size_t i = 0; i < sizeof METHODS / sizeof METHODS[0]; i++) {
        assert_int_equal(request(METHODS[i], "/metrics"), 405);
        assert_non_null(strstr(answer, "Allow: GET, HEAD"));
    }
    assert_int_equal(request("GET", "/metrics?x=1"), 200);
}

static void test_hostile_requests(void **state)
{
    static char large[4 * ADMIN_REQUEST_BYTES_MAX];
    static const char BODY[] = "POST /metrics HTTP/1.1\r\nHost: x\r\n"
                               "Content-Length: 1000000000\r\n\r\nabc";
    int status;
    (void)state;
    /* A head that never fits is refused, not kept. */
    (void)snprintf(large, sizeof large, "GET /metrics HTTP/1.1\r\nX: ");
    memset(large + strlen(large), 'a', sizeof large - strlen(large));
    status = exchange(large, sizeof large);
    assert_true(status == 0 || status >= 400);
    assert_int_equal(exchange(BODY, sizeof BODY - 1), 405);
    int fd = dial(); /* no request at all */
    assert_int_equal(send(fd, "\0\xff\x01 / HTTP/9\r\n\r\n", 16, 0), 16);
    assert_int_equal(close(fd), 0);
    assert_int_equal(request("GET", "/metrics"), 200); /* still there */
}

/* Clients that say nothing fill the limit, and are gone when closed. */
static void test_connection_limit(void **state)
{
    int idle[ADMIN_CONNECTIONS_PER_HOST_MAX];
    (void)state;
    for (int i = 0; i < ADMIN_CONNECTIONS_PER_HOST_MAX; i++)
        idle[i] = dial();
    assert_int_equal(request("GET", "/livez"), 0);
    for (int i = 0; i < ADMIN_CONNECTIONS_PER_HOST_MAX; i++)
        assert_int_equal(close(idle[i]), 0);
    for (int tries = 0; request("GET", "/metrics") != 200; tries++) {
        assert_true(tries < 100);
        (void)usleep(20000);
    }
}

static void test_addresses(void **state)
{
    static const char *const BAD[] = {
        "9464",   "x:",        "127.0.0.1:65536",
        "::1:80", "host:http", "127.0.0.1:123456"};
    struct admin_options o = {.metrics = metrics, .quiet_s_max = 5};
    char taken[64];
    struct admin *a;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        o.listen = BAD[i];
        assert_int_equal(admin_start(&a, &o, &e), RC_STOP);
        assert_null(a);
        assert_non_null(strstr(e.text, "give host:port"));
    }
    (void)snprintf(taken, sizeof taken, "127.0.0.1:%u", admin_port(admin));
    o.listen = taken;
    assert_int_equal(admin_start(&a, &o, &e), RC_STOP);
    assert_non_null(strstr(e.text, "Address already in use"));
    o.listen = ":0";
    assert_int_equal(admin_start(&a, &o, &e), RC_OK);
    assert_true(admin_port(a) > 0);
    admin_stop(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_page),
        cmocka_unit_test(test_ready_says_why_not),
        cmocka_unit_test(test_live_until_a_loop_stands),
        cmocka_unit_test(test_other_requests),
        cmocka_unit_test(test_hostile_requests),
        cmocka_unit_test(test_connection_limit),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
