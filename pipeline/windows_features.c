/* windows_features.c - the features of one entity: which numbers, in which
 * order, and what they are made of.
 *
 * Order    BASE, VALUES, WINDOW for each window from the shortest; of an item
 *          then LABEL for each window of labels, and RUN. A feature whose
 *          field is not mapped is not in the list, nor what an item would
 *          only repeat of its users.
 * Missing  NaN, never 0. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "windows_inside.h"

/* What a feature needs to be in the list. */
enum need {
    AMOUNT = 1u << 0,
    TIME = 1u << 1,
    OTHER = 1u << 2,
    LABELS = 1u << 3,
    USER = 1u << 4, /* of an item it would say nothing of the item */
};

static const struct feature {
    const char *name;
    uint32_t needs;
    const char *item_name; /* NULL: the same */
} BASE[] = {
    {"amount", AMOUNT | USER, NULL},    /* whole units */
    {"amount_log_ratio", AMOUNT, NULL}, /* to the mean of all before */
    {"gap_s", TIME, NULL},              /* since the newest event before */
    {"hour", TIME | USER, NULL},        /* UTC, 0 to 23 */
    {"is_weekend", TIME | USER, NULL},  /* Saturday, Sunday */
    {"is_night", TIME | USER, NULL},    /* hour <= NIGHT_HOUR_MAX */
    {"events_total", 0, NULL},          /* of this entity, ever */
};
enum { BASES = sizeof BASE / sizeof BASE[0] };

/* Against the newest values_max events before it, known frauds left out. */
static const struct feature VALUES[] = {
    {"amount_ratio_mean", AMOUNT | TIME, NULL},   /* amount / mean */
    {"amount_z_mean", AMOUNT | TIME, NULL},       /* (amount - mean) /
                                                     deviation */
    {"amount_ratio_median", AMOUNT | TIME, NULL}, /* amount / median */
    {"amount_z_median", AMOUNT | TIME, NULL},     /* (amount - median) /
                                                     deviation */
};
enum { VALUE_FEATURES = sizeof VALUES / sizeof VALUES[0] };

/* Over (now - W, now], the event included; "earlier" leaves out the event and
 * known frauds. */
static const struct feature WINDOW[] = {
    {"count", TIME, NULL},
    {"distinct_items", TIME | OTHER, "distinct_users"},
    {"amount_mean", AMOUNT | TIME, NULL},
    {"amount_sum", AMOUNT | TIME, NULL},
    {"amount_deviation", AMOUNT | TIME, NULL}, /* from 2 amounts on */
    {"amount_ratio", AMOUNT | TIME, NULL},     /* amount / earlier mean */
    {"amount_z", AMOUNT | TIME, NULL},         /* (amount - earlier mean) /
                                                  earlier deviation */
};
enum { WINDOW_FEATURES = sizeof WINDOW / sizeof WINDOW[0] };

/* Over (now - delay - W, now - delay]. */
static const struct feature LABEL[] = {
    {"fraud_mature", TIME | LABELS, NULL}, /* events */
    {"fraud_rate", TIME | LABELS, NULL},   /* frauds among them */
};
enum { LABEL_FEATURES = sizeof LABEL / sizeof LABEL[0] };

/* Over the longest of these. */
static const struct feature RUN[] = {
    {"fraud_latest_1", TIME | LABELS, NULL},   /* is the latest one a fraud? */
    {"fraud_latest_3", TIME | LABELS, NULL},   /* rate of the latest three */
    {"fraud_run_length", TIME | LABELS, NULL}, /* frauds without a good one
                                                  after them */
    {"fraud_run_age_s", TIME | LABELS, NULL},  /* since the first of these */
    {"fraud_since_first_s", TIME | LABELS, NULL},
    {"fraud_since_last_s", TIME | LABELS, NULL},
    {"fraud_good_since_last", TIME | LABELS, NULL},
};
enum { RUN_FEATURES = sizeof RUN / sizeof RUN[0] };

static_assert(BASES + VALUE_FEATURES + WINDOWS_MAX * WINDOW_FEATURES +
                      WINDOWS_MAX * LABEL_FEATURES + RUN_FEATURES <=
                  WINDOW_FEATURES_MAX,
              "WINDOW_FEATURES_MAX holds the longest row");

/* The list: each table, as often as it has windows. */
static const struct table {
    const struct feature *features;
    uint32_t count;
    enum { ONCE, EACH_WINDOW, EACH_LABEL_WINDOW } times;
} TABLES[] = {
    {BASE, BASES, ONCE},
    {VALUES, VALUE_FEATURES, ONCE},
    {WINDOW, WINDOW_FEATURES, EACH_WINDOW},
    {LABEL, LABEL_FEATURES, EACH_LABEL_WINDOW},
    {RUN, RUN_FEATURES, ONCE},
};
enum { TABLE_COUNT = sizeof TABLES / sizeof TABLES[0] };

