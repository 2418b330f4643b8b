/* off_policy.h - what another policy would have earned, from lists that one
 * with some chance in it made: off-policy estimates.
 *
 * Lists    Place by place: the item, with which chance (propensity) the
 *          logging policy put it there given those above it, the chance that
 *          the other policy would have, and the reward it got. Rewards of a
 *          place depend on it and on those above it, not on those below (the
 *          cascade).
 * IPS      Mean over lists of the sum over places of w r, w the product of
 *          the chances' quotients down to the place. Unbiased; wild where
 *          the policies differ.
 * SNIPS    Each place's sum of w r over its sum of w: less wild, its bias
 *          goes with the lists.
 * DR       Doubly robust: IPS of what a model of the reward leaves over, and
 *          the model's own estimate. The model is the mean reward of an item,
 *          drawn to that of the place, learned from the other half of the
 *          users; so it stays unbiased where the chances are right, however
 *          wrong the model.
 * Effective
 *          (sum of w)^2 / sum of w^2: so many lists the weighted ones are
 *          worth. Few: do not believe the estimate, whatever the interval.
 * Interval 95 %, bootstrap over users (bootstrap.h).
 * Memory   About 40 bytes a place. Threads  One at a time. */
#ifndef MILLRACE_OFF_POLICY_H
#define MILLRACE_OFF_POLICY_H

#include <stdbool.h>

#include "bootstrap.h"
#include "err.h"

enum { OFF_POLICY_PLACES_MAX = 100 };

struct off_policy_place {
    uint64_t item;    /* a hash or an index */
    uint64_t instead; /* the other policy's best item here, given those above;
                         0: it has none */
    double logged;    /* chance of item by the policy that made the list */
    double other;     /* by the other one */
    float reward;
};

struct off_policy;
struct off_policy *off_policy_new(void); /* NULL: no memory */
void off_policy_free(struct off_policy *p);

/* A list whose rewards are known or still 0. RC_SKIP: a chance is not in
 * (0, 1], which the text says; RC_STOP: no memory. *list: its number. */
enum rc off_policy_add(struct off_policy *p, uint64_t user,
                       const struct off_policy_place *places, uint32_t count,
                       uint64_t *list, struct err *e) MUST_USE;
/* What became of a list: only then it is measured. item got reward; in no
 * place of it: nobody did. */
void off_policy_reward(struct off_policy *p, uint64_t list, uint64_t item,
                       float reward);
enum rc off_policy_merge(struct off_policy *to, const struct off_policy *from,
                         struct err *e) MUST_USE;

struct off_policy_estimate {
    double value; /* a list */
    struct interval at;
};
struct off_policy_result {
    uint64_t lists;
    double logged; /* what the lists earned as they were, a list */
    struct off_policy_estimate ips, snips, dr;
    double effective_first, effective_all; /* lists, by w of the first place
                                              and of the last */
};
/* RC_STOP: no memory. Without lists all is NaN. */
enum rc off_policy_measure(const struct off_policy *p,
                           struct off_policy_result *out,
                           struct err *e) MUST_USE;

#endif
