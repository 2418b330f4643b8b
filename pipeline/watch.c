#include "watch.h"

#include <math.h>

#include "feature_file.h"
#include "hash.h"
#include "map64.h"
#include "train.h"

enum { USERS_FIRST = 1024, SEEN_FIRST = 8, RANK_BATCH = 64 };

/* One user, as far as rankings go. */
struct viewer {
    uint32_t *seen; /* items before the last, ascending, each once */
    uint32_t seen_count, seen_room;
    int32_t last; /* item of the newest event; -1: the model has it not */
    uint64_t events;
    float *hidden;  /* (2, D): before the newest event, after it */
    uint32_t *list; /* (list_count) made after the newest event */
    uint32_t list_count, list_room;
    bool has_before, has_after; /* which hidden states are there */
};

struct watch {
    struct watch_options o;
    uint32_t width, items; /* D, N */
    struct evaluate *scores;
    struct map64 users; /* hash -> index in viewers */
    struct viewer *viewers;
    size_t viewers_room;
    uint32_t *counts; /* (N) of items that are no user's last */
    struct popularity *popularity;
    struct watch_ranking next;
    struct feature_file *features; /* NULL: not written */
};

enum rc watch_new(struct watch **out, const struct watch_options *o,
                  struct err *e)
{
    struct watch *w = calloc(1, sizeof *w);
    if (!w) return ERR(e, RC_STOP, "replay: no memory");
    w->o = *o;
    w->scores = evaluate_new(WATCH_COLUMNS);
    if (o->model) {
        w->width = model_info(o->model)->width;
        w->items = model_info(o->model)->items;
    }
    w->counts = calloc((size_t)w->items + 1, sizeof *w->counts);
    if (o->popularity) w->popularity = popularity_new(w->items);
    if (!w->scores || !w->counts || (o->popularity && !w->popularity)) {
        watch_free(w);
        return ERR(e, RC_STOP, "replay: no memory");
    }
    *out = w;
    return RC_OK;
}

void watch_free(struct watch *w)
{
    if (!w) return;
    for (size_t u = 0; u < w->users.count; u++) {
        free(w->viewers[u].seen);
        free(w->viewers[u].hidden);
        free(w->viewers[u].list);
    }
    free(w->viewers);
    map64_fini(&w->users);
    free(w->counts);
    popularity_free(w->popularity);
    evaluate_free(w->scores);
    free(w);
}

/* --- users -------------------------------------------------------------- */

static uint64_t viewer_key(const struct record *r, const struct event *ev)
{
    uint64_t key = hash_mix(hash64(ev->user) ^ (uint64_t)r->partition);
    return key ? key : 1;
}

static struct viewer *viewer_of(struct watch *w, uint64_t key)
{
    bool made;
    uint64_t *index = map64_put(&w->users, key, w->users.count, &made);
    if (!index) return NULL;
    if (made && *index == w->viewers_room) {
        size_t room = w->viewers_room ? w->viewers_room * 2 : USERS_FIRST;
        void *bigger = realloc(w->viewers, room * sizeof *w->viewers);
        if (!bigger) {
            w->users.count--; /* its row is not there: free must not look */
            return NULL;
        }
        w->viewers = bigger;
        w->viewers_room = room;
    }
    if (made) w->viewers[*index] = (struct viewer){.last = -1};
    return &w->viewers[*index];
}

