#include "lists.h"

#include "hash.h"

/* A list to be made. */
struct wish {
    uint32_t event;   /* in the batch */
    uint32_t request; /* among the scores */
    enum list_source source;
    uint64_t key; /* of its draws */
    int64_t catalogue_offset;
    const uint32_t *seen; /* items it leaves out, ascending */
    uint32_t seen_count;
    struct ranked *candidates; /* (pool_max) best first */
    uint32_t candidate_count;
};

struct lists {
    struct lists_options o;
    struct shelf *shelf; /* NULL: no catalogue */
    uint32_t list_max;   /* K */
    uint32_t pool_max;   /* candidates of one list, >= K */
    uint32_t count;
    struct wish *wishes;          /* (events_max) */
    struct top_k_request *top_k;  /* (events_max) */
    struct wish **asked;          /* (events_max) whose request it is */
    struct ranked *ranked;        /* (events_max, pool_max) */
    double *propensity;           /* (K) of the list at hand */
    struct recommendation *lists; /* (events_max, K) */
    uint32_t *excluded;           /* (events_max, history.events) */
    uint64_t *items;              /* (history.events) of one user */
    uint64_t *seen;               /* (N / 64) bits of items */
    uint64_t *seen_words;         /* (N / 4096) bits of words of seen */
    uint32_t seen_words_count;
};

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static enum rc take_shelf(struct lists **out, struct lists *l, struct err *e)
{
    if (l->o.catalogue &&
        shelf_new(&l->shelf, l->o.catalogue, l->o.model, e) != RC_OK) {
        lists_free(l);
        return e->rc;
    }
    *out = l;
    return RC_OK;
}

enum rc lists_new(struct lists **out, const struct lists_options *o,
                  struct err *e)
{
    struct lists *l;
    uint32_t items = model_info(o->model)->items;
    size_t n = o->events_max, kept = o->history->events_max;
    *out = NULL;
    if (o->policy->category_max > 0 && !o->catalogue)
        return ERR(e, RC_STOP,
                   "recommend.category.max: only a catalogue says of what "
                   "category an item is; set catalogue.topic, or give replay "
                   "--catalogue FILE");
    l = calloc(1, sizeof *l);
    if (!l) return ERR(e, RC_STOP, "lists: no memory");
    l->o = *o;
    l->list_max = least(o->policy->list_items, items);
    l->pool_max = least(policy_candidates(o->policy), items);
    l->seen_words_count = items / 4096 + 1;
    l->wishes = calloc(n, sizeof *l->wishes);
    l->top_k = calloc(n, sizeof *l->top_k);
    l->asked = calloc(n, sizeof(struct wish *));
    l->ranked = calloc(n * l->pool_max + 1, sizeof *l->ranked);
    l->propensity = calloc((size_t)l->list_max + 1, sizeof *l->propensity);
    l->lists = calloc(n * l->list_max + 1, sizeof *l->lists);
    l->excluded = calloc(n * kept, sizeof *l->excluded);
    l->items = calloc(kept, sizeof *l->items);
    l->seen_words = calloc(l->seen_words_count, sizeof *l->seen_words);
    l->seen = calloc((size_t)l->seen_words_count * 64, sizeof *l->seen);
    if (l->wishes && l->top_k && l->asked && l->ranked && l->propensity &&
        l->lists && l->excluded && l->items && l->seen && l->seen_words)
        return take_shelf(out, l, e);
    lists_free(l);
    return ERR(e, RC_STOP,
               "lists: no memory for batches of %zu events; lower "
               "batch.events.max or explore.pool",
               n);
}

void lists_free(struct lists *l)
{
    if (!l) return;
    shelf_free(l->shelf);
    free(l->wishes);
    free(l->top_k);
    free((void *)l->asked);
    free(l->ranked);
    free(l->propensity);
    free(l->lists);
    free(l->excluded);
    free(l->items);
    free(l->seen);
    free(l->seen_words);
    free(l);
}

void lists_begin(struct lists *l)
{
    l->count = 0;
    if (l->shelf) shelf_turn(l->shelf);
}

/* --- what a list leaves out --------------------------------------------- */

static uint32_t lowest_bit(uint64_t x)
{
    return (uint32_t)__builtin_ctzll(x);
}

/* The items of the user's history that the model knows, in ascending order,
 * each once. A bit for each item, and a bit for each word of those, put them
 * in order: far less than sorting takes. All bits are zero again after. */
static uint32_t gather_seen(struct lists *l, const struct history *h,
                            uint32_t *out)
{
    uint32_t count = history_items(l->o.history, h, l->items);
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        int32_t index = model_item_index(l->o.model, l->items[i]);
        uint32_t word = (uint32_t)index / 64;
        if (index < 0) continue;
        l->seen[word] |= UINT64_C(1) << index % 64;
        l->seen_words[word / 64] |= UINT64_C(1) << word % 64;
    }
    for (uint32_t w = 0; w < l->seen_words_count; w++)
        for (; l->seen_words[w]; l->seen_words[w] &= l->seen_words[w] - 1) {
            uint32_t word = w * 64 + lowest_bit(l->seen_words[w]);
            for (; l->seen[word]; l->seen[word] &= l->seen[word] - 1)
                out[found++] = word * 64 + lowest_bit(l->seen[word]);
        }
    return found;
}

