/* windows_read.c - what windows hold that end at some event.
 *
 * At the newest event the sums that go along are the answer. For another,
 * late or scored again, the windows end at its own time and place: summed up
 * from the points, which gives the same integers. */
#include "windows_inside.h"

enum { LATEST = 3 };

/* Which points there are to read. */
struct stretch {
    uint32_t end; /* the points before it came no later */
    bool has_own; /* the last of them is the event itself */
    int64_t now_ms;
    int64_t mature_ms; /* labels of events up to this count */
};

static bool is_newest(const struct windows *w, const struct stretch *at)
{
    return at->has_own && at->end == windows_end(w);
}

/* --- windows ------------------------------------------------------------ */

static void sum_window(const struct windows *w, const struct stretch *at,
                       int64_t length_ms, struct window_sum *out)
{
    int64_t gone_ms = windows_horizon(at->now_ms, length_ms);
    uint32_t i = windows_newer(w, w->first, at->end, gone_ms);
    *out = (struct window_sum){0};
    for (; i < at->end; i++) {
        const struct point *p = &w->points[i];
        windows_add(&out->all, p);
        if (p->fraud && p->time_ms <= at->mature_ms)
            windows_add(&out->frauds, p);
        out->distinct += w->others && w->others[i] != 0 &&
                         (p->later == 0 || p->later >= at->end - i);
    }
}

static void add_aggregate(struct aggregate *a, const struct aggregate *b)
{
    a->count += b->count;
    a->amount_count += b->amount_count;
    a->sum += b->sum;
    a->squares += b->squares;
}

/* The tiles that lie in (now - length, now] with any of their time. */
struct tiles {
    const struct tile *at;
    uint32_t count;
};

static struct tiles tiles_in(const struct windows_shape *s,
                             const struct windows *w, int64_t now_ms,
                             int64_t length_ms)
{
    int64_t gone_ms, last;
    uint32_t from = 0, to = w->tile_count;
    if (to == 0) return (struct tiles){.count = 0};
    gone_ms = windows_horizon(now_ms, length_ms);
    last = windows_tile_index(s, now_ms);
    while (to > 0 && w->tiles[to - 1].index > last)
        to--;
    while (from < to && windows_tile_end(s, w->tiles[from].index) <= gone_ms)
        from++;
    return (struct tiles){.at = w->tiles + from, .count = to - from};
}

static void read_windows(const struct windows_shape *s, const struct windows *w,
                         const struct stretch *at, struct window_sum *out)
{
    for (uint32_t i = 0; i < windows_count(s); i++) {
        struct tiles tiles;
        if (is_newest(w, at))
            out[i] = w->at[i].running;
        else
            sum_window(w, at, s->length_ms[i], &out[i]);
        tiles = tiles_in(s, w, at->now_ms, s->length_ms[i]);
        for (uint32_t t = 0; t < tiles.count; t++)
            add_aggregate(&out[i].all, &tiles.at[t].sum);
    }
}

/* --- values ------------------------------------------------------------- */

/* Puts the k-th smallest in its place, none larger before it and none smaller
 * after it. */
static void select_value(int64_t *at, int32_t count, int32_t k)
{
    int32_t low = 0, high = count - 1;
    while (low < high) {
        int64_t pivot = at[k];
        int32_t i = low, j = high;
        while (i <= j) {
            int64_t swapped;
            while (at[i] < pivot)
                i++;
            while (at[j] > pivot)
                j--;
            if (i > j) break;
            swapped = at[i];
            at[i++] = at[j];
            at[j--] = swapped;
        }
        if (j < k) low = i;
        if (k < i) high = j;
    }
}

static __int128 median_twice(int64_t *at, uint32_t count)
{
    uint32_t half = count / 2;
    int64_t below = INT64_MIN;
    if (count == 0) return 0;
    select_value(at, (int32_t)count, (int32_t)half);
    if (count % 2) return (__int128)at[half] * 2;
    for (uint32_t i = 0; i < half; i++)
        if (at[i] > below) below = at[i];
    return (__int128)at[half] + below;
}

