/* ranking.h - how well items were ranked: where did the one that came stand?
 *
 * Rank     1 is the best; equal scores against us; 0: not ranked (an item
 *          that the model does not know, or not in the list), a miss at
 *          every k that stays in the denominator.
 * Parts    The same at 10 by how long the user's history was, by how popular
 *          the item is, by the user's segment.
 * Lists    Coverage: the share of all items that some list has among its
 *          first ten. Novelty: the mean self-information, -log2 of its share
 *          of the log's events, of what lists have there; an item that never
 *          came counts as if it had come once.
 * Baseline Items by how often they came so far.
 * Threads  No shared state. */
#ifndef MILLRACE_RANKING_H
#define MILLRACE_RANKING_H

#include "bootstrap.h"
#include "err.h"

enum {
    RANKING_KS = 4,
    RANKING_TEN = 2, /* RANKING_K[RANKING_TEN] is 10 */
    RANKING_LENGTHS = 6,
    RANKING_BANDS = 4,
    RANKING_SEGMENTS = 64,
};
extern const uint32_t RANKING_K[RANKING_KS]; /* 1, 5, 10, 20 */
/* Fewest events before, of each part: 1, 5, 10, 20, 50, 200. */
extern const uint32_t RANKING_LENGTH[RANKING_LENGTHS];
/* Of all items, most popular first, up to that share: 1, 10, 50, 100 %. */
extern const double RANKING_BAND[RANKING_BANDS];

/* Sums; start from zeros. */
struct ranking {
    uint64_t events;
    uint64_t hits[RANKING_KS];
    double ndcg_sum[RANKING_KS]; /* 1 / log2(rank + 1) */
    double mrr_sum[RANKING_KS];  /* 1 / rank */
};
void ranking_add(struct ranking *r, uint32_t rank);
void ranking_merge(struct ranking *to, const struct ranking *from);
/* Means at RANKING_K[i]; NaN without events. */
double ranking_hit_rate(const struct ranking *r, uint32_t i);
double ranking_ndcg(const struct ranking *r, uint32_t i);
double ranking_mrr(const struct ranking *r, uint32_t i);

/* Rank of target among items scores, excluded ones (ascending) put aside
 * unless it is the target: one more than the others that score at least as
 * much. A target whose score is NaN ranks last. */
uint32_t ranking_of(const float *scores, uint32_t items, uint32_t target,
                    const uint32_t *excluded, uint32_t excluded_count);

/* ------------------------------------------------------------------ parts */

/* At 10. */
struct ranking_part {
    uint64_t events, hits;
    double ndcg_sum;
};
void ranking_part_add(struct ranking_part *p, uint32_t rank);
void ranking_part_merge(struct ranking_part *to,
                        const struct ranking_part *from);
/* Of a user with so many events before (at least 1): index of its part. */
uint32_t ranking_length(uint64_t events);

struct ranking_parts {
    struct ranking_part length[RANKING_LENGTHS];
    struct ranking_part band[RANKING_BANDS];
    struct ranking_part segment[RANKING_SEGMENTS];
};

/* One user's sums, for the bootstrap over users. */
struct ranking_user {
    uint64_t user;
    struct ranking_part part;
};
/* Of BOOTSTRAP_RESAMPLES resamples, NaN where nobody is in one. */
struct ranking_resampled {
    double hit_rate[BOOTSTRAP_RESAMPLES], ndcg[BOOTSTRAP_RESAMPLES];
};
void ranking_resample(const struct ranking_user *users, uint64_t count,
                      struct ranking_resampled *out);

/* ------------------------------------------------------------------ items */

/* Of one item: how often it came, stood in lists, was the one asked for. */
struct ranking_item {
    uint64_t came, listed;
    struct ranking_part asked;
};
struct ranking_items {
    double coverage, novelty; /* NaN: no lists */
    uint64_t listed;          /* different items */
};
/* Fills *out, and the parts by popularity of *parts; of items (N). RC_STOP:
 * no memory. */
enum rc ranking_items_measure(const struct ranking_item *items, uint32_t count,
                              struct ranking_items *out,
                              struct ranking_parts *parts,
                              struct err *e) MUST_USE;

/* --------------------------------------------------------------- baseline */

struct popularity;
struct popularity *popularity_new(uint32_t items); /* NULL: no memory */
void popularity_free(struct popularity *p);
uint32_t popularity_count(const struct popularity *p, uint32_t item);
/* As ranking_of with the counts as scores, in time for every event. */
uint32_t popularity_rank(const struct popularity *p, uint32_t target,
                         const uint32_t *excluded, uint32_t excluded_count);
/* RC_STOP: no memory. */
enum rc popularity_add(struct popularity *p, uint32_t item,
                       struct err *e) MUST_USE;

#endif
