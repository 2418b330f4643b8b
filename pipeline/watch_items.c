#include "watch_items.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "map64.h"
#include "watch.h"

enum {
    USERS_FIRST = 1024,
    SEEN_FIRST = 8,
    RANK_BATCH = 64,
    TEN = 10, /* of a list, for coverage and novelty */
};

/* One user, as far as rankings go. */
struct viewer {
    uint64_t key;
    uint32_t *seen; /* items before the last, ascending, each once */
    uint32_t seen_count, seen_room;
    int32_t last; /* item of the newest event; -1: the model has it not */
    int32_t before_last;
    uint64_t events;
    float *hidden;  /* (2, D): before the newest event, after it */
    uint32_t *list; /* (list_count) made after the newest event */
    uint32_t list_count, list_room;
    int32_t segment[2];           /* by those hidden states; -1: none */
    bool has_before, has_after;   /* which hidden states are there */
    struct ranking_part measured; /* its next items */
    bool has_logged;              /* a list that waits for what comes */
    uint64_t logged;              /* its number */
};

struct watch_items {
    struct watch_options o;
    uint32_t width, items; /* D, N */
    struct map64 users;    /* hash -> index in viewers */
    struct viewer *viewers;
    size_t viewers_room;
    uint64_t *counts;              /* (N) of items that are no user's last */
    struct ranking_item *tallies;  /* (N) of next items */
    struct popularity *popularity; /* NULL: not asked for */
    struct cooccurrence *cooccurrence;
    struct scorer *scorer; /* with rank_all, else NULL */
    float *logits;         /* (N) */
    struct watch_ranking next;
    struct off_policy *off_policy; /* NULL: there are no logged lists */
    uint64_t unmatched;            /* logged lists where this makes none */
};

static bool take_memory(struct watch_items *w)
{
    size_t n = (size_t)w->items + 1;
    w->counts = calloc(n, sizeof *w->counts);
    w->tallies = calloc(n, sizeof *w->tallies);
    if (w->o.popularity) w->popularity = popularity_new(w->items);
    if (w->o.baselines) w->cooccurrence = cooccurrence_new(w->items);
    if (w->o.logged) w->off_policy = off_policy_new();
    if (w->o.rank_all) w->logits = malloc(n * sizeof *w->logits);
    return w->counts && w->tallies && (!w->o.popularity || w->popularity) &&
           (!w->o.baselines || w->cooccurrence) &&
           (!w->o.logged || w->off_policy) && (!w->o.rank_all || w->logits);
}

enum rc watch_items_new(struct watch_items **out, const struct watch_options *o,
                        struct err *e)
{
    const struct scorer_limits limits = {
        .context_bytes_max = 1 << 20, .events_max = 1, .k_max = 1};
    struct watch_items *w = calloc(1, sizeof *w);
    enum rc rc = RC_OK;
    if (!w) return ERR(e, RC_STOP, "replay: no memory");
    w->o = *o;
    w->width = model_info(o->model)->width;
    w->items = model_info(o->model)->items;
    w->o.rank_all = o->rank_all && w->items > 0;
    if (!take_memory(w))
        rc = ERR(e, RC_STOP, "replay: no memory for %u items", w->items);
    if (rc == RC_OK && w->o.rank_all)
        rc = scorer_new(&w->scorer, o->model, limits, e);
    if (rc != RC_OK) {
        watch_items_free(w);
        return rc;
    }
    *out = w;
    return RC_OK;
}

void watch_items_free(struct watch_items *w)
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
    free(w->tallies);
    free(w->logits);
    if (w->scorer) scorer_free(w->scorer);
    popularity_free(w->popularity);
    cooccurrence_free(w->cooccurrence);
    off_policy_free(w->off_policy);
    free(w);
}

/* --- users -------------------------------------------------------------- */

static uint64_t viewer_key(const struct record *r, const struct event *ev)
{
    uint64_t key = hash_mix(hash64(ev->user) ^ (uint64_t)r->partition);
    return key ? key : 1;
}

static struct viewer *viewer_of(struct watch_items *w, uint64_t key)
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
    if (made)
        w->viewers[*index] = (struct viewer){
            .key = key, .last = -1, .before_last = -1, .segment = {-1, -1}};
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

/* A score that is no number ends the run: nothing could be said of it. */
static enum rc check_logits(const struct watch_items *w, const float *logits,
                            struct err *e)
{
    for (uint32_t i = 0; i < w->items; i++)
        if (!isfinite(logits[i]))
            return ERR(e, RC_STOP,
                       "replay: the model's score of item %.*s is not finite; "
                       "train it again",
                       (int)model_item_name(w->o.model, i).len,
                       (const char *)model_item_name(w->o.model, i).ptr);
    return RC_OK;
}

