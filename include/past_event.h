/* past_event.h - one event of a user as the history keeps it: all that any
 * model may ask of it, and nothing that depends on a model (I5).
 *
 * Ids are hashes (hash.h): a model's vocabulary maps them to its tables.
 * What the fold knew when the event was applied (gap_ms, amount_log_ratio)
 * is frozen here, so a later model sees what an earlier one saw. */
#ifndef MILLRACE_PAST_EVENT_H
#define MILLRACE_PAST_EVENT_H

#include <stdint.h>

/* Further features that a configuration may map, of each sort. */
enum { EXTRA_MAX = 8 };

enum past_event_flag {
    PAST_LATE = 1u << 0,      /* older than an event applied before it */
    PAST_NO_TIME = 1u << 1,   /* time is a position, not a clock */
    PAST_NO_AMOUNT = 1u << 2, /* amount and amount_log_ratio say nothing */
};

/* Amounts are kept within +-2^53 scaled units, exact in a double; the mapping
 * refuses others (BAD_AMOUNT). */
#define PAST_AMOUNT_MAX (INT64_C(1) << 53)

struct past_event {
    int64_t time_ms;   /* event time, ms since 1970 UTC; position if NO_TIME */
    int64_t gap_ms;    /* to the newest event applied before, >= 0 (0
                         for a late one); -1: the first */
    int64_t amount;    /* in 1/amount_scale units, e.g. cents */
    uint64_t item;     /* hash64 of the item id; 0: none */
    uint64_t event_id; /* hash64 of the event id; 0: none */
    uint64_t type;     /* hash64 each; 0: none */
    uint64_t category;
    uint64_t channel;
    float amount_log_ratio;  /* ln((amount + 1) / (mean before + 1)) in whole
                                units; 0 for a user's first amount. Below zero
                                sign(x) ln(|x| + 1) stands for ln(x + 1) */
    uint32_t flags;          /* enum past_event_flag */
    float number[EXTRA_MAX]; /* NaN: missing */
    uint64_t categorical[EXTRA_MAX]; /* hash64; 0: none */
};

#endif
