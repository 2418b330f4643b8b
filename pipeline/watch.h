/* watch.h - what a replay measures while it goes.
 *
 * Scores   Every scored event with its label, for evaluate.h.
 * Next     Was the item of an event in the list made after the user's event
 *          before it? With rank_all it is ranked among all items instead.
 *          Beside it the same for popularity, the items most often seen so
 *          far in the log, and for what came most often after the user's
 *          last item; those of the user left out alike.
 * Baselines
 *          With baselines, of every event too: the regression on features
 *          that the model keeps, and its fraud head without what the user
 *          did (model.h). drift counts the features of measured events.
 * Logged   Lists of a run that explored, held against those of this replay
 *          (off_policy.h): the item that came next is the reward.
 * Leave one out
 *          Each user's last item ranked among all items by the state before
 *          it. Items of earlier events are masked. What cannot be ranked
 *          (an item that the model does not know, one already seen) stays
 *          in the denominator as a miss.
 * Not finite
 *          A score that is no number ends the replay.
 * Memory   Grows with the log and its users: a command's, not a server's.
 * Threads  One per worker; the results when the workers have ended. */
#ifndef MILLRACE_WATCH_H
#define MILLRACE_WATCH_H

#include "batch.h"
#include "drift.h"
#include "evaluate.h"
#include "labels.h"
#include "logged_lists.h"
#include "off_policy.h"
#include "watch_items.h"

struct watch_options {
    const struct model *model;   /* NULL: nothing to measure but labels */
    const struct labels *labels; /* NULL: the events' own only */
    int64_t label_delay_ms;      /* after which silence is good (labels.h) */
    int64_t from_ms, until_ms;   /* events measured for next item */
    bool leave_one_out;
    bool rank_all;   /* next items among all, whether or not there are lists */
    bool list_seen;  /* recommend.seen: lists may hold what the user had */
    bool popularity; /* needs the whole log in order: one worker */
    bool baselines;  /* simpler ways, on the same events */
    bool drift;      /* of features, where the model keeps their shares */
    const struct logged_lists *logged; /* NULL: none */
    bool intervals;                    /* resamples of rankings */
    uint32_t scale;                    /* of amounts: role.amount.scale */
};

struct feature_file;
struct watch;
enum rc watch_new(struct watch **out, const struct watch_options *o,
                  struct err *e) MUST_USE;
void watch_free(struct watch *w);

/* Rows go there as well, lent; before the first batch. */
void watch_features(struct watch *w, struct feature_file *to);

/* A worker_observe_fn; user is a struct watch. */
enum rc watch_batch(void *user, const struct batch *b, struct err *e);

/* Columns of the scores. The amount is a baseline, and what was at stake. */
enum {
    WATCH_FRAUD,
    WATCH_ANOMALY,
    WATCH_AMOUNT,
    WATCH_REGRESSION, /* baselines: of the features alone */
    WATCH_ALONE,      /* the fraud head without the transformer */
    WATCH_COLUMNS
};
struct evaluate *watch_scores(struct watch *w);

/* Of all workers: a sum over applied events of a hash of each one's place,
 * user, number and features, so equal for replays whose decoded events and
 * states were the same, whatever their models and workers. */
uint64_t watch_digest(struct watch *const *all, uint32_t count);

/* Of all workers; NULL: not counted. The caller frees it. */
enum rc watch_drift(struct watch *const *all, uint32_t count,
                    struct drift **out, struct err *e) MUST_USE;
/* Of all workers, with logged lists. unmatched: lists of events for which
 * this replay makes none. */
enum rc watch_off_policy(struct watch *const *all, uint32_t count,
                         struct off_policy_result *out, uint64_t *unmatched,
                         struct err *e) MUST_USE;

/* Of all workers; there is a model. */
enum rc watch_next(struct watch *const *all, uint32_t count,
                   struct watch_ranking *out, struct err *e) MUST_USE;
enum rc watch_leave_one_out(struct watch *const *all, uint32_t count,
                            struct watch_ranking *out, struct err *e) MUST_USE;

#endif
