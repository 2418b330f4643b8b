#include "stage_users.h"

#include <math.h>

#include "lists.h"
#include "shapes.h"
#include "train.h"

struct stage_users {
    struct stage_users_options o;
    struct scorer *scorer;
    uint32_t features; /* F */
    uint32_t window;   /* W of the model */
    uint64_t batch;    /* number of the batch at hand, from 1 */

    float *feature_rows;     /* (events_max, F) */
    struct past_event *past; /* what requests read of histories */
    size_t past_max, past_used;
    struct score_request *requests; /* (events_max) */
    struct score *scores;           /* (events_max) */
    uint32_t *request_event;        /* (events_max) index in the batch */
    struct context **aside;         /* (events_max) for a request that must
                                       not touch its user's context */
    uint32_t request_count;
    struct lists *lists; /* NULL: nobody wants any */

    struct explainer *explainer; /* NULL: nothing is explained */
    struct past_event *context;  /* (2 W) of the event being explained */
    struct reasons *reasons;     /* (events_max) of requests */
    struct reason *reason_lists; /* (events_max, reasons_max) */
    uint32_t reasons_max;
};

/* --- taking memory ------------------------------------------------------ */

static enum rc take_lists(struct stage_users *s, struct err *e)
{
    const struct lists_options o = {
        .policy = s->o.policy,
        .history = s->o.history,
        .model = s->o.model,
        .catalogue = s->o.catalogue,
        .events_max = s->o.events_max,
    };
    return s->o.lists ? lists_new(&s->lists, &o, e) : RC_OK;
}

static enum rc take_reasons(struct stage_users *s, struct err *e)
{
    const struct policy *p = s->o.policy;
    const struct model_info *info = model_info(s->o.model);
    size_t n = s->o.events_max;
    if (p->reasons_per_second == 0 && !p->explain_id) return RC_OK;
    TRY(explainer_new(&s->explainer, s->o.model, e));
    if (!s->explainer) return RC_OK;
    s->reasons_max =
        p->explain_id ? info->features + REASON_PARTS : p->reasons_count;
    s->context = calloc(2 * (size_t)s->window, sizeof *s->context);
    s->reasons = calloc(n, sizeof *s->reasons);
    s->reason_lists = calloc(n * s->reasons_max, sizeof *s->reason_lists);
    if (s->context && s->reasons && s->reason_lists) return RC_OK;
    return ERR(e, RC_STOP,
               "users stage: no memory for reasons; lower batch.events.max or "
               "reasons.count");
}

static enum rc take_scoring(struct stage_users *s, struct err *e)
{
    const struct model_info *info = model_info(s->o.model);
    size_t n = s->o.events_max;
    s->window = info->window;
    TRY(shapes_fit_model(s->o.history, s->o.features, info, e));
    TRY(take_reasons(s, e));
    /* Once for a request, once more for what is kept to be explained. */
    s->past_max = n * 2 * s->window * (s->explainer ? 2 : 1);
    s->past = calloc(s->past_max, sizeof *s->past);
    s->requests = calloc(n, sizeof *s->requests);
    s->scores = calloc(n, sizeof *s->scores);
    s->request_event = calloc(n, sizeof *s->request_event);
    s->aside = calloc(n, sizeof(struct context *));
    if (s->past && s->requests && s->scores && s->request_event && s->aside)
        return take_lists(s, e);
    return ERR(e, RC_STOP,
               "users stage: no memory for batches of %zu events; lower "
               "batch.events.max",
               n);
}

enum rc stage_users_new(struct stage_users **out,
                        const struct stage_users_options *o, struct err *e)
{
    struct stage_users *s = calloc(1, sizeof *s);
    if (!s) return ERR(e, RC_STOP, "users stage: no memory");
    s->o = *o;
    s->features = feature_row_count(o->features);
    s->feature_rows =
        calloc((size_t)o->events_max * (s->features + 1), sizeof(float));
    if (!s->feature_rows) {
        stage_users_free(s);
        return ERR(e, RC_STOP, "users stage: no memory for feature rows");
    }
    if (o->model && take_scoring(s, e) != RC_OK) {
        stage_users_free(s);
        return e->rc;
    }
    *out = s;
    return RC_OK;
}

