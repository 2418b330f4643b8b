/* server.h - a schema registry for tests, with everything that one does
 * wrong.
 *
 * It listens on loopback, in a thread of its own, one connection and one
 * request at a time. What it answers well is told by server_route; any other
 * path is answered as Confluent's registry answers an id that it lacks.
 * Certificates of a CA of its own are made at the start (tls.h). */
#ifndef MILLRACE_TEST_REGISTRY_SERVER_H
#define MILLRACE_TEST_REGISTRY_SERVER_H

#include <stdbool.h>
#include <stdint.h>

enum serve {
    SERVE_WELL,
    SERVE_500,
    SERVE_429, /* with Retry-After: 1 */
    SERVE_401,
    SERVE_REDIRECT,
    SERVE_PROXY_404, /* a page of HTML */
    SERVE_EMPTY,     /* 200, no body */
    SERVE_GARBAGE,   /* 200, not JSON */
    SERVE_NONSENSE,  /* 200, JSON of something else */
    SERVE_CUT,       /* less body than it announces */
    SERVE_HUGE,      /* a body without end */
    SERVE_SLOW,      /* a byte every 20 ms */
    SERVE_HANG,      /* takes the request, says nothing */
    SERVE_DROP,      /* closes at once */
    SERVES
};

struct server;
/* tls: https, with certificates as tls.h puts them into folder; such a
 * client's certificate is asked for. */
struct server *server_start(const char *tls_folder);
void server_stop(struct server *s);
/* "http://127.0.0.1:PORT" */
const char *server_url(const struct server *s);

void server_mode(struct server *s, enum serve mode);
/* body: as JSON, copied. request: "GET /schemas/ids/7". */
void server_route(struct server *s, const char *request, unsigned status,
                  const char *body);
/* Requests whose head has come, since the start. */
uint32_t server_requests(const struct server *s);
/* True if the last request, head or body, holds text. */
bool server_saw(struct server *s, const char *text);

#endif
