/* windows_labels.c - what is known of an entity's events, apart from them.
 *
 * A row keeps labels in order of (event time, event id), where both the event
 * and a further label of it are found by a search. Whether a point is a fraud
 * follows from points and labels alone. */
#include <assert.h>
#include <string.h>

#include "windows_inside.h"

enum { CAPACITY_FIRST = 4 };

/* Where a label of this event stands, or would stand. */
static uint32_t find_label(const struct windows *w, int64_t time_ms,
                           uint64_t event_id)
{
    uint32_t from = 0, to = w->label_total;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        const struct label *l = &w->labels[middle];
        if (l->time_ms < time_ms ||
            (l->time_ms == time_ms && l->event_id < event_id))
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static bool is_of(const struct windows *w, uint32_t at, int64_t time_ms,
                  uint64_t event_id)
{
    return at < w->label_total && w->labels[at].time_ms == time_ms &&
           w->labels[at].event_id == event_id;
}

bool windows_is_fraud(const struct windows *w, const struct past_event *ev)
{
    uint32_t at;
    if (w->label_total == 0) return false;
    at = find_label(w, ev->time_ms, ev->event_id);
    return is_of(w, at, ev->time_ms, ev->event_id) && w->labels[at].fraud;
}

/* Sets the points of a label's event; returns whether any has changed. */
static bool mark_points(struct windows *w, const struct label *l, bool fraud)
{
    uint32_t at = windows_newer(w, w->first, windows_end(w), l->time_ms);
    bool changed = false;
    while (at-- > w->first && w->points[at].time_ms == l->time_ms)
        if (w->ids[at] == l->event_id) {
            changed |= w->points[at].fraud != fraud;
            w->points[at].fraud = fraud;
        }
    return changed;
}

void windows_mark(struct windows *w)
{
    for (uint32_t i = 0; i < w->label_total; i++)
        if (w->labels[i].fraud) (void)mark_points(w, &w->labels[i], true);
}

static bool names_point(const struct windows *w, const struct label *l)
{
    uint32_t at = windows_newer(w, w->first, windows_end(w), l->time_ms);
    while (at-- > w->first && w->points[at].time_ms == l->time_ms)
        if (w->ids[at] == l->event_id) return true;
    return false;
}

/* --- tiles -------------------------------------------------------------- */

/* An event in a tile has no id any more: a label of fraud in its stretch of
 * time that names no exact event is taken to be of one of them. */
void windows_count_tile_frauds(const struct windows_shape *s, struct windows *w)
{
    uint32_t t = 0;
    if (w->tile_count == 0) return;
    for (uint32_t i = 0; i < w->tile_count; i++)
        w->tiles[i].frauds = 0;
    for (uint32_t i = 0; i < w->label_total; i++) {
        const struct label *l = &w->labels[i];
        int64_t index = windows_tile_index(s, l->time_ms);
        while (t < w->tile_count && w->tiles[t].index < index)
            t++;
        if (t == w->tile_count) return;
        if (!l->fraud || w->tiles[t].index != index || names_point(w, l))
            continue;
        if (w->tiles[t].frauds < w->tiles[t].sum.count) w->tiles[t].frauds++;
    }
}

/* --- leaving ------------------------------------------------------------ */

/* Not before an event of that time could no longer be kept. */
int64_t windows_labels_gone(const struct windows_shape *s,
                            const struct windows *w)
{
    int64_t gone_ms = windows_horizon(w->newest_time_ms, windows_keep_ms(s));
    int64_t oldest_ms;
    if (w->count < windows_stay(s)) return INT64_MIN;
    oldest_ms = w->points[w->first].time_ms;
    return oldest_ms <= gone_ms ? oldest_ms - 1 : gone_ms;
}

static void remove_labels(struct windows *w, uint32_t count)
{
    w->label_total -= count;
    memmove(w->labels, w->labels + count, w->label_total * sizeof *w->labels);
}

void windows_drop_labels(const struct windows_shape *s, struct windows *w)
{
    int64_t gone_ms;
    uint32_t gone = 0;
    if (w->label_total == 0) return;
    gone_ms = windows_labels_gone(s, w);
    while (gone < w->label_total && w->labels[gone].time_ms <= gone_ms)
        gone++;
    if (gone) remove_labels(w, gone);
    windows_count_tile_frauds(s, w);
}

/* --- a new label -------------------------------------------------------- */

/* A full row forgets the label of its oldest event; returns whether that
 * changed a point. */
static bool drop_oldest(struct windows *w)
{
    bool changed = w->labels[0].fraud && mark_points(w, &w->labels[0], false);
    remove_labels(w, 1);
    return changed;
}

static void insert_label(const struct windows_shape *s, struct windows *w,
                         uint32_t at, const struct label *l)
{
    if (w->label_total == w->label_capacity)
        windows_set_label_capacity(
            s, w, w->label_capacity ? w->label_capacity * 2 : CAPACITY_FIRST);
    memmove(w->labels + at + 1, w->labels + at,
            (w->label_total - at) * sizeof *w->labels);
    w->labels[at] = *l;
    w->label_total++;
}

/* Returns whether a point has changed by it. */
static bool put_label(const struct windows_shape *s, struct windows *w,
                      const struct label *l)
{
    uint32_t at = find_label(w, l->time_ms, l->event_id);
    bool changed = false;
    if (is_of(w, at, l->time_ms, l->event_id)) {
        if (l->known_ms < w->labels[at].known_ms) return false;
        w->labels[at] = *l;
    } else {
        if (w->label_total == s->events_max) {
            if (at == 0) return false;
            changed = drop_oldest(w);
            at--;
        }
        insert_label(s, w, at, l);
    }
    return mark_points(w, l, l->fraud) || changed;
}

bool windows_label(const struct windows_shape *s, struct windows *w,
                   int64_t offset, const struct window_label *l)
{
    struct label label = {.time_ms = l->time_ms,
                          .event_id = l->event_id,
                          .known_ms = l->known_ms,
                          .fraud = l->fraud};
    assert(s->has_labels);
    if (offset <= w->label_offset) return false; /* I3 */
    w->label_offset = offset;
    if (!s->has_time || l->event_id == 0 ||
        l->time_ms <= windows_labels_gone(s, w))
        return true;
    if (put_label(s, w, &label)) windows_sum(s, w);
    windows_count_tile_frauds(s, w);
    return true;
}

int64_t windows_label_offset(const struct windows *w)
{
    return w->label_offset;
}
