#include "admin.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 16, HOST_BYTES = 256, REASON_BYTES = 160 };

struct admin {
    struct MHD_Daemon *daemon;
    const struct metrics *metrics;
    double quiet_s_max;
    uint16_t port;
};

/* --------------------------------------------------------------- answers */

struct answer {
    unsigned status;
    const char *type;
    char *body; /* free() */
    size_t len;
};

static void answer_text(struct answer *a, unsigned status, const char *text)
{
    a->status = status;
    a->type = "text/plain; charset=utf-8";
    a->body = strdup(text);
    a->len = a->body ? strlen(text) : 0;
}

/* takes value */
static void answer_json(struct answer *a, unsigned status, json_t *value)
{
    a->status = status;
    a->type = "application/json";
    a->body = json_dumps(value, JSON_REAL_PRECISION(6));
    a->len = a->body ? strlen(a->body) : 0;
    json_decref(value);
}

static void get_metrics(const struct admin *admin, struct answer *a)
{
    struct err e;
    if (metrics_write(admin->metrics, &a->body, &a->len, &e) != RC_OK) {
        answer_text(a, MHD_HTTP_SERVICE_UNAVAILABLE, e.text);
        return;
    }
    a->status = MHD_HTTP_OK;
    a->type = "text/plain; version=0.0.4; charset=utf-8";
}

PRINTF_LIKE(2, 3)
static void add_reason(json_t *reasons, const char *format, ...)
{
    char text[REASON_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)json_array_append_new(reasons, json_string(text));
}

/* The workers as JSON, and a reason for each whose loop stands still. */
static json_t *describe_workers(const struct admin *admin, json_t *reasons)
{
    json_t *workers = json_array();
    for (uint32_t w = 0; w < metrics_workers(admin->metrics); w++) {
        struct worker_health h = metrics_health(admin->metrics, w);
        (void)json_array_append_new(
            workers,
            json_pack("{sisssfsIsI}", "worker", (int)w, "phase",
                      worker_phase_name(h.phase), "quiet_seconds",
                      h.quiet_seconds, "partitions", (json_int_t)h.partitions,
                      "partitions_folding", (json_int_t)h.partitions_folding));
        if (h.quiet_seconds > admin->quiet_s_max)
            add_reason(reasons, "worker %u: its loop last turned %.0f s ago", w,
                       h.quiet_seconds);
    }
    return workers;
}

static void answer_health(struct answer *a, const char *name, json_t *workers,
                          json_t *reasons)
{
    bool good = json_array_size(reasons) == 0;
    answer_json(a, good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                json_pack("{sbsoso}", name, good, "reasons", reasons, "workers",
                          workers));
}

static void get_livez(const struct admin *admin, struct answer *a)
{
    json_t *reasons = json_array();
    json_t *workers = describe_workers(admin, reasons);
    answer_health(a, "live", workers, reasons);
}

static void get_readyz(const struct admin *admin, struct answer *a)
{
    json_t *reasons = json_array();
    json_t *workers = describe_workers(admin, reasons);
    uint64_t partitions = 0;
    for (uint32_t w = 0; w < metrics_workers(admin->metrics); w++) {
        struct worker_health h = metrics_health(admin->metrics, w);
        partitions += h.partitions;
        if (h.phase == PHASE_FOLDING)
            add_reason(reasons, "worker %u: folds %llu of %llu partitions", w,
                       (unsigned long long)h.partitions_folding,
                       (unsigned long long)h.partitions);
        else if (h.phase == PHASE_DRAINING)
            add_reason(reasons, "worker %u: drains, to stop", w);
    }
    /* One worker without partitions is waste, not a fault. */
    if (partitions == 0)
        add_reason(reasons, "no partition is assigned to this process");
    answer_health(a, "ready", workers, reasons);
}

/* ------------------------------------------------------------------ HTTP */

static const struct route {
    const char *path;
    void (*get)(const struct admin *admin, struct answer *a);
} ROUTES[] = {
    {"/metrics", get_metrics}, {"/livez", get_livez}, {"/readyz", get_readyz}};

