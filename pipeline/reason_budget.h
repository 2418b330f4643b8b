/* reason_budget.h - how many more scores of a partition may be explained in
 * the second of event time at hand.
 *
 * Lanes    reasons.per_second is dealt out among lanes of users, by the hash
 *          of the user: so a worker that sees only some users (replay with
 *          several) decides as one that sees all, as long as no lane is
 *          divided (reason_lane).
 * Time     That of the partition, stream_ms: it never goes back, and follows
 *          from the log alone. Without a time, 1,000 records count as a
 *          second.
 * Memory   A plain value. Threads: one struct belongs to one thread. */
#ifndef MILLRACE_REASON_BUDGET_H
#define MILLRACE_REASON_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "slice.h"

enum { REASON_LANES_MAX = 64 };

struct reason_budget {
    bool begun;
    int64_t second;
    uint16_t used[REASON_LANES_MAX];
};

/* A power of two, at most per_second; 0 counts as no bound. */
uint32_t reason_lanes(uint32_t per_second);
uint32_t reason_lane(struct slice user, uint32_t lanes);

/* Takes one for a user, in the second of time_ms. False: none is left. */
bool reason_budget_take(struct reason_budget *b, uint32_t per_second,
                        struct slice user, int64_t time_ms);

#endif
