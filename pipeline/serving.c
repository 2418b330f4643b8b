#include "serving.h"

#include <assert.h>
#include <stdlib.h>

#include "shapes.h"

/* A context made before its worker serves with it, and whose it is. */
struct warmed {
    struct warmed *next;
    struct context *context; /* NULL: given up again to make room */
    uint32_t input;
    int32_t partition;
    uint64_t hash, life;
    uint32_t key_len;
    uint8_t key[];
};

/* --- the stage --------------------------------------------------------- */

static struct serving *self(struct stage *s)
{
    return (struct serving *)s;
}

static void users_apply(struct stage *s, struct state *st, struct batch *b)
{
    stage_users_apply(self(s)->stage, st, b);
}

static enum rc users_forward(struct stage *s, struct batch *b, struct err *e)
{
    return stage_users_forward(self(s)->stage, b, e);
}

static void users_decide(struct stage *s, struct batch *b)
{
    decide(&self(s)->policy, b);
}

static void users_explain(struct stage *s, struct batch *b)
{
    stage_users_explain(self(s)->stage, b);
}

static const struct stage_ops USERS = {
    .apply = users_apply,
    .forward = users_forward,
    .decide = users_decide,
    .explain = users_explain,
};

/* --- new, free --------------------------------------------------------- */

static enum rc take_scorer(struct serving *s, const struct serving_options *o,
                           struct err *e)
{
    const struct scorer_limits limits = {
        .context_bytes_max = o->context_bytes_max,
        .events_max = o->config->batch_events_max,
        /* A reload that keeps the model keeps its scorer too. */
        .k_max = o->config->recommend_items > o->config->explore_pool
                     ? o->config->recommend_items
                     : o->config->explore_pool,
    };
    if (!o->model || o->keep_scorer) return RC_OK;
    return scorer_new(&s->scorer, o->model, limits, e);
}

static enum rc take_stage(struct serving *s, const struct serving_options *o,
                          struct err *e)
{
    const struct stage_users_options stage = {
        .policy = &s->policy,
        .admit = &s->admit,
        .history = &s->history,
        .features = &s->features,
        .model = o->model,
        .events_max = o->config->batch_events_max,
        .lists = o->lists,
        .profiles = o->profiles,
        .catalogue = o->catalogue,
        .own_labels = o->config->labels_role,
    };
    return stage_users_new(&s->stage, &stage, e);
}

enum rc serving_new(struct serving **out, const struct serving_options *o,
                    struct err *e)
{
    struct serving *s = calloc(1, sizeof *s);
    enum rc rc;
    *out = NULL;
    if (!s) return ERR(e, RC_STOP, "model: no memory to serve with it");
    s->base.ops = &USERS;
    s->config = o->config;
    s->model = o->model;
    policy_init(&s->policy, o->config);
    s->policy.explains = o->model && *model_info(o->model)->reference;
    s->policy.explain_id = o->explain_id;
    shapes_init(&s->history, &s->features, o->config, o->fields);
    rc = admit_init(&s->admit, o->config, o->fields, e);
    if (rc == RC_OK) rc = take_stage(s, o, e);
    if (rc == RC_OK) rc = take_scorer(s, o, e);
    if (rc != RC_OK) {
        serving_free(s);
        return rc;
    }
    *out = s;
    return RC_OK;
}

void serving_forget_warmed(struct serving *s)
{
    for (struct warmed *at = s->warmed, *next; at; at = next) {
        next = at->next;
        free(at);
    }
    s->warmed = NULL;
}

void serving_free(struct serving *s)
{
    if (!s) return;
    serving_forget_warmed(s);
    stage_users_free(s->stage);
    if (s->scorer) scorer_free(s->scorer);
    free(s);
}

/* --- warming ----------------------------------------------------------- */

static struct warmed *warmed_new(const struct hot_user *u)
{
    struct warmed *at = malloc(sizeof *at + u->key.len);
    if (!at) return NULL;
    *at = (struct warmed){.input = u->input,
                          .partition = u->partition,
                          .hash = u->hash,
                          .life = u->life,
                          .key_len = (uint32_t)u->key.len};
    memcpy(at->key, u->key.ptr, u->key.len);
    return at;
}

bool serving_warm(struct serving *s, const struct hot_page *page)
{
    /* The heads read features; what they say of these is not looked at. */
    static const float NONE[FEATURES_MAX];
    for (uint32_t i = 0; i < page->count; i++) {
        const struct hot_user *u = &page->at[i];
        struct warmed *at = warmed_new(u);
        struct score unused;
        if (!at) return false;
        const struct score_request request = {
            .context = &at->context,
            .n = u->events_total - 1,
            .events = u->events,
            .event_count = u->event_count,
            .features = NONE,
        };
        scorer_score(s->scorer, &request, &unused, 1);
        at->next = s->warmed;
        s->warmed = at;
        s->warmed_count++;
        if (scorer_stats(s->scorer).evictions_total > 0) return false;
    }
    return true;
}

/* --- into force -------------------------------------------------------- */

/* A row that has left memory, was forgotten or taken back meanwhile is not
 * the one whose context was made. One that has gone on is: the scorer adds
 * what the context lacks. */
static void give_contexts(struct serving *s, struct state *st)
{
    for (struct warmed *at = s->warmed; at; at = at->next) {
        struct user_state *us;
        if (!at->context) continue;
        us = state_row_in_memory(st, at->input, at->partition, at->hash,
                                 slice_of(at->key, at->key_len));
        if (us && us->life == at->life && !us->context)
            scorer_move(&at->context, &us->context);
        else
            scorer_forget(s->scorer, &at->context);
    }
}

static void take_over_scorer(struct serving *s, struct serving *before)
{
    s->scorer = before->scorer;
    s->before = before->before;
    before->scorer = NULL;
}

void serving_attach(struct serving *s, struct state *st, struct serving *before)
{
    s->history = *state_history_shape(st);
    s->features.user = *state_windows_shape(st);
    if (before && !s->scorer && s->model) {
        assert(before->model == s->model);
        take_over_scorer(s, before);
    } else {
        if (before) s->before = serving_stats(before);
        if (before && before->scorer) scorer_forget_all(before->scorer);
        state_set_scorer(st, s->scorer);
        give_contexts(s, st);
    }
    stage_users_attach(s->stage, s->scorer, before ? before->stage : NULL);
}

struct scorer_stats serving_stats(const struct serving *s)
{
    struct scorer_stats sum = s->before, now;
    if (!s->scorer) return sum;
    now = scorer_stats(s->scorer);
    sum.tokens_total += now.tokens_total;
    sum.hits_total += now.hits_total;
    sum.misses_total += now.misses_total;
    sum.evictions_total += now.evictions_total;
    sum.context_bytes = now.context_bytes;
    sum.contexts = now.contexts;
    return sum;
}