void stage_users_free(struct stage_users *s)
{
    if (!s) return;
    explainer_free(s->explainer);
    free(s->context);
    free(s->reasons);
    free(s->reason_lists);
    free(s->feature_rows);
    free(s->past);
    free(s->requests);
    free(s->scores);
    free(s->request_event);
    free((void *)s->aside);
    lists_free(s->lists);
    free(s);
}

void stage_users_attach(struct stage_users *s, struct scorer *scorer,
                        const struct stage_users *before)
{
    assert(!s->o.model == !scorer);
    s->scorer = scorer;
    /* Rows hold the number of the batch that touched them last. */
    if (before) s->batch = before->batch;
}

/* --- events -> rows ----------------------------------------------------- */

/* How many of the user's newest events the scorer must see for event n. The
 * first event of a user in a batch asks the scorer; a later one only brings
 * itself, unless the anchor moved between the two (I5). */
static uint32_t events_to_copy(const struct stage_users *s,
                               const struct user_state *us, uint64_t n,
                               bool first)
{
    if (first) return scorer_events_needed(s->scorer, us->context, n);
    if (history_start(n, s->window) == history_start(n - 1, s->window))
        return 1;
    return (uint32_t)(n - history_start(n, s->window) + 1);
}

static void gather_request(struct stage_users *s, struct batch *b, uint32_t i)
{
    struct user_state *us = b->users[i];
    const struct outcome *o = &b->outcomes[i];
    uint32_t count = events_to_copy(s, us, o->n, us->batch != s->batch);
    struct past_event *past = &s->past[s->past_used];

    assert(count <= s->past_max - s->past_used);
    history_copy(s->o.history, &us->history, count, 0, past);
    s->past_used += count;
    s->request_event[s->request_count] = i;
    us->request = s->request_count;
    s->requests[s->request_count++] = (struct score_request){
        .context = &us->context,
        .n = o->n,
        .events = past,
        .event_count = count,
        .features = o->features,
    };
    us->batch = s->batch;
}

/* Scored in a context of its own, which is made for it and dropped after:
 * event n of a history that has after newer ones. features are set. */
static void gather_aside(struct stage_users *s, struct batch *b, uint32_t i,
                         uint32_t after)
{
    struct user_state *us = b->users[i];
    const struct outcome *o = &b->outcomes[i];
    uint32_t count = scorer_events_needed(s->scorer, NULL, o->n);
    struct past_event *past = &s->past[s->past_used];

    assert(count <= s->past_max - s->past_used);
    history_copy(s->o.history, &us->history, count, after, past);
    s->past_used += count;
    s->request_event[s->request_count] = i;
    s->requests[s->request_count] = (struct score_request){
        .context = &s->aside[s->request_count],
        .n = o->n,
        .events = past,
        .event_count = count,
        .features = o->features,
    };
    s->request_count++;
}

/* The whole context of event n. */
static uint32_t context_count(const struct stage_users *s, uint64_t n)
{
    return (uint32_t)(n - history_start(n, s->window) + 1);
}

/* Another event of this user is about to be applied. The one before it in
 * this batch may be explained yet, in its own context (I4), of which the
 * history need not keep the oldest. */
static void keep_context(struct stage_users *s, const struct user_state *us)
{
    struct score_request *r = &s->requests[us->request];
    struct past_event *past = &s->past[s->past_used];
    uint32_t count = context_count(s, r->n);
    if (r->event_count >= count) return;
    assert(us->history.events_total == r->n + 1);
    assert(count <= s->past_max - s->past_used);
    history_copy(s->o.history, &us->history, count, 0, past);
    s->past_used += count;
    r->events = past;
    r->event_count = count;
}

/* Events before it in this batch keep the row that they were applied to;
 * later ones go to the new one. */
static void replace_user(struct batch *b, uint32_t i, struct user_state *fresh)
{
    struct user_state *old = b->users[i];
    for (uint32_t k = i; fresh != old && k < b->count; k++)
        if (b->users[k] == old) b->users[k] = fresh;
}

/* Scored in the place of the one that it repeats, whose frozen fields count;
 * nothing is applied. */
