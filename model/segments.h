/* segments.h - groups of users by k-means on their hidden states.
 *
 * Found    At training: k-means++ (Arthur and Vassilvitskii 2007) whose draws
 *          are hashes of a counter, then Lloyd's steps until no point moves.
 *          One thread, one order of additions: the same points give the same
 *          bytes.
 * Order    The largest segment is number 0; equal sizes by first point.
 * Nearest  By squared distance, summed in doubles over the dimensions in
 *          order; of equal ones the lower number. It depends on the state
 *          alone (I5).
 * Memory   segments_init takes it.
 * Threads  Immutable once filled. */
#ifndef MILLRACE_SEGMENTS_H
#define MILLRACE_SEGMENTS_H

#include <stdbool.h>
#include <stdint.h>

enum { SEGMENTS_MAX = 64 };

struct segments {
    uint32_t count, width; /* k, D */
    float *centroids;      /* (k, D), as they are stored */
    float *columns;        /* (D, k), as they are searched */
};

/* False: no memory. count 0 is a model without segments. */
bool segments_init(struct segments *s, uint32_t count, uint32_t width);
void segments_fini(struct segments *s);
/* Once centroids are filled. */
void segments_ready(struct segments *s);

/* count > 0. */
uint32_t segments_nearest(const struct segments *s, const float *state);

/* Finds at most k (<= SEGMENTS_MAX) segments of points (n, D): fewer where
 * fewer points differ. *s is made ready. False: no memory. */
bool segments_find(struct segments *s, const float *points, uint32_t n,
                   uint32_t width, uint32_t k, uint64_t seed);

#endif
