#include "generate.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "generate_rhythm.h"
#include "hash.h"

enum {
    TASTES = 3,
    STEPS_MAX = 4,      /* how far one moves along a group's order */
    SESSION_EVENTS = 4, /* mean */
    SESSION_GAP_MS = 90000,
    GROUPS_MAX = 4096,
    USERS_MAX = 100000000,
    ITEMS_MAX = 100000000,
    MS_PER_HOUR = 3600000,
    MS_PER_DAY = 86400000,
};
static const double ITEM_SKEW = 1.1;
static const double TASTE_DRIFT = 0.02;   /* per session */
static const double JUMP = 0.25;          /* to any item of the group */
static const double CONFIRMED_GOOD = 0.5; /* good labels per fraud */

enum channel { CHANNEL_WEB, CHANNEL_APP, CHANNEL_STORE, CHANNEL_PHONE };
enum type { TYPE_VIEW, TYPE_CART, TYPE_BUY, TYPE_PAYMENT };

struct shopper {
    double sessions_per_hour;
    float level, spread; /* of ln(cents) */
    int32_t shift_ms;    /* whose day begins earlier or later */
    uint32_t gap_ms;     /* mean between events of a session */
    uint32_t taste[TASTES];
    uint32_t last[TASTES]; /* where in that group's order; UINT32_MAX: new */
    uint32_t last_item;
    uint16_t left; /* events of this session still to come */
    uint8_t slot;  /* which taste this session is about */
    uint8_t habit, channel;
};

struct thief {
    enum fraud_kind kind;
    uint32_t victim, item;
    uint32_t left;
};

/* Who acts next: shoppers are numbered first, thieves after them. */
struct due {
    int64_t time_ms;
    uint32_t actor;
};

struct generator {
    struct generate_options o;
    struct rhythm rhythm;
    uint64_t rng;
    uint64_t emitted;
    uint64_t planned_frauds;
    struct shopper *shoppers; /* (users) */
    struct thief *thieves;    /* (thieves_max) */
    uint32_t *thieves_free;   /* (thieves_max) a stack */
    uint32_t thieves_max, thieves_free_count;
    struct due *heap; /* (users + thieves_max) a 4-ary heap */
    uint32_t heap_count;
    uint32_t *order;      /* (items) group by group: place -> rank */
    uint32_t *place;      /* (items) group by group: rank -> place */
    double *rank_cut;     /* (ranks) alias table of the Zipf law */
    uint32_t *rank_alias; /* (ranks) */
    uint32_t ranks;       /* of the largest group */
};

void generate_options_default(struct generate_options *o)
{
    *o = (struct generate_options){
        .events = 1000000,
        .seed = 1,
        .users = 10000,
        .items = 2000,
        .days = 60,
        .fraud_rate = 0.01,
        .user_skew = 0.6,
        .start_ms = INT64_C(1767225600000), /* 2026-01-01 */
        .label_delay_ms = INT64_C(7) * MS_PER_DAY,
    };
}

const char *fraud_kind_name(enum fraud_kind kind)
{
    static const char *const NAMES[FRAUD_KINDS] = {"none", "large", "takeover",
                                                   "merchant", "testing"};
    assert(kind < FRAUD_KINDS);
    return NAMES[kind];
}

/* ---- chance ---- */

static uint64_t next_bits(struct generator *g)
{
    return hash_mix(g->rng++);
}

static double unit(struct generator *g)
{
    return (double)(next_bits(g) >> 11) * 0x1p-53;
}

static uint32_t below(struct generator *g, uint32_t count)
{
    return (uint32_t)(((next_bits(g) >> 32) * count) >> 32);
}

static double between(struct generator *g, double low, double high)
{
    return low + (high - low) * unit(g);
}

/* Mean 1. */
static double exponential(struct generator *g)
{
    return -rhythm_log(1 - unit(g));
}

/* Near enough to normal: four uniform numbers of 16 bits, added. */
static double normal(struct generator *g)
{
    uint64_t bits = next_bits(g);
    uint32_t sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (uint32_t)(bits >> (16 * i)) & 0xffff;
    return ((double)sum * 0x1p-16 - 2) * 1.7320508075688772;
}

/* ---- items ---- */

static uint32_t group_size(const struct generator *g, uint32_t group)
{
    return g->o.items / g->o.groups + (group < g->o.items % g->o.groups);
}

static uint32_t group_start(const struct generator *g, uint32_t group)
{
    uint32_t larger = g->o.items % g->o.groups;
    return group * (g->o.items / g->o.groups) +
           (group < larger ? group : larger);
}

