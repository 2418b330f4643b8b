/* worker.h - one thread that takes events from a source through the spine
 * into a sink. worker.c is where to begin reading.
 *
 * A worker owns the partitions that its source assigns: their rows, their
 * batch, their context cache. Workers share the store handle, the model and
 * the configuration, and nothing that changes.
 *
 * Memory   Taken at worker_new and when partitions are assigned; none on the
 *          way of an event.
 * Threads  All calls from one thread; others read its metrics.
 * Errors   RC_AGAIN never leaves worker_step: it rewinds to the last commit
 *          and goes on, so that recovery is the path that a restart takes.
 *          After WORKER_FAILURES_MAX of them in a row it is RC_STOP. */
#ifndef MILLRACE_WORKER_H
#define MILLRACE_WORKER_H

#include <stdatomic.h>

#include "config.h"
#include "handover.h"
#include "mapping.h"
#include "metrics.h"
#include "sink.h"
#include "snapshot_call.h"
#include "source.h"
#include "stages.h"
#include "state.h"

enum { WORKER_FAILURES_MAX = 20, WORKER_PAUSE_MS_MAX = 2000 };

struct worker;

/* Sees every batch after its outputs were sent and before it is released:
 * metrics of replay, the log of train, inspect. All that a batch holds is
 * lent for the call. An rc other than RC_OK ends the run. */
typedef enum rc worker_observe_fn(void *user, const struct batch *b,
                                  struct err *e);

/* Sees the rows of a finite log's end, committed, before they go. */
typedef enum rc worker_end_fn(void *user, struct state *st, struct err *e);

/* Which of count shares a user is in (worker_options.share_index). A share is
 * a number of whole lanes of reason_budget.h. */
uint32_t worker_share(const struct config *c, struct slice user,
                      uint32_t count);

struct worker_options {
    const struct config *config;
    const struct model *model; /* NULL: fold and count, score nothing */
    struct store *store;       /* NULL: rows live in memory only */
    struct source *source;     /* lent until worker_free */
    struct sink *sink;         /* lent until worker_free */
    struct mapping *mapping;   /* lent until worker_free */
    enum stage_id stage;       /* which of them it is */
    const char *topic;         /* names the store's column families, and
                                  stands in outputs as their source */
    /* Of each output; NULL: as configured. */
    const uint32_t *schema_ids;
    size_t context_bytes_max; /* this worker's share of model.cache */
    size_t cache_bytes;       /* this worker's share of state.cache */
    bool finite;              /* a replay: poll does not wait */
    bool chained;             /* the items stage in front, in memory */
    bool merged;              /* source is of source_merge.h */
    uint32_t pause_ms_max;    /* between rewinds; 0: WORKER_PAUSE_MS_MAX */
    /* Takes only users whose hash falls to this share (replay with several
     * workers, each reading the whole log). share_count 1: all. */
    uint32_t share_index, share_count;
    /* Through which a reload brings another model and policy while it runs;
     * config is then replaced with them. NULL: neither ever changes. */
    struct handover *handover;
    struct worker_metrics *metrics;  /* this worker's own, lent */
    struct catalogue *catalogue;     /* lent; NULL: all items are available */
    struct snapshot_call *snapshots; /* lent; NULL: nobody asks for any */
    uint32_t snapshot_index;         /* this worker's, in that call */
    const struct snapshot *base;     /* lent; with store NULL: rows begin as
                                        they are in it */
    worker_end_fn *at_end;           /* NULL: none */
    void *end_user;
    uint64_t explain_id;        /* as in struct policy */
    worker_observe_fn *observe; /* NULL: none */
    void *observer;
};

enum rc worker_new(struct worker **out, const struct worker_options *o,
                   struct err *e) MUST_USE;
void worker_free(struct worker *w);

/* One batch through the spine. RC_OK also when there was nothing to do. */
enum rc worker_step(struct worker *w, struct err *e) MUST_USE;

/* Steps until *stop or the end of a finite source, then commits, writes what
 * is dirty and hands its partitions back. */
enum rc worker_run(struct worker *w, const atomic_bool *stop,
                   struct err *e) MUST_USE;

/* The worker's thread, or when it has ended. */
struct state *worker_state(const struct worker *w);
const struct scorer *worker_scorer(const struct worker *w); /* NULL: no model */

#endif
