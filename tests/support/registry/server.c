#include "server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ROUTES_MAX = 64,
    REQUEST_BYTES = 65536,
    STEP_MS = 10,
    HUGE_BYTES = 64 << 20,
};

struct route {
    char *request, *body;
    unsigned status;
};

struct server {
    int listening;
    char url[64];
    SSL_CTX *tls;
    pthread_t thread;
    pthread_mutex_t mutex; /* routes, last */
    struct route routes[ROUTES_MAX];
    uint32_t route_count;
    char last[REQUEST_BYTES];
    atomic_int mode;
    atomic_bool stop;
    atomic_uint requests;
};

/* One connection. */
struct peer {
    struct server *server;
    int fd;
    SSL *ssl;
};

static bool ended(const struct server *s)
{
    return atomic_load(&s->stop);
}

/* --- bytes -------------------------------------------------------------- */

static bool readable(const struct peer *p)
{
    struct pollfd at = {.fd = p->fd, .events = POLLIN};
    if (p->ssl && SSL_pending(p->ssl) > 0) return true;
    while (!ended(p->server))
        if (poll(&at, 1, STEP_MS) > 0) return true;
    return false;
}

static ssize_t take(const struct peer *p, char *to, size_t size)
{
    if (!readable(p)) return -1;
    return p->ssl ? SSL_read(p->ssl, to, (int)size) : recv(p->fd, to, size, 0);
}

static bool put(const struct peer *p, const char *from, size_t len)
{
    while (len > 0) {
        ssize_t n = p->ssl ? SSL_write(p->ssl, from, (int)len)
                           : send(p->fd, from, len, MSG_NOSIGNAL);
        if (n <= 0) return false;
        from += n;
        len -= (size_t)n;
    }
    return true;
}

/* Head and body into server->last; false: the client is gone. */
static bool take_request(const struct peer *p)
{
    struct server *s = p->server;
    char text[REQUEST_BYTES];
    size_t used = 0, want = SIZE_MAX;
    while (used < want && used < sizeof text - 1) {
        const char *end, *length;
        ssize_t n = take(p, text + used, sizeof text - 1 - used);
        if (n <= 0) return false;
        used += (size_t)n;
        text[used] = '\0';
        end = strstr(text, "\r\n\r\n");
        if (!end) continue;
        length = strcasestr(text, "content-length:");
        want = (size_t)(end + 4 - text) +
               (length ? strtoul(length + 15, NULL, 10) : 0);
    }
    (void)pthread_mutex_lock(&s->mutex);
    memcpy(s->last, text, used + 1);
    (void)pthread_mutex_unlock(&s->mutex);
    (void)atomic_fetch_add(&s->requests, 1);
    return true;
}

/* --- answers ------------------------------------------------------------ */

static void answer(const struct peer *p, unsigned status, const char *headers,
                   const char *body, size_t announced)
{
    char head[512];
    int used = snprintf(head, sizeof head,
                        "HTTP/1.1 %u X\r\nContent-Type: application/json\r\n"
                        "Connection: close\r\n%sContent-Length: %zu\r\n\r\n",
                        status, headers, announced);
    (void)(put(p, head, (size_t)used) && put(p, body, strlen(body)));
}

static void answer_plain(const struct peer *p, unsigned status,
                         const char *body)
{
    answer(p, status, "", body, strlen(body));
}

/* What was told by server_route. */
static void answer_well(const struct peer *p, bool slowly)
{
    struct server *s = p->server;
    static const char NONE[] =
        "{\"error_code\":40403,\"message\":\"Schema not found\"}";
    char body[REQUEST_BYTES] = "";
    unsigned status = 404;
    (void)snprintf(body, sizeof body, "%s", NONE);
    (void)pthread_mutex_lock(&s->mutex);
    for (uint32_t i = s->route_count; i > 0; i--) {
        const struct route *r = &s->routes[i - 1];
        size_t len = strlen(r->request);
        if (strncmp(s->last, r->request, len) != 0 || s->last[len] != ' ')
            continue;
        status = r->status;
        (void)snprintf(body, sizeof body, "%s", r->body);
        break;
    }
    (void)pthread_mutex_unlock(&s->mutex);
    if (!slowly) {
        answer_plain(p, status, body);
        return;
    }
    answer(p, status, "", "", strlen(body));
    for (const char *at = body; *at && !ended(s) && put(p, at, 1); at++)
        (void)usleep(20000);
}

static void answer_huge(const struct peer *p)
{
    static char block[65536];
    memset(block, '[', sizeof block - 1);
    answer(p, 200, "", "", HUGE_BYTES);
    for (size_t sent = 0; sent < HUGE_BYTES && !ended(p->server);
         sent += sizeof block)
        if (!put(p, block, sizeof block)) return;
}

