/* Goal: no request makes the admin interface crash, hang, or let somebody act
 * without the token.
 * Method: the input is what a client sends, over loopback, to an interface
 * that runs; a client that is half gone is part of it. After each the pages
 * are still there, and the action has not run. */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin.h"
#include "log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    ANSWER_MS_MAX = 50,
    PAGE_MS_MAX = 5000,
    PAGE_TRIES = 50,
    PAUSE_MS = 200
};

static struct admin *admin;
static int acted;

static enum rc act(void *user, struct slice body, json_t **result,
                   struct err *e)
{
    (void)user;
    (void)body;
    (void)result;
    (void)e;
    acted++;
    return RC_OK;
}

static void start(void)
{
    static struct metrics *metrics;
    struct admin_options o = {
        .listen = "127.0.0.1:0",
        .token = "a token of some length, which nobody guesses",
        .quiet_s_max = 1e9,
        .actions = {{.path = "/reload", .act = act}}};
    struct err e;
    log_set_level(LOG_ERROR);
    if (metrics_new(&metrics, 1, &e) != RC_OK) abort();
    o.metrics = metrics;
    if (admin_start(&admin, &o, &e) != RC_OK) abort();
}

/* Sends, says that no more comes, reads what is answered. */
static size_t ask(const uint8_t *data, size_t size, char *answer, size_t max,
                  int wait_ms)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(admin_port(admin)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    size_t used = 0;
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0) abort();
    (void)send(fd, data, size, MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
    while (used < max && poll(&readable, 1, wait_ms) > 0) {
        ssize_t got = recv(fd, answer + used, max - used, 0);
        if (got <= 0) break;
        used += (size_t)got;
    }
    (void)close(fd);
    return used;
}

/* A page, as soon as there is a place: connections that were left in the
 * middle of a request keep theirs for a moment. */
static bool page_comes(void)
{
    static const char PAGE[] = "GET /livez HTTP/1.0\r\n\r\n";
    char answer[ADMIN_REQUEST_BYTES_MAX];
    for (int tries = 0; tries < PAGE_TRIES; tries++) {
        size_t used = ask((const uint8_t *)PAGE, sizeof PAGE - 1, answer,
                          sizeof answer, PAGE_MS_MAX);
        if (used > 12)
            return memcmp(answer, "HTTP/1.", 7) == 0 &&
                   memcmp(answer + 9, "200", 3) == 0;
        (void)poll(NULL, 0, PAUSE_MS);
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char answer[ADMIN_REQUEST_BYTES_MAX];
    static unsigned asked;
    if (!admin) start();
    (void)ask(data, size, answer, sizeof answer, ANSWER_MS_MAX);
    assert(acted == 0);
    if (asked++ % 16 == 0) assert(page_comes());
    return 0;
}
