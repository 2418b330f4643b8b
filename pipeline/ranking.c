#include "ranking.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const uint32_t RANKING_K[RANKING_KS] = {1, 5, 10, 20};
const uint32_t RANKING_LENGTH[RANKING_LENGTHS] = {1, 5, 10, 20, 50, 200};
const double RANKING_BAND[RANKING_BANDS] = {0.01, 0.1, 0.5, 1};

void ranking_add(struct ranking *r, uint32_t rank)
{
    r->events++;
    for (uint32_t i = 0; i < RANKING_KS; i++) {
        if (rank == 0 || rank > RANKING_K[i]) continue;
        r->hits[i]++;
        r->ndcg_sum[i] += 1 / log2((double)rank + 1);
        r->mrr_sum[i] += 1 / (double)rank;
    }
}

static double mean(double sum, uint64_t events)
{
    return events ? sum / (double)events : NAN;
}

void ranking_merge(struct ranking *to, const struct ranking *from)
{
    to->events += from->events;
    for (uint32_t k = 0; k < RANKING_KS; k++) {
        to->hits[k] += from->hits[k];
        to->ndcg_sum[k] += from->ndcg_sum[k];
        to->mrr_sum[k] += from->mrr_sum[k];
    }
}

double ranking_hit_rate(const struct ranking *r, uint32_t i)
{
    return mean((double)r->hits[i], r->events);
}

double ranking_ndcg(const struct ranking *r, uint32_t i)
{
    return mean(r->ndcg_sum[i], r->events);
}

double ranking_mrr(const struct ranking *r, uint32_t i)
{
    return mean(r->mrr_sum[i], r->events);
}

uint32_t ranking_of(const float *scores, uint32_t items, uint32_t target,
                    const uint32_t *excluded, uint32_t excluded_count)
{
    float mine = scores[target];
    uint32_t ahead = 0;
    assert(target < items);
    /* !(x < mine): equal scores, and any NaN, go against us. */
    for (uint32_t i = 0; i < items; i++)
        ahead += !(scores[i] < mine);
    ahead--; /* the target itself */
    for (uint32_t i = 0; i < excluded_count; i++)
        if (excluded[i] != target) ahead -= !(scores[excluded[i]] < mine);
    return ahead + 1;
}

/* --- parts --------------------------------------------------------------- */

void ranking_part_add(struct ranking_part *p, uint32_t rank)
{
    p->events++;
    if (rank == 0 || rank > RANKING_K[RANKING_TEN]) return;
    p->hits++;
    p->ndcg_sum += 1 / log2((double)rank + 1);
}

void ranking_part_merge(struct ranking_part *to,
                        const struct ranking_part *from)
{
    to->events += from->events;
    to->hits += from->hits;
    to->ndcg_sum += from->ndcg_sum;
}

uint32_t ranking_length(uint64_t events)
{
    uint32_t part = 0;
    while (part + 1 < RANKING_LENGTHS && events >= RANKING_LENGTH[part + 1])
        part++;
    return part;
}

void ranking_resample(const struct ranking_user *users, uint64_t count,
                      struct ranking_resampled *out)
{
    for (uint32_t n = 0; n < BOOTSTRAP_RESAMPLES; n++) {
        double events = 0, hits = 0, ndcg = 0;
        for (uint64_t i = 0; i < count; i++) {
            const struct ranking_part *p = &users[i].part;
            double times = bootstrap_times(users[i].user, n);
            events += times * (double)p->events;
            hits += times * (double)p->hits;
            ndcg += times * p->ndcg_sum;
        }
        out->hit_rate[n] = events > 0 ? hits / events : NAN;
        out->ndcg[n] = events > 0 ? ndcg / events : NAN;
    }
}

/* --- items --------------------------------------------------------------- */

struct placed {
    uint64_t came;
    uint32_t item;
};

static int by_popularity(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    if (x->came != y->came) return x->came > y->came ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

static enum rc add_bands(const struct ranking_item *items, uint32_t count,
                         struct ranking_parts *parts, struct err *e)
{
    struct placed *order = malloc(((size_t)count + 1) * sizeof *order);
    if (!order)
        return ERR(e, RC_STOP, "ranking: no memory for %u items", count);
    for (uint32_t i = 0; i < count; i++)
        order[i] = (struct placed){items[i].came, i};
    qsort(order, count, sizeof *order, by_popularity);
    for (uint32_t i = 0, band = 0; i < count; i++) {
        while (band + 1 < RANKING_BANDS && i >= count * RANKING_BAND[band])
            band++;
        ranking_part_merge(&parts->band[band], &items[order[i].item].asked);
    }
    free(order);
    return RC_OK;
}

enum rc ranking_items_measure(const struct ranking_item *items, uint32_t count,
                              struct ranking_items *out,
                              struct ranking_parts *parts, struct err *e)
{
    double came = 0, slots = 0, information = 0;
    *out = (struct ranking_items){.coverage = NAN, .novelty = NAN};
    for (uint32_t i = 0; i < count; i++)
        came += items[i].came ? (double)items[i].came : 1;
    for (uint32_t i = 0; i < count; i++) {
        double own = items[i].came ? (double)items[i].came : 1;
        out->listed += items[i].listed > 0;
        slots += (double)items[i].listed;
        information -= (double)items[i].listed * log2(own / came);
    }
    if (slots > 0) {
        out->coverage = (double)out->listed / count;
        out->novelty = information / slots;
    }
    return add_bands(items, count, parts, e);
}

/* --- baseline ------------------------------------------------------------ */

/* at_least[c]: items that came c times or more, so a rank is one look-up. */
struct popularity {
    uint32_t items;
    uint32_t *count;    /* (items) */
    uint32_t *at_least; /* (levels) */
    uint32_t levels;
};

struct popularity *popularity_new(uint32_t items)
{
    struct popularity *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->items = items;
    p->levels = 1;
    p->count = calloc((size_t)items + 1, sizeof *p->count);
    p->at_least = calloc(p->levels, sizeof *p->at_least);
    if (p->count && p->at_least) {
        p->at_least[0] = items;
        return p;
    }
    popularity_free(p);
    return NULL;
}

void popularity_free(struct popularity *p)
{
    if (!p) return;
    free(p->count);
    free(p->at_least);
    free(p);
}

uint32_t popularity_count(const struct popularity *p, uint32_t item)
{
    assert(item < p->items);
    return p->count[item];
}

uint32_t popularity_rank(const struct popularity *p, uint32_t target,
                         const uint32_t *excluded, uint32_t excluded_count)
{
    uint32_t mine = p->count[target];
    uint32_t rank = p->at_least[mine]; /* the target counts itself: + 1 - 1 */
    assert(target < p->items);
    for (uint32_t i = 0; i < excluded_count; i++)
        if (excluded[i] != target) rank -= p->count[excluded[i]] >= mine;
    return rank;
}

enum rc popularity_add(struct popularity *p, uint32_t item, struct err *e)
{
    uint32_t level = p->count[item] + 1;
    assert(item < p->items);
    if (level == p->levels) {
        uint32_t *more =
            realloc(p->at_least, (size_t)p->levels * 2 * sizeof *more);
        if (!more)
            return ERR(e, RC_STOP,
                       "ranking: no memory for %u levels of "
                       "popularity",
                       p->levels * 2);
        p->at_least = more;
        memset(p->at_least + p->levels, 0, p->levels * sizeof *p->at_least);
        p->levels *= 2;
    }
    p->count[item] = level;
    p->at_least[level]++;
    return RC_OK;
}
