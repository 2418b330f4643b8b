/* decide.h - what the configuration makes of scores: functions of the log.
 *
 * recommend.when = interval keeps the time of the newest list in the user's
 * row, so who gets a list follows from the log alone, live or replayed.
 *
 * Exploration: a list is filled from the best candidates, place by place. With
 * chance explore.rate a place goes to any of those left, all alike, else to the
 * best of them; so the chance of an item in its place, given those above it,
 * is known exactly. Every draw is a hash of seed, event and place.
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
    int64_t profile_ms; /* 0: with every event */
    uint32_t list_items;
    bool list_seen;        /* items of the user's history may be listed again */
    uint32_t category_max; /* items of one category in a list; 0: any */
    uint32_t events_min;   /* of a user whose list the model makes */
    double explore_rate;
    uint32_t explore_pool;
    uint64_t explore_seed;
    double reasons_threshold;
    uint32_t reasons_per_second, reasons_count;
    bool explains;       /* the model has a reference; serving_new's */
    uint64_t explain_id; /* only the event of this id is, without a bound:
                            inspect's; 0: none such */
    char hash[17];       /* of all that the configuration says here, hex */
};

void policy_init(struct policy *p, const struct config *c);

/* True if this event makes a list. *listed_ms is the user's newest list and
 * is moved on where the policy is by interval. */
bool decide_list(const struct policy *p, const struct event *ev,
                 int64_t *listed_ms);

/* True if this event makes a profile: the first of its user in an interval of
 * event time. newest_ms: of the user's events before it; INT64_MIN: none. */
bool decide_profile(const struct policy *p, int64_t newest_ms, int64_t time_ms);

/* How many candidates a list is chosen from: its length, or more where there
 * is exploration. */
uint32_t policy_candidates(const struct policy *p);

/* By what a user's list is made, who has so many events, the one at hand
 * counted, and known items in the history. */
enum list_source decide_source(const struct policy *p, uint64_t events_total,
                               uint32_t known);

/* Fills the places of a list: candidates (count), best first, become the list
 * and, behind it, those that were not taken. propensity: of each place. key
 * tells this event's draws from others'. Returns the length. */
uint32_t decide_slots(const struct policy *p, uint64_t key,
                      struct ranked *candidates, uint32_t count,
                      double *propensity);

/* Scores -> flags, and which are explained, for every scored event of the
 * batch. The partition's budget (reason_budget.h) is used up on the way. */
void decide(const struct policy *p, struct batch *b);

#endif
