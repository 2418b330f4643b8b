/* windows_row.c - the events of one entity in time order, and the sums that
 * go along with them.
 *
 * Exact events stand in one block in time order (equal times in the order of
 * arrival). Each window has a cursor, its oldest event, and the sums of the
 * events from there to the end; in order a new event moves the cursors on.
 * What comes late, and a label that changes an event, sums up anew: the same
 * integers come of it in any order. Tiles are added when a window is read. */
#include <assert.h>
#include <string.h>

#include "hash.h"
#include "windows_inside.h"

enum { CAPACITY_FIRST = 8 };

/* --- aggregates -------------------------------------------------------- */

void windows_add(struct aggregate *a, const struct point *p)
{
    a->count++;
    if (p->amount == NO_AMOUNT) return;
    a->amount_count++;
    a->sum += p->amount;
    a->squares += (unsigned __int128)((__int128)p->amount * p->amount);
}

void windows_remove(struct aggregate *a, const struct point *p)
{
    a->count--;
    if (p->amount == NO_AMOUNT) return;
    a->amount_count--;
    a->sum -= p->amount;
    a->squares -= (unsigned __int128)((__int128)p->amount * p->amount);
}

static bool is_distinct(const struct windows *w, uint32_t at)
{
    return w->others && w->others[at] != 0 && w->points[at].later == 0;
}

/* --- time -------------------------------------------------------------- */

uint32_t windows_count(const struct windows_shape *s)
{
    return s->has_time ? s->count : 0;
}

uint32_t windows_label_count(const struct windows_shape *s)
{
    return s->has_time && s->has_labels ? s->label_count : 0;
}

int64_t windows_horizon(int64_t now_ms, int64_t length_ms)
{
    int64_t at_ms;
    return __builtin_sub_overflow(now_ms, length_ms, &at_ms) ? INT64_MIN
                                                             : at_ms;
}

int64_t windows_keep_ms(const struct windows_shape *s)
{
    int64_t keep_ms = s->count ? s->length_ms[s->count - 1] : 0, labels_ms;
    if (windows_label_count(s) == 0) return keep_ms;
    if (__builtin_add_overflow(s->label_delay_ms,
                               s->label_length_ms[s->label_count - 1],
                               &labels_ms))
        return INT64_MAX;
    return labels_ms > keep_ms ? labels_ms : keep_ms;
}

static int64_t tile_ms(const struct windows_shape *s)
{
    int64_t keep_ms = windows_keep_ms(s), ms = keep_ms / WINDOW_TILES;
    return ms * WINDOW_TILES < keep_ms || ms == 0 ? ms + 1 : ms;
}

int64_t windows_tile_index(const struct windows_shape *s, int64_t time_ms)
{
    int64_t ms = tile_ms(s);
    return time_ms / ms - (time_ms % ms < 0);
}

int64_t windows_tile_end(const struct windows_shape *s, int64_t index)
{
    int64_t start_ms, end_ms;
    if (__builtin_mul_overflow(index, tile_ms(s), &start_ms))
        start_ms = INT64_MIN; /* only the lowest tile starts outside int64 */
    return __builtin_add_overflow(start_ms, tile_ms(s) - 1, &end_ms) ? INT64_MAX
                                                                     : end_ms;
}