/* The item of a rank: group members are interleaved, most popular first. */
static uint32_t item_at(const struct generator *g, uint32_t group,
                        uint32_t rank)
{
    return rank * g->o.groups + group;
}

static uint32_t draw_rank(struct generator *g, uint32_t group)
{
    for (;;) {
        uint32_t r = below(g, g->ranks);
        if (unit(g) >= g->rank_cut[r]) r = g->rank_alias[r];
        if (r < group_size(g, group)) return r;
    }
}

/* Walker's alias method: one draw, whatever the number of ranks. */
static void fill_ranks(struct generator *g, uint32_t *work)
{
    double sum = 0;
    uint32_t small = 0, large = g->ranks;
    for (uint32_t r = 0; r < g->ranks; r++)
        sum += rhythm_exp(-ITEM_SKEW * rhythm_log(r + 1.0));
    for (uint32_t r = 0; r < g->ranks; r++) {
        g->rank_cut[r] =
            rhythm_exp(-ITEM_SKEW * rhythm_log(r + 1.0)) / sum * g->ranks;
        if (g->rank_cut[r] < 1)
            work[small++] = r;
        else
            work[--large] = r;
    }
    while (small > 0 && large < g->ranks) {
        uint32_t s = work[--small], l = work[large];
        g->rank_alias[s] = l;
        g->rank_cut[l] -= 1 - g->rank_cut[s];
        if (g->rank_cut[l] < 1) {
            large++;
            work[small++] = l;
        }
    }
    while (small > 0)
        g->rank_cut[work[--small]] = 1;
    while (large < g->ranks)
        g->rank_cut[work[large++]] = 1;
}

static void fill_orders(struct generator *g)
{
    for (uint32_t group = 0; group < g->o.groups; group++) {
        uint32_t start = group_start(g, group), size = group_size(g, group);
        uint32_t *order = g->order + start;
        for (uint32_t i = 0; i < size; i++)
            order[i] = i;
        for (uint32_t i = size; i-- > 1;) {
            uint32_t k = below(g, i + 1), held = order[i];
            order[i] = order[k];
            order[k] = held;
        }
        for (uint32_t i = 0; i < size; i++)
            g->place[start + order[i]] = i;
    }
}

/* One step along the order, or the next few: short ones are likelier. */
static uint32_t draw_step(struct generator *g, uint32_t place, uint32_t size)
{
    double u = unit(g);
    uint32_t step = u < 0.55 ? 1 : u < 0.8 ? 2 : u < 0.92 ? 3 : STEPS_MAX;
    return (place + step) % size;
}

/* Where a shopper goes from a place in a group's order: mostly on, of two
 * thoughts rather to the more popular item. */
static uint32_t draw_place(struct generator *g, uint32_t group, uint32_t place)
{
    uint32_t size = group_size(g, group), start = group_start(g, group);
    uint32_t one, two;
    if (place == UINT32_MAX || unit(g) < JUMP)
        return g->place[start + draw_rank(g, group)];
    one = draw_step(g, place, size);
    two = draw_step(g, place, size);
    if (unit(g) < 0.2) return one;
    return g->order[start + one] <= g->order[start + two] ? one : two;
}

/* ---- who is next ---- */

static void heap_sink(struct generator *g, uint32_t at)
{
    struct due moved = g->heap[at];
    for (;;) {
        uint32_t first = 4 * at + 1, best = at;
        int64_t best_ms = moved.time_ms;
        for (uint32_t c = first; c < first + 4 && c < g->heap_count; c++)
            if (g->heap[c].time_ms < best_ms) {
                best = c;
                best_ms = g->heap[c].time_ms;
            }
        if (best == at) break;
        g->heap[at] = g->heap[best];
        at = best;
    }
    g->heap[at] = moved;
}

static void heap_push(struct generator *g, struct due due)
{
    uint32_t at = g->heap_count++;
    while (at > 0 && g->heap[(at - 1) / 4].time_ms > due.time_ms) {
        g->heap[at] = g->heap[(at - 1) / 4];
        at = (at - 1) / 4;
    }
    g->heap[at] = due;
}

static void heap_pop(struct generator *g)
{
    g->heap[0] = g->heap[--g->heap_count];
    if (g->heap_count > 0) heap_sink(g, 0);
}

/* ---- shoppers ---- */

static int64_t next_session(struct generator *g, const struct shopper *s,
                            int64_t now_ms)
{
    return rhythm_later(&g->rhythm, now_ms + s->shift_ms,
                        exponential(g) / s->sessions_per_hour) -
           s->shift_ms;
}

