/* Goal    Operators' tools get true answers, whatever else they send; what
 *         changes something happens for the token alone; no client can hold
 *         what others need.
 * Method  A server on a free loopback port, spoken to over raw sockets, so
 *         that broken requests can be sent too. Its actions count their
 *         calls and end when the test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin.h"

enum { ANSWER_BYTES = 262144 };

#define TOKEN         "0123456789abcdef-and-more"
#define AUTHORIZATION "Authorization: Bearer " TOKEN "\r\n"

static struct metrics *metrics;
static struct admin *admin;
static char answer[ANSWER_BYTES];

/* ----------------------------------------------------------- the actions */

static atomic_uint calls;
static atomic_bool hold; /* an action does not end while this is set */
static char seen_body[ADMIN_BODY_BYTES_MAX + 1];

static enum rc act(void *user, struct slice body, json_t **result,
                   struct err *e)
{
    const enum rc *rc = user;
    memcpy(seen_body, body.ptr, body.len);
    seen_body[body.len] = 0;
    atomic_fetch_add(&calls, 1);
    while (atomic_load(&hold))
        (void)usleep(1000);
    if (*rc != RC_OK) return ERR(e, *rc, "it \"could\" not");
    *result = json_pack("{si}", "rows", 7);
    return RC_OK;
}

static enum rc is_ok = RC_OK, is_again = RC_AGAIN, is_skip = RC_SKIP,
               is_stop = RC_STOP;

static struct admin_options options(void)
{
    return (struct admin_options){
        .listen = "127.0.0.1:0",
        .token = TOKEN,
        .metrics = metrics,
        .quiet_s_max = 5,
        .actions = {{"/good", act, &is_ok},
                    {"/again", act, &is_again},
                    {"/skip", act, &is_skip},
                    {"/bad", act, &is_stop}},
    };
}

static int start(void **state)
{
    struct err e;
    struct admin_options o;
    (void)state;
    if (metrics_new(&metrics, 2, &e) != RC_OK) return -1;
    o = options();
    return admin_start(&admin, &o, &e) == RC_OK ? 0 : -1;
}

/* Another server in place of the first, for one test. */
static struct admin *swap(const struct admin_options *o)
{
    struct admin *before = admin;
    struct err e;
    assert_int_equal(admin_start(&admin, o, &e), RC_OK);
    return before;
}