static void repeat_event(struct stage_users *s, struct batch *b, uint32_t i,
                         uint32_t after)
{
    const struct history *h = &b->users[i]->history;
    struct outcome *o = &b->outcomes[i];
    float *row = &s->feature_rows[(size_t)i * s->features];
    struct past_event first;

    o->repeated = true;
    if (!s->o.model || b->events[i].fold || s->o.admit->repeat == REPEAT_SKIP)
        return;
    o->n = h->events_total - 1 - after;
    o->no_context =
        after + scorer_events_needed(s->scorer, NULL, o->n) > h->count;
    if (o->no_context) return;
    history_copy(s->o.history, h, 1, after, &first);
    windows_recall(&s->o.features->user, b->users[i]->windows, &first, o->n + 1,
                   row);
    feature_row_complete(s->o.features, &first, b->events[i].item_features,
                         row);
    o->features = row;
    o->scored = true;
    gather_aside(s, b, i, after);
}

static void too_late(const struct stage_users *s, struct batch *b, uint32_t i)
{
    if (s->o.admit->late == LATE_DEAD_LETTER)
        batch_mark(b, i, BAD_LATE,
                   "older than its user's newest event by more than "
                   "time.lateness.max");
}

static void apply_event(struct stage_users *s, struct state *st,
                        struct batch *b, uint32_t i)
{
    struct event *ev = &b->events[i];
    struct user_state *us = b->users[i];
    struct outcome *o = &b->outcomes[i];
    float *row = &s->feature_rows[(size_t)i * s->features];
    int64_t offset = b->records[i].offset;

    o->n = us->history.events_total;
    o->too_late =
        admit_too_late(s->o.admit, us->history.newest_time_ms, &ev->past);
    if (s->explainer && us->batch == s->batch) keep_context(s, us);
    ev->profile =
        s->o.profiles &&
        decide_profile(s->o.policy, us->history.newest_time_ms, ev->time_ms);
    if (!history_apply(s->o.history, &us->history, offset, &ev->past)) return;
    o->applied = true;
    o->tiled = windows_apply(&s->o.features->user, us->windows, &ev->past, row);
    feature_row_complete(s->o.features, &ev->past, ev->item_features, row);
    o->features = row;
    /* A model without items has no list to give. */
    ev->recommend = (!s->o.model || model_info(s->o.model)->items > 0) &&
                    decide_list(s->o.policy, ev, &us->history.listed_ms);
    state_touched(st, us, &ev->place);
    if (s->o.own_labels && ev->label != LABEL_UNKNOWN)
        state_label(st, us, ev, offset);
    if (!s->o.model || ev->fold) return;
    o->scored = true;
    gather_request(s, b, i);
    if (ev->recommend && s->lists)
        lists_gather(s->lists, &us->history, b, i, s->request_count - 1);
}

/* The row of event or label i, a new one where it has expired. */
static struct user_state *living_row(struct stage_users *s, struct state *st,
                                     struct batch *b, uint32_t i)
{
    struct user_state *us = b->users[i];
    if (!admit_expired(s->o.admit, us->history.newest_time_ms,
                       b->events[i].place.stream_ms))
        return us;
    b->outcomes[i].expired = !b->events[i].is_label;
    us = state_begin_anew(st, us);
    replace_user(b, i, us);
    return us;
}

static void admit_event(struct stage_users *s, struct state *st,
                        struct batch *b, uint32_t i)
{
    const struct event *ev = &b->events[i];
    struct user_state *us = b->users[i];
    struct outcome *o = &b->outcomes[i];
    int64_t offset = b->records[i].offset;
    uint32_t after = 0;

    if (offset > us->history.applied_offset) us = living_row(s, st, b, i);
    switch (admit_judge(s->o.admit, s->o.history, &us->history, offset,
                        &ev->past, &after)) {
    case VERDICT_APPLY:
        apply_event(s, st, b, i);
        break;
    case VERDICT_REDELIVERED:
        break;
    case VERDICT_REPEATED:
        repeat_event(s, b, i, after);
        break;
    case VERDICT_TOO_LATE:
        o->too_late = true;
        too_late(s, b, i);
        break;
    }
}

void stage_users_apply(struct stage_users *s, struct state *st, struct batch *b)
{
    s->batch++;
    s->past_used = 0;
    s->request_count = 0;
    if (s->lists) lists_begin(s->lists);
    for (uint32_t i = 0; i < b->count; i++) {
        const struct event *ev = &b->events[i];
        b->outcomes[i].label_offset = ev->place.labels - 1;
        if (ev->bad != BAD_NONE) continue;
        if (ev->is_label)
            state_label(st, living_row(s, st, b, i), ev, b->records[i].offset);
        else if (ev->forget)
            replace_user(b, i, state_forget(st, b->users[i], &ev->place));
        else
            admit_event(s, st, b, i);
    }
}

