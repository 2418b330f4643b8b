/* handover.h - between a worker and whoever brings it a new model and policy.
 *
 * Asked    A page of hot users: the worker copies what their contexts are
 *          made of, a few users between two batches, so that the contexts
 *          can be made under the new model on another thread.
 * Next     What the worker serves with from its next batch on; it gives back
 *          what it served with until then.
 * Locks    None: each pointer is given by one side and taken by the other.
 * Threads  ask, reclaim, give, used: the bringer. turn, take, give_back,
 *          end: the worker's thread. */
#ifndef MILLRACE_HANDOVER_H
#define MILLRACE_HANDOVER_H

#include <stdatomic.h>

#include "state.h"

enum { HOT_USERS = 16, HOT_BUCKETS = 1024 };

/* A user whose context is cached, as of some batch. */
struct hot_user {
    uint32_t input;
    int32_t partition;
    uint64_t hash, life;
    uint64_t events_total;
    const struct past_event *events; /* its newest, oldest first */
    uint32_t event_count;            /* from the anchor of the newest on */
    struct slice key;
};

struct hot_page {
    uint32_t window; /* W of the model that will read it */
    uint32_t user_bytes_max;
    uint64_t bucket; /* where in the worker's table the next begins */
    bool last;       /* the table is through */
    uint32_t count;
    struct hot_user at[HOT_USERS];
    struct past_event *events; /* (HOT_USERS, 2 W) */
    uint8_t *keys;             /* (HOT_USERS, user_bytes_max) */
};
/* NULL: no memory. */
struct hot_page *hot_page_new(uint32_t window, uint32_t user_bytes_max);
void hot_page_free(struct hot_page *p);

struct serving;
struct handover {
    _Atomic(struct hot_page *) asked, filled;
    _Atomic(struct serving *) next, used;
    atomic_bool asking; /* more pages will be asked */
    atomic_bool ended;  /* the worker is gone, or never came */
};

/* The bringer. */
void handover_ask(struct handover *h, struct hot_page *page);
struct hot_page *handover_filled(struct handover *h); /* NULL: not yet */
/* Takes back a page that was asked, filled or not. */
struct hot_page *handover_reclaim(struct handover *h);
/* No more pages. */
void handover_asked(struct handover *h);
void handover_give(struct handover *h, struct serving *next);
/* What the worker gave back; or next itself, of a worker that ended without
 * taking it. NULL: it has not taken it yet. */
struct serving *handover_used(struct handover *h);

/* The worker. */
bool handover_busy(const struct handover *h); /* do not sleep long */
void handover_turn(struct handover *h, struct state *st);
struct serving *handover_take(struct handover *h); /* NULL: none */
void handover_give_back(struct handover *h, struct serving *used);
/* No reload runs in this moment. */
void handover_begin(struct handover *h);
void handover_end(struct handover *h);

#endif