static uint32_t seen_by(const struct watch_items *w, const struct viewer *v)
{
    return w->o.list_seen ? 0 : v->seen_count;
}

static enum rc rank_next(struct watch_items *w, const struct viewer *v,
                         uint32_t item, uint32_t *rank, struct err *e)
{
    const float *hidden = v->hidden ? v->hidden + w->width : NULL;
    if (!w->o.rank_all) {
        *rank = list_rank(v, item);
        return RC_OK;
    }
    scorer_item_logits(w->scorer, &hidden, 1, w->logits);
    TRY(check_logits(w, w->logits, e));
    *rank = ranking_of(w->logits, w->items, item, v->seen, seen_by(w, v));
    return RC_OK;
}

static void add_next(struct watch_items *w, struct viewer *v, int32_t item,
                     uint32_t rank)
{
    struct watch_ranking *r = &w->next;
    uint32_t first = v->list_count < TEN ? v->list_count : TEN;
    ranking_add(&r->model, rank);
    ranking_part_add(&v->measured, rank);
    ranking_part_add(&r->parts.length[ranking_length(v->events)], rank);
    if (v->segment[1] >= 0)
        ranking_part_add(&r->parts.segment[v->segment[1]], rank);
    if (item >= 0) ranking_part_add(&w->tallies[item].asked, rank);
    for (uint32_t k = 0; k < first; k++)
        w->tallies[v->list[k]].listed++;
}

static void add_baselines(struct watch_items *w, const struct viewer *v,
                          int32_t item, bool can)
{
    uint32_t popular = 0, after = 0;
    if (!w->popularity) return;
    if (can)
        popular = popularity_rank(w->popularity, (uint32_t)item, v->seen,
                                  seen_by(w, v));
    if (can && v->last >= 0 && w->cooccurrence)
        after =
            cooccurrence_rank(w->cooccurrence, w->popularity, (uint32_t)v->last,
                              (uint32_t)item, v->seen, seen_by(w, v));
    ranking_add(&w->next.popular, popular);
    if (w->cooccurrence) ranking_add(&w->next.cooccurrence, after);
}