/* Until the client gives up, the mode changes or the test ends. */
static void hang(const struct peer *p)
{
    struct pollfd at = {.fd = p->fd, .events = POLLIN};
    char byte;
    while (!ended(p->server) && atomic_load(&p->server->mode) == SERVE_HANG)
        if (poll(&at, 1, STEP_MS) > 0 &&
            recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
            return;
}

static void serve(const struct peer *p)
{
    enum serve mode;
    if (!take_request(p)) return;
    mode = (enum serve)atomic_load(&p->server->mode);
    switch (mode) {
    case SERVE_WELL:
    case SERVE_SLOW:
        answer_well(p, mode == SERVE_SLOW);
        break;
    case SERVE_500:
        answer_plain(p, 500, "{\"error_code\":50001,\"message\":\"store\"}");
        break;
    case SERVE_429:
        answer(p, 429, "Retry-After: 1\r\n", "", 0);
        break;
    case SERVE_401:
        answer_plain(p, 401, "{\"error_code\":401,\"message\":\"no\"}");
        break;
    case SERVE_REDIRECT:
        answer(p, 302, "Location: /schemas/ids/1\r\n", "", 0);
        break;
    case SERVE_PROXY_404:
        answer_plain(p, 404, "<html>not here</html>");
        break;
    case SERVE_EMPTY:
        answer_plain(p, 200, "");
        break;
    case SERVE_GARBAGE:
        answer_plain(p, 200, "{\"schema\":\"{\\\"type");
        break;
    case SERVE_NONSENSE:
        answer_plain(p, 200, "{\"status\":\"fine\"}");
        break;
    case SERVE_CUT:
        answer(p, 200, "", "{\"schema\":\"\\\"int\\\"\"}", 4000);
        break;
    case SERVE_HUGE:
        answer_huge(p);
        break;
    case SERVE_HANG:
        hang(p);
        break;
    default:
        break;
    }
}

static void welcome(struct server *s, int fd)
{
    struct peer p = {.server = s, .fd = fd};
    if (s->tls) {
        p.ssl = SSL_new(s->tls);
        (void)SSL_set_fd(p.ssl, fd);
        if (SSL_accept(p.ssl) != 1) goto out;
    }
    if (atomic_load(&s->mode) != SERVE_DROP) serve(&p);
out:
    if (p.ssl) (void)SSL_shutdown(p.ssl);
    SSL_free(p.ssl);
    (void)shutdown(fd, SHUT_WR);
    (void)close(fd);
}

static void *thread_main(void *arg)
{
    struct server *s = arg;
    struct pollfd at = {.fd = s->listening, .events = POLLIN};
    while (!ended(s)) {
        int fd;
        if (poll(&at, 1, STEP_MS) <= 0) continue;
        fd = accept(s->listening, NULL, NULL);
        if (fd >= 0) welcome(s, fd);
    }
    return NULL;
}

/* --- start, stop -------------------------------------------------------- */

static void die(const char *what)
{
    perror(what);
    abort();
}

static SSL_CTX *tls_open(const char *folder)
{
    SSL_CTX *c = SSL_CTX_new(TLS_server_method());
    char ca[512], own[512], key[512];
    (void)snprintf(ca, sizeof ca, "%s/ca.pem", folder);
    (void)snprintf(own, sizeof own, "%s/server.pem", folder);
    (void)snprintf(key, sizeof key, "%s/server.key", folder);
    if (!c || SSL_CTX_load_verify_locations(c, ca, NULL) != 1 ||
        SSL_CTX_use_certificate_file(c, own, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) != 1)
        die("certificates");
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       NULL);
    return c;
}

struct server *server_start(const char *tls_folder)
{
    struct server *s = calloc(1, sizeof *s);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    if (!s) abort();
    (void)signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    s->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(s->listening, (struct sockaddr *)&at, len) != 0 ||
        listen(s->listening, 16) != 0 ||
        getsockname(s->listening, (struct sockaddr *)&at, &len) != 0)
        die("listening");
    if (tls_folder) s->tls = tls_open(tls_folder);
    (void)snprintf(s->url, sizeof s->url, "%s://127.0.0.1:%u",
                   tls_folder ? "https" : "http", ntohs(at.sin_port));
    (void)pthread_mutex_init(&s->mutex, NULL);
    if (pthread_create(&s->thread, NULL, thread_main, s) != 0) die("thread");
    return s;
}

void server_stop(struct server *s)
{
    atomic_store(&s->stop, true);
    (void)pthread_join(s->thread, NULL);
    (void)close(s->listening);
    for (uint32_t i = 0; i < s->route_count; i++) {
        free(s->routes[i].request);
        free(s->routes[i].body);
    }
    SSL_CTX_free(s->tls);
    (void)pthread_mutex_destroy(&s->mutex);
    free(s);
}

const char *server_url(const struct server *s)
{
    return s->url;
}

void server_mode(struct server *s, enum serve mode)
{
    atomic_store(&s->mode, mode);
}

void server_route(struct server *s, const char *request, unsigned status,
                  const char *body)
{
    (void)pthread_mutex_lock(&s->mutex);
    if (s->route_count == ROUTES_MAX) abort();
    s->routes[s->route_count++] =
        (struct route){strdup(request), strdup(body), status};
    (void)pthread_mutex_unlock(&s->mutex);
}

uint32_t server_requests(const struct server *s)
{
    return atomic_load(&s->requests);
}

bool server_saw(struct server *s, const char *text)
{
    bool saw;
    (void)pthread_mutex_lock(&s->mutex);
    saw = strstr(s->last, text) != NULL;
    (void)pthread_mutex_unlock(&s->mutex);
    return saw;
}