enum { NIGHT_HOUR_MAX = 6, SATURDAY = 5 };
#define HOUR_MS INT64_C(3600000)
#define DAY_MS  (24 * HOUR_MS)

static uint32_t what_there_is(const struct windows_shape *s)
{
    return (s->has_amount ? AMOUNT : 0u) | (s->has_time ? TIME : 0u) |
           (s->has_other ? OTHER : 0u) |
           (windows_label_count(s) > 0 ? LABELS : 0u) |
           (s->entity == ENTITY_USER ? USER : 0u);
}

static bool is_there(const struct feature *f, uint32_t there)
{
    return (f->needs & ~there) == 0;
}

static uint32_t times(const struct windows_shape *s, const struct table *t)
{
    if (t->times == ONCE) return 1;
    return t->times == EACH_WINDOW ? windows_count(s) : windows_label_count(s);
}

/* --- values ------------------------------------------------------------ */

static double mean(const struct aggregate *a, double scale)
{
    return a->amount_count == 0
               ? NAN
               : (double)a->sum / (double)a->amount_count / scale;
}

/* Of the population: sqrt(n sum x^2 - (sum x)^2) / n, in integers as far as
 * they go, so that equal amounts have a deviation of exactly 0. */
static double deviation(const struct aggregate *a, double scale)
{
    unsigned __int128 size =
        a->sum < 0 ? -(unsigned __int128)a->sum : (unsigned __int128)a->sum;
    unsigned __int128 scaled, square;
    double n = (double)a->amount_count, spread;
    if (a->amount_count < 2) return NAN;
    if (__builtin_mul_overflow(a->squares, a->amount_count, &scaled) ||
        __builtin_mul_overflow(size, size, &square))
        spread = n * (double)a->squares - (double)a->sum * (double)a->sum;
    else
        spread = scaled > square ? (double)(scaled - square) : 0;
    return spread > 0 ? sqrt(spread) / n / scale : 0;
}

