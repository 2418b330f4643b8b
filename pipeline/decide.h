/* decide.h - what the configuration makes of scores: pure functions.
 *
 * recommend.when = interval keeps the time of the newest list in the user's
 * row, so who gets a list follows from the log alone, live or replayed.
 *
 * Threads  A policy is immutable. */
#ifndef MILLRACE_DECIDE_H
#define MILLRACE_DECIDE_H

#include "batch.h"
#include "config.h"

enum { POLICY_TYPES_MAX = 64 };

struct policy {
    double fraud_threshold;
    uint32_t recommend_when; /* RECOMMEND_... */
    uint32_t type_count;
    uint64_t types[POLICY_TYPES_MAX]; /* hash64 of recommend.types */
    int64_t interval_ms;
    uint32_t list_items;
    bool list_seen; /* items of the user's history may be listed again */
    char hash[17];  /* of all that the configuration says here, hex */
};

void policy_init(struct policy *p, const struct config *c);

/* True if this event makes a list. *listed_ms is the user's newest list and
 * is moved on where the policy is by interval. */
bool decide_list(const struct policy *p, const struct event *ev,
                 int64_t *listed_ms);

/* Scores -> flags, for every scored event of the batch. */
void decide(const struct policy *p, struct batch *b);

#endif
