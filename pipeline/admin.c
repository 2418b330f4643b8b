#include "admin.h"

#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "listen.h"
#include "log.h"

enum {
    REASON_BYTES = 160,
    PEER_BYTES = 64,
    TURN_MS = 100,   /* how soon the thread sees that it shall stop */
    ENDED_MS = 1000, /* for what is answered to who will send no more */
};

/* A connection, for its whole time: MHD bounds only silence, and one byte
 * every few seconds is not silent. */
struct guest {
    bool used, acting; /* acting: an action runs, which has its own time */
    int fd;
    uint64_t since_ns;
};

/* An action's request, from its head to its answer. */
struct task {
    struct admin *admin;
    const struct admin_action *action;
    struct MHD_Connection *connection;
    char peer[PEER_BYTES];
    uint8_t body[ADMIN_BODY_BYTES_MAX];
    size_t body_len;
    bool started; /* its thread runs or has run */
    bool joined;
    pthread_t thread;
    enum rc rc;
    json_t *result;
    struct err e;
};

struct admin {
    struct MHD_Daemon *daemon;
    struct admin_options o;
    char token[ADMIN_TOKEN_BYTES_MAX + 1]; /* zeros behind it */
    uint16_t port;
    pthread_t thread;
    atomic_bool stop;
    /* The thread's own from here. */
    struct guest guests[ADMIN_CONNECTIONS_MAX];
    struct task *running; /* NULL: no action runs */
};

/* --------------------------------------------------------------- answers */

