/* admin.h - what an operator's tools ask over HTTP, on admin.listen.
 *
 * GET /metrics  Prometheus text.
 * GET /livez    200 while every worker's loop turns; else 503: restart it.
 * GET /readyz   200 once partitions are assigned, folded and being scored;
 *               else 503. Both are JSON and say why.
 * Others        404; other methods than GET and HEAD: 405.
 *
 * Limits   ADMIN_* below. Nothing that a client sends is kept or run, and
 *          there is no password: listen on loopback, or where only your
 *          monitoring reaches.
 * Threads  One of its own, which reads the workers' numbers and never makes
 *          them wait. start and stop: one thread. */
#ifndef MILLRACE_ADMIN_H
#define MILLRACE_ADMIN_H

#include "err.h"
#include "metrics.h"

enum {
    ADMIN_CONNECTIONS_MAX = 32,
    ADMIN_CONNECTIONS_PER_HOST_MAX = 16,
    ADMIN_REQUEST_BYTES_MAX = 16384,
    ADMIN_IDLE_S_MAX = 10, /* a connection that says nothing is closed */
};

struct admin;
struct admin_options {
    const char *listen;            /* "127.0.0.1:9464", "[::1]:0", ":9464" */
    const struct metrics *metrics; /* lent until admin_stop */
    double quiet_s_max;            /* a loop quieter than this is dead */
};

/* RC_STOP where listen is no address or cannot be had. */
enum rc admin_start(struct admin **out, const struct admin_options *o,
                    struct err *e) MUST_USE;
/* The port that was bound: listen may ask for 0, any that is free. */
uint16_t admin_port(const struct admin *a);
void admin_stop(struct admin *a);

#endif
