/* lists.h - the recommendations of a batch, from who is to get one to named
 * items with their propensities.
 *
 * Left out   What the user's history holds (recommend.seen), what the
 *            catalogue does not offer, what its category has enough of.
 * Candidates The best that these allow, by the model's score; for a user of
 *            whom little is known, by how often training saw an item. There
 *            are as many as the list is long, or as exploration draws from.
 *            They obey the caps together, so every choice of them does.
 * Chosen     Of the candidates, slot by slot (decide_slots).
 * Order      A list depends on its event, its user's row at that event and
 *            the catalogue as of its offset, never on its batch (I5).
 * Memory     Taken at lists_new, for the largest batch. Lists live until the
 *            next lists_begin.
 * Threads    One worker thread. */
#ifndef MILLRACE_LISTS_H
#define MILLRACE_LISTS_H

#include "catalogue.h"
#include "decide.h"
#include "history.h"

struct lists_options {
    const struct policy *policy;         /* lent, as all here */
    const struct history_shape *history; /* of the rows */
    const struct model *model;
    struct catalogue *catalogue; /* NULL: every item may be listed */
    uint32_t events_max;
};

struct lists;
enum rc lists_new(struct lists **out, const struct lists_options *o,
                  struct err *e) MUST_USE;
void lists_free(struct lists *l);

/* A new batch. */
void lists_begin(struct lists *l);

/* Event i of the batch, just applied to h, makes a list; request is its place
 * among the scores. What the list leaves out is gathered now: an item of a
 * later event of this batch is not yet seen. */
void lists_gather(struct lists *l, const struct history *h,
                  const struct batch *b, uint32_t i, uint32_t request);

/* Once there are scores: the lists go into the batch's outcomes. */
void lists_make(struct lists *l, struct scorer *scorer,
                const struct score *scores, struct batch *b);

#endif