struct answer {
    unsigned status;
    const char *type;
    const char *allow; /* NULL, or the methods that are */
    char *body;        /* free() */
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

static void answer_error(struct answer *a, unsigned status, const char *text)
{
    answer_json(a, status, json_pack("{sbss}", "done", false, "error", text));
}

PRINTF_LIKE(3, 4)
static void append(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

/* --------------------------------------------------------------- pages */

static void get_metrics(const struct admin *admin, struct answer *a)
{
    struct err e;
    if (metrics_write(admin->o.metrics, &a->body, &a->len, &e) != RC_OK) {
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
    for (uint32_t w = 0; w < metrics_workers(admin->o.metrics); w++) {
        struct worker_health h = metrics_health(admin->o.metrics, w);
        (void)json_array_append_new(
            workers,
            json_pack("{sisssfsIsIsI}", "worker", (int)w, "phase",
                      worker_phase_name(h.phase), "quiet_seconds",
                      h.quiet_seconds, "partitions", (json_int_t)h.partitions,
                      "partitions_folding", (json_int_t)h.partitions_folding,
                      "partitions_held", (json_int_t)h.partitions_held,
                      "partitions_restoring",
                      (json_int_t)h.partitions_restoring));
        if (h.quiet_seconds > admin->o.quiet_s_max)
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
    for (uint32_t w = 0; w < metrics_workers(admin->o.metrics); w++) {
        struct worker_health h = metrics_health(admin->o.metrics, w);
        partitions += h.partitions;
        if (h.phase == PHASE_RESTORING)
            add_reason(reasons,
                       "worker %u: restores %llu of %llu partitions from the "
                       "changelog, %.0f %% read",
                       w, (unsigned long long)h.partitions_restoring,
                       (unsigned long long)h.partitions, 100 * h.restored);
        else if (h.phase == PHASE_FOLDING)
            add_reason(reasons, "worker %u: folds %llu of %llu partitions", w,
                       (unsigned long long)h.partitions_folding,
                       (unsigned long long)h.partitions);
        else if (h.phase == PHASE_DRAINING)
            add_reason(reasons, "worker %u: drains, to stop", w);
        if (h.partitions_held > 0)
            add_reason(reasons,
                       "worker %u: %llu of %llu partitions wait for a schema; "
                       "the log says which and why (REGISTRY)",
                       w, (unsigned long long)h.partitions_held,
                       (unsigned long long)h.partitions);
    }
    /* One worker without partitions is waste, not a fault. */
    if (partitions == 0)
        add_reason(reasons, "no partition is assigned to this process");
    answer_health(a, "ready", workers, reasons);
}

/* -------------------------------------------------------------- actions */

static const struct admin_action *find_action(const struct admin *admin,
                                              const char *path)
{
    for (uint32_t i = 0; i < ADMIN_ACTIONS_MAX; i++) {
        const struct admin_action *action = &admin->o.actions[i];
        if (!action->path) return NULL;
        if (strcmp(path, action->path) == 0) return action;
    }
    return NULL;
}

static const char *header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* Every byte is looked at, equal or not, so that time tells nothing. */
static bool is_token(const struct admin *admin, const char *given)
{
    uint8_t padded[sizeof admin->token] = {0};
    volatile uint8_t differ = 0;
    size_t len = strlen(given);
    if (len >= sizeof padded) return false;
    memcpy(padded, given, len);
    for (size_t i = 0; i < sizeof padded; i++)
        differ |= padded[i] ^ (uint8_t)admin->token[i];
    return differ == 0;
}

static bool has_token(const struct admin *admin,
                      struct MHD_Connection *connection)
{
    static const char BEARER[] = "Bearer ";
    const char *text = header(connection, MHD_HTTP_HEADER_AUTHORIZATION);
    if (!text || strncasecmp(text, BEARER, sizeof BEARER - 1) != 0)
        return false;
    return is_token(admin, text + sizeof BEARER - 1);
}

static void name_peer(struct MHD_Connection *connection, char out[PEER_BYTES])
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *at = info ? info->client_addr : NULL;
    socklen_t len = sizeof(struct sockaddr_in6);
    (void)snprintf(out, PEER_BYTES, "unknown");
    if (!at) return;
    if (at->sa_family == AF_INET) len = sizeof(struct sockaddr_in);
    (void)getnameinfo(at, len, out, PEER_BYTES, NULL, 0, NI_NUMERICHOST);
}

/* Bytes of the announced body; SIZE_MAX where it has no announced length. */
static size_t body_bytes(struct MHD_Connection *connection)
{
    const char *length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (header(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING)) return SIZE_MAX;
    return length ? strtoull(length, NULL, 10) : 0;
}

/* Whether an action may begin; else a holds why not. The token comes first:
 * who has none learns nothing more. */
static bool may_act(struct admin *admin, struct MHD_Connection *connection,
                    struct answer *a)
{
    size_t bytes = body_bytes(connection);
    if (!*admin->token)
        answer_error(a, MHD_HTTP_FORBIDDEN,
                     "actions are off: set admin.token, best as "
                     "${file:/path/of/a/file}, and start again");
    else if (!has_token(admin, connection))
        answer_error(a, MHD_HTTP_UNAUTHORIZED,
                     "send the header 'Authorization: Bearer TOKEN' with the "
                     "value of admin.token");
    else if (bytes == SIZE_MAX)
        answer_error(a, MHD_HTTP_LENGTH_REQUIRED,
                     "a body needs Content-Length");
    else if (bytes > ADMIN_BODY_BYTES_MAX)
        answer_error(a, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
    return a->status == 0;
}

static void refuse(struct admin *admin, const struct admin_action *action,
                   struct MHD_Connection *connection, unsigned status)
{
    char peer[PEER_BYTES];
    name_peer(connection, peer);
    metrics_count(admin->o.metrics, TOTAL_admin_refused);
    LOG(WARN, "REFUSED", "path=%s from=%s status=%u", action->path, peer,
        status);
}

static void *task_main(void *arg)
{
    struct task *t = arg;
    t->rc = t->action->act(t->action->user, slice_of(t->body, t->body_len),
                           &t->result, &t->e);
    MHD_resume_connection(t->connection);
    return NULL;
}

static struct guest *guest_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info->socket_context;
}

/* The body is there: the connection sleeps until the action is done. */
static void task_start(struct task *t)
{
    LOG(INFO, "ACTION", "path=%s from=%s", t->action->path, t->peer);
    t->started = true;
    t->admin->running = t;
    guest_of(t->connection)->acting = true;
    MHD_suspend_connection(t->connection);
    if (pthread_create(&t->thread, NULL, task_main, t) == 0) return;
    t->joined = true; /* there is nothing to join */
    t->rc = ERR(&t->e, RC_AGAIN, "no thread for %s", t->action->path);
    MHD_resume_connection(t->connection);
}

static void task_join(struct task *t)
{
    struct guest *guest = guest_of(t->connection);
    if (!t->joined) (void)pthread_join(t->thread, NULL);
    t->joined = true;
    guest->acting = false;
    guest->since_ns = metrics_now_ns();
    if (t->admin->running == t) t->admin->running = NULL;
}

static void task_answer(struct task *t, struct answer *a)
{
    static const unsigned STATUS[] = {[RC_OK] = MHD_HTTP_OK,
                                      [RC_AGAIN] = MHD_HTTP_SERVICE_UNAVAILABLE,
                                      [RC_SKIP] = MHD_HTTP_BAD_REQUEST,
                                      [RC_STOP] =
                                          MHD_HTTP_INTERNAL_SERVER_ERROR};
    task_join(t);
    LOG(INFO, "ACTED", "path=%s status=%u", t->action->path, STATUS[t->rc]);
    if (t->rc != RC_OK) {
        answer_error(a, STATUS[t->rc], t->e.text);
        return;
    }
    answer_json(a, MHD_HTTP_OK,
                json_pack("{sbso?}", "done", true, "result", t->result));
    t->result = NULL;
}

/* The request is over, answered or broken off. */
static void forget_task(void *context, struct MHD_Connection *connection,
                        void **request, enum MHD_RequestTerminationCode why)
{
    struct task *t = *request;
    (void)context;
    (void)connection;
    (void)why;
    if (!t) return;
    if (t->started) task_join(t);
    json_decref(t->result);
    free(t);
    *request = NULL;
}

/* ------------------------------------------------------------------ HTTP */

static const struct page {
    const char *path;
    void (*get)(const struct admin *admin, struct answer *a);
} PAGES[] = {
    {"/metrics", get_metrics}, {"/livez", get_livez}, {"/readyz", get_readyz}};

static const struct page *find_page(const char *path)
{
    for (size_t i = 0; i < sizeof PAGES / sizeof PAGES[0]; i++)
        if (strcmp(path, PAGES[i].path) == 0) return &PAGES[i];
    return NULL;
}

static void answer_unknown(const struct admin *admin, struct answer *a)
{
    char text[ERR_TEXT_BYTES] = "GET";
    for (size_t i = 0; i < sizeof PAGES / sizeof PAGES[0]; i++)
        append(text, sizeof text, " %s", PAGES[i].path);
    for (uint32_t i = 0; i < ADMIN_ACTIONS_MAX && admin->o.actions[i].path; i++)
        append(text, sizeof text, "%s %s", i == 0 ? "; POST" : "",
               admin->o.actions[i].path);
    append(text, sizeof text, "\n");
    answer_text(a, MHD_HTTP_NOT_FOUND, text);
}

/* What is no action: a page, or the fault of the request. */
static void answer_page(const struct admin *admin,
                        struct MHD_Connection *connection, const char *path,
                        const char *method, struct answer *a)
{
    const struct page *page = find_page(path);
    bool reads = strcmp(method, MHD_HTTP_METHOD_GET) == 0 ||
                 strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    if (!page && !find_action(admin, path)) {
        answer_unknown(admin, a);
    } else if (!page || !reads) {
        a->allow = page ? "GET, HEAD" : "POST";
        answer_text(a, MHD_HTTP_METHOD_NOT_ALLOWED,
                    page ? "GET or HEAD\n" : "POST\n");
    } else if (body_bytes(connection) > 0) {
        answer_text(a, MHD_HTTP_BAD_REQUEST, "a GET has no body\n");
    } else {
        page->get(admin, a);
    }
}

/* takes a's body */
static enum MHD_Result send_answer(struct MHD_Connection *connection,
                                   const struct answer *a)
{
    struct MHD_Response *response;
    enum MHD_Result queued;

    if (!a->body) return MHD_NO; /* no memory: the connection is closed */
    response =
        MHD_create_response_from_buffer(a->len, a->body, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(a->body);
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                  a->type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL,
                                  "no-store");
    /* One request a connection: a scrape every few seconds gains nothing
     * from more, and a body that was announced is never waited for. */
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION,
                                  "close");
    if (a->allow)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW,
                                      a->allow);
    if (a->status == MHD_HTTP_UNAUTHORIZED)
        (void)MHD_add_response_header(
            response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    queued = MHD_queue_response(connection, a->status, response);
    MHD_destroy_response(response);
    return queued;
}

/* The head of a request is there. A page, and what is refused, is answered
 * at once, so that a body is never read; an action becomes a task. */
static enum MHD_Result begin(struct admin *admin,
                             struct MHD_Connection *connection,
                             const char *path, const char *method,
                             void **request)
{
    const struct admin_action *action = find_action(admin, path);
    struct answer a = {0};
    struct task *t;

    if (!action || strcmp(method, MHD_HTTP_METHOD_POST) != 0) {
        answer_page(admin, connection, path, method, &a);
        return send_answer(connection, &a);
    }
    if (!may_act(admin, connection, &a)) {
        refuse(admin, action, connection, a.status);
        return send_answer(connection, &a);
    }
    t = calloc(1, sizeof *t);
    if (!t) return MHD_NO;
    t->admin = admin;
    t->action = action;
    t->connection = connection;
    name_peer(connection, t->peer);
    *request = t;
    return MHD_YES;
}

/* libmicrohttpd calls this for the head of a request, for each part of its
 * body, at its end, and once more when a task was resumed. */
static enum MHD_Result handle(void *context, struct MHD_Connection *connection,
                              const char *path, const char *method,
                              const char *version, const char *upload,
                              size_t *upload_bytes, void **request)
{
    struct admin *admin = context;
    struct task *t = *request;
    struct answer a = {0};

    (void)version;
    if (!t) return begin(admin, connection, path, method, request);
    if (*upload_bytes > 0) {
        if (*upload_bytes > sizeof t->body - t->body_len) return MHD_NO;
        memcpy(t->body + t->body_len, upload, *upload_bytes);
        t->body_len += *upload_bytes;
        *upload_bytes = 0;
        return MHD_YES;
    }
    if (t->started) {
        task_answer(t, &a);
    } else if (admin->running) {
        answer_error(&a, MHD_HTTP_CONFLICT, "another action is under way");
    } else {
        task_start(t);
        return MHD_YES;
    }
    return send_answer(connection, &a);
}

/* ----------------------------------------------------------- connections */

/* libmicrohttpd's limit on connections is the number of places. */
static void note_guest(void *context, struct MHD_Connection *connection,
                       void **socket_context,
                       enum MHD_ConnectionNotificationCode code)
{
    struct admin *admin = context;
    struct guest *guest = *socket_context;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        *guest = (struct guest){0};
        return;
    }
    for (guest = admin->guests; guest->used; guest++)
        assert(guest < &admin->guests[ADMIN_CONNECTIONS_MAX - 1]);
    *guest = (struct guest){
        .used = true,
        .fd = MHD_get_connection_info(connection,
                                      MHD_CONNECTION_INFO_CONNECTION_FD)
                  ->connect_fd,
        .since_ns = metrics_now_ns(),
    };
    *socket_context = guest;
}

/* The peer sends no more, and all that it sent has been read. */
static bool has_ended(const struct guest *guest)
{
    char byte;
    return recv(guest->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* To libmicrohttpd it looks as if they had hung up. Half a request whose end
 * will never come would keep its place until it has been silent for long. */
static void close_overdue(struct admin *admin)
{
    uint64_t now_ns = metrics_now_ns();
    for (uint32_t i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        struct guest *guest = &admin->guests[i];
        uint64_t age_ms = (now_ns - guest->since_ns) / 1000000;
        if (!guest->used || guest->acting) continue;
        if (age_ms > admin->o.request_ms_max ||
            (age_ms > ENDED_MS && has_ended(guest)))
            (void)shutdown(guest->fd, SHUT_RDWR);
    }
}

static void *admin_main(void *arg)
{
    struct admin *admin = arg;
    while (!atomic_load(&admin->stop)) {
        (void)MHD_run_wait(admin->daemon, TURN_MS);
        close_overdue(admin);
    }
    return NULL;
}

/* ---------------------------------------------------------- start, stop */

static struct MHD_Daemon *start_daemon(struct admin *a, int fd)
{
    return MHD_start_daemon(
        MHD_USE_AUTO | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, handle, a,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)ADMIN_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)ADMIN_CONNECTIONS_PER_HOST_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)ADMIN_REQUEST_BYTES_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ADMIN_IDLE_S_MAX,
        MHD_OPTION_NOTIFY_COMPLETED, forget_task, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, note_guest, a, MHD_OPTION_END);
}

