/* admin.h - what an operator's tools ask over HTTP, on admin.listen.
 *
 * GET /metrics   Prometheus text.
 * GET /livez     200 while every worker's loop turns; else 503: restart it.
 * GET /readyz    200 once partitions are assigned, folded and being scored;
 *                else 503. Both are JSON and say why.
 * POST action    What changes something: the actions given at admin_start.
 *                Needs "Authorization: Bearer TOKEN"; without a token in the
 *                configuration all are refused. One at a time, on a thread
 *                of its own, so that pages are served meanwhile.
 * Others         404; other methods: 405.
 *
 * Answers  An action gives {"done": true, "result": ...} or {"done": false,
 *          "error": text}: 200, or 400 (RC_SKIP: this request), 503
 *          (RC_AGAIN: may work later), 500 (RC_STOP). Before it begins: 401
 *          no or a wrong token, 403 no token is set, 409 another one runs,
 *          411 and 413 for its body.
 * Limits   ADMIN_* below: bytes of a request's head and of an action's body,
 *          idle time, a request's whole time, connections, connections of
 *          one address. A GET has no body. One request a connection.
 * Token    Compared in the same time whatever is wrong with it; in no log
 *          and no answer. It travels in clear: on an address that others can
 *          reach, put TLS before it.
 * Threads  One of its own, which reads the workers' numbers and never makes
 *          them wait, and one while an action runs. start and stop: one
 *          thread. */
#ifndef MILLRACE_ADMIN_H
#define MILLRACE_ADMIN_H

#include <jansson.h>

#include "err.h"
#include "metrics.h"
#include "slice.h"

enum {
    ADMIN_CONNECTIONS_MAX = 32,
    ADMIN_CONNECTIONS_PER_HOST_MAX = 16,
    ADMIN_REQUEST_BYTES_MAX = 16384, /* line and headers, and our answer's */
    ADMIN_BODY_BYTES_MAX = 4096,
    ADMIN_IDLE_S_MAX = 10,        /* a connection that says nothing is closed */
    ADMIN_REQUEST_MS_MAX = 30000, /* from connect to the answer's last byte,
                                     an action's own time left out */
    ADMIN_ACTIONS_MAX = 8,
};

/* body: what the client sent, lent. *result: what it gets, taken; NULL where
 * there is nothing to say. */
typedef enum rc admin_act_fn(void *user, struct slice body, json_t **result,
                             struct err *e);
struct admin_action {
    const char *path; /* "/reload" */
    admin_act_fn *act;
    void *user; /* lent until admin_stop */
};

struct admin;
struct admin_options {
    const char *listen;      /* "127.0.0.1:9464", "[::1]:0", ":9464" */
    const char *token;       /* admin.token; "": no action is allowed */
    struct metrics *metrics; /* lent until admin_stop */
    double quiet_s_max;      /* a loop quieter than this is dead */
    struct admin_action actions[ADMIN_ACTIONS_MAX]; /* ends at path NULL */
    uint32_t request_ms_max; /* 0: ADMIN_REQUEST_MS_MAX */
};

/* RC_STOP where listen is no address or cannot be had. */
enum rc admin_start(struct admin **out, const struct admin_options *o,
                    struct err *e) MUST_USE;
/* The port that was bound: listen may ask for 0, any that is free. */
uint16_t admin_port(const struct admin *a);
/* Waits for an action that runs. */
void admin_stop(struct admin *a);

#endif