/* An event without an id is known by its user and its number. */
static uint64_t key_of(const struct event *ev, uint64_t n)
{
    return ev->past.event_id ? ev->past.event_id : draw(hash64(ev->user), n, 0);
}

void lists_gather(struct lists *l, const struct history *h,
                  const struct batch *b, uint32_t i, uint32_t request)
{
    uint32_t c = l->count++;
    uint32_t *excluded = &l->excluded[(size_t)c * l->o.history->events_max];
    uint32_t known = gather_seen(l, h, excluded);
    l->wishes[c] = (struct wish){
        .event = i,
        .request = request,
        .source = decide_source(l->o.policy, h->events_total, known),
        .key = key_of(&b->events[i], b->outcomes[i].n),
        .catalogue_offset = l->shelf ? shelf_offset_of(l->shelf, &b->records[i])
                                     : CATALOGUE_NONE,
        .seen = excluded,
        .seen_count = l->o.policy->list_seen ? 0 : known,
        .candidates = &l->ranked[(size_t)c * l->pool_max],
    };
}

/* --- candidates --------------------------------------------------------- */

/* Lists [from, until), all as of the catalogue's offset that the shelf is at.
 */
static void find_by_model(struct lists *l, struct scorer *scorer,
                          const struct score *scores, uint32_t from,
                          uint32_t until)
{
    uint32_t count = 0;
    for (uint32_t c = from; c < until; c++) {
        struct wish *w = &l->wishes[c];
        if (w->source != LIST_MODEL) continue;
        l->asked[count] = w;
        l->top_k[count++] = (struct top_k_request){
            .hidden = scores[w->request].hidden,
            .excluded = w->seen,
            .excluded_count = w->seen_count,
            .allowed = l->shelf ? l->shelf->allowed : NULL,
            .category = l->shelf ? l->shelf->category : NULL,
            .category_max = l->o.policy->category_max,
            .out = w->candidates,
        };
    }
    if (count == 0) return;
    scorer_top_k(scorer, l->top_k, count, l->pool_max);
    for (uint32_t i = 0; i < count; i++)
        l->asked[i]->candidate_count = l->top_k[i].found;
}

static bool is_seen(const struct wish *w, uint32_t item)
{
    uint32_t low = 0, high = w->seen_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (w->seen[middle] < item)
            low = middle + 1;
        else
            high = middle;
    }
    return low < w->seen_count && w->seen[low] == item;
}

static bool is_offered(const struct lists *l, const struct wish *w,
                       uint32_t item)
{
    const struct shelf *shelf = l->shelf;
    uint32_t same = 0;
    if (is_seen(w, item)) return false;
    if (!shelf) return true;
    if (!(shelf->allowed[item / 64] >> item % 64 & 1)) return false;
    if (l->o.policy->category_max == 0 || shelf->category[item] == 0)
        return true;
    for (uint32_t i = 0; i < w->candidate_count; i++)
        same += shelf->category[w->candidates[i].item] == shelf->category[item];
    return same < l->o.policy->category_max;
}

static void find_by_popularity(struct lists *l, struct wish *w)
{
    uint32_t items = model_info(l->o.model)->items;
    for (uint32_t r = 0; r < items && w->candidate_count < l->pool_max; r++) {
        uint32_t item = model_item_rank(l->o.model, r);
        if (is_offered(l, w, item))
            w->candidates[w->candidate_count++] = (struct ranked){
                .item = item, .score = model_item_count(l->o.model, item)};
    }
}

/* --- lists -------------------------------------------------------------- */

static void put_list(struct lists *l, struct batch *b, uint32_t c)
{
    struct wish *w = &l->wishes[c];
    struct recommendation *list = &l->lists[(size_t)c * l->list_max];
    struct outcome *o = &b->outcomes[w->event];
    uint32_t count = decide_slots(l->o.policy, w->key, w->candidates,
                                  w->candidate_count, l->propensity);
    for (uint32_t k = 0; k < count; k++)
        list[k] = (struct recommendation){
            .item = model_item_name(l->o.model, w->candidates[k].item),
            .index = w->candidates[k].item,
            .score = w->candidates[k].score,
            .propensity = l->propensity[k],
        };
    o->list = list;
    o->list_count = count;
    o->list_source = w->source;
    o->catalogue_offset = w->catalogue_offset;
}

/* Lists from one on that saw the same catalogue: live, all of a batch. */
static uint32_t same_catalogue(const struct lists *l, uint32_t from)
{
    uint32_t until = from + 1;
    while (until < l->count && l->wishes[until].catalogue_offset ==
                                   l->wishes[from].catalogue_offset)
        until++;
    return until;
}

void lists_make(struct lists *l, struct scorer *scorer,
                const struct score *scores, struct batch *b)
{
    for (uint32_t from = 0, until; from < l->count; from = until) {
        until = same_catalogue(l, from);
        if (l->shelf) shelf_move(l->shelf, l->wishes[from].catalogue_offset);
        find_by_model(l, scorer, scores, from, until);
        for (uint32_t c = from; c < until; c++) {
            struct wish *w = &l->wishes[c];
            if (w->source == LIST_POPULARITY) find_by_popularity(l, w);
            put_list(l, b, c);
        }
    }
}
