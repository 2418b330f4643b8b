/* top_k.h - the best items for hidden states, exactly.
 *
 * How      A scan over int8 copies of the items gives each an upper bound of
 *          its score; only those whose bound is above the k-th best score
 *          found so far are scored in floats. So the lists are those of a
 *          plain pass over all items, in every bit. README.md derives the
 *          bound.
 * Order    Higher score first; equal scores by lower index.
 * Memory   An index keeps the table it was made of; scratch is taken once.
 * Threads  An index is read-only; a scratch belongs to one thread. */
#ifndef MILLRACE_TOP_K_H
#define MILLRACE_TOP_K_H

#include "matrix.h"
#include "model.h"

struct top_k_index;
struct top_k_scratch;

/* table: (items, width), kept. NULL when there is no memory. */
struct top_k_index *top_k_index_new(const real *table, uint32_t items,
                                    uint32_t width);
void top_k_index_free(struct top_k_index *t);

struct top_k_scratch *top_k_scratch_new(const struct top_k_index *t,
                                        uint32_t k_max);
void top_k_scratch_free(struct top_k_scratch *s);

void top_k_find(const struct top_k_index *t, struct top_k_scratch *s,
                struct top_k_request *in, uint32_t count, uint32_t k);

/* All scores of hidden states; out is (count, items). */
void top_k_logits(const struct top_k_index *t, struct top_k_scratch *s,
                  const real *const *hidden, uint32_t count, real *out);

/* Items scored in floats by top_k_find so far. */
uint64_t top_k_rescored(const struct top_k_scratch *s);

#endif
