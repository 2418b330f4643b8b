/* watch_items.h - how well items were foreseen, user by user: watch.h says
 * what is measured.
 *
 * Memory   Grows with the log's users, their items and pairs of items.
 * Threads  One per worker; the results when the workers have ended. */
#ifndef MILLRACE_WATCH_ITEMS_H
#define MILLRACE_WATCH_ITEMS_H

#include "batch.h"
#include "cooccurrence.h"
#include "off_policy.h"

/* How the items that came stood, and what else is known of the lists. */
struct watch_ranking {
    struct ranking model, popular, cooccurrence;
    uint64_t unknown; /* targets that the model does not know */
    uint64_t seen;    /* targets that the user had before */
    struct ranking_parts parts;
    struct ranking_items items;
    struct ranking_resampled resampled; /* with intervals, else zeros */
};

struct watch_options;
struct watch_items;
/* o->model is there. */
enum rc watch_items_new(struct watch_items **out, const struct watch_options *o,
                        struct err *e) MUST_USE;
void watch_items_free(struct watch_items *w);

/* An applied event that has an item. */
enum rc watch_items_add(struct watch_items *w, const struct record *r,
                        const struct event *ev, const struct outcome *o,
                        struct err *e) MUST_USE;

/* Of all workers. */
enum rc watch_items_next(struct watch_items *const *all, uint32_t count,
                         struct watch_ranking *out, struct err *e) MUST_USE;
enum rc watch_items_off_policy(struct watch_items *const *all, uint32_t count,
                               struct off_policy_result *out,
                               uint64_t *unmatched, struct err *e) MUST_USE;
enum rc watch_items_left_out(struct watch_items *const *all, uint32_t count,
                             struct watch_ranking *out, struct err *e) MUST_USE;

#endif
