/* evaluate_budget.h - what so many reviews a day are worth: of the amounts of
 * all frauds, the share that stands in the events, or with the cards, that a
 * team looks at. Every day (UTC) it looks at the highest scores; equal ones
 * go against us, the smaller fraud first.
 *
 * Events   A review sees one event.
 * Cards    A review sees all of a user's events of the day, which has the
 *          score of the highest of them.
 * Threads  No shared state. */
#ifndef MILLRACE_EVALUATE_BUDGET_H
#define MILLRACE_EVALUATE_BUDGET_H

#include "evaluate.h"

struct evaluate_budget {
    double by_events, by_cards; /* NaN: there are no amounts of frauds */
};

struct scored;
/* amounts: the column that holds them. Reorders rows. False: no memory. */
bool evaluate_value_found(const struct evaluate *ev, struct scored *rows,
                          uint64_t count, int32_t amounts, uint32_t reviews,
                          struct evaluate_budget *out);

#endif