static void swap_back(struct admin *before)
{
    admin_stop(admin);
    admin = before;
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

/* POST path with these further headers (each with its line end) and body. */
static int post(const char *path, const char *headers, const char *text)
{
    char bytes[2 * ADMIN_BODY_BYTES_MAX];
    int len = snprintf(bytes, sizeof bytes,
                       "POST %s HTTP/1.1\r\nHost: x\r\n%s"
                       "Content-Length: %zu\r\n\r\n%s",
                       path, headers, strlen(text), text);
    assert_true(len > 0 && (size_t)len < sizeof bytes);
    return exchange(bytes, (size_t)len);
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

    metrics_gauge(metrics_worker(metrics, 1), GAUGE_partitions_held, 1);
    assert_int_equal(request("GET", "/readyz"), 503);
    assert_false(read_health("ready", reasons, sizeof reasons));
    assert_non_null(strstr(reasons, "worker 1: 1 of 4 partitions wait for a "
                                    "schema"));
    metrics_gauge(metrics_worker(metrics, 1), GAUGE_partitions_held, 0);

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

/* Half a request whose client will send no more does not keep its place
 * until it has been silent for long. */
static void test_half_requests(void **state)
{
    int half[ADMIN_CONNECTIONS_PER_HOST_MAX];
    uint64_t from_ns = metrics_now_ns();
    (void)state;
    for (int i = 0; i < ADMIN_CONNECTIONS_PER_HOST_MAX; i++) {
        half[i] = dial();
        assert_int_equal(send(half[i], "GET /liv", 8, 0), 8);
        assert_int_equal(shutdown(half[i], SHUT_WR), 0);
    }
    while (request("GET", "/metrics") != 200) {
        assert_true(metrics_now_ns() - from_ns <
                    (ADMIN_IDLE_S_MAX - 1) * UINT64_C(1000000000));
        (void)usleep(20000);
    }
    for (int i = 0; i < ADMIN_CONNECTIONS_PER_HOST_MAX; i++)
        assert_int_equal(close(half[i]), 0);
}

static void test_addresses(void **state)
{
    static const char *const BAD[] = {
        "9464",   "x:",        "127.0.0.1:65536",
        "::1:80", "host:http", "127.0.0.1:123456"};
    struct admin_options o = options();
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

/* -------------------------------------------------------------- actions */

static double refused(void)
{
    const char *at;
    assert_int_equal(request("GET", "/metrics"), 200);
    at = strstr(answer, "\nmillrace_admin_refused_total ");
    assert_non_null(at);
    return strtod(strchr(at, ' '), NULL);
}

static void test_token_alone_opens(void **state)
{
    static const char *const WRONG[] = {
        "",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer 0123456789abcdef\r\n",
        "Authorization: Bearer " TOKEN "x\r\n",
        "Authorization: Bearer 1123456789abcdef-and-more\r\n",
        "Authorization: Basic " TOKEN "\r\n",
        "Authorization: " TOKEN "\r\n",
        "X-Authorization: Bearer " TOKEN "\r\n",
    };
    size_t count = sizeof WRONG / sizeof WRONG[0];
    double before = refused();
    unsigned called = atomic_load(&calls);
    (void)state;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(post("/good", WRONG[i], ""), 401);
        assert_non_null(strstr(answer, "WWW-Authenticate: Bearer"));
        assert_null(strstr(answer, TOKEN));
    }
    assert_int_equal(atomic_load(&calls), called);
    assert_true(refused() == before + (double)count);
    assert_int_equal(post("/good", AUTHORIZATION, ""), 200);
    assert_int_equal(atomic_load(&calls), called + 1);
}

static void test_no_token_no_action(void **state)
{
    struct admin_options o = options();
    unsigned called = atomic_load(&calls);
    struct admin *before;
    (void)state;
    o.token = "";
    before = swap(&o);
    assert_int_equal(post("/good", AUTHORIZATION, ""), 403);
    assert_non_null(strstr(body(), "set admin.token"));
    assert_int_equal(post("/good", "Authorization: Bearer \r\n", ""), 403);
    assert_int_equal(request("GET", "/metrics"), 200);
    assert_int_equal(atomic_load(&calls), called);
    swap_back(before);
}

static void test_action_answers(void **state)
{
    (void)state;
    assert_int_equal(post("/good", AUTHORIZATION, "{\"a\":1}"), 200);
    assert_string_equal(body(), "{\"done\": true, \"result\": {\"rows\": 7}}");
    assert_string_equal(seen_body, "{\"a\":1}");
    assert_int_equal(post("/skip", AUTHORIZATION, ""), 400);
    assert_string_equal(
        body(), "{\"done\": false, \"error\": \"it \\\"could\\\" not\"}");
    assert_int_equal(post("/again", AUTHORIZATION, ""), 503);
    assert_int_equal(post("/bad", AUTHORIZATION, ""), 500);
    assert_int_equal(request("GET", "/good"), 405);
    assert_non_null(strstr(answer, "Allow: POST"));
    assert_int_equal(post("/nowhere", AUTHORIZATION, ""), 404);
    assert_non_null(strstr(body(), "POST /good /again"));
}

static void test_bodies(void **state)
{
    static const char CHUNKED[] =
        "POST /good HTTP/1.1\r\nHost: x\r\n" AUTHORIZATION
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    static const char GET[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n"
                              "Content-Length: 3\r\n\r\nabc";
    static char large[ADMIN_BODY_BYTES_MAX + 2];
    unsigned called = atomic_load(&calls);
    (void)state;
    memset(large, 'b', ADMIN_BODY_BYTES_MAX + 1);
    assert_int_equal(post("/good", AUTHORIZATION, large), 413);
    assert_int_equal(exchange(CHUNKED, sizeof CHUNKED - 1), 411);
    assert_int_equal(exchange(GET, sizeof GET - 1), 400);
    assert_int_equal(atomic_load(&calls), called);
    large[ADMIN_BODY_BYTES_MAX] = 0;
    assert_int_equal(post("/good", AUTHORIZATION, large), 200);
    assert_string_equal(seen_body, large);
}

static void *post_good(void *arg)
{
    static const char TEXT[] =
        "POST /good HTTP/1.1\r\nHost: x\r\n" AUTHORIZATION
        "Content-Length: 0\r\n\r\n";
    char got[512] = "";
    int fd = dial(), *status = arg;
    (void)!send(fd, TEXT, sizeof TEXT - 1, MSG_NOSIGNAL);
    (void)!recv(fd, got, sizeof got - 1, 0);
    *status = sscanf(got, "HTTP/1.1 %d", status) == 1 ? *status : 0;
    (void)close(fd);
    return NULL;
}

static void wait_for_calls(unsigned n)
{
    for (int tries = 0; atomic_load(&calls) < n; tries++) {
        assert_true(tries < 2000);
        (void)usleep(1000);
    }
}

/* One at a time; pages are served meanwhile. */
static void test_one_action_at_a_time(void **state)
{
    unsigned called = atomic_load(&calls);
    pthread_t thread;
    int status;
    (void)state;
    atomic_store(&hold, true);
    assert_int_equal(pthread_create(&thread, NULL, post_good, &status), 0);
    wait_for_calls(called + 1);
    assert_int_equal(post("/bad", AUTHORIZATION, ""), 409);
    assert_int_equal(request("GET", "/metrics"), 200);
    assert_int_equal(atomic_load(&calls), called + 1);
    atomic_store(&hold, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(status, 200);
    assert_int_equal(post("/good", AUTHORIZATION, ""), 200);
}

/* Who asked has gone; the action ends, and the next may begin. */
static void test_client_leaves_action(void **state)
{
    static const char TEXT[] =
        "POST /good HTTP/1.1\r\nHost: x\r\n" AUTHORIZATION
        "Content-Length: 0\r\n\r\n";
    unsigned called = atomic_load(&calls);
    int fd = dial();
    (void)state;
    atomic_store(&hold, true);
    assert_int_equal(send(fd, TEXT, sizeof TEXT - 1, 0), sizeof TEXT - 1);
    wait_for_calls(called + 1);
    assert_int_equal(close(fd), 0);
    atomic_store(&hold, false);
    for (int tries = 0; post("/good", AUTHORIZATION, "") != 200; tries++) {
        assert_true(tries < 100);
        (void)usleep(10000);
    }
}

static void *release_soon(void *arg)
{
    (void)arg;
    (void)usleep(150000);
    atomic_store(&hold, false);
    return NULL;
}

static void test_stop_waits_for_action(void **state)
{
    struct admin_options o = options();
    unsigned called = atomic_load(&calls);
    pthread_t thread, release;
    struct admin *before;
    int status;
    (void)state;
    before = swap(&o);
    atomic_store(&hold, true);
    assert_int_equal(pthread_create(&thread, NULL, post_good, &status), 0);
    wait_for_calls(called + 1);
    assert_int_equal(pthread_create(&release, NULL, release_soon, NULL), 0);
    swap_back(before);
    assert_false(atomic_load(&hold));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_join(release, NULL), 0);
}

/* ---------------------------------------------------------------- limits */

/* Sends a byte every 20 ms until the server hangs up; how long that took. */
static uint64_t trickle(const char *begin)
{
    uint64_t from_ns = metrics_now_ns();
    struct timeval patience = {.tv_usec = 20000};
    int fd = dial();
    char byte;
    assert_int_equal(
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    (void)!send(fd, begin, strlen(begin), MSG_NOSIGNAL);
    for (int i = 0; i < 250; i++) {
        ssize_t got = recv(fd, &byte, 1, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) break;
        (void)!send(fd, "a", 1, MSG_NOSIGNAL);
    }
    (void)close(fd);
    return (metrics_now_ns() - from_ns) / 1000000;
}

/* Never silent, and yet not forever. */
static void test_slow_requests_end(void **state)
{
    struct admin_options o = options();
    unsigned called = atomic_load(&calls);
    struct admin *before;
    uint64_t ms;
    (void)state;
    o.request_ms_max = 300;
    before = swap(&o);
    ms = trickle("GET /metrics HTTP/1.1\r\nX: ");
    assert_true(ms >= 300 && ms < 3000);
    ms = trickle("POST /good HTTP/1.1\r\nHost: x\r\n" AUTHORIZATION
                 "Content-Length: 4000\r\n\r\n");
    assert_true(ms >= 300 && ms < 3000);
    assert_int_equal(atomic_load(&calls), called);

    /* An action may take longer: its time is its own. */
    pthread_t thread;
    int status;
    atomic_store(&hold, true);
    assert_int_equal(pthread_create(&thread, NULL, post_good, &status), 0);
    (void)usleep(600000);
    atomic_store(&hold, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(status, 200);
    swap_back(before);
}

static void test_many_headers(void **state)
{
    static char text[2 * ADMIN_REQUEST_BYTES_MAX];
    size_t used = (size_t)snprintf(text, sizeof text,
                                   "GET /metrics HTTP/1.1\r\nHost: x\r\n");
    int status;
    (void)state;
    while (used < sizeof text - 16)
        used += (size_t)snprintf(text + used, sizeof text - used, "A: b\r\n");
    used += (size_t)snprintf(text + used, sizeof text - used, "\r\n");
    status = exchange(text, used);
    assert_true(status == 0 || status >= 400);
    assert_int_equal(request("GET", "/metrics"), 200);
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
        cmocka_unit_test(test_half_requests),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_token_alone_opens),
        cmocka_unit_test(test_no_token_no_action),
        cmocka_unit_test(test_action_answers),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_one_action_at_a_time),
        cmocka_unit_test(test_client_leaves_action),
        cmocka_unit_test(test_stop_waits_for_action),
        cmocka_unit_test(test_slow_requests_end),
        cmocka_unit_test(test_many_headers),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
