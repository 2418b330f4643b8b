#include "admit.h"

#include "train.h"

enum rc admit_init(struct admit *a, const struct config *c, uint32_t fields,
                   struct err *e)
{
    *a = (struct admit){.lateness_ms = c->time_lateness_max,
                        .ttl_ms = c->state_ttl,
                        .late = c->time_late_policy,
                        .repeat = c->repeat_policy};
    if (a->ttl_ms == 0) return RC_OK;
    if (!(fields & TRAIN_TIME))
        return ERR(e, RC_STOP,
                   "state.ttl: without role.time nobody knows how long a user "
                   "has not been seen; name the field, or set state.ttl = 0");
    /* One event far ahead would make everybody else look long gone. */
    if (c->time_future_max == 0 || a->ttl_ms <= c->time_future_max)
        return ERR(e, RC_STOP,
                   "state.ttl: must be longer than time.future.max, which must "
                   "not be 0: an event that far ahead would expire all users");
    return RC_OK;
}

/* a - b > limit, for b < a however far apart. */
static bool apart(int64_t a, int64_t b, int64_t limit)
{
    return a > b && (uint64_t)a - (uint64_t)b > (uint64_t)limit;
}

bool admit_expired(const struct admit *a, int64_t newest_ms, int64_t stream_ms)
{
    return a->ttl_ms > 0 && newest_ms != INT64_MIN &&
           apart(stream_ms, newest_ms, a->ttl_ms);
}

bool admit_too_late(const struct admit *a, int64_t newest_ms,
                    const struct past_event *ev)
{
    return a->lateness_ms > 0 && !(ev->flags & PAST_NO_TIME) &&
           newest_ms != INT64_MIN &&
           apart(newest_ms, ev->time_ms, a->lateness_ms);
}

enum verdict admit_judge(const struct admit *a, const struct history_shape *s,
                         const struct history *h, int64_t offset,
                         const struct past_event *ev, uint32_t *place)
{
    if (offset <= h->applied_offset) return VERDICT_REDELIVERED;
    if (history_find(s, h, ev->event_id, place)) return VERDICT_REPEATED;
    if (a->late != LATE_SCORE && admit_too_late(a, h->newest_time_ms, ev))
        return VERDICT_TOO_LATE;
    return VERDICT_APPLY;
}