static void read_values(const struct windows_shape *s, const struct windows *w,
                        const struct stretch *at, struct value_sum *out)
{
    int64_t amounts[VALUES_MAX];
    uint32_t end = at->end - at->has_own, i = w->first, found = 0;
    *out = (struct value_sum){.median_twice = 0};
    if (!s->has_amount) return;
    if (end - i > s->values_max) i = end - s->values_max;
    for (; i < end; i++) {
        const struct point *p = &w->points[i];
        if (p->amount == NO_AMOUNT) continue;
        if (p->fraud && p->time_ms <= at->mature_ms) continue;
        windows_add(&out->all, p);
        amounts[found++] = p->amount;
    }
    out->median_twice = median_twice(amounts, found);
}

/* --- labels ------------------------------------------------------------- */

/* Of the mature points [from, to). */
static void read_run(const struct windows *w, uint32_t from, uint32_t to,
                     struct label_sum *out)
{
    uint32_t at = to;
    for (; out->latest_count < LATEST && at > from; out->latest_count++)
        out->latest_frauds += w->points[--at].fraud;
    out->latest_is_fraud = to > from && w->points[to - 1].fraud;
    for (at = to; at > from && w->points[at - 1].fraud; at--)
        out->run_length++;
    if (out->run_length > 0) out->run_start_ms = w->points[at].time_ms;
}

static void read_extremes(const struct windows *w, uint32_t from, uint32_t to,
                          bool newest, struct label_sum *out)
{
    uint32_t first = newest ? w->first_fraud : from;
    uint32_t last = newest ? w->last_fraud : to;
    if (!newest) {
        while (first < to && !w->points[first].fraud)
            first++;
        if (first == to) first = NO_POINT;
        while (first != NO_POINT && !w->points[--last].fraud)
            continue;
    }
    out->has_fraud = first != NO_POINT;
    if (!out->has_fraud) return;
    out->first_ms = w->points[first].time_ms;
    out->last_ms = w->points[last].time_ms;
    out->good_since_last = to - 1 - last;
}

static uint64_t count_frauds(const struct windows *w, uint32_t from,
                             uint32_t to)
{
    uint64_t frauds = 0;
    for (uint32_t i = from; i < to; i++)
        frauds += w->points[i].fraud;
    return frauds;
}

static void read_labels(const struct windows_shape *s, const struct windows *w,
                        const struct stretch *at, struct label_sum *out)
{
    uint32_t windows = windows_label_count(s), from = w->first;
    bool newest = is_newest(w, at);
    uint32_t to =
        newest ? w->mature : windows_newer(w, w->first, at->end, at->mature_ms);
    *out = (struct label_sum){.has_fraud = false};
    for (uint32_t i = 0; i < windows; i++) {
        int64_t length_ms = s->label_length_ms[i];
        struct tiles tiles;
        from = newest
                   ? w->of_labels[i].cursor
                   : windows_newer(w, w->first, to,
                                   windows_horizon(at->mature_ms, length_ms));
        out->window[i].count = to - from;
        out->window[i].frauds =
            newest ? w->of_labels[i].frauds : count_frauds(w, from, to);
        tiles = tiles_in(s, w, at->mature_ms, length_ms);
        for (uint32_t t = 0; t < tiles.count; t++) {
            out->window[i].count += tiles.at[t].sum.count;
            out->window[i].frauds += tiles.at[t].frauds;
        }
    }
    if (windows == 0) return;
    read_run(w, from, to, out);
    read_extremes(w, from, to, newest, out);
}

void windows_read(const struct windows_shape *s, const struct windows *w,
                  uint32_t end, bool has_own, int64_t now_ms,
                  struct reading *out)
{
    struct stretch at = {
        .end = end,
        .has_own = has_own,
        .now_ms = now_ms,
        .mature_ms = windows_horizon(now_ms, s->label_delay_ms),
    };
    read_windows(s, w, &at, out->window);
    read_values(s, w, &at, &out->values);
    read_labels(s, w, &at, &out->labels);
}