static uint8_t draw_channel(struct generator *g)
{
    double u = unit(g);
    return u < 0.4    ? CHANNEL_WEB
           : u < 0.75 ? CHANNEL_APP
           : u < 0.93 ? CHANNEL_STORE
                      : CHANNEL_PHONE;
}

static uint32_t draw_group(struct generator *g)
{
    /* Low numbers are liked more, without any being rare. */
    double u = unit(g);
    return (uint32_t)(u * (0.5 + 0.5 * u) * g->o.groups);
}

static void shopper_init(struct generator *g, struct shopper *s,
                         double events_per_hour)
{
    double gap_ms = 0.25 * MS_PER_HOUR / events_per_hour;
    *s = (struct shopper){
        .sessions_per_hour = events_per_hour / SESSION_EVENTS,
        .level = (float)(7.6 + 0.7 * normal(g)), /* about 20.00 */
        .spread = (float)between(g, 0.25, 0.55),
        .shift_ms = (int32_t)(normal(g) * 1.5 * MS_PER_HOUR),
        .gap_ms = gap_ms < SESSION_GAP_MS ? (uint32_t)gap_ms : SESSION_GAP_MS,
        .habit = draw_channel(g),
    };
    for (int i = 0; i < TASTES; i++) {
        s->taste[i] = draw_group(g);
        s->last[i] = UINT32_MAX;
    }
}

static void session_start(struct generator *g, struct shopper *s)
{
    double u = unit(g);
    s->slot = u < 0.6 ? 0 : u < 0.88 ? 1 : 2;
    s->channel = unit(g) < 0.85 ? s->habit : draw_channel(g);
    s->left = 1;
    while (s->left < 10 * SESSION_EVENTS && unit(g) >= 1.0 / SESSION_EVENTS)
        s->left++;
    if (unit(g) < TASTE_DRIFT) {
        /* The newcomer becomes the favourite; the last one is forgotten. */
        for (int i = TASTES; i-- > 1;) {
            s->taste[i] = s->taste[i - 1];
            s->last[i] = s->last[i - 1];
        }
        s->taste[0] = draw_group(g);
        s->last[0] = UINT32_MAX;
        s->slot = 0;
    }
}

static int64_t draw_cents(struct generator *g, const struct shopper *s,
                          uint32_t group, double factor)
{
    double offset = (double)(hash_mix(group) >> 40) * 0x1p-24 - 0.5;
    double cents =
        factor * rhythm_exp(s->level + offset + (double)s->spread * normal(g));
    return cents < 1 ? 1 : (int64_t)cents;
}

static void shopper_act(struct generator *g, uint32_t user,
                        struct generated *out)
{
    struct shopper *s = &g->shoppers[user];
    bool first = s->left == 0;
    double u = unit(g), factor = 1;
    if (first) session_start(g, s);
    s->left--;
    out->user = user;
    out->group = s->taste[s->slot];
    out->channel = s->channel;
    if (!first && u < 0.12) { /* decides on what was just seen */
        out->item = s->last_item;
        out->type = u < 0.05 ? TYPE_CART : TYPE_BUY;
    } else {
        uint32_t place = draw_place(g, out->group, s->last[s->slot]);
        s->last[s->slot] = place;
        out->item = item_at(g, out->group,
                            g->order[group_start(g, out->group) + place]);
        out->type = u < 0.3 ? TYPE_BUY : u < 0.4 ? TYPE_CART : TYPE_VIEW;
    }
    if (s->channel == CHANNEL_STORE || s->channel == CHANNEL_PHONE)
        out->type = TYPE_PAYMENT;
    s->last_item = out->item;
    if (unit(g) < 0.004) factor = between(g, 2, 7); /* honest, and large */
    out->amount_cents = draw_cents(g, s, out->group, factor);
}

static int64_t shopper_next(struct generator *g, uint32_t user, int64_t now_ms)
{
    const struct shopper *s = &g->shoppers[user];
    if (s->left == 0) return next_session(g, s, now_ms);
    return now_ms + 1000 + (int64_t)(exponential(g) * s->gap_ms);
}

/* ---- thieves ---- */

/* Episodes of each kind: how often one begins, how many events it has. */
static const struct {
    double share;
    uint32_t events_min, events_max;
} EPISODES[FRAUD_KINDS] = {
    [FRAUD_LARGE] = {0.80, 1, 1},
    [FRAUD_TAKEOVER] = {0.09, 6, 20},
    [FRAUD_MERCHANT] = {0.03, 12, 30},
    [FRAUD_TESTING] = {0.08, 6, 13},
};

