#include "watch.h"

#include <math.h>
#include <stdlib.h>

#include "feature_file.h"
#include "hash.h"
#include "train.h"

enum { WORKERS_MAX = 64 };

struct watch {
    struct watch_options o;
    struct evaluate *scores;
    uint64_t digest;               /* of what was decoded and folded */
    struct watch_items *items;     /* NULL: there is no model */
    struct scorer *scorer;         /* for baselines; NULL: none asked for */
    struct drift *drift;           /* NULL: not counted */
    struct feature_file *features; /* NULL: not written */
};

static enum rc open_baselines(struct watch *w, struct err *e)
{
    const struct scorer_limits limits = {
        .context_bytes_max = 1 << 20, .events_max = 1, .k_max = 1};
    const struct model *m = w->o.model;
    if (!m || model_info(m)->features == 0) return RC_OK;
    if (w->o.drift && model_feature_shares(m, 0)) {
        w->drift = drift_new(m);
        if (!w->drift) return ERR(e, RC_STOP, "replay: no memory");
    }
    return w->o.baselines ? scorer_new(&w->scorer, m, limits, e) : RC_OK;
}

enum rc watch_new(struct watch **out, const struct watch_options *o,
                  struct err *e)
{
    struct watch *w = calloc(1, sizeof *w);
    enum rc rc = RC_OK;
    if (!w) return ERR(e, RC_STOP, "replay: no memory");
    w->o = *o;
    w->scores = evaluate_new(WATCH_COLUMNS);
    if (!w->scores) rc = ERR(e, RC_STOP, "replay: no memory");
    if (rc == RC_OK && o->model) rc = watch_items_new(&w->items, o, e);
    if (rc == RC_OK) rc = open_baselines(w, e);
    if (rc != RC_OK) {
        watch_free(w);
        return rc;
    }
    *out = w;
    return RC_OK;
}

void watch_free(struct watch *w)
{
    if (!w) return;
    watch_items_free(w->items);
    if (w->scorer) scorer_free(w->scorer);
    drift_free(w->drift);
    evaluate_free(w->scores);
    free(w);
}

void watch_features(struct watch *w, struct feature_file *to)
{
    w->features = to;
}

static enum rc watch_score(struct watch *w, const struct record *r,
                           const struct event *ev, const struct outcome *o,
                           struct err *e)
{
    bool base = w->scorer && o->scored;
    const float scores[WATCH_COLUMNS] = {
        [WATCH_FRAUD] = o->scored ? o->fraud : NAN,
        [WATCH_ANOMALY] = o->scored ? o->anomaly : NAN,
        [WATCH_AMOUNT] = ev->past.flags & PAST_NO_AMOUNT
                             ? NAN
                             : (float)((double)ev->past.amount / w->o.scale),
        [WATCH_REGRESSION] =
            base ? model_regression(w->o.model, o->features) : NAN,
        [WATCH_ALONE] = base ? scorer_fraud_alone(w->scorer, o->features) : NAN,
    };
    int8_t label = ev->label;
    if (label == LABEL_UNKNOWN)
        label = labels_find(w->o.labels, ev->past.event_id, ev->time_ms,
                            INT64_MAX, w->o.label_delay_ms);
    if (w->drift && ev->time_ms >= w->o.from_ms && ev->time_ms < w->o.until_ms)
        drift_add(w->drift, o->features);
    if (w->features) TRY(feature_file_add(w->features, r, ev, o, label, e));
    return evaluate_add(w->scores, scores, label, hash64(ev->user), ev->time_ms,
                        e);
}

static uint64_t digest_of(const struct watch *w, const struct record *r,
                          const struct event *ev, const struct outcome *o)
{
    size_t features = w->o.model ? model_info(w->o.model)->features : 0;
    struct slice row =
        slice_of((const uint8_t *)o->features, features * sizeof(float));
    uint64_t place =
        draw(hash64(ev->user), (uint64_t)r->partition, (uint64_t)r->offset);
    return draw(hash64(row), place, o->n);
}

enum rc watch_batch(void *user, const struct batch *b, struct err *e)
{
    struct watch *w = user;
    for (uint32_t i = 0; i < b->count; i++) {
        if (!b->outcomes[i].applied) continue;
        w->digest +=
            digest_of(w, &b->records[i], &b->events[i], &b->outcomes[i]);
        TRY(watch_score(w, &b->records[i], &b->events[i], &b->outcomes[i], e));
        if (w->items && b->events[i].past.item != 0)
            TRY(watch_items_add(w->items, &b->records[i], &b->events[i],
                                &b->outcomes[i], e));
    }
    return RC_OK;
}

struct evaluate *watch_scores(struct watch *w)
{
    return w->scores;
}

static void list_items(struct watch *const *all, uint32_t count,
                       struct watch_items *out[WORKERS_MAX])
{
    assert(count <= WORKERS_MAX);
    for (uint32_t w = 0; w < count; w++)
        out[w] = all[w]->items;
}

uint64_t watch_digest(struct watch *const *all, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < count; w++)
        sum += all[w]->digest;
    return sum;
}

enum rc watch_drift(struct watch *const *all, uint32_t count,
                    struct drift **out, struct err *e)
{
    *out = NULL;
    if (!all[0]->drift) return RC_OK;
    *out = drift_new(all[0]->o.model);
    if (!*out) return ERR(e, RC_STOP, "replay: no memory");
    for (uint32_t w = 0; w < count; w++)
        drift_merge(*out, all[w]->drift);
    return RC_OK;
}

enum rc watch_off_policy(struct watch *const *all, uint32_t count,
                         struct off_policy_result *out, uint64_t *unmatched,
                         struct err *e)
{
    struct watch_items *items[WORKERS_MAX];
    list_items(all, count, items);
    return watch_items_off_policy(items, count, out, unmatched, e);
}

enum rc watch_next(struct watch *const *all, uint32_t count,
                   struct watch_ranking *out, struct err *e)
{
    struct watch_items *items[WORKERS_MAX];
    list_items(all, count, items);
    return watch_items_next(items, count, out, e);
}

enum rc watch_leave_one_out(struct watch *const *all, uint32_t count,
                            struct watch_ranking *out, struct err *e)
{
    struct watch_items *items[WORKERS_MAX];
    list_items(all, count, items);
    return watch_items_left_out(items, count, out, e);
}
