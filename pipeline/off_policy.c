#include "off_policy.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "hash.h"
#include "map64.h"

enum { FOLDS = 2, FIRST = 1024 };
static const double PRIOR = 20; /* lists that a place's mean counts as */

struct list {
    uint64_t user;
    uint64_t first; /* of its places */
    uint32_t count;
    bool known; /* what became of it */
};

struct off_policy {
    struct list *lists;
    uint64_t list_count, list_room;
    struct off_policy_place *places;
    uint64_t place_count, place_room;
};

struct off_policy *off_policy_new(void)
{
    return calloc(1, sizeof(struct off_policy));
}

void off_policy_free(struct off_policy *p)
{
    if (!p) return;
    free(p->lists);
    free(p->places);
    free(p);
}

/* Room for count more of size bytes; *array and *room may move. */
static bool make_room(void *array, uint64_t used, uint64_t count,
                      uint64_t *room, size_t size)
{
    void **at = array, *bigger;
    uint64_t wanted = *room ? *room : FIRST;
    while (wanted < used + count)
        wanted *= 2;
    if (wanted == *room) return true;
    bigger = realloc(*at, wanted * size);
    if (!bigger) return false;
    *at = bigger;
    *room = wanted;
    return true;
}

static enum rc check_chances(const struct off_policy_place *places,
                             uint32_t count, struct err *e)
{
    if (count > OFF_POLICY_PLACES_MAX)
        return ERR(e, RC_SKIP, "a list of %u places, at most %d are measured",
                   count, OFF_POLICY_PLACES_MAX);
    for (uint32_t k = 0; k < count; k++) {
        if (!(places[k].logged > 0 && places[k].logged <= 1))
            return ERR(e, RC_SKIP,
                       "place %u of a list has the propensity %g, must be in "
                       "(0, 1]",
                       k + 1, places[k].logged);
        if (!(places[k].other >= 0 && places[k].other <= 1))
            return ERR(e, RC_SKIP, "place %u of a list: a chance of %g", k + 1,
                       places[k].other);
    }
    return RC_OK;
}

enum rc off_policy_add(struct off_policy *p, uint64_t user,
                       const struct off_policy_place *places, uint32_t count,
                       uint64_t *list, struct err *e)
{
    TRY(check_chances(places, count, e));
    if (!make_room(&p->lists, p->list_count, 1, &p->list_room,
                   sizeof *p->lists) ||
        !make_room(&p->places, p->place_count, count, &p->place_room,
                   sizeof *p->places))
        return ERR(e, RC_STOP, "off-policy: no memory for %llu lists",
                   (unsigned long long)p->list_count);
    *list = p->list_count;
    p->lists[p->list_count++] =
        (struct list){.user = user, .first = p->place_count, .count = count};
    for (uint32_t k = 0; k < count; k++)
        p->places[p->place_count++] = places[k];
    return RC_OK;
}

void off_policy_reward(struct off_policy *p, uint64_t list, uint64_t item,
                       float reward)
{
    struct list *l = &p->lists[list];
    assert(list < p->list_count);
    l->known = true;
    for (uint32_t k = 0; k < l->count; k++)
        if (p->places[l->first + k].item == item)
            p->places[l->first + k].reward += reward;
}

enum rc off_policy_merge(struct off_policy *to, const struct off_policy *from,
                         struct err *e)
{
    for (uint64_t i = 0; i < from->list_count; i++) {
        const struct list *l = &from->lists[i];
        uint64_t list;
        TRY(off_policy_add(to, l->user, from->places + l->first, l->count,
                           &list, e));
        to->lists[list].known = l->known;
    }
    return RC_OK;
}

/* --- a model of the reward ----------------------------------------------- */

struct tally {
    double lists, reward;
};

/* Of one half of the users; items under item and place, and under place. */
struct half {
    struct map64 items; /* item -> index in tallies */
    struct tally *tallies;
    uint64_t room;
    struct tally place[OFF_POLICY_PLACES_MAX];
};

static uint32_t half_of(uint64_t user)
{
    return (uint32_t)(hash_mix(user) % FOLDS);
}

static bool learn(struct half *h, uint64_t item, uint32_t place, double reward)
{
    bool made;
    uint64_t *index =
        map64_put(&h->items, item + 1 ? item + 1 : 1, h->items.count, &made);
    if (!index) return false;
    if (made) {
        if (!make_room(&h->tallies, *index, 1, &h->room, sizeof *h->tallies))
            return false;
        h->tallies[*index] = (struct tally){0};
    }
    h->tallies[*index].lists++;
    h->tallies[*index].reward += reward;
    h->place[place].lists++;
    h->place[place].reward += reward;
    return true;
}

static double foreseen(const struct half *h, uint64_t item, uint32_t place)
{
    const struct tally *p = &h->place[place];
    double mean = p->lists > 0 ? p->reward / p->lists : 0;
    const uint64_t *index = map64_get(&h->items, item + 1 ? item + 1 : 1);
    if (!index) return mean;
    return (h->tallies[*index].reward + PRIOR * mean) /
           (h->tallies[*index].lists + PRIOR);
}

/* --- one list ------------------------------------------------------------ */

struct valued {
    uint64_t user;
    uint64_t first;
    uint32_t count;
    double ips, dr, logged;
    double weight_first, weight_all;
};

/* weights (count) of its places. teacher: what the other half of the users
 * teaches. */
