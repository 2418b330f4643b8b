/* scorer.h - what this folder asks of a scorer beyond model.h.
 *
 * Threads  That of the scorer. */
#ifndef MILLRACE_SCORER_H
#define MILLRACE_SCORER_H

#include "behaviour.h"
#include "model.h"

enum { SUFFIXES_MAX = 8 };

/* The hidden state of the last of count events in each of some contexts of
 * its own, which begin at events[from[k]]: as if the user's history did. out
 * (suffixes, D). What is cached stays as it is, unless it makes room. */
void scorer_suffixes(struct scorer *s, const struct past_event *events,
                     uint32_t count, const uint32_t *from, uint32_t suffixes,
                     real *out);

#endif