static void take_aggregate(struct aggregate *a, const struct aggregate *b)
{
    a->count -= b->count;
    a->amount_count -= b->amount_count;
    a->sum -= b->sum;
    a->squares -= b->squares;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static double own_amount(const struct windows_shape *s,
                         const struct past_event *ev)
{
    return ev->flags & PAST_NO_AMOUNT ? NAN
                                      : (double)ev->amount / s->amount_scale;
}

static void base_values(const struct windows_shape *s,
                        const struct past_event *ev, uint64_t events_total,
                        double *out)
{
    bool has_amount = !(ev->flags & PAST_NO_AMOUNT);
    int64_t day = floor_div(ev->time_ms, DAY_MS);
    int64_t hour = floor_div(ev->time_ms, HOUR_MS) - day * 24;
    int64_t weekday = ((day + 3) % 7 + 7) % 7; /* 1970-01-01: a Thursday, 3 */
    *out++ = own_amount(s, ev);
    *out++ = has_amount && events_total > 1 ? ev->amount_log_ratio : NAN;
    *out++ = ev->gap_ms < 0 ? NAN : (double)ev->gap_ms / 1000;
    *out++ = (double)hour;
    *out++ = weekday >= SATURDAY;
    *out++ = hour <= NIGHT_HOUR_MAX;
    *out++ = (double)events_total;
}

static double ratio(double amount, double to)
{
    return to > 0 ? amount / to : NAN;
}

static double z_score(double amount, double from, double deviation)
{
    return deviation > 0 ? (amount - from) / deviation : NAN;
}

static void value_values(const struct windows_shape *s,
                         const struct past_event *ev, const struct value_sum *v,
                         double *out)
{
    double scale = s->amount_scale, amount = own_amount(s, ev);
    double own_mean = mean(&v->all, scale), own = deviation(&v->all, scale);
    double median =
        v->all.amount_count == 0 ? NAN : (double)v->median_twice / 2 / scale;
    *out++ = ratio(amount, own_mean);
    *out++ = z_score(amount, own_mean, own);
    *out++ = ratio(amount, median);
    *out++ = z_score(amount, median, own);
}

static void window_values(const struct windows_shape *s,
                          const struct past_event *ev,
                          const struct window_sum *sum, double *out)
{
    double scale = s->amount_scale, amount = own_amount(s, ev);
    struct point own = {.amount = ev->flags & PAST_NO_AMOUNT ? NO_AMOUNT
                                                             : ev->amount};
    struct aggregate before = sum->all;
    double before_mean;
    windows_remove(&before, &own);
    take_aggregate(&before, &sum->frauds);
    before_mean = mean(&before, scale);
    *out++ = (double)sum->all.count;
    *out++ = (double)sum->distinct;
    *out++ = mean(&sum->all, scale);
    *out++ = (double)sum->all.sum / scale;
    *out++ = deviation(&sum->all, scale);
    *out++ = ratio(amount, before_mean);
    *out++ = z_score(amount, before_mean, deviation(&before, scale));
}

static void label_values(const struct label_sum *l, uint32_t window,
                         double *out)
{
    double count = (double)l->window[window].count;
    *out++ = count;
    *out++ = count > 0 ? (double)l->window[window].frauds / count : NAN;
}

static double seconds_since(bool known, int64_t now_ms, int64_t at_ms)
{
    return known ? ((double)now_ms - (double)at_ms) / 1000 : NAN;
}

static void run_values(const struct past_event *ev, const struct label_sum *l,
                       double *out)
{
    int64_t now_ms = ev->time_ms;
    bool any = l->latest_count > 0;
    *out++ = any ? (double)l->latest_is_fraud : NAN;
    *out++ = any ? (double)l->latest_frauds / l->latest_count : NAN;
    *out++ = any ? (double)l->run_length : NAN;
    *out++ = seconds_since(l->run_length > 0, now_ms, l->run_start_ms);
    *out++ = seconds_since(l->has_fraud, now_ms, l->first_ms);
    *out++ = seconds_since(l->has_fraud, now_ms, l->last_ms);
    *out++ = l->has_fraud ? (double)l->good_since_last : NAN;
}

/* Those of a table's values that are in the list. */
static float *put_values(const struct table *t, uint32_t there,
                         const double *values, float *out)
{
    for (uint32_t i = 0; i < t->count; i++)
        if (is_there(&t->features[i], there)) *out++ = (float)values[i];
    return out;
}

void windows_fill(const struct windows_shape *s, const struct past_event *ev,
                  uint64_t events_total, const struct reading *r, float *out)
{
    double values[WINDOW_FEATURES + BASES];
    uint32_t there = what_there_is(s);
    base_values(s, ev, events_total, values);
    out = put_values(&TABLES[0], there, values, out);
    if (!s->has_time) return;
    value_values(s, ev, &r->values, values);
    out = put_values(&TABLES[1], there, values, out);
    for (uint32_t i = 0; i < windows_count(s); i++) {
        window_values(s, ev, &r->window[i], values);
        out = put_values(&TABLES[2], there, values, out);
    }
    for (uint32_t i = 0; i < windows_label_count(s); i++) {
        label_values(&r->labels, i, values);
        out = put_values(&TABLES[3], there, values, out);
    }
    run_values(ev, &r->labels, values);
    (void)put_values(&TABLES[4], there, values, out);
}

/* --- names ------------------------------------------------------------- */

/* The largest unit that divides it. */
const char *windows_length_name(int64_t length_ms, char *buffer, size_t size)
{
    static const struct {
        int64_t ms;
        const char *name;
    } UNITS[] = {{DAY_MS, "d"}, {HOUR_MS, "h"}, {60000, "m"}, {1000, "s"}};
    for (size_t i = 0; i < sizeof UNITS / sizeof UNITS[0]; i++)
        if (length_ms % UNITS[i].ms == 0) {
            (void)snprintf(buffer, size, "%lld%s",
                           (long long)(length_ms / UNITS[i].ms), UNITS[i].name);
            return buffer;
        }
    (void)snprintf(buffer, size, "%lldms", (long long)length_ms);
    return buffer;
}

uint32_t windows_features(const struct windows_shape *s)
{
    uint32_t count = 0, there = what_there_is(s);
    assert(s->count <= WINDOWS_MAX && s->label_count <= WINDOWS_MAX);
    for (uint32_t t = 0; t < TABLE_COUNT; t++)
        for (uint32_t i = 0; i < TABLES[t].count; i++)
            if (is_there(&TABLES[t].features[i], there))
                count += times(s, &TABLES[t]);
    return count;
}

static const char *name_feature(const struct windows_shape *s,
                                const struct table *t, uint32_t window,
                                const struct feature *f, char *buffer,
                                size_t size)
{
    bool is_item = s->entity == ENTITY_ITEM;
    char length[32] = "";
    if (t->times != ONCE)
        (void)windows_length_name(t->times == EACH_WINDOW
                                      ? s->length_ms[window]
                                      : s->label_length_ms[window],
                                  length, sizeof length);
    (void)snprintf(buffer, size, "%s%s%s%s", is_item ? "item_" : "",
                   is_item && f->item_name ? f->item_name : f->name,
                   length[0] ? "_" : "", length);
    return buffer;
}

const char *windows_feature_name(const struct windows_shape *s, uint32_t f,
                                 char *buffer, size_t size)
{
    uint32_t there = what_there_is(s);
    for (uint32_t t = 0; t < TABLE_COUNT; t++)
        for (uint32_t k = 0; k < times(s, &TABLES[t]); k++)
            for (uint32_t i = 0; i < TABLES[t].count; i++)
                if (is_there(&TABLES[t].features[i], there) && f-- == 0)
                    return name_feature(s, &TABLES[t], k,
                                        &TABLES[t].features[i], buffer, size);
    assert(!"a feature of the list");
    return "";
}