static enum fraud_kind draw_kind(struct generator *g)
{
    double u = unit(g);
    for (int kind = FRAUD_LARGE; kind < FRAUD_KINDS - 1; kind++) {
        if (u < EPISODES[kind].share) return (enum fraud_kind)kind;
        u -= EPISODES[kind].share;
    }
    return FRAUD_TESTING;
}

static void thief_begin(struct generator *g, int64_t now_ms)
{
    uint32_t slot = g->thieves_free[--g->thieves_free_count];
    struct thief *t = &g->thieves[slot];
    uint32_t group = below(g, g->o.groups);
    t->kind = draw_kind(g);
    t->victim = below(g, g->o.users);
    t->item = item_at(g, group, draw_rank(g, group));
    t->left = EPISODES[t->kind].events_min +
              below(g, EPISODES[t->kind].events_max -
                           EPISODES[t->kind].events_min + 1);
    g->planned_frauds += t->left;
    heap_push(g, (struct due){.time_ms = rhythm_later(&g->rhythm, now_ms,
                                                      exponential(g)),
                              .actor = g->o.users + slot});
}

static void thief_act(struct generator *g, struct thief *t,
                      struct generated *out)
{
    const struct shopper *s;
    double factor = 1;
    bool odd_item = t->kind == FRAUD_TAKEOVER || t->kind == FRAUD_LARGE;
    if (t->kind == FRAUD_MERCHANT) t->victim = below(g, g->o.users);
    s = &g->shoppers[t->victim];
    if (odd_item && unit(g) < 0.7) {
        uint32_t group = below(g, g->o.groups);
        t->item = item_at(g, group, draw_rank(g, group));
    }
    t->left--;
    out->fraud = t->kind;
    out->user = t->victim;
    out->item = t->item;
    out->group = t->item % g->o.groups;
    out->channel = s->habit;
    if (t->kind == FRAUD_LARGE) factor = between(g, 3, 12);
    if (t->kind == FRAUD_TAKEOVER) {
        factor = between(g, 1, 5);
        out->channel = (uint8_t)below(g, CHANNEL_STORE);
    }
    if (t->kind == FRAUD_TESTING)
        factor = t->left == 0 ? between(g, 3, 10) : between(g, 0.02, 0.15);
    out->type = out->channel >= CHANNEL_STORE ? TYPE_PAYMENT : TYPE_BUY;
    out->amount_cents = draw_cents(g, s, out->group, factor);
}

static int64_t thief_next(struct generator *g, const struct thief *t,
                          int64_t now_ms)
{
    double mean_ms = 30000;
    if (t->kind == FRAUD_MERCHANT) mean_ms = 4.0 * MS_PER_HOUR;
    if (t->kind == FRAUD_TAKEOVER && unit(g) < 0.4) {
        /* In the small hours of the next night. */
        int64_t midnight = now_ms - now_ms % MS_PER_DAY + MS_PER_DAY;
        return midnight +
               (int64_t)between(g, 1.0 * MS_PER_HOUR, 5.0 * MS_PER_HOUR);
    }
    if (t->kind == FRAUD_TAKEOVER) mean_ms = 4 * SESSION_GAP_MS;
    return now_ms + 2000 + (int64_t)(exponential(g) * mean_ms);
}

/* ---- the stream ---- */

static enum rc check(struct generate_options *o, struct err *e)
{
    if (o->users < 1 || o->users > USERS_MAX)
        return ERR(e, RC_STOP, "%u users; 1 to %d can be generated", o->users,
                   USERS_MAX);
    if (o->items < 1 || o->items > ITEMS_MAX)
        return ERR(e, RC_STOP, "%u items; 1 to %d can be generated", o->items,
                   ITEMS_MAX);
    if (o->groups == 0) {
        o->groups = o->items / 50;
        if (o->groups < 1) o->groups = 1;
        if (o->groups > 64) o->groups = 64;
    }
    if (o->groups > o->items || o->groups > GROUPS_MAX)
        return ERR(e, RC_STOP,
                   "%u groups for %u items; at most one an item, "
                   "and %d",
                   o->groups, o->items, GROUPS_MAX);
    if (!(o->days >= 0.01 && o->days <= 36500))
        return ERR(e, RC_STOP, "%g days; 0.01 to 36500 can be generated",
                   o->days);
    if (!(o->fraud_rate >= 0 && o->fraud_rate <= 0.5))
        return ERR(e, RC_STOP, "a fraud rate of %g; 0 to 0.5 can be generated",
                   o->fraud_rate);
    if (!(o->user_skew >= 0 && o->user_skew <= 3))
        return ERR(e, RC_STOP, "a user skew of %g; 0 to 3 can be generated",
                   o->user_skew);
    if (o->start_ms < (int64_t)30 * MS_PER_DAY || o->label_delay_ms < 0)
        return ERR(e, RC_STOP,
                   "the stream begins before February 1970, or labels "
                   "come before their events");
    return RC_OK;
}

