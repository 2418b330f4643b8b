/* windows.c - see windows.h. The row is in windows_row.c, labels in
 * windows_labels.c, reading in windows_read.c, the stored bytes in
 * windows_bytes.c. */
#include "windows.h"

#include "windows_inside.h"

/* The event stands in no window that is kept: all that it sees is itself. */
static void read_alone(const struct windows_shape *s, const struct windows *w,
                       const struct past_event *ev, struct reading *r)
{
    struct point own = {.amount = ev->flags & PAST_NO_AMOUNT ? NO_AMOUNT
                                                             : ev->amount};
    uint32_t end = windows_newer(w, w->first, windows_end(w), ev->time_ms);
    bool gone =
        ev->time_ms <= windows_horizon(w->newest_time_ms, windows_keep_ms(s));
    windows_read(s, w, end, false, ev->time_ms, r);
    if (!gone) return; /* it is in a tile */
    for (uint32_t i = 0; i < windows_count(s); i++) {
        windows_add(&r->window[i].all, &own);
        r->window[i].distinct += s->has_other && ev->item != 0;
    }
}

bool windows_apply(const struct windows_shape *s, struct windows *w,
                   const struct past_event *ev, float *out)
{
    struct reading r;
    w->events_total++;
    if (!s->has_time) {
        if (ev->time_ms > w->newest_time_ms) w->newest_time_ms = ev->time_ms;
    } else {
        uint32_t at = windows_insert(s, w, ev);
        if (at >= w->first)
            windows_read(s, w, at + 1, true, ev->time_ms, &r);
        else
            read_alone(s, w, ev, &r);
    }
    windows_fill(s, ev, w->events_total, &r, out);
    return w->tile_count > 0;
}

/* The event's own point, or NO_POINT. */
static uint32_t find_own(const struct windows *w, const struct past_event *ev)
{
    uint32_t at = windows_newer(w, w->first, windows_end(w), ev->time_ms);
    if (at == w->first || w->points[at - 1].time_ms != ev->time_ms)
        return NO_POINT;
    if (!w->ids) return at - 1;
    while (at-- > w->first && w->points[at].time_ms == ev->time_ms)
        if (w->ids[at] == ev->event_id) return at;
    return NO_POINT;
}

void windows_recall(const struct windows_shape *s, const struct windows *w,
                    const struct past_event *ev, uint64_t events_total,
                    float *out)
{
    struct reading r;
    uint32_t at = s->has_time ? find_own(w, ev) : NO_POINT;
    if (at != NO_POINT)
        windows_read(s, w, at + 1, true, ev->time_ms, &r);
    else if (s->has_time)
        read_alone(s, w, ev, &r);
    windows_fill(s, ev, events_total, &r, out);
}

void windows_look(const struct windows_shape *s, const struct windows *w,
                  struct windows_view *out)
{
    struct reading r;
    *out = (struct windows_view){.events_total = w->events_total,
                                 .newest_time_ms = w->newest_time_ms,
                                 .kept = w->count,
                                 .tiles = w->tile_count,
                                 .labels = w->label_total};
    for (uint32_t i = w->first; i < windows_end(w); i++)
        out->frauds += w->points[i].fraud;
    if (windows_count(s) == 0) return;
    windows_read(s, w, windows_end(w), w->count > 0, w->newest_time_ms, &r);
    for (uint32_t i = 0; i < s->count; i++) {
        out->window[i].count = r.window[i].all.count;
        out->window[i].amount_count = r.window[i].all.amount_count;
        out->window[i].distinct = r.window[i].distinct;
        out->window[i].amount_sum =
            (double)r.window[i].all.sum / s->amount_scale;
    }
}
