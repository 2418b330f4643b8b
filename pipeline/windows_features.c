/* windows_features.c - the feature row: which numbers, in which order, and
 * what they are made of.
 *
 * Order    BASE, then WINDOW for each window from the shortest, then the
 *          configuration's own numbers. A feature whose field is not mapped
 *          is not in the list. Names are hashed into the model directory, so
 *          changing a meaning needs a new name.
 * Missing  NaN, never 0. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "hash.h"
#include "windows_inside.h"

enum { NAME_BYTES = 256 };

static const struct feature {
    const char *name;
    bool needs_amount, needs_time;
} BASE[] = {
    {"amount", true, false},           /* whole units */
    {"amount_log_ratio", true, false}, /* to the mean of all before */
    {"gap_s", false, true},            /* since the newest event before */
    {"hour", false, true},             /* UTC, 0 to 23 */
    {"is_weekend", false, true},       /* Saturday, Sunday */
    {"is_night", false, true},         /* hour <= NIGHT_HOUR_MAX */
    {"events_total", false, false},    /* of this user, ever */
};
enum { BASES = sizeof BASE / sizeof BASE[0] };

/* Over (now - W, now], the event included; "earlier" leaves it out. */
static const struct feature WINDOW[] = {
    {"count", false, true},
    {"amount_mean", true, true},
    {"amount_sum", true, true},
    {"amount_deviation", true, true}, /* from 2 amounts on */
    {"amount_ratio", true, true},     /* amount / earlier mean */
    {"amount_z", true, true},         /* (amount - earlier mean) /
                                         earlier deviation */
};
enum { WINDOW_FEATURES = sizeof WINDOW / sizeof WINDOW[0] };
static_assert(BASES + WINDOWS_MAX * WINDOW_FEATURES + EXTRA_MAX <= FEATURES_MAX,
              "FEATURES_MAX holds the longest row");

enum { NIGHT_HOUR_MAX = 6, SATURDAY = 5 };
#define HOUR_MS INT64_C(3600000)
#define DAY_MS  (24 * HOUR_MS)

static bool is_mapped(const struct windows_shape *s, const struct feature *f)
{
    return (!f->needs_amount || s->has_amount) &&
           (!f->needs_time || s->has_time);
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

static struct aggregate earlier(const struct aggregate *a,
                                const struct past_event *ev)
{
    struct aggregate before = *a;
    before.count--;
    if (ev->flags & PAST_NO_AMOUNT) return before;
    before.amount_count--;
    before.sum -= ev->amount;
    before.squares -= (unsigned __int128)((__int128)ev->amount * ev->amount);
    return before;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static void base_values(const struct windows_shape *s,
                        const struct past_event *ev, uint64_t events_total,
                        double *out)
{
    bool has_amount = !(ev->flags & PAST_NO_AMOUNT);
    int64_t day = floor_div(ev->time_ms, DAY_MS);
    int64_t hour = floor_div(ev->time_ms, HOUR_MS) - day * 24;
    int64_t weekday = ((day + 3) % 7 + 7) % 7; /* 1970-01-01: a Thursday, 3 */
    *out++ = has_amount ? (double)ev->amount / s->amount_scale : NAN;
    *out++ = has_amount && events_total > 1 ? ev->amount_log_ratio : NAN;
    *out++ = ev->gap_ms < 0 ? NAN : (double)ev->gap_ms / 1000;
    *out++ = (double)hour;
    *out++ = weekday >= SATURDAY;
    *out++ = hour <= NIGHT_HOUR_MAX;
    *out++ = (double)events_total;
}

static void window_values(const struct windows_shape *s,
                          const struct past_event *ev,
                          const struct aggregate *sum, double *out)
{
    double scale = s->amount_scale;
    bool has_amount = !(ev->flags & PAST_NO_AMOUNT);
    struct aggregate before = earlier(sum, ev);
    double amount = has_amount ? (double)ev->amount / scale : NAN;
    double before_mean = mean(&before, scale);
    double before_deviation = deviation(&before, scale);
    *out++ = (double)sum->count;
    *out++ = mean(sum, scale);
    *out++ = (double)sum->sum / scale;
    *out++ = deviation(sum, scale);
    *out++ = before_mean > 0 ? amount / before_mean : NAN;
    *out++ =
        before_deviation > 0 ? (amount - before_mean) / before_deviation : NAN;
}

void features_fill(const struct windows_shape *s, const struct past_event *ev,
                   uint64_t events_total, const struct aggregate *sums,
                   float *out)
{
    double values[FEATURES_MAX];
    base_values(s, ev, events_total, values);
    for (uint32_t i = 0; i < BASES; i++)
        if (is_mapped(s, &BASE[i])) *out++ = (float)values[i];
    for (uint32_t w = 0; s->has_time && w < s->count; w++) {
        window_values(s, ev, &sums[w], values);
        for (uint32_t i = 0; i < WINDOW_FEATURES; i++)
            if (is_mapped(s, &WINDOW[i])) *out++ = (float)values[i];
    }
    for (uint32_t i = 0; i < s->numbers; i++)
        *out++ = ev->number[i];
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
    uint32_t count = s->numbers, each = 0;
    assert(s->count <= WINDOWS_MAX && s->numbers <= EXTRA_MAX);
    for (uint32_t i = 0; i < BASES; i++)
        count += is_mapped(s, &BASE[i]);
    for (uint32_t i = 0; i < WINDOW_FEATURES; i++)
        each += is_mapped(s, &WINDOW[i]);
    return count + (s->has_time ? s->count * each : 0);
}

const char *windows_feature_name(const struct windows_shape *s, uint32_t f,
                                 char *buffer, size_t size)
{
    assert(f < windows_features(s));
    for (uint32_t i = 0; i < BASES; i++)
        if (is_mapped(s, &BASE[i]) && f-- == 0) {
            (void)snprintf(buffer, size, "%s", BASE[i].name);
            return buffer;
        }
    for (uint32_t w = 0; s->has_time && w < s->count; w++)
        for (uint32_t i = 0; i < WINDOW_FEATURES; i++)
            if (is_mapped(s, &WINDOW[i]) && f-- == 0) {
                char length[32];
                (void)windows_length_name(s->length_ms[w], length,
                                          sizeof length);
                (void)snprintf(buffer, size, "%s_%s", WINDOW[i].name, length);
                return buffer;
            }
    (void)snprintf(buffer, size, "%s",
                   s->number_names[f] ? s->number_names[f] : "number");
    return buffer;
}

uint64_t windows_feature_hash(const struct windows_shape *s)
{
    uint64_t hash = 0;
    for (uint32_t f = 0; f < windows_features(s); f++) {
        char name[NAME_BYTES];
        (void)windows_feature_name(s, f, name, sizeof name);
        hash = hash_mix(hash ^ hash64(slice_str(name)));
    }
    return hash;
}