uint32_t windows_newer(const struct windows *w, uint32_t from, uint32_t to,
                       int64_t at_ms)
{
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (w->points[middle].time_ms <= at_ms)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* --- memory ------------------------------------------------------------ */

void windows_set_empty(const struct windows_shape *s, struct windows *w)
{
    uint32_t own_bytes = w->own_bytes;
    memset(w, 0, own_bytes);
    w->own_bytes = own_bytes;
    w->newest_time_ms = INT64_MIN;
    w->label_offset = -1;
    w->first_fraud = w->last_fraud = NO_POINT;
    w->of_labels = (struct label_window *)(void *)&w->at[windows_count(s)];
}

struct windows *windows_new(const struct windows_shape *s)
{
    size_t bytes = sizeof(struct windows) +
                   windows_count(s) * sizeof(struct window) +
                   windows_label_count(s) * sizeof(struct label_window);
    struct windows *w = pool_take(s->pool, bytes);
    assert(s->values_max <= VALUES_MAX);
    assert(!s->has_labels || s->label_delay_ms >= 1);
    w->own_bytes = (uint32_t)bytes;
    windows_set_empty(s, w);
    return w;
}

/* All blocks but its own. */
void windows_release(const struct windows_shape *s, struct windows *w)
{
    pool_give(s->pool, w->points, w->capacity * sizeof *w->points);
    pool_give(s->pool, w->others, w->capacity * sizeof *w->others);
    pool_give(s->pool, w->ids, w->capacity * sizeof *w->ids);
    pool_give(s->pool, w->marks, w->capacity * sizeof *w->marks);
    pool_give(s->pool, w->labels, w->label_capacity * sizeof *w->labels);
    pool_give(s->pool, w->tiles, TILES_MAX * sizeof *w->tiles);
}

void windows_free(const struct windows_shape *s, struct windows *w)
{
    if (!w) return;
    windows_release(s, w);
    pool_give(s->pool, w, w->own_bytes);
}

static size_t block_bytes(const void *block, size_t size)
{
    return block ? pool_block_bytes(size) : 0;
}

size_t windows_bytes(const struct windows *w)
{
    return pool_block_bytes(w->own_bytes) +
           block_bytes(w->points, w->capacity * sizeof *w->points) +
           block_bytes(w->others, w->capacity * sizeof *w->others) +
           block_bytes(w->ids, w->capacity * sizeof *w->ids) +
           block_bytes(w->marks, w->capacity * sizeof *w->marks) +
           block_bytes(w->labels, w->label_capacity * sizeof *w->labels) +
           block_bytes(w->tiles, TILES_MAX * sizeof *w->tiles);
}

/* The count elements at `from` in a block for `capacity`; the block that they
 * stood in, for `before`, is given back. */
static void *moved(const struct windows_shape *s, void *from, size_t count,
                   size_t before, size_t capacity, size_t size)
{
    void *to = pool_take(s->pool, capacity * size);
    if (count) memcpy(to, from, count * size);
    pool_give(s->pool, from, before * size);
    return to;
}

void windows_set_capacity(const struct windows_shape *s, struct windows *w,
                          uint32_t capacity)
{
    assert(w->first == 0 && w->count <= capacity);
    w->points =
        moved(s, w->points, w->count, w->capacity, capacity, sizeof *w->points);
    if (s->has_other) {
        w->others = moved(s, w->others, w->count, w->capacity, capacity,
                          sizeof *w->others);
        w->marks = moved(s, w->marks, w->count, w->capacity, capacity,
                         sizeof *w->marks);
    }
    if (s->has_labels)
        w->ids =
            moved(s, w->ids, w->count, w->capacity, capacity, sizeof *w->ids);
    w->capacity = capacity;
}

void windows_set_label_capacity(const struct windows_shape *s,
                                struct windows *w, uint32_t capacity)
{
    assert(w->label_total <= capacity);
    w->labels = moved(s, w->labels, w->label_total, w->label_capacity, capacity,
                      sizeof *w->labels);
    w->label_capacity = capacity;
}

static void move_points(struct windows *w, uint32_t to, uint32_t from,
                        uint32_t count)
{
    memmove(w->points + to, w->points + from, count * sizeof *w->points);
    if (w->others) {
        memmove(w->others + to, w->others + from, count * sizeof *w->others);
        memmove(w->marks + to, w->marks + from, count * sizeof *w->marks);
    }
    if (w->ids) memmove(w->ids + to, w->ids + from, count * sizeof *w->ids);
}

static void move_to_front(const struct windows_shape *s, struct windows *w)
{
    uint32_t by = w->first;
    move_points(w, 0, by, w->count);
    w->first = 0;
    w->mature -= by;
    if (w->first_fraud != NO_POINT) w->first_fraud -= by;
    if (w->last_fraud != NO_POINT) w->last_fraud -= by;
    for (uint32_t i = 0; i < windows_count(s); i++)
        w->at[i].cursor -= by;
    for (uint32_t i = 0; i < windows_label_count(s); i++)
        w->of_labels[i].cursor -= by;
}

/* Room for one more point after the last. Points are moved to the front only
 * when a quarter of the block is free, so an event costs O(1) amortised. */
static void make_room(const struct windows_shape *s, struct windows *w)
{
    bool enough = w->first > 0 && w->first >= w->capacity / 4;
    if (w->first > 0) move_to_front(s, w);
    if (!enough)
        windows_set_capacity(s, w,
                             w->capacity ? w->capacity * 2 : CAPACITY_FIRST);
}

/* --- other ends --------------------------------------------------------- */

static uint8_t mark_of(uint64_t other)
{
    return (uint8_t)(other ^ other >> 32);
}

void windows_set_other(struct windows *w, uint32_t at, uint64_t other)
{
    w->others[at] = other;
    w->marks[at] = mark_of(other);
}

/* The newest point before `at` with this other end, or NO_POINT. Looked for
 * by its mark, of which many are compared at once; few others have it too. */
static uint32_t find_other(const struct windows *w, uint32_t at, uint64_t other)
{
    const uint8_t *first = w->marks + w->first, *found;
    while ((found = memrchr(first, mark_of(other), at - w->first))) {
        at = (uint32_t)(found - w->marks);
        if (w->others[at] == other) return at;
    }
    return NO_POINT;
}

/* The point at the end is new: the one that was the last with its other end
 * is not any more. */
static void link_last(const struct windows_shape *s, struct windows *w)
{
    uint32_t last = windows_end(w) - 1, before;
    if (!w->others || w->others[last] == 0) return;
    before = find_other(w, last, w->others[last]);
    for (uint32_t i = 0; i < windows_count(s); i++) {
        w->at[i].running.distinct++;
        if (before != NO_POINT && before >= w->at[i].cursor)
            w->at[i].running.distinct--;
    }
    if (before != NO_POINT) w->points[before].later = last - before;
}

/* By a table of where each other end was seen last, going backwards. */
void windows_link(const struct windows_shape *s, struct windows *w)
{
    uint32_t size = 16, *seen;
    if (!w->others || w->count == 0) return;
    while (size < 2 * w->count)
        size *= 2;
    seen = pool_take(s->pool, size * sizeof *seen);
    memset(seen, 0xff, size * sizeof *seen);
    for (uint32_t at = windows_end(w); at-- > w->first;) {
        uint64_t other = w->others[at];
        uint32_t slot = (uint32_t)hash_mix(other) & (size - 1);
        while (seen[slot] != NO_POINT && w->others[seen[slot]] != other)
            slot = (slot + 1) & (size - 1);
        w->points[at].later = seen[slot] == NO_POINT ? 0 : seen[slot] - at;
        seen[slot] = at;
    }
    pool_give(s->pool, seen, size * sizeof *seen);
}

/* --- sums --------------------------------------------------------------- */

static void sum_window(struct windows *w, struct window *at)
{
    at->running = (struct window_sum){0};
    for (uint32_t i = at->cursor; i < windows_end(w); i++) {
        windows_add(&at->running.all, &w->points[i]);
        if (w->points[i].fraud && i < w->mature)
            windows_add(&at->running.frauds, &w->points[i]);
        at->running.distinct += is_distinct(w, i);
    }
}

static void sum_labels(const struct windows_shape *s, struct windows *w)
{
    uint32_t count = windows_label_count(s);
    w->first_fraud = w->last_fraud = NO_POINT;
    for (uint32_t k = 0; k < count; k++)
        w->of_labels[k].frauds = 0;
    if (count == 0) return;
    for (uint32_t i = w->of_labels[count - 1].cursor; i < w->mature; i++) {
        if (!w->points[i].fraud) continue;
        if (w->first_fraud == NO_POINT) w->first_fraud = i;
        w->last_fraud = i;
        for (uint32_t k = 0; k < count; k++)
            w->of_labels[k].frauds += i >= w->of_labels[k].cursor;
    }
}

void windows_sum(const struct windows_shape *s, struct windows *w)
{
    uint32_t end = windows_end(w);
    int64_t now_ms = w->newest_time_ms;
    int64_t mature_ms = windows_horizon(now_ms, s->label_delay_ms);
    w->mature =
        s->has_labels ? windows_newer(w, w->first, end, mature_ms) : w->first;
    for (uint32_t i = 0; i < windows_count(s); i++) {
        w->at[i].cursor = windows_newer(
            w, w->first, end, windows_horizon(now_ms, s->length_ms[i]));
        sum_window(w, &w->at[i]);
    }
    for (uint32_t i = 0; i < windows_label_count(s); i++)
        w->of_labels[i].cursor =
            windows_newer(w, w->first, w->mature,
                          windows_horizon(mature_ms, s->label_length_ms[i]));
    sum_labels(s, w);
}

/* A point whose label counts from now on. */
static void count_mature(const struct windows_shape *s, struct windows *w)
{
    uint32_t at = w->mature++;
    const struct point *p = &w->points[at];
    if (!p->fraud) return;
    for (uint32_t i = 0; i < windows_count(s); i++)
        if (at >= w->at[i].cursor) windows_add(&w->at[i].running.frauds, p);
    for (uint32_t i = 0; i < windows_label_count(s); i++)
        w->of_labels[i].frauds++;
    if (windows_label_count(s) == 0) return;
    if (w->first_fraud == NO_POINT) w->first_fraud = at;
    w->last_fraud = at;
}

static void leave_window(struct windows *w, struct window *at)
{
    const struct point *p = &w->points[at->cursor];
    windows_remove(&at->running.all, p);
    if (p->fraud && at->cursor < w->mature)
        windows_remove(&at->running.frauds, p);
    at->running.distinct -= is_distinct(w, at->cursor);
    at->cursor++;
}

/* The first and last fraud have to stand in the longest label window. */
static void leave_frauds(const struct windows_shape *s, struct windows *w)
{
    uint32_t count = windows_label_count(s), at;
    if (count == 0 || w->first_fraud == NO_POINT) return;
    at = w->of_labels[count - 1].cursor;
    if (w->first_fraud >= at) return;
    if (w->last_fraud < at) {
        w->first_fraud = w->last_fraud = NO_POINT;
        return;
    }
    while (!w->points[at].fraud)
        at++;
    w->first_fraud = at;
}

/* Time went on to newest_time_ms. */
static void advance(const struct windows_shape *s, struct windows *w)
{
    uint32_t end = windows_end(w);
    int64_t now_ms = w->newest_time_ms;
    int64_t mature_ms = windows_horizon(now_ms, s->label_delay_ms);
    while (s->has_labels && w->mature < end &&
           w->points[w->mature].time_ms <= mature_ms)
        count_mature(s, w);
    for (uint32_t i = 0; i < windows_count(s); i++) {
        int64_t gone_ms = windows_horizon(now_ms, s->length_ms[i]);
        while (w->at[i].cursor < end &&
               w->points[w->at[i].cursor].time_ms <= gone_ms)
            leave_window(w, &w->at[i]);
    }
    for (uint32_t i = 0; i < windows_label_count(s); i++) {
        struct label_window *k = &w->of_labels[i];
        int64_t gone_ms = windows_horizon(mature_ms, s->label_length_ms[i]);
        while (k->cursor < w->mature && w->points[k->cursor].time_ms <= gone_ms)
            k->frauds -= w->points[k->cursor++].fraud;
    }
    leave_frauds(s, w);
}

/* --- leaving ------------------------------------------------------------ */

static struct tile *tile_of(const struct windows_shape *s, struct windows *w,
                            int64_t index)
{
    uint32_t at = w->tile_count;
    if (!w->tiles) w->tiles = pool_take(s->pool, TILES_MAX * sizeof *w->tiles);
    while (at > 0 && w->tiles[at - 1].index > index)
        at--;
    if (at > 0 && w->tiles[at - 1].index == index) return &w->tiles[at - 1];
    assert(w->tile_count < TILES_MAX);
    memmove(&w->tiles[at + 1], &w->tiles[at],
            (w->tile_count - at) * sizeof *w->tiles);
    w->tile_count++;
    w->tiles[at] = (struct tile){.index = index};
    return &w->tiles[at];
}

/* The oldest point goes: out of every window that it is still in. */
static void drop_first(const struct windows_shape *s, struct windows *w)
{
    uint32_t at = w->first;
    for (uint32_t i = 0; i < windows_count(s); i++)
        if (w->at[i].cursor == at) leave_window(w, &w->at[i]);
    for (uint32_t i = 0; i < windows_label_count(s); i++)
        if (w->of_labels[i].cursor == at) {
            if (at < w->mature) w->of_labels[i].frauds -= w->points[at].fraud;
            w->of_labels[i].cursor++;
        }
    if (w->mature == at) w->mature++;
    leave_frauds(s, w);
    w->first++;
    w->count--;
}

/* A point that is in no window stays as one of the newest. At the
 * beginning of time no window reaches a point, not even its own. */
static void drop_old(const struct windows_shape *s, struct windows *w)
{
    int64_t gone_ms = windows_horizon(w->newest_time_ms, windows_keep_ms(s));
    while (w->count > 0 && w->points[w->first].time_ms <= gone_ms &&
           (w->count > windows_stay(s) ||
            w->points[w->first].time_ms == INT64_MIN))
        drop_first(s, w);
    if (w->count <= s->events_max) return;
    if (w->points[w->first].time_ms > gone_ms) {
        const struct point oldest = w->points[w->first];
        windows_add(&tile_of(s, w, windows_tile_index(s, oldest.time_ms))->sum,
                    &oldest);
    }
    drop_first(s, w);
}

static void drop_old_tiles(const struct windows_shape *s, struct windows *w)
{
    int64_t gone_ms = windows_horizon(w->newest_time_ms, windows_keep_ms(s));
    uint32_t gone = 0;
    while (gone < w->tile_count &&
           windows_tile_end(s, w->tiles[gone].index) <= gone_ms)
        gone++;
    if (gone == 0) return;
    w->tile_count -= gone;
    memmove(w->tiles, w->tiles + gone, w->tile_count * sizeof *w->tiles);
}

/* --- a new point -------------------------------------------------------- */

static void put_point(const struct windows_shape *s, struct windows *w,
                      uint32_t at, const struct past_event *ev)
{
    move_points(w, at + 1, at, windows_end(w) - at);
    w->points[at] = (struct point){
        .time_ms = ev->time_ms,
        .amount = ev->flags & PAST_NO_AMOUNT ? NO_AMOUNT : ev->amount,
        .fraud = windows_is_fraud(w, ev)};
    if (s->has_other) windows_set_other(w, at, ev->item);
    if (s->has_labels) w->ids[at] = ev->event_id;
    w->count++;
}

uint32_t windows_insert(const struct windows_shape *s, struct windows *w,
                        const struct past_event *ev)
{
    uint32_t at;
    if (windows_end(w) == w->capacity) make_room(s, w);
    if (ev->time_ms >= w->newest_time_ms) {
        w->newest_time_ms = ev->time_ms;
        advance(s, w);
        at = windows_end(w);
        put_point(s, w, at, ev);
        for (uint32_t i = 0; i < windows_count(s); i++)
            windows_add(&w->at[i].running.all, &w->points[at]);
        link_last(s, w);
    } else {
        at = windows_newer(w, w->first, windows_end(w), ev->time_ms);
        put_point(s, w, at, ev);
        windows_link(s, w);
        windows_sum(s, w);
    }
    drop_old(s, w);
    drop_old_tiles(s, w);
    windows_drop_labels(s, w);
    return at;
}
