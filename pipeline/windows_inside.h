/* windows_inside.h - what windows.c and windows_features.c share. */
#ifndef MILLRACE_WINDOWS_INSIDE_H
#define MILLRACE_WINDOWS_INSIDE_H

#include "windows.h"

/* Of the events in one window. Integers: the same in any order of adding. */
struct aggregate {
    uint64_t count;
    uint64_t amount_count;     /* those with an amount */
    __int128 sum;              /* of scaled amounts */
    unsigned __int128 squares; /* of the same */
};
/* No sum is larger: 2^64 events of PAST_AMOUNT_MAX. */
#define AGGREGATE_MAX ((__int128)1 << 117)

/* The feature row of ev; sums: (s->count), ev included. */
void features_fill(const struct windows_shape *s, const struct past_event *ev,
                   uint64_t events_total, const struct aggregate *sums,
                   float *out);

#endif
