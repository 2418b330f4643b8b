/* reasons.h - why a fraud score is what it is: signed parts in log-odds, one
 * for each feature and for each group of past events.
 *
 * Sum      The parts add up to the log-odds of the score less those of the
 *          model's reference: a typical good event, found in training and
 *          kept in the model directory. model/README.md has the formula.
 * Bits     A function of the event's context, its features and the model,
 *          like the score (I5).
 * Memory   explainer_new takes all.
 * Threads  An explainer belongs to one worker thread. */
#ifndef MILLRACE_REASONS_H
#define MILLRACE_REASONS_H

#include "model.h"

enum reason_part {
    REASON_FEATURE,    /* a feature: its value, its bins, its being missing */
    REASON_EVENT,      /* the event's own fields, as the transformer reads it */
    REASON_LAST_EVENT, /* that the one before it is in the context too */
    REASON_LAST_HOUR,  /* and those before, in the hour before the event */
    REASON_LAST_DAY,   /* before those, in the day before it */
    REASON_LAST_WEEK,
    REASON_OLDER, /* the rest of the context */
    REASON_OTHER, /* what a list of the largest leaves out */
    REASON_PARTS
};

struct reason {
    enum reason_part part;
    uint32_t feature; /* its index, else 0 */
    float value;      /* of the feature, NaN: missing; of the last event how
                         many seconds it lies back, NaN without a time; else
                         how many events (REASON_OTHER: reasons) these are */
    float usual;      /* the feature's in the reference, NaN: missing */
    float log_odds;   /* what it adds; negative: it speaks against fraud */
};

struct reasons {
    float base;     /* log-odds of the reference */
    float log_odds; /* of the event */
    uint32_t count;
    const struct reason *at; /* (count) largest first, either sign; lent until
                                the next call */
};

struct explainer;
/* *out is NULL where the model has no reference: trained without labels, or
 * by a build that knew none. */
enum rc explainer_new(struct explainer **out, const struct model *m,
                      struct err *e) MUST_USE;
void explainer_free(struct explainer *x);

struct explain_request {
    const struct past_event *events; /* the whole context, oldest first, the
                                        event last: n - a(n) + 1 of them */
    uint32_t event_count;
    const float *hidden;   /* (D) as it was scored */
    const float *features; /* (F) */
    uint32_t reasons_max;  /* so many at most, the last for what is left out;
                              0: all */
};

/* s: a scorer of the same model. False where the parts do not add up to
 * within 1 %: the model's numbers are too large to be told apart. */
bool explain(struct explainer *x, struct scorer *s,
             const struct explain_request *r, struct reasons *out);

#endif