static bool take(struct generator *g)
{
    g->thieves_max = 64 + g->o.users / 8;
    g->ranks = group_size(g, 0);
    g->shoppers = calloc(g->o.users, sizeof *g->shoppers);
    g->thieves = calloc(g->thieves_max, sizeof *g->thieves);
    g->thieves_free = calloc(g->thieves_max, sizeof *g->thieves_free);
    g->heap = calloc(g->o.users + g->thieves_max, sizeof *g->heap);
    g->order = calloc(g->o.items, sizeof *g->order);
    g->place = calloc(g->o.items, sizeof *g->place);
    g->rank_cut = calloc(g->ranks, sizeof *g->rank_cut);
    g->rank_alias = calloc(g->ranks, sizeof *g->rank_alias);
    return g->shoppers && g->thieves && g->thieves_free && g->heap &&
           g->order && g->place && g->rank_cut && g->rank_alias;
}

static void fill_shoppers(struct generator *g)
{
    double sum = 0;
    double per_hour =
        (double)g->o.events * (1 - g->o.fraud_rate) / (g->o.days * 24);
    for (uint32_t u = 0; u < g->o.users; u++)
        sum += rhythm_exp(-g->o.user_skew * rhythm_log(u + 1.0));
    for (uint32_t u = 0; u < g->o.users; u++) {
        double share = rhythm_exp(-g->o.user_skew * rhythm_log(u + 1.0)) / sum;
        shopper_init(g, &g->shoppers[u], per_hour * share);
        heap_push(g, (struct due){.time_ms = next_session(g, &g->shoppers[u],
                                                          g->o.start_ms),
                                  .actor = u});
    }
}

enum rc generator_new(struct generator **out, const struct generate_options *o,
                      struct err *e)
{
    struct generator *g = calloc(1, sizeof *g);
    if (!g) return ERR(e, RC_STOP, "no memory for a generator");
    g->o = *o;
    if (check(&g->o, e) != RC_OK) {
        generator_free(g);
        return RC_STOP;
    }
    if (!take(g)) {
        generator_free(g);
        return ERR(e, RC_STOP,
                   "no memory for %u users and %u items; generate fewer",
                   o->users, o->items);
    }
    rhythm_init(&g->rhythm);
    g->rng = draw(o->seed, 0, 0);
    for (uint32_t i = 0; i < g->thieves_max; i++)
        g->thieves_free[g->thieves_free_count++] = g->thieves_max - 1 - i;
    fill_ranks(g, g->place); /* lends its memory before it is filled */
    fill_orders(g);
    fill_shoppers(g);
    *out = g;
    return RC_OK;
}

void generator_free(struct generator *g)
{
    if (!g) return;
    free(g->shoppers);
    free(g->thieves);
    free(g->thieves_free);
    free(g->heap);
    free(g->order);
    free(g->place);
    free(g->rank_cut);
    free(g->rank_alias);
    free(g);
}

bool generator_next(struct generator *g, struct generated *out)
{
    struct due *top = g->heap;
    if (g->emitted == g->o.events) return false;
    *out = (struct generated){.number = g->emitted, .time_ms = top->time_ms};
    if (top->actor < g->o.users) {
        shopper_act(g, top->actor, out);
        top->time_ms = shopper_next(g, top->actor, out->time_ms);
        heap_sink(g, 0);
    } else {
        uint32_t slot = top->actor - g->o.users;
        struct thief *t = &g->thieves[slot];
        thief_act(g, t, out);
        if (t->left == 0) {
            g->thieves_free[g->thieves_free_count++] = slot;
            heap_pop(g);
        } else {
            top->time_ms = thief_next(g, t, out->time_ms);
            heap_sink(g, 0);
        }
    }
    g->emitted++;
    if ((double)g->planned_frauds < g->o.fraud_rate * (double)g->emitted &&
        g->thieves_free_count > 0)
        thief_begin(g, out->time_ms);
    return true;
}

bool generator_next_label(struct generator *g, struct generated_label *out)
{
    double good = g->o.fraud_rate * CONFIRMED_GOOD;
    while (generator_next(g, &out->event)) {
        const struct generated *ev = &out->event;
        out->fraud = ev->fraud != FRAUD_NONE;
        out->labelled_at_ms = ev->time_ms + g->o.label_delay_ms;
        if (out->fraud || draw_unit(draw(g->o.seed, 1, ev->number)) < good)
            return true;
    }
    return false;
}
