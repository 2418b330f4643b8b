/* history.h - the newest events of one user, in offset order, packed.
 *
 * Order    Offset order (I4). Applying an event whose offset is not newer
 *          than applied_offset changes nothing (I3).
 * Frozen   gap_ms, PAST_LATE and amount_log_ratio are computed here, from
 *          what was known before the event, and stored.
 * Kept     Exactly the newest min(events_max, events_total) events, so that
 *          any model with 2 W <= history.events finds its context.
 * Context  history_start(n, W) is the first event of the context of event n
 *          (I5): it follows from n alone.
 * Memory   Packed events of a stride that the configuration fixes: fields
 *          that it does not map take no bytes. One block, grows by doubling
 *          up to history.events and is a ring from then on; nothing is ever
 *          moved to make room.
 * Threads  One struct history belongs to one thread. */
#ifndef MILLRACE_HISTORY_H
#define MILLRACE_HISTORY_H

#include "err.h"
#include "past_event.h"
#include "pool.h"
#include "slice.h"

struct history_shape {
    uint32_t events_max; /* history.events; 0: what was applied is counted,
                            and none of it kept */
    uint32_t fields;     /* enum train_field bits: what the mapping fills */
    uint32_t numbers, categoricals; /* extras stored */
    uint32_t amount_scale;
    struct pool *pool; /* where blocks come from; NULL: malloc */
    uint32_t stride;   /* bytes a packed event takes; by history_shape_init */
};
void history_shape_init(struct history_shape *s);

struct history {
    uint64_t events_total;  /* ever applied, also those no longer kept */
    int64_t applied_offset; /* of the events input; -1: none yet, also where
                               the events are of another log */
    int64_t newest_time_ms; /* newest event time seen; INT64_MIN: none */
    uint64_t amount_count;  /* events with an amount, ever */
    __int128 amount_sum;    /* of their scaled amounts */
    int64_t listed_ms;      /* the policy's (decide.h): event time of the
                               newest list; INT64_MIN: none. A fold too */
    uint32_t count;         /* kept */
    uint32_t capacity;
    uint32_t first;  /* the oldest; 0 until capacity is events_max */
    uint8_t *packed; /* (capacity, stride) */
};

void history_init(struct history *h);
void history_fini(const struct history_shape *s, struct history *h);

/* Applies one event; fills in gap, ratio and late mark of *ev, so the caller
 * sees what was stored. False, and nothing changes, for a redelivery. */
bool history_apply(const struct history_shape *s, struct history *h,
                   int64_t offset, struct past_event *ev);

/* Copies count events, oldest first: the newest, or those before the newest
 * `after`. count + after <= h->count. */
void history_copy(const struct history_shape *s, const struct history *h,
                  uint32_t count, uint32_t after, struct past_event *out);

/* Is an event of this id kept? *after: how many kept ones are newer than the
 * newest such. False for id 0, which is none. */
bool history_find(const struct history_shape *s, const struct history *h,
                  uint64_t event_id, uint32_t *after);

/* The item hashes of all events kept, oldest first; 0 where an event has
 * none. Returns h->count. */
uint32_t history_items(const struct history_shape *s, const struct history *h,
                       uint64_t *out);

static inline uint64_t history_start(uint64_t n, uint32_t window)
{
    uint64_t k = n / window;
    return k == 0 ? 0 : (k - 1) * window;
}

/* applied_offset and newest_time_ms of stored bytes; false where they are too
 * short. */
bool history_stored_head(struct slice in, int64_t *offset, int64_t *newest_ms);

/* Stored bytes; the layout is in history.c and tests/golden holds examples
 * of every version. Damaged or newer bytes, or those of another shape:
 * RC_STOP, and *h is empty. */
size_t history_bytes_max(const struct history_shape *s); /* encoded */
size_t history_encoded_size(const struct history_shape *s,
                            const struct history *h);
size_t history_encode(const struct history_shape *s, const struct history *h,
                      uint8_t *out);
enum rc history_decode(const struct history_shape *s, struct history *h,
                       struct slice in, struct err *e) MUST_USE;

#endif
