#include "cooccurrence.h"

#include <assert.h>
#include <stdlib.h>

#include "map64.h"

/* What came after one item. */
struct followers {
    struct follower {
        uint32_t item, count; /* count 0: all were taken back */
    } * at;
    uint32_t count, room;
};

struct cooccurrence {
    uint32_t items;
    struct map64 pairs;      /* (last, next) -> place among last's followers */
    struct followers *after; /* (items) */
};

struct cooccurrence *cooccurrence_new(uint32_t items)
{
    struct cooccurrence *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->items = items;
    c->after = calloc((size_t)items + 1, sizeof *c->after);
    if (c->after) return c;
    free(c);
    return NULL;
}

void cooccurrence_free(struct cooccurrence *c)
{
    if (!c) return;
    for (uint32_t i = 0; i < c->items; i++)
        free(c->after[i].at);
    free(c->after);
    map64_fini(&c->pairs);
    free(c);
}

/* Never 0, which the map keeps for itself. */
static uint64_t pair_key(uint32_t last, uint32_t next)
{
    return ((uint64_t)last << 32 | next) + 1;
}

static struct follower *add_follower(struct followers *f, uint32_t item)
{
    if (f->count == f->room) {
        uint32_t room = f->room ? f->room * 2 : 4;
        void *bigger = realloc(f->at, room * sizeof *f->at);
        if (!bigger) return NULL;
        f->at = bigger;
        f->room = room;
    }
    f->at[f->count] = (struct follower){.item = item};
    return &f->at[f->count++];
}

static enum rc add_times(struct cooccurrence *c, uint32_t last, uint32_t next,
                         uint32_t times, struct err *e)
{
    struct followers *f = &c->after[last];
    uint64_t *place;
    bool made;
    assert(last < c->items && next < c->items);
    place = map64_put(&c->pairs, pair_key(last, next), f->count, &made);
    if (!place || (made && !add_follower(f, next)))
        return ERR(e, RC_STOP, "co-occurrence: no memory for %zu pairs",
                   c->pairs.count);
    f->at[*place].count += times;
    return RC_OK;
}

enum rc cooccurrence_add(struct cooccurrence *c, uint32_t last, uint32_t next,
                         struct err *e)
{
    return add_times(c, last, next, 1, e);
}

void cooccurrence_remove(struct cooccurrence *c, uint32_t last, uint32_t next)
{
    const uint64_t *place = map64_get(&c->pairs, pair_key(last, next));
    assert(place && c->after[last].at[*place].count > 0);
    c->after[last].at[*place].count--;
}

enum rc cooccurrence_merge(struct cooccurrence *to,
                           const struct cooccurrence *from, struct err *e)
{
    assert(to->items == from->items);
    for (uint32_t i = 0; i < from->items; i++)
        for (uint32_t k = 0; k < from->after[i].count; k++)
            TRY(add_times(to, i, from->after[i].at[k].item,
                          from->after[i].at[k].count, e));
    return RC_OK;
}

static bool is_among(const uint32_t *ascending, uint32_t count, uint32_t item)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ascending[middle] < item)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ascending[low] == item;
}

static uint32_t times_after(const struct cooccurrence *c, uint32_t last,
                            uint32_t next)
{
    const uint64_t *place = map64_get(&c->pairs, pair_key(last, next));
    return place ? c->after[last].at[*place].count : 0;
}

/* Only followers can be ahead of a target that came after last; any item may
 * be of one that never did: those ahead by popularity, and the followers
 * that are not among them. */
uint32_t cooccurrence_rank(const struct cooccurrence *c,
                           const struct popularity *p, uint32_t last,
                           uint32_t target, const uint32_t *excluded,
                           uint32_t excluded_count)
{
    const struct followers *f = &c->after[last];
    uint32_t mine = times_after(c, last, target);
    uint32_t common = popularity_count(p, target);
    uint32_t rank =
        mine ? 1 : popularity_rank(p, target, excluded, excluded_count);
    for (uint32_t i = 0; i < f->count; i++) {
        const struct follower *other = &f->at[i];
        bool more = popularity_count(p, other->item) >= common;
        if (other->count == 0 || other->item == target ||
            is_among(excluded, excluded_count, other->item))
            continue;
        if (mine)
            rank += other->count > mine || (other->count == mine && more);
        else
            rank += !more;
    }
    return rank;
}
