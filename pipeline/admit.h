/* admit.h - what becomes of a good event, given its user's row: pure
 * functions, part of the fold, so a replay decides as the live run did.
 *
 * In this order:
 *   redelivered  its offset is in the row already: nothing is done (I3)
 *   expired      the row has not been seen for state.ttl: it is as if it
 *                never was, and the event begins a new one
 *   repeated     its event id is in the row's history: never applied again
 *   too late     older than the newest event of its user by more than
 *                time.lateness.max
 *
 * Stream   How old a row is, is judged by stream_ms: the newest event time
 *          among the good events of its partition, this one included. It
 *          only grows and follows from the log alone, so a row that is
 *          expired once is expired for every event after, and may be deleted
 *          whenever that is convenient (state_sweep.c).
 * Threads  A policy is immutable. */
#ifndef MILLRACE_ADMIT_H
#define MILLRACE_ADMIT_H

#include "config.h"
#include "history.h"

enum verdict {
    VERDICT_APPLY,
    VERDICT_REDELIVERED,
    VERDICT_REPEATED,
    VERDICT_TOO_LATE, /* and time.late.policy does not say score */
};

struct admit {
    int64_t lateness_ms; /* 0: any event is in time */
    int64_t ttl_ms;      /* 0: rows are kept for ever */
    uint32_t late;       /* LATE_... */
    uint32_t repeat;     /* REPEAT_... */
};

/* fields: what the mapping fills (enum train_field). RC_STOP for options
 * that contradict each other. */
enum rc admit_init(struct admit *a, const struct config *c, uint32_t fields,
                   struct err *e) MUST_USE;

/* Has a row whose newest event is at newest_ms expired? */
bool admit_expired(const struct admit *a, int64_t newest_ms, int64_t stream_ms);

/* Older than time.lateness.max allows, whatever the policy is? */
bool admit_too_late(const struct admit *a, int64_t newest_ms,
                    const struct past_event *ev);

/* The row is not expired. *place: how many events were applied after the one
 * that a repeated event repeats. */
enum verdict admit_judge(const struct admit *a, const struct history_shape *s,
                         const struct history *h, int64_t offset,
                         const struct past_event *ev, uint32_t *place);

#endif
