/* cooccurrence.h - the baseline that knows one thing of a user, the last
 * item: others are ranked by how often they came next after it, and where
 * that is equal by how often they came at all.
 *
 * Memory   About 60 bytes for each pair that came.
 * Threads  No shared state. */
#ifndef MILLRACE_COOCCURRENCE_H
#define MILLRACE_COOCCURRENCE_H

#include "ranking.h"

struct cooccurrence;
struct cooccurrence *cooccurrence_new(uint32_t items); /* NULL: no memory */
void cooccurrence_free(struct cooccurrence *c);

/* next came after last. RC_STOP: no memory. */
enum rc cooccurrence_add(struct cooccurrence *c, uint32_t last, uint32_t next,
                         struct err *e) MUST_USE;
/* Takes such a pair back. */
void cooccurrence_remove(struct cooccurrence *c, uint32_t last, uint32_t next);
enum rc cooccurrence_merge(struct cooccurrence *to,
                           const struct cooccurrence *from,
                           struct err *e) MUST_USE;

/* As ranking_of, with (times after last, popularity) as the score. */
uint32_t cooccurrence_rank(const struct cooccurrence *c,
                           const struct popularity *p, uint32_t last,
                           uint32_t target, const uint32_t *excluded,
                           uint32_t excluded_count);

#endif