/* --- rows -> scores and lists ------------------------------------------- */

/* The sum is finite only if every number is: a state is normalised, so its
 * numbers are small. */
static bool is_finite_state(const float *hidden, uint32_t width)
{
    float sum = 0;
    for (uint32_t d = 0; d < width; d++)
        sum += hidden[d];
    return isfinite(sum);
}

/* Probabilities and quantiles are cut to their range and would look sound
 * when the state behind them is not, so that is what is looked at too. */
static enum rc check_score(const struct stage_users *s, const struct batch *b,
                           uint32_t i, struct err *e)
{
    const struct outcome *o = &b->outcomes[i];
    const struct model_info *info = model_info(s->o.model);
    if (is_finite_state(o->hidden, info->width) && isfinite(o->anomaly) &&
        (!info->has_fraud || isfinite(o->fraud)))
        return RC_OK;
    return ERR(e, RC_STOP,
               "model %s: the score of partition %d, offset %lld is not "
               "finite (fraud %g, anomaly %g); use another model and report "
               "this one",
               info->hash, b->records[i].partition,
               (long long)b->records[i].offset, (double)o->fraud,
               (double)o->anomaly);
}

static enum rc score_requests(struct stage_users *s, struct batch *b,
                              struct err *e)
{
    scorer_score(s->scorer, s->requests, s->scores, s->request_count);
    for (uint32_t r = 0; r < s->request_count; r++) {
        uint32_t i = s->request_event[r];
        struct outcome *o = &b->outcomes[i];
        o->fraud = s->scores[r].fraud;
        o->anomaly = s->scores[r].anomaly;
        o->hidden = s->scores[r].hidden;
        o->segment = model_segment(s->o.model, o->hidden);
        TRY(check_score(s, b, i, e));
    }
    return RC_OK;
}

/* Contexts that were made for one score. */
static void drop_asides(struct stage_users *s)
{
    for (uint32_t r = 0; r < s->request_count; r++)
        if (s->aside[r]) scorer_forget(s->scorer, &s->aside[r]);
}

enum rc stage_users_forward(struct stage_users *s, struct batch *b,
                            struct err *e)
{
    if (s->request_count == 0) return RC_OK;
    TRY(score_requests(s, b, e));
    drop_asides(s);
    if (s->lists) lists_make(s->lists, s->scorer, s->scores, b);
    return RC_OK;
}

/* --- scores -> reasons -------------------------------------------------- */

/* The whole context of a request: its own, or that of its user's history,
 * where its event is the newest. */
static const struct past_event *context_of(struct stage_users *s,
                                           const struct batch *b, uint32_t r)
{
    const struct score_request *request = &s->requests[r];
    const struct user_state *us = b->users[s->request_event[r]];
    uint32_t count = context_count(s, request->n);
    if (request->event_count >= count)
        return request->events + (request->event_count - count);
    assert(us->history.events_total == request->n + 1);
    history_copy(s->o.history, &us->history, count, 0, s->context);
    return s->context;
}

static void explain_request(struct stage_users *s, struct batch *b, uint32_t r)
{
    struct outcome *o = &b->outcomes[s->request_event[r]];
    struct reason *list = &s->reason_lists[(size_t)r * s->reasons_max];
    struct reasons *reasons = &s->reasons[r];
    const struct explain_request request = {
        .events = context_of(s, b, r),
        .event_count = context_count(s, s->requests[r].n),
        .hidden = o->hidden,
        .features = o->features,
        .reasons_max = s->reasons_max,
    };
    if (!explain(s->explainer, s->scorer, &request, reasons)) {
        o->reasons_state = REASONS_UNAVAILABLE;
        return;
    }
    memcpy(list, reasons->at, reasons->count * sizeof *list);
    reasons->at = list;
    o->reasons = reasons;
}

void stage_users_explain(struct stage_users *s, struct batch *b)
{
    for (uint32_t r = 0; r < s->request_count; r++)
        if (b->outcomes[s->request_event[r]].reasons_state == REASONS_GIVEN)
            explain_request(s, b, r);
}