static struct valued value_of(const struct list *l,
                              const struct off_policy_place *places,
                              const struct half *teacher, double *weights)
{
    struct valued v = {.user = l->user, .first = l->first, .count = l->count};
    double weight = 1;
    for (uint32_t k = 0; k < l->count; k++) {
        const struct off_policy_place *p = &places[k];
        double above = weight, reward = (double)p->reward;
        if (p->instead) v.dr += above * foreseen(teacher, p->instead, k);
        weight *= p->other / p->logged;
        v.ips += weight * reward;
        v.dr += weight * (reward - foreseen(teacher, p->item, k));
        v.logged += reward;
        if (k == 0) v.weight_first = weight;
        weights[l->first + k] = weight;
    }
    v.weight_all = weight;
    return v;
}

/* --- all ------------------------------------------------------------------ */

struct measuring {
    const struct off_policy *p;
    struct half half[FOLDS];
    struct valued *lists; /* (count) */
    uint64_t count;
    double *weights; /* (places) */
    uint32_t places; /* of the longest list */
};

struct sums {
    double lists, ips, dr;
    double reward[OFF_POLICY_PLACES_MAX], weight[OFF_POLICY_PLACES_MAX];
};

static void add_sums(const struct measuring *m, const struct valued *v,
                     double times, struct sums *s)
{
    s->lists += times;
    s->ips += times * v->ips;
    s->dr += times * v->dr;
    for (uint32_t k = 0; k < v->count; k++) {
        double weight = times * m->weights[v->first + k];
        s->weight[k] += weight;
        s->reward[k] += weight * (double)m->p->places[v->first + k].reward;
    }
}

/* A place that no weighted list has earns nothing. */
static double snips_of(const struct sums *s, uint32_t places)
{
    double value = 0;
    for (uint32_t k = 0; k < places; k++)
        if (s->weight[k] > 0) value += s->reward[k] / s->weight[k];
    return value;
}

static bool learn_all(struct measuring *m)
{
    for (uint64_t i = 0; i < m->p->list_count; i++) {
        const struct list *l = &m->p->lists[i];
        for (uint32_t k = 0; l->known && k < l->count; k++) {
            const struct off_policy_place *p = &m->p->places[l->first + k];
            if (!learn(&m->half[half_of(l->user)], p->item, k,
                       (double)p->reward))
                return false;
        }
    }
    return true;
}

static void value_all(struct measuring *m)
{
    for (uint64_t i = 0; i < m->p->list_count; i++) {
        const struct list *l = &m->p->lists[i];
        if (!l->known) continue;
        if (l->count > m->places) m->places = l->count;
        m->lists[m->count++] =
            value_of(l, m->p->places + l->first, &m->half[1 - half_of(l->user)],
                     m->weights);
    }
}

static void draw_intervals(const struct measuring *m,
                           struct off_policy_result *out)
{
    double ips[BOOTSTRAP_RESAMPLES], snips[BOOTSTRAP_RESAMPLES],
        dr[BOOTSTRAP_RESAMPLES];
    for (uint32_t n = 0; n < BOOTSTRAP_RESAMPLES; n++) {
        struct sums s = {0};
        for (uint64_t i = 0; i < m->count; i++) {
            uint32_t times = bootstrap_times(m->lists[i].user, n);
            if (times > 0) add_sums(m, &m->lists[i], times, &s);
        }
        ips[n] = s.ips / s.lists; /* nobody drawn: NaN, left out */
        dr[n] = s.dr / s.lists;
        snips[n] = s.lists > 0 ? snips_of(&s, m->places) : NAN;
    }
    out->ips.at = bootstrap_interval(ips);
    out->snips.at = bootstrap_interval(snips);
    out->dr.at = bootstrap_interval(dr);
}

static void sum_up(const struct measuring *m, struct off_policy_result *out)
{
    struct sums s = {0};
    double first = 0, first_squares = 0, all = 0, all_squares = 0, logged = 0;
    for (uint64_t i = 0; i < m->count; i++) {
        const struct valued *v = &m->lists[i];
        add_sums(m, v, 1, &s);
        logged += v->logged;
        first += v->weight_first;
        first_squares += v->weight_first * v->weight_first;
        all += v->weight_all;
        all_squares += v->weight_all * v->weight_all;
    }
    out->lists = m->count;
    out->logged = logged / s.lists;
    out->ips.value = s.ips / s.lists;
    out->dr.value = s.dr / s.lists;
    out->snips.value = m->count ? snips_of(&s, m->places) : NAN;
    out->effective_first =
        first_squares > 0 ? first * first / first_squares : 0;
    out->effective_all = all_squares > 0 ? all * all / all_squares : 0;
}

enum rc off_policy_measure(const struct off_policy *p,
                           struct off_policy_result *out, struct err *e)
{
    struct measuring *m = calloc(1, sizeof *m);
    bool good = false;
    *out = (struct off_policy_result){0};
    if (m) {
        m->p = p;
        m->lists = calloc(p->list_count + 1, sizeof *m->lists);
        m->weights = calloc(p->place_count + 1, sizeof *m->weights);
        good = m->lists && m->weights && learn_all(m);
    }
    if (good) {
        value_all(m);
        sum_up(m, out);
        draw_intervals(m, out);
    }
    for (uint32_t h = 0; m && h < FOLDS; h++) {
        map64_fini(&m->half[h].items);
        free(m->half[h].tallies);
    }
    if (m) {
        free(m->lists);
        free(m->weights);
    }
    free(m);
    if (good) return RC_OK;
    return ERR(e, RC_STOP, "off-policy: no memory for %llu lists",
               (unsigned long long)p->list_count);
}