static void route(const struct admin *admin, const char *path,
                  const char *method, struct answer *a)
{
    for (size_t i = 0; i < sizeof ROUTES / sizeof ROUTES[0]; i++) {
        if (strcmp(path, ROUTES[i].path) != 0) continue;
        if (strcmp(method, MHD_HTTP_METHOD_GET) == 0 ||
            strcmp(method, MHD_HTTP_METHOD_HEAD) == 0)
            ROUTES[i].get(admin, a);
        else
            answer_text(a, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or HEAD\n");
        return;
    }
    answer_text(a, MHD_HTTP_NOT_FOUND, "see /metrics, /livez, /readyz\n");
}

/* libmicrohttpd calls this once the head of a request is there; an answer
 * at once means that a body is never read. */
static enum MHD_Result handle(void *context, struct MHD_Connection *connection,
                              const char *path, const char *method,
                              const char *version, const char *upload,
                              size_t *upload_bytes, void **request)
{
    struct answer a = {0};
    struct MHD_Response *response;
    enum MHD_Result queued;

    (void)version;
    (void)upload;
    (void)upload_bytes;
    (void)request;
    route(context, path, method, &a);
    if (!a.body) return MHD_NO; /* no memory: the connection is closed */
    response =
        MHD_create_response_from_buffer(a.len, a.body, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(a.body);
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                  a.type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL,
                                  "no-store");
    /* One request a connection: a scrape every few seconds gains nothing
     * from more, and a body that was announced is never waited for. */
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION,
                                  "close");
    if (a.status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW,
                                      "GET, HEAD");
    queued = MHD_queue_response(connection, a.status, response);
    MHD_destroy_response(response);
    return queued;
}

/* --------------------------------------------------------------- address */

/* "host:port", "[v6]:port", ":port" -> host ("" for all) and port text. */
static bool split_listen(const char *listen, char host[HOST_BYTES],
                         const char **port)
{
    const char *colon = strrchr(listen, ':');
    size_t len;
    if (!colon || strlen(colon + 1) == 0 || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        atoi(colon + 1) > 65535)
        return false;
    *port = colon + 1;
    len = (size_t)(colon - listen);
    if (len >= 2 && listen[0] == '[' && listen[len - 1] == ']') {
        listen++;
        len -= 2;
    } else if (memchr(listen, ':', len)) {
        return false; /* an IPv6 address needs its brackets */
    }
    if (len >= HOST_BYTES) return false;
    memcpy(host, listen, len);
    host[len] = 0;
    return true;
}

/* A socket that listens at the address, or -1 and errno. */
static int open_address(const struct addrinfo *at)
{
    int on = 1, saved;
    int fd =
        socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    saved = errno;
    (void)close(fd);
    errno = saved;
    return -1;
}

static enum rc open_socket(const char *listen_text, int *out, struct err *e)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    char host[HOST_BYTES];
    const char *port;
    int failed, fd;

    if (!split_listen(listen_text, host, &port))
        return ERR(e, RC_STOP,
                   "admin.listen = %s: give host:port, [ipv6]:port or :port",
                   listen_text);
    failed = getaddrinfo(*host ? host : NULL, port, &hints, &list);
    if (failed)
        return ERR(e, RC_STOP, "admin.listen = %s: cannot resolve %s: %s",
                   listen_text, host, gai_strerror(failed));
    fd = open_address(list);
    freeaddrinfo(list);
    if (fd < 0)
        return ERR(e, RC_STOP,
                   "admin.listen = %s: cannot listen: %s; another millrace may "
                   "run on this host: set another port, or none",
                   listen_text, strerror(errno));
    *out = fd;
    return RC_OK;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    char port[8];
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0 ||
        getnameinfo((struct sockaddr *)&at, len, NULL, 0, port, sizeof port,
                    NI_NUMERICSERV) != 0)
        return 0;
    return (uint16_t)atoi(port);
}

/* ---------------------------------------------------------- start, stop */

enum rc admin_start(struct admin **out, const struct admin_options *o,
                    struct err *e)
{
    struct admin *a;
    int fd;

    *out = NULL;
    TRY(open_socket(o->listen, &fd, e));
    a = calloc(1, sizeof *a);
    if (!a) {
        (void)close(fd);
        return ERR(e, RC_STOP, "admin.listen: no memory");
    }
    a->metrics = o->metrics;
    a->quiet_s_max = o->quiet_s_max;
    a->port = bound_port(fd);
    a->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO, 0, NULL, NULL, handle,
        a, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)ADMIN_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)ADMIN_CONNECTIONS_PER_HOST_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)ADMIN_REQUEST_BYTES_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ADMIN_IDLE_S_MAX,
        MHD_OPTION_END);
    if (!a->daemon) {
        (void)close(fd);
        free(a);
        return ERR(e, RC_STOP,
                   "admin.listen = %s: the HTTP server did not start: %s",
                   o->listen, strerror(errno));
    }
    *out = a;
    return RC_OK;
}

uint16_t admin_port(const struct admin *a)
{
    return a->port;
}

void admin_stop(struct admin *a)
{
    if (!a) return;
    MHD_stop_daemon(a->daemon); /* closes the socket, joins the thread */
    free(a);
}
