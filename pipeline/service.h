/* service.h - live scoring in one process: the store, the model, N workers
 * with a consumer and a producer each, the admin server.
 *
 * Start    service_open reads and checks all that needs no cluster; each
 *          worker opens its own clients, so N start as fast as one.
 * Reload   Configuration and model are read again while workers score
 *          (reload.h).
 * Stop     Asked to stop, workers finish their batch, commit, write, leave
 *          the group. One worker that cannot go on stops all: a process that
 *          does half of its work hides the other half.
 * Ids      Transactional and group instance ids are made of the group, the
 *          instance id in state.dir, and the worker's number: a process that
 *          comes back after a crash gets its partitions at once and ends the
 *          transaction it left open.
 * Threads  All calls from one thread. Signals are the caller's. */
#ifndef MILLRACE_SERVICE_H
#define MILLRACE_SERVICE_H

#include "config.h"
#include "err.h"
#include "metrics.h"

/* Reads the configuration again, for a reload. */
struct service_reread {
    enum rc (*read)(void *user, struct config **out, struct err *e);
    void *user; /* lent until service_close */
};

struct service;
/* c is lent until service_close. */
enum rc service_open(struct service **out, const struct config *c,
                     struct service_reread reread, struct err *e) MUST_USE;
enum rc service_start(struct service *s, struct err *e) MUST_USE;

/* True while every worker is at work. */
bool service_running(const struct service *s);
void service_stop(struct service *s);
/* Begins a reload (reload.h); POST /reload waits for one. */
void service_reload(struct service *s);
/* drain.timeout, which a reload may change. */
int64_t service_drain_ms(const struct service *s);
/* Waits for all workers to end, wait_ms at most: RC_AGAIN if they have not,
 * else the first fault of a worker, or RC_OK. */
enum rc service_join(struct service *s, int64_t wait_ms,
                     struct err *e) MUST_USE;
/* Joined before. */
void service_close(struct service *s);

const struct metrics *service_metrics(const struct service *s);
/* Records between the workers and the ends of their logs, a second old at
 * most. */
uint64_t service_lag(const struct service *s);
/* The latency of events since the last call: q-quantile in ms; 0 if there
 * were none, infinite beyond a minute (an old log is being scored). */
double service_latency_ms(struct service *s, double q);

#endif
