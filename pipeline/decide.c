#include "decide.h"

#include "hash.h"
#include "state.h"

/* What the options say, in one order and one notation. */
static void hash_policy(struct policy *p)
{
    struct {
        double fraud_threshold, explore_rate, reasons_threshold;
        uint64_t when, interval_ms, items, seen, events_min, pool, seed;
        uint64_t reasons_per_second, reasons_count;
        uint64_t category_max, profile_ms, type_count;
        uint64_t types[POLICY_TYPES_MAX];
    } all = {
        .fraud_threshold = p->fraud_threshold,
        .reasons_threshold = p->reasons_threshold,
        .reasons_per_second = p->reasons_per_second,
        .reasons_count = p->reasons_count,
        .when = p->recommend_when,
        .interval_ms = (uint64_t)p->interval_ms,
        .items = p->list_items,
        .seen = p->list_seen,
        .category_max = p->category_max,
        .profile_ms = (uint64_t)p->profile_ms,
        .events_min = p->events_min,
        .explore_rate = p->explore_rate,
        .pool = p->explore_pool,
        .seed = p->explore_seed,
        .type_count = p->type_count,
    };
    memcpy(all.types, p->types, p->type_count * sizeof *all.types);
    (void)snprintf(p->hash, sizeof p->hash, "%016llx",
                   (unsigned long long)hash64(slice_of(&all, sizeof all)));
}

void policy_init(struct policy *p, const struct config *c)
{
    *p = (struct policy){
        .fraud_threshold = c->fraud_threshold,
        .reasons_threshold = c->reasons_threshold,
        .reasons_per_second = c->reasons_per_second,
        .reasons_count = c->reasons_count,
        .recommend_when = c->recommend_when,
        .interval_ms = c->recommend_interval,
        .profile_ms = c->profile_interval,
        .list_items = c->recommend_items,
        .list_seen = c->recommend_seen,
        .category_max = c->recommend_category_max,
        .events_min = c->recommend_events_min,
        .explore_rate = c->explore_rate,
        .explore_pool = c->explore_pool,
        .explore_seed = c->explore_seed,
    };
    assert(c->recommend_types.count <= POLICY_TYPES_MAX);
    p->type_count = c->recommend_types.count;
    for (uint32_t i = 0; i < p->type_count; i++)
        p->types[i] = hash64(slice_str(c->recommend_types.at[i]));
    hash_policy(p);
}

static bool is_listed_type(const struct policy *p, uint64_t type)
{
    for (uint32_t i = 0; i < p->type_count; i++)
        if (p->types[i] == type) return true;
    return false;
}

/* A late event makes no list: the one made after it in time stands. */
static bool interval_passed(const struct policy *p, int64_t time_ms,
                            int64_t listed_ms)
{
    if (listed_ms == INT64_MIN) return true;
    return time_ms > listed_ms &&
           (uint64_t)time_ms - (uint64_t)listed_ms >= (uint64_t)p->interval_ms;
}

bool decide_list(const struct policy *p, const struct event *ev,
                 int64_t *listed_ms)
{
    switch (p->recommend_when) {
    case RECOMMEND_EVERY:
        return true;
    case RECOMMEND_TYPES:
        return is_listed_type(p, ev->past.type);
    case RECOMMEND_INTERVAL:
        if (!interval_passed(p, ev->time_ms, *listed_ms)) return false;
        *listed_ms = ev->time_ms;
        return true;
    default:
        return false;
    }
}

static int64_t interval_of(int64_t time_ms, int64_t length_ms)
{
    return time_ms / length_ms - (time_ms % length_ms < 0);
}

bool decide_profile(const struct policy *p, int64_t newest_ms, int64_t time_ms)
{
    if (p->profile_ms == 0 || newest_ms == INT64_MIN) return true;
    return time_ms > newest_ms && interval_of(time_ms, p->profile_ms) >
                                      interval_of(newest_ms, p->profile_ms);
}

uint32_t policy_candidates(const struct policy *p)
{
    return p->explore_rate > 0 && p->explore_pool > p->list_items
               ? p->explore_pool
               : p->list_items;
}

enum list_source decide_source(const struct policy *p, uint64_t events_total,
                               uint32_t known)
{
    return known > 0 && events_total >= p->events_min ? LIST_MODEL
                                                      : LIST_POPULARITY;
}

/* Which of left candidates: 0 is the best of them. One draw says whether to
 * explore and, if so, by how far it is below the rate, which one. */
static uint32_t draw_slot(const struct policy *p, uint64_t key, uint32_t slot,
                          uint32_t left)
{
    double u = (double)(draw(p->explore_seed, key, slot) >> 11) * 0x1p-53;
    uint32_t chosen;
    if (u >= p->explore_rate) return 0;
    chosen = (uint32_t)(u / p->explore_rate * left);
    return chosen < left ? chosen : left - 1; /* u / rate may round to 1 */
}

uint32_t decide_slots(const struct policy *p, uint64_t key,
                      struct ranked *candidates, uint32_t count,
                      double *propensity)
{
    uint32_t slots = count < p->list_items ? count : p->list_items;
    for (uint32_t k = 0; k < slots; k++) {
        uint32_t left = count - k, at = draw_slot(p, key, k, left);
        struct ranked chosen = candidates[k + at];
        memmove(&candidates[k + 1], &candidates[k], at * sizeof *candidates);
        candidates[k] = chosen;
        propensity[k] =
            p->explore_rate / left + (at == 0 ? 1 - p->explore_rate : 0);
    }
    return slots;
}

static bool takes_reasons(const struct policy *p, const struct event *ev,
                          const struct outcome *o)
{
    if (!o->scored) return false;
    if (p->explain_id) return ev->past.event_id == p->explain_id;
    return p->reasons_per_second > 0 &&
           (double)o->fraud >= p->reasons_threshold;
}

static enum reasons_state reasons_state(const struct policy *p, struct batch *b,
                                        uint32_t i)
{
    const struct event *ev = &b->events[i];
    bool no_time = ev->past.flags & PAST_NO_TIME;
    if (!takes_reasons(p, ev, &b->outcomes[i])) return REASONS_NONE;
    if (!p->explains) return REASONS_UNAVAILABLE;
    if (p->explain_id) return REASONS_GIVEN;
    return reason_budget_take(&b->partitions[i]->reasons, p->reasons_per_second,
                              ev->user,
                              no_time ? ev->time_ms : ev->place.stream_ms)
               ? REASONS_GIVEN
               : REASONS_PAST_BOUND;
}

void decide(const struct policy *p, struct batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        struct outcome *o = &b->outcomes[i];
        /* NaN, a model without a fraud head, is never at or above. */
        o->flagged = o->scored && (double)o->fraud >= p->fraud_threshold;
        o->reasons_state = reasons_state(p, b, i);
    }
}