static void warn_of_address(const struct admin *a, int fd)
{
    if (listen_is_loopback(fd)) return;
    LOG(WARN, "ADMINOPEN",
        "admin.listen=%s is not loopback: who reaches it reads metrics%s",
        a->o.listen,
        *a->token ? ", and the token travels in clear: put TLS before it" : "");
}

/* takes fd */
static enum rc start(struct admin *a, int fd, struct err *e)
{
    a->port = listen_port(fd);
    warn_of_address(a, fd);
    a->daemon = start_daemon(a, fd);
    if (!a->daemon) {
        (void)close(fd);
        return ERR(e, RC_STOP,
                   "admin.listen = %s: the HTTP server did not start: %s",
                   a->o.listen, strerror(errno));
    }
    if (pthread_create(&a->thread, NULL, admin_main, a) == 0) return RC_OK;
    MHD_stop_daemon(a->daemon);
    return ERR(e, RC_STOP, "admin.listen = %s: no thread", a->o.listen);
}

enum rc admin_start(struct admin **out, const struct admin_options *o,
                    struct err *e)
{
    struct admin *a;
    int fd;

    *out = NULL;
    assert(strlen(o->token) < sizeof a->token);
    TRY(listen_open(&fd, "admin.listen", o->listen, e));
    a = calloc(1, sizeof *a);
    if (!a) {
        (void)close(fd);
        return ERR(e, RC_STOP, "admin.listen: no memory");
    }
    a->o = *o;
    if (a->o.request_ms_max == 0) a->o.request_ms_max = ADMIN_REQUEST_MS_MAX;
    memcpy(a->token, o->token, strlen(o->token));
    if (start(a, fd, e) != RC_OK) {
        free(a);
        return e->rc;
    }
    *out = a;
    return RC_OK;
}

uint16_t admin_port(const struct admin *a)
{
    return a->port;
}

/* A suspended connection must be resumed before the daemon may stop, which
 * is the last thing that an action's thread does. */
void admin_stop(struct admin *a)
{
    if (!a) return;
    atomic_store(&a->stop, true);
    (void)pthread_join(a->thread, NULL);
    if (a->running) task_join(a->running);
    MHD_stop_daemon(a->daemon); /* closes the socket, forgets tasks */
    explicit_bzero(a->token, sizeof a->token);
    free(a);
}