/* v->last has become one of the seen by now. */
static enum rc measure_next(struct watch_items *w, struct viewer *v,
                            int32_t item, int64_t time_ms, struct err *e)
{
    bool seen, ranked;
    uint32_t rank = 0;
    if ((v->list_count == 0 && !(w->o.rank_all && v->has_after)) ||
        time_ms < w->o.from_ms || time_ms >= w->o.until_ms)
        return RC_OK;
    seen = item >= 0 && !w->o.list_seen && has_seen(v, (uint32_t)item);
    /* A list may hold what has left the history, and then it is a hit. */
    ranked = item >= 0 && (!w->o.rank_all || (!seen && v->has_after));
    w->next.unknown += item < 0;
    w->next.seen += seen;
    if (ranked) TRY(rank_next(w, v, (uint32_t)item, &rank, e));
    add_next(w, v, item, rank);
    add_baselines(w, v, item, item >= 0 && !seen);
    return RC_OK;
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

static bool keep_hidden(struct watch_items *w, struct viewer *v,
                        const struct outcome *o)
{
    size_t bytes = w->width * sizeof(float);
    v->segment[0] = v->segment[1];
    v->segment[1] = o->hidden ? model_segment(w->o.model, o->hidden) : -1;
    if (!w->o.leave_one_out && !w->o.rank_all) return true;
    if (!v->hidden) v->hidden = malloc(2 * bytes);
    if (!v->hidden) return false;
    v->has_before = v->has_after;
    if (v->has_after) memcpy(v->hidden, v->hidden + w->width, bytes);
    v->has_after = o->hidden != NULL;
    if (o->hidden) memcpy(v->hidden + w->width, o->hidden, bytes);
    return true;
}

static enum rc count_item(struct watch_items *w, const struct viewer *v,
                          int32_t item, struct err *e)
{
    if (item < 0) return RC_OK;
    w->tallies[item].came++;
    if (w->popularity) TRY(popularity_add(w->popularity, (uint32_t)item, e));
    if (!w->cooccurrence || v->last < 0) return RC_OK;
    return cooccurrence_add(w->cooccurrence, (uint32_t)v->last, (uint32_t)item,
                            e);
}

/* --- logged lists --------------------------------------------------------- */

/* What this replay puts into place k, below the items that the log has above:
 * the first of its own list that is not there. 0: its list has come to its
 * end. */
static uint64_t item_instead(const struct outcome *o,
                             const struct logged_place *logged, uint32_t k)
{
    for (uint32_t i = 0; i < o->list_count; i++) {
        uint64_t item = hash64(o->list[i].item);
        uint32_t above = 0;
        while (above < k && logged[above].item != item)
            above++;
        if (above == k) return item;
    }
    return 0;
}

static enum rc add_logged(struct watch_items *w, struct viewer *v,
                          const struct record *r, const struct outcome *o,
                          struct err *e)
{
    struct off_policy_place places[OFF_POLICY_PLACES_MAX];
    uint32_t count;
    const struct logged_place *logged =
        logged_lists_find(w->o.logged, r->partition, r->offset, &count);
    if (!logged) return RC_OK;
    if (o->list_count == 0) {
        w->unmatched++;
        return RC_OK;
    }
    if (count > OFF_POLICY_PLACES_MAX) count = OFF_POLICY_PLACES_MAX;
    for (uint32_t k = 0; k < count; k++) {
        uint64_t instead = item_instead(o, logged, k);
        places[k] =
            (struct off_policy_place){.item = logged[k].item,
                                      .instead = instead,
                                      .logged = logged[k].propensity,
                                      .other = logged[k].item == instead};
    }
    if (off_policy_add(w->off_policy, v->key, places, count, &v->logged, e) ==
        RC_OK) {
        v->has_logged = true;
        return RC_OK;
    }
    (void)err_context(e, "the list of partition %d, offset %lld", r->partition,
                      (long long)r->offset);
    return RC_STOP;
}

/* The item that came is what the list before it earned. */
static enum rc watch_logged(struct watch_items *w, struct viewer *v,
                            const struct record *r, const struct event *ev,
                            const struct outcome *o, struct err *e)
{
    if (!w->off_policy) return RC_OK;
    if (v->has_logged && ev->time_ms >= w->o.from_ms &&
        ev->time_ms < w->o.until_ms)
        off_policy_reward(w->off_policy, v->logged, ev->past.item, 1);
    v->has_logged = false;
    return add_logged(w, v, r, o, e);
}

enum rc watch_items_off_policy(struct watch_items *const *all, uint32_t count,
                               struct off_policy_result *out,
                               uint64_t *unmatched, struct err *e)
{
    struct off_policy *whole = off_policy_new();
    enum rc rc = RC_OK;
    if (!whole) return ERR(e, RC_STOP, "off-policy: no memory");
    *unmatched = 0;
    for (uint32_t w = 0; rc == RC_OK && w < count; w++) {
        *unmatched += all[w]->unmatched;
        rc = off_policy_merge(whole, all[w]->off_policy, e);
    }
    if (rc == RC_OK) rc = off_policy_measure(whole, out, e);
    off_policy_free(whole);
    return rc;
}

/* --- all of an event ------------------------------------------------------ */

enum rc watch_items_add(struct watch_items *w, const struct record *r,
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
    TRY(measure_next(w, v, item, ev->time_ms, e));
    TRY(watch_logged(w, v, r, ev, o, e));
    TRY(count_item(w, v, item, e));
    v->before_last = v->last;
    v->last = item;
    v->events++;
    if (!keep_list(v, o) || !keep_hidden(w, v, o))
        return ERR(e, RC_STOP, "replay: no memory for its users");
    return RC_OK;
}

/* --- next items, of all workers ------------------------------------------ */

/* Users that were measured, for the bootstrap. NULL: no memory. */
static struct ranking_user *list_users(struct watch_items *const *all,
                                       uint32_t count, uint64_t *found)
{
    struct ranking_user *users;
    size_t room = 1;
    for (uint32_t w = 0; w < count; w++)
        room += all[w]->users.count;
    users = calloc(room, sizeof *users);
    *found = 0;
    for (uint32_t w = 0; users && w < count; w++)
        for (size_t u = 0; u < all[w]->users.count; u++) {
            const struct viewer *v = &all[w]->viewers[u];
            if (v->measured.events > 0)
                users[(*found)++] = (struct ranking_user){v->key, v->measured};
        }
    return users;
}

static void add_worker(struct watch_ranking *to, const struct watch_ranking *w)
{
    ranking_merge(&to->model, &w->model);
    ranking_merge(&to->popular, &w->popular);
    ranking_merge(&to->cooccurrence, &w->cooccurrence);
    to->unknown += w->unknown;
    to->seen += w->seen;
    for (uint32_t i = 0; i < RANKING_LENGTHS; i++)
        ranking_part_merge(&to->parts.length[i], &w->parts.length[i]);
    for (uint32_t i = 0; i < RANKING_SEGMENTS; i++)
        ranking_part_merge(&to->parts.segment[i], &w->parts.segment[i]);
}

static void add_tallies(struct ranking_item *to, const struct ranking_item *of,
                        uint32_t items)
{
    for (uint32_t i = 0; i < items; i++) {
        to[i].came += of[i].came;
        to[i].listed += of[i].listed;
        ranking_part_merge(&to[i].asked, &of[i].asked);
    }
}

enum rc watch_items_next(struct watch_items *const *all, uint32_t count,
                         struct watch_ranking *out, struct err *e)
{
    uint32_t items = all[0]->items;
    uint64_t measured;
    struct ranking_user *users = list_users(all, count, &measured);
    struct ranking_item *tallies = calloc((size_t)items + 1, sizeof *tallies);
    enum rc rc = RC_OK;
    *out = (struct watch_ranking){0};
    for (uint32_t w = 0; w < count; w++) {
        add_worker(out, &all[w]->next);
        if (tallies) add_tallies(tallies, all[w]->tallies, items);
    }
    if (users && tallies)
        rc = ranking_items_measure(tallies, items, &out->items, &out->parts, e);
    else
        rc = ERR(e, RC_STOP, "replay: no memory for its rankings");
    if (rc == RC_OK && all[0]->o.intervals)
        ranking_resample(users, measured, &out->resampled);
    free(users);
    free(tallies);
    return rc;
}

/* --- leave one out ------------------------------------------------------ */

struct leave_one_out {
    struct watch_items *const *all;
    uint32_t workers;
    const struct watch_items *first; /* what all have alike */
    struct scorer *scorer;
    struct popularity *popularity;
    struct cooccurrence *cooccurrence; /* NULL: not asked for */
    float *logits;                     /* (RANK_BATCH, N) */
    const struct viewer *users[RANK_BATCH];
    const float *hidden[RANK_BATCH];
    struct ranked ranked[RANK_BATCH][TEN];
    uint32_t count;
    struct ranking_item *tallies;  /* (N) */
    struct ranking_user *measured; /* (users) */
    uint64_t measured_count;
    struct watch_ranking *out;
};

static void add_left_out(struct leave_one_out *l, const struct viewer *v,
                         uint32_t rank, uint32_t popular, uint32_t after)
{
    struct watch_ranking *out = l->out;
    struct ranking_user *user = &l->measured[l->measured_count++];
    *user = (struct ranking_user){.user = v->key};
    ranking_part_add(&user->part, rank);
    ranking_add(&out->model, rank);
    ranking_add(&out->popular, popular);
    if (l->cooccurrence) ranking_add(&out->cooccurrence, after);
    ranking_part_add(&out->parts.length[ranking_length(v->events - 1)], rank);
    if (v->segment[0] >= 0)
        ranking_part_add(&out->parts.segment[v->segment[0]], rank);
    if (v->last >= 0) ranking_part_add(&l->tallies[v->last].asked, rank);
}

static void list_users_items(struct leave_one_out *l)
{
    struct top_k_request in[RANK_BATCH];
    for (uint32_t i = 0; i < l->count; i++)
        in[i] = (struct top_k_request){.hidden = l->hidden[i],
                                       .excluded = l->users[i]->seen,
                                       .excluded_count =
                                           seen_by(l->first, l->users[i]),
                                       .out = l->ranked[i]};
    scorer_top_k(l->scorer, in, l->count, TEN);
    for (uint32_t i = 0; i < l->count; i++)
        for (uint32_t k = 0; k < in[i].found; k++)
            l->tallies[l->ranked[i][k].item].listed++;
}

static enum rc rank_users(struct leave_one_out *l, struct err *e)
{
    uint32_t items = l->first->items;
    if (l->count == 0) return RC_OK;
    scorer_item_logits(l->scorer, l->hidden, l->count, l->logits);
    for (uint32_t i = 0; i < l->count; i++)
        TRY(check_logits(l->first, l->logits + (size_t)i * items, e));
    list_users_items(l);
    for (uint32_t i = 0; i < l->count; i++) {
        const struct viewer *v = l->users[i];
        const float *logits = l->logits + (size_t)i * items;
        uint32_t seen = seen_by(l->first, v), target = (uint32_t)v->last;
        uint32_t after = 0;
        if (l->cooccurrence && v->before_last >= 0)
            after = cooccurrence_rank(l->cooccurrence, l->popularity,
                                      (uint32_t)v->before_last, target, v->seen,
                                      seen);
        add_left_out(l, v, ranking_of(logits, items, target, v->seen, seen),
                     popularity_rank(l->popularity, target, v->seen, seen),
                     after);
    }
    l->count = 0;
    return RC_OK;
}

static enum rc rank_user(struct leave_one_out *l, const struct viewer *v,
                         struct err *e)
{
    bool seen = v->last >= 0 && !l->first->o.list_seen &&
                has_seen(v, (uint32_t)v->last);
    if (v->events < 2) return RC_OK; /* nothing came before its last event */
    l->out->unknown += v->last < 0;
    l->out->seen += seen;
    if (v->last < 0 || seen || !v->has_before) {
        add_left_out(l, v, 0, 0, 0);
        return RC_OK;
    }
    l->users[l->count] = v;
    l->hidden[l->count++] = v->hidden;
    return l->count == RANK_BATCH ? rank_users(l, e) : RC_OK;
}

/* What is known before anybody's last event. */
static enum rc count_before(struct leave_one_out *l, struct err *e)
{
    for (uint32_t w = 0; w < l->workers; w++) {
        const struct watch_items *from = l->all[w];
        for (uint32_t i = 0; i < from->items; i++) {
            l->tallies[i].came += from->counts[i];
            for (uint64_t n = 0; n < from->counts[i]; n++)
                TRY(popularity_add(l->popularity, i, e));
        }
        if (!l->cooccurrence) continue;
        TRY(cooccurrence_merge(l->cooccurrence, from->cooccurrence, e));
        for (size_t u = 0; u < from->users.count; u++) {
            const struct viewer *v = &from->viewers[u];
            if (v->before_last >= 0 && v->last >= 0)
                cooccurrence_remove(l->cooccurrence, (uint32_t)v->before_last,
                                    (uint32_t)v->last);
        }
    }
    return RC_OK;
}

static enum rc open_left_out(struct leave_one_out *l, struct err *e)
{
    const struct scorer_limits limits = {
        .context_bytes_max = 1 << 20, .events_max = RANK_BATCH, .k_max = TEN};
    size_t items = l->first->items, users = 1;
    for (uint32_t w = 0; w < l->workers; w++)
        users += l->all[w]->users.count;
    l->logits = malloc((RANK_BATCH * items + 1) * sizeof *l->logits);
    l->popularity = popularity_new((uint32_t)items);
    l->tallies = calloc(items + 1, sizeof *l->tallies);
    l->measured = calloc(users, sizeof *l->measured);
    if (l->first->o.baselines)
        l->cooccurrence = cooccurrence_new((uint32_t)items);
    if (!l->logits || !l->popularity || !l->tallies || !l->measured ||
        (l->first->o.baselines && !l->cooccurrence))
        return ERR(e, RC_STOP, "leave one out: no memory for %zu items", items);
    TRY(scorer_new(&l->scorer, l->first->o.model, limits, e));
    return count_before(l, e);
}

static enum rc rank_all_users(struct leave_one_out *l, struct err *e)
{
    for (uint32_t w = 0; w < l->workers; w++)
        for (size_t u = 0; u < l->all[w]->users.count; u++)
            TRY(rank_user(l, &l->all[w]->viewers[u], e));
    TRY(rank_users(l, e));
    TRY(ranking_items_measure(l->tallies, l->first->items, &l->out->items,
                              &l->out->parts, e));
    if (l->first->o.intervals)
        ranking_resample(l->measured, l->measured_count, &l->out->resampled);
    return RC_OK;
}

enum rc watch_items_left_out(struct watch_items *const *all, uint32_t count,
                             struct watch_ranking *out, struct err *e)
{
    struct leave_one_out *l = calloc(1, sizeof *l);
    enum rc rc;
    if (!l) return ERR(e, RC_STOP, "leave one out: no memory");
    *out = (struct watch_ranking){0};
    *l = (struct leave_one_out){
        .all = all, .workers = count, .first = all[0], .out = out};
    rc = open_left_out(l, e);
    if (rc == RC_OK) rc = rank_all_users(l, e);
    if (l->scorer) scorer_free(l->scorer);
    popularity_free(l->popularity);
    cooccurrence_free(l->cooccurrence);
    free(l->logits);
    free(l->tallies);
    free(l->measured);
    free(l);
    return rc;
}