static uint32_t seen_place(const struct viewer *v, uint32_t item)
{
    uint32_t low = 0, high = v->seen_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (v->seen[middle] < item)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_seen(const struct viewer *v, uint32_t item)
{
    uint32_t at = seen_place(v, item);
    return at < v->seen_count && v->seen[at] == item;
}

static bool add_seen(struct viewer *v, uint32_t item)
{
    uint32_t at = seen_place(v, item);
    if (at < v->seen_count && v->seen[at] == item) return true;
    if (v->seen_count == v->seen_room) {
        uint32_t room = v->seen_room ? v->seen_room * 2 : SEEN_FIRST;
        void *bigger = realloc(v->seen, room * sizeof *v->seen);
        if (!bigger) return false;
        v->seen = bigger;
        v->seen_room = room;
    }
    memmove(&v->seen[at + 1], &v->seen[at],
            (v->seen_count - at) * sizeof *v->seen);
    v->seen[at] = item;
    v->seen_count++;
    return true;
}

/* --- one event ---------------------------------------------------------- */

/* Place in the list from 1, 0 if it is not there. */
static uint32_t list_rank(const struct viewer *v, uint32_t item)
{
    for (uint32_t k = 0; k < v->list_count; k++)
        if (v->list[k] == item) return k + 1;
    return 0;
}

/* v->last has become one of the seen by now. */
static void measure_next(struct watch *w, const struct viewer *v, int32_t item,
                         int64_t time_ms)
{
    bool seen;
    if (v->list_count == 0 || time_ms < w->o.from_ms ||
        time_ms >= w->o.until_ms)
        return;
    seen = item >= 0 && !w->o.list_seen && has_seen(v, (uint32_t)item);
    w->next.unknown += item < 0;
    w->next.seen += seen;
    ranking_add(&w->next.model, item < 0 ? 0 : list_rank(v, (uint32_t)item));
    if (!w->popularity) return;
    ranking_add(&w->next.popular,
                item < 0 || seen
                    ? 0
                    : popularity_rank(w->popularity, (uint32_t)item, v->seen,
                                      w->o.list_seen ? 0 : v->seen_count));
}

static bool keep_list(struct viewer *v, const struct outcome *o)
{
    if (o->list_count > v->list_room) {
        void *bigger = realloc(v->list, o->list_count * sizeof *v->list);
        if (!bigger) return false;
        v->list = bigger;
        v->list_room = o->list_count;
    }
    for (uint32_t k = 0; k < o->list_count; k++)
        v->list[k] = o->list[k].index;
    v->list_count = o->list_count;
    return true;
}

static bool keep_hidden(struct watch *w, struct viewer *v,
                        const struct outcome *o)
{
    size_t bytes = w->width * sizeof(float);
    if (!w->o.leave_one_out) return true;
    if (!v->hidden) v->hidden = malloc(2 * bytes);
    if (!v->hidden) return false;
    v->has_before = v->has_after;
    if (v->has_after) memcpy(v->hidden, v->hidden + w->width, bytes);
    v->has_after = o->hidden != NULL;
    if (o->hidden) memcpy(v->hidden + w->width, o->hidden, bytes);
    return true;
}

static enum rc watch_item(struct watch *w, const struct record *r,
                          const struct event *ev, const struct outcome *o,
                          struct err *e)
{
    struct viewer *v = viewer_of(w, viewer_key(r, ev));
    int32_t item = model_item_index(w->o.model, ev->past.item);
    if (!v) return ERR(e, RC_STOP, "replay: no memory for its users");
    if (v->last >= 0) {
        w->counts[v->last]++;
        if (!add_seen(v, (uint32_t)v->last))
            return ERR(e, RC_STOP, "replay: no memory for its users");
    }
    measure_next(w, v, item, ev->time_ms);
    if (w->popularity && item >= 0)
        TRY(popularity_add(w->popularity, (uint32_t)item, e));
    v->last = item;
    v->events++;
    if (!keep_list(v, o) || !keep_hidden(w, v, o))
        return ERR(e, RC_STOP, "replay: no memory for its users");
    return RC_OK;
}

void watch_features(struct watch *w, struct feature_file *to)
{
    w->features = to;
}

static enum rc watch_score(struct watch *w, const struct record *r,
                           const struct event *ev, const struct outcome *o,
                           struct err *e)
{
    const float scores[WATCH_COLUMNS] = {
        [WATCH_FRAUD] = o->scored ? o->fraud : NAN,
        [WATCH_ANOMALY] = o->scored ? o->anomaly : NAN,
        [WATCH_AMOUNT] = ev->past.flags & PAST_NO_AMOUNT
                             ? NAN
                             : (float)((double)ev->past.amount / w->o.scale),
    };
    int8_t label = ev->label;
    if (label == LABEL_UNKNOWN)
        label = labels_find(w->o.labels, ev->past.event_id, ev->time_ms,
                            INT64_MAX, w->o.label_delay_ms);
    if (w->features) TRY(feature_file_add(w->features, r, ev, o, label, e));
    return evaluate_add(w->scores, scores, label, hash64(ev->user), ev->time_ms,
                        e);
}

enum rc watch_batch(void *user, const struct batch *b, struct err *e)
{
    struct watch *w = user;
    for (uint32_t i = 0; i < b->count; i++) {
        if (!b->outcomes[i].applied) continue;
        TRY(watch_score(w, &b->records[i], &b->events[i], &b->outcomes[i], e));
        if (w->o.model && b->events[i].past.item != 0)
            TRY(watch_item(w, &b->records[i], &b->events[i], &b->outcomes[i],
                           e));
    }
    return RC_OK;
}

struct evaluate *watch_scores(struct watch *w)
{
    return w->scores;
}

static void ranking_merge(struct ranking *to, const struct ranking *from)
{
    to->events += from->events;
    for (uint32_t k = 0; k < RANKING_KS; k++) {
        to->hits[k] += from->hits[k];
        to->ndcg_sum[k] += from->ndcg_sum[k];
        to->mrr_sum[k] += from->mrr_sum[k];
    }
}

void watch_next(const struct watch *w, struct watch_ranking *out)
{
    ranking_merge(&out->model, &w->next.model);
    ranking_merge(&out->popular, &w->next.popular);
    out->unknown += w->next.unknown;
    out->seen += w->next.seen;
}

/* --- leave one out ------------------------------------------------------ */

struct leave_one_out {
    const struct model *model;
    struct scorer *scorer;
    struct popularity *popularity;
    bool list_seen;
    uint32_t items;
    float *logits; /* (RANK_BATCH, N) */
    const struct viewer *users[RANK_BATCH];
    const float *hidden[RANK_BATCH];
    uint32_t count;
    struct watch_ranking *out;
};

static void rank_users(struct leave_one_out *l)
{
    if (l->count == 0) return;
    scorer_item_logits(l->scorer, l->hidden, l->count, l->logits);
    for (uint32_t i = 0; i < l->count; i++) {
        const struct viewer *v = l->users[i];
        uint32_t seen = l->list_seen ? 0 : v->seen_count;
        uint32_t target = (uint32_t)v->last;
        ranking_add(&l->out->model,
                    ranking_of(l->logits + (size_t)i * l->items, l->items,
                               target, v->seen, seen));
        ranking_add(&l->out->popular,
                    popularity_rank(l->popularity, target, v->seen, seen));
    }
    l->count = 0;
}

static void rank_user(struct leave_one_out *l, const struct viewer *v)
{
    bool seen = v->last >= 0 && !l->list_seen && has_seen(v, (uint32_t)v->last);
    if (v->events < 2) return; /* nothing came before its last event */
    l->out->unknown += v->last < 0;
    l->out->seen += seen;
    if (v->last < 0 || seen || !v->has_before) {
        ranking_add(&l->out->model, 0);
        ranking_add(&l->out->popular, 0);
        return;
    }
    l->users[l->count] = v;
    l->hidden[l->count++] = v->hidden;
    if (l->count == RANK_BATCH) rank_users(l);
}

static enum rc count_items(struct leave_one_out *l, struct watch *const *all,
                           uint32_t count, struct err *e)
{
    for (uint32_t w = 0; w < count; w++)
        for (uint32_t i = 0; i < l->items; i++)
            for (uint32_t n = 0; n < all[w]->counts[i]; n++)
                TRY(popularity_add(l->popularity, i, e));
    return RC_OK;
}

enum rc watch_leave_one_out(struct watch *const *all, uint32_t count,
                            struct watch_ranking *out, struct err *e)
{
    struct leave_one_out l = {.model = all[0]->o.model,
                              .list_seen = all[0]->o.list_seen,
                              .items = all[0]->items,
                              .out = out};
    const struct scorer_limits limits = {
        .context_bytes_max = 1 << 20, .events_max = RANK_BATCH, .k_max = 1};
    enum rc rc = RC_STOP;
    l.logits = malloc((size_t)RANK_BATCH * l.items * sizeof *l.logits);
    l.popularity = popularity_new(l.items);
    if (!l.logits || !l.popularity) {
        (void)ERR(e, RC_STOP, "leave one out: no memory for %u items", l.items);
        goto out;
    }
    rc = scorer_new(&l.scorer, l.model, limits, e);
    if (rc == RC_OK) rc = count_items(&l, all, count, e);
    if (rc != RC_OK) goto out;
    for (uint32_t w = 0; w < count; w++)
        for (size_t u = 0; u < all[w]->users.count; u++)
            rank_user(&l, &all[w]->viewers[u]);
    rank_users(&l);
out:
    if (l.scorer) scorer_free(l.scorer);
    popularity_free(l.popularity);
    free(l.logits);
    return rc;
}
