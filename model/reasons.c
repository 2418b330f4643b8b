/* reasons.c - the head's part exactly, by attribution.h; the hidden state's
 * part from how it changes as the context grows backwards in time. */
#include "reasons.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attribution.h"
#include "model_dir.h"
#include "scorer.h"

enum {
    PAST_PARTS = REASON_OLDER - REASON_EVENT + 1,
    MEMORY_ALIGN = 64,
};
static_assert((int)PAST_PARTS <= (int)SUFFIXES_MAX, "a context for each part");

/* Of the larger of the sum and 1. */
#define INCOMPLETE_MAX 0.01

#define HOUR_MS UINT64_C(3600000)
/* How far back the groups of past events reach. */
static const uint64_t reach_ms[REASON_PARTS] = {
    [REASON_LAST_HOUR] = HOUR_MS,
    [REASON_LAST_DAY] = 24 * HOUR_MS,
    [REASON_LAST_WEEK] = 7 * 24 * HOUR_MS,
};

struct explainer {
    const struct model *model;
    struct attribution head;
    double base;
    real *reference;   /* (I) */
    real *x;           /* (I) the input at hand */
    real *state;       /* (PAST_PARTS, D) of contexts that begin later */
    double *slope;     /* (D) of the log-odds in the hidden state */
    struct reason *at; /* (F + PAST_PARTS) */
    uint32_t count;
    void *memory; /* of head */
};

/* --- new, free ---------------------------------------------------------- */

static enum rc take_memory(struct explainer *x, struct err *e)
{
    const struct behaviour_config *c = &x->model->params.config;
    const struct fraud_layer *l = heads_fraud_layer(x->model->heads);
    size_t bytes = attribution_bytes(l);
    x->memory = aligned_alloc(MEMORY_ALIGN, (bytes + MEMORY_ALIGN - 1) /
                                                MEMORY_ALIGN * MEMORY_ALIGN);
    x->reference = calloc(l->inputs, sizeof *x->reference);
    x->x = calloc(l->inputs, sizeof *x->x);
    x->state = calloc((size_t)PAST_PARTS * c->width, sizeof *x->state);
    x->slope = calloc(c->width, sizeof *x->slope);
    x->at = calloc(c->features + PAST_PARTS, sizeof *x->at);
    if (x->memory && x->reference && x->x && x->state && x->slope && x->at)
        return RC_OK;
    return ERR(e, RC_STOP, "reasons: no memory");
}

/* The usual value of a feature; NaN: usually missing. */
static float usual(const struct model *m, uint32_t f)
{
    const struct head_tables *t = &m->tables;
    uint32_t features = m->params.config.features;
    if (t->fraud_reference_features[features + f] != 0) return NAN;
    return t->fraud_reference_features[f];
}

static enum rc take_reference(struct explainer *x, struct err *e)
{
    const struct model *m = x->model;
    const struct behaviour_config *c = &m->params.config;
    float *features = calloc(c->features + 1, sizeof *features);
    if (!features) return ERR(e, RC_STOP, "reasons: no memory");
    for (uint32_t f = 0; f < c->features; f++)
        features[f] = usual(m, f);
    memcpy(x->reference, m->tables.fraud_reference_hidden,
           c->width * sizeof *x->reference);
    features_expand(heads_feature_layer(m->heads), features,
                    x->reference + c->width);
    free(features);
    attribution_init(&x->head, heads_fraud_layer(m->heads), x->reference,
                     x->memory);
    x->base = (double)heads_log_odds(m->heads, (real)x->head.logit0);
    return RC_OK;
}

enum rc explainer_new(struct explainer **out, const struct model *m,
                      struct err *e)
{
    struct explainer *x;
    enum rc rc;
    *out = NULL;
    if (!m->info.has_fraud || !m->tables.has_fraud_reference) return RC_OK;
    x = calloc(1, sizeof *x);
    if (!x) return ERR(e, RC_STOP, "reasons: no memory");
    x->model = m;
    matrix_thread_init();
    rc = take_memory(x, e);
    if (rc == RC_OK) rc = take_reference(x, e);
    if (rc != RC_OK) {
        explainer_free(x);
        return rc;
    }
    *out = x;
    return RC_OK;
}

void explainer_free(struct explainer *x)
{
    if (!x) return;
    free(x->memory);
    free(x->reference);
    free(x->x);
    free(x->state);
    free(x->slope);
    free(x->at);
    free(x);
}

/* --- features ----------------------------------------------------------- */

static void add(struct explainer *x, struct reason r)
{
    if (r.log_odds != 0) x->at[x->count++] = r;
}

/* scale: what calibration makes of a step of the logit. */
static double add_features(struct explainer *x, const float *features,
                           double scale)
{
    const struct behaviour_config *c = &x->model->params.config;
    uint32_t first = c->width, bins = first + 2 * c->features;
    double sum = 0;
    for (uint32_t f = 0; f < c->features; f++) {
        const struct attribution *a = &x->head;
        double part = attribution_part(a, x->x, first + f, 1) +
                      attribution_part(a, x->x, first + c->features + f, 1) +
                      attribution_part(a, x->x, bins + f * c->bins, c->bins);
        sum += scale * part;
        add(x, (struct reason){.part = REASON_FEATURE,
                               .feature = f,
                               .value = features[f],
                               .usual = usual(x->model, f),
                               .log_odds = (float)(scale * part)});
    }
    return sum;
}

/* --- past events -------------------------------------------------------- */

static bool is_beyond(const struct past_event *ev, const struct past_event *now,
                      uint64_t reach)
{
    return ev->time_ms < now->time_ms &&
           (uint64_t)now->time_ms - (uint64_t)ev->time_ms > reach;
}

/* Where the context begins that holds this part and those after it in time,
 * given where the one without it begins. */
static uint32_t part_start(const struct explain_request *r,
                           enum reason_part part, uint32_t start)
{
    const struct past_event *now = &r->events[r->event_count - 1];
    if (part == REASON_EVENT || start == 0) return start;
    if (part == REASON_LAST_EVENT) return start - 1;
    if (part == REASON_OLDER) return 0;
    if (now->flags & PAST_NO_TIME) return start;
    while (start > 0 && !is_beyond(&r->events[start - 1], now, reach_ms[part]))
        start--;
    return start;
}

/* What the part holds, for the reader. */
static float part_value(const struct explain_request *r, enum reason_part part,
                        uint32_t start, uint32_t until)
{
    const struct past_event *now = &r->events[r->event_count - 1];
    if (part != REASON_LAST_EVENT) return (float)(until - start);
    if (now->flags & PAST_NO_TIME) return NAN;
    return (float)(((double)now->time_ms - (double)now[-1].time_ms) / 1000);
}

/* The contexts: starts ascend back in time; the last is the whole one, whose
 * state is known. Returns how many; start[k] and part[k] of each. */
static uint32_t cut_past(const struct explain_request *r,
                         uint32_t start[PAST_PARTS],
                         enum reason_part part[PAST_PARTS])
{
    uint32_t count = 0, at = r->event_count - 1;
    for (uint32_t p = REASON_EVENT; p <= REASON_OLDER; p++) {
        uint32_t begin = part_start(r, (enum reason_part)p, at);
        if (p != REASON_EVENT && begin == at) continue;
        start[count] = at = begin;
        part[count++] = (enum reason_part)p;
    }
    return count;
}

static double along(const double *slope, const real *from, const real *to,
                    uint32_t width)
{
    double sum = 0;
    for (uint32_t k = 0; k < width; k++)
        sum += slope[k] * ((double)to[k] - (double)from[k]);
    return sum;
}

/* Each part is what the state moves, along the head's slope, when its events
 * join those after them. */
static double add_past(struct explainer *x, struct scorer *s,
                       const struct explain_request *r, double scale)
{
    uint32_t d = x->model->params.config.width;
    uint32_t start[PAST_PARTS], count;
    enum reason_part part[PAST_PARTS];
    const real *from = x->reference;
    double sum = 0;
    count = cut_past(r, start, part);
    for (uint32_t k = 0; k < d; k++)
        x->slope[k] = scale * attribution_slope(&x->head, k);
    scorer_suffixes(s, r->events, r->event_count, start, count - 1, x->state);
    memcpy(x->state + (size_t)(count - 1) * d, r->hidden, d * sizeof *from);
    for (uint32_t k = 0; k < count; k++) {
        const real *to = x->state + (size_t)k * d;
        double moved = along(x->slope, from, to, d);
        uint32_t until = k > 0 ? start[k - 1] : r->event_count;
        add(x, (struct reason){.part = part[k],
                               .value = part_value(r, part[k], start[k], until),
                               .usual = NAN,
                               .log_odds = (float)moved});
        sum += moved;
        from = to;
    }
    return sum;
}

/* --- the list ----------------------------------------------------------- */

static bool goes_before(const struct reason *a, const struct reason *b)
{
    float x = fabsf(a->log_odds), y = fabsf(b->log_odds);
    if (x != y) return x > y;
    if (a->part != b->part) return a->part < b->part;
    return a->feature < b->feature;
}

/* By insertion: a hundred at most, and the C library's sort may allocate. */
static void sort(struct reason *at, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        struct reason moving = at[i];
        uint32_t k = i;
        for (; k > 0 && goes_before(&moving, &at[k - 1]); k--)
            at[k] = at[k - 1];
        at[k] = moving;
    }
}

/* The smallest become one, so that the sum stays. */
static void fold_smallest(struct explainer *x, uint32_t reasons_max)
{
    double sum = 0;
    if (reasons_max == 0 || x->count <= reasons_max) return;
    for (uint32_t i = reasons_max - 1; i < x->count; i++)
        sum += (double)x->at[i].log_odds;
    x->at[reasons_max - 1] =
        (struct reason){.part = REASON_OTHER,
                        .value = (float)(x->count - reasons_max + 1),
                        .usual = NAN,
                        .log_odds = (float)sum};
    x->count = reasons_max;
}

bool explain(struct explainer *x, struct scorer *s,
             const struct explain_request *r, struct reasons *out)
{
    const struct model *m = x->model;
    uint32_t d = m->params.config.width;
    double logit, log_odds, scale, sum, moved;
    matrix_thread_init();
    memcpy(x->x, r->hidden, d * sizeof *x->x);
    features_expand(heads_feature_layer(m->heads), r->features, x->x + d);
    logit = attribution_begin(&x->head, x->x);
    log_odds = (double)heads_log_odds(m->heads, (real)logit);
    scale = (double)m->tables.calibration[0];
    x->count = 0;
    sum = add_features(x, r->features, scale);
    sum += add_past(x, s, r, scale);
    sort(x->at, x->count);
    fold_smallest(x, r->reasons_max);
    *out = (struct reasons){.base = (float)x->base,
                            .log_odds = (float)log_odds,
                            .count = x->count,
                            .at = x->at};
    moved = log_odds - x->base;
    return fabs(sum - moved) <= INCOMPLETE_MAX * fmax(1, fabs(moved));
}
