/* windows.c - see windows.h.
 *
 * Exact events stand in one block in time order (equal times in the order of
 * arrival). Each window has a cursor, its oldest event, and the aggregate of
 * the events from there to the end; a new event moves the cursors on. Tiles
 * are added when a window is read. Nothing here is a floating-point number.
 *
 * Stored bytes, little-endian, version 1:
 *
 *   version u8 | tile_count u8 | count u32 | events_total u64 |
 *   newest_time_ms i64 | count x { time_ms i64, amount i64 } |
 *   tile_count x { index i64, count u64, amount_count u64, sum i128,
 *                  squares u128 }
 *
 *   amount is INT64_MIN where the event has none. Cursors and aggregates are
 *   not stored: integers add up to the same bits in any order. */
#include "windows.h"

#include <assert.h>
#include <string.h>

#include "bytes.h"
#include "windows_inside.h"

enum {
    VERSION = 1,
    HEAD_BYTES = 1 + 1 + 4 + 8 + 8,
    POINT_BYTES = 16,
    TILE_BYTES = 3 * 8 + 2 * 16,
    CAPACITY_FIRST = 8,
    TILES_MAX = WINDOW_TILES + 2, /* a stretch of the longest touches one more;
                                     one more before the oldest leaves */
};
#define NO_AMOUNT INT64_MIN

struct point {
    int64_t time_ms;
    int64_t amount; /* NO_AMOUNT: none */
};

struct tile {
    int64_t index; /* covers [index, index + 1) x tile length */
    struct aggregate sum;
};

struct windows {
    uint64_t events_total;
    int64_t newest_time_ms;          /* INT64_MIN: no event yet */
    uint32_t first, count, capacity; /* points [first, first + count) */
    uint32_t tile_count, window_count;
    struct point *points;
    struct tile *tiles; /* (TILES_MAX) by index; NULL until needed */
    struct window {
        struct aggregate running;
        uint32_t cursor; /* index into points */
    } at[];              /* (window_count) */
};

/* --- aggregates -------------------------------------------------------- */

static void add_point(struct aggregate *a, const struct point *p)
{
    a->count++;
    if (p->amount == NO_AMOUNT) return;
    a->amount_count++;
    a->sum += p->amount;
    a->squares += (unsigned __int128)((__int128)p->amount * p->amount);
}

static void remove_point(struct aggregate *a, const struct point *p)
{
    a->count--;
    if (p->amount == NO_AMOUNT) return;
    a->amount_count--;
    a->sum -= p->amount;
    a->squares -= (unsigned __int128)((__int128)p->amount * p->amount);
}

static void add_aggregate(struct aggregate *a, const struct aggregate *b)
{
    a->count += b->count;
    a->amount_count += b->amount_count;
    a->sum += b->sum;
    a->squares += b->squares;
}

/* --- time -------------------------------------------------------------- */

static uint32_t window_count(const struct windows_shape *s)
{
    return s->has_time ? s->count : 0;
}

/* An event at or before this is outside (now - length, now]. */
static int64_t horizon(int64_t now_ms, int64_t length_ms)
{
    int64_t at_ms;
    return __builtin_sub_overflow(now_ms, length_ms, &at_ms) ? INT64_MIN
                                                             : at_ms;
}

static int64_t longest_ms(const struct windows_shape *s)
{
    return s->length_ms[s->count - 1];
}

static int64_t tile_ms(const struct windows_shape *s)
{
    int64_t ms = longest_ms(s) / WINDOW_TILES;
    return ms * WINDOW_TILES < longest_ms(s) ? ms + 1 : ms;
}

static int64_t tile_index(const struct windows_shape *s, int64_t time_ms)
{
    int64_t ms = tile_ms(s);
    return time_ms / ms - (time_ms % ms < 0);
}

/* The last millisecond of a tile. */
static int64_t tile_end_ms(const struct windows_shape *s, const struct tile *t)
{
    int64_t start_ms, end_ms;
    if (__builtin_mul_overflow(t->index, tile_ms(s), &start_ms))
        start_ms = INT64_MIN; /* only the lowest tile starts outside int64 */
    return __builtin_add_overflow(start_ms, tile_ms(s) - 1, &end_ms) ? INT64_MAX
                                                                     : end_ms;
}

/* --- memory ------------------------------------------------------------ */

static size_t own_bytes(uint32_t count)
{
    return sizeof(struct windows) + count * sizeof(struct window);
}

static void set_empty(struct windows *w, uint32_t count)
{
    memset(w, 0, own_bytes(count));
    w->window_count = count;
    w->newest_time_ms = INT64_MIN;
}

struct windows *windows_new(const struct windows_shape *s)
{
    struct windows *w = pool_take(s->pool, own_bytes(window_count(s)));
    set_empty(w, window_count(s));
    return w;
}

void windows_free(const struct windows_shape *s, struct windows *w)
{
    if (!w) return;
    pool_give(s->pool, w->points, w->capacity * sizeof *w->points);
    pool_give(s->pool, w->tiles, TILES_MAX * sizeof *w->tiles);
    pool_give(s->pool, w, own_bytes(w->window_count));
}

size_t windows_bytes(const struct windows *w)
{
    size_t bytes = pool_block_bytes(own_bytes(w->window_count));
    if (w->points) bytes += pool_block_bytes(w->capacity * sizeof *w->points);
    if (w->tiles) bytes += pool_block_bytes(TILES_MAX * sizeof *w->tiles);
    return bytes;
}

static void set_capacity(const struct windows_shape *s, struct windows *w,
                         uint32_t capacity)
{
    struct point *points = pool_take(s->pool, capacity * sizeof *points);
    assert(w->first == 0 && w->count <= capacity);
    if (w->count) memcpy(points, w->points, w->count * sizeof *points);
    pool_give(s->pool, w->points, w->capacity * sizeof *points);
    w->points = points;
    w->capacity = capacity;
}

/* Room for one more point after the last. Points are moved to the front only
 * when a quarter of the block is free, so an event costs O(1) amortised. */
static void make_room(const struct windows_shape *s, struct windows *w)
{
    if (w->first > 0) {
        uint32_t moved = w->first;
        bool enough = w->first >= w->capacity / 4;
        memmove(w->points, w->points + moved, w->count * sizeof *w->points);
        w->first = 0;
        for (uint32_t i = 0; i < window_count(s); i++)
            w->at[i].cursor -= moved;
        if (enough) return;
    }
    set_capacity(s, w, w->capacity ? w->capacity * 2 : CAPACITY_FIRST);
}

/* --- tiles ------------------------------------------------------------- */

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

/* The oldest exact event becomes part of its tile. */
static void oldest_to_tile(const struct windows_shape *s, struct windows *w)
{
    const struct point oldest = w->points[w->first];
    add_point(&tile_of(s, w, tile_index(s, oldest.time_ms))->sum, &oldest);
    for (uint32_t i = 0; i < window_count(s); i++)
        if (w->at[i].cursor == w->first) {
            remove_point(&w->at[i].running, &oldest);
            w->at[i].cursor++;
        }
    w->first++;
    w->count--;
}

static void drop_old_tiles(const struct windows_shape *s, struct windows *w)
{
    int64_t gone_ms = horizon(w->newest_time_ms, longest_ms(s));
    uint32_t gone = 0;
    while (gone < w->tile_count && tile_end_ms(s, &w->tiles[gone]) <= gone_ms)
        gone++;
    if (gone == 0) return;
    w->tile_count -= gone;
    memmove(w->tiles, w->tiles + gone, w->tile_count * sizeof *w->tiles);
}

/* --- applying ---------------------------------------------------------- */

/* Moves every cursor to the first event inside its window. */
static void expire(const struct windows_shape *s, struct windows *w)
{
    uint32_t end = w->first + w->count, oldest = end;
    for (uint32_t i = 0; i < window_count(s); i++) {
        int64_t gone_ms = horizon(w->newest_time_ms, s->length_ms[i]);
        uint32_t at = w->at[i].cursor;
        while (at < end && w->points[at].time_ms <= gone_ms)
            remove_point(&w->at[i].running, &w->points[at++]);
        w->at[i].cursor = at;
        if (at < oldest) oldest = at;
    }
    w->count -= oldest - w->first;
    w->first = oldest;
    drop_old_tiles(s, w);
}

/* Puts p in its place, after all of the same time. */
static void insert(const struct windows_shape *s, struct windows *w,
                   const struct point *p)
{
    uint32_t at, end;
    if (w->first + w->count == w->capacity) make_room(s, w);
    at = end = w->first + w->count;
    while (at > w->first && w->points[at - 1].time_ms > p->time_ms)
        at--;
    memmove(&w->points[at + 1], &w->points[at], (end - at) * sizeof *w->points);
    w->points[at] = *p;
    w->count++;
    for (uint32_t i = 0; i < window_count(s); i++) {
        if (p->time_ms > horizon(w->newest_time_ms, s->length_ms[i]))
            add_point(&w->at[i].running, p);
        else
            w->at[i].cursor++; /* before the window: so is its place */
    }
}

/* The window of a late event, which ends at the event's own time and not at
 * the newest: added up anew. */
static void sum_late(const struct windows *w, int64_t now_ms, int64_t length_ms,
                     struct aggregate *out)
{
    int64_t gone_ms = horizon(now_ms, length_ms);
    *out = (struct aggregate){0};
    for (uint32_t at = w->first; at < w->first + w->count; at++)
        if (w->points[at].time_ms > gone_ms && w->points[at].time_ms <= now_ms)
            add_point(out, &w->points[at]);
}

static void add_tiles(const struct windows_shape *s, const struct windows *w,
                      int64_t now_ms, int64_t length_ms, struct aggregate *out)
{
    int64_t gone_ms = horizon(now_ms, length_ms);
    for (uint32_t i = 0; i < w->tile_count; i++)
        if (w->tiles[i].index <= tile_index(s, now_ms) &&
            tile_end_ms(s, &w->tiles[i]) > gone_ms)
            add_aggregate(out, &w->tiles[i].sum);
}

bool windows_apply(const struct windows_shape *s, struct windows *w,
                   const struct past_event *ev, float *out)
{
    struct aggregate sums[WINDOWS_MAX];
    bool late = ev->time_ms < w->newest_time_ms;
    struct point p = {.time_ms = ev->time_ms,
                      .amount =
                          ev->flags & PAST_NO_AMOUNT ? NO_AMOUNT : ev->amount};
    w->events_total++;
    if (!late) w->newest_time_ms = ev->time_ms;
    if (window_count(s) > 0) {
        bool kept = p.time_ms > horizon(w->newest_time_ms, longest_ms(s));
        expire(s, w);
        if (kept) insert(s, w, &p);
        if (w->count > s->events_max) oldest_to_tile(s, w);
        for (uint32_t i = 0; i < window_count(s); i++) {
            if (late)
                sum_late(w, p.time_ms, s->length_ms[i], &sums[i]);
            else
                sums[i] = w->at[i].running;
            add_tiles(s, w, p.time_ms, s->length_ms[i], &sums[i]);
            if (!kept) add_point(&sums[i], &p);
        }
    }
    features_fill(s, ev, w->events_total, sums, out);
    return w->tile_count > 0;
}

void windows_recall(const struct windows_shape *s, const struct windows *w,
                    const struct past_event *ev, uint64_t events_total,
                    float *out)
{
    struct aggregate sums[WINDOWS_MAX];
    struct point p = {.time_ms = ev->time_ms,
                      .amount =
                          ev->flags & PAST_NO_AMOUNT ? NO_AMOUNT : ev->amount};
    for (uint32_t i = 0; i < window_count(s); i++) {
        sum_late(w, p.time_ms, s->length_ms[i], &sums[i]);
        add_tiles(s, w, p.time_ms, s->length_ms[i], &sums[i]);
        if (p.time_ms <= horizon(w->newest_time_ms, longest_ms(s)))
            add_point(&sums[i], &p); /* it has left them */
    }
    features_fill(s, ev, events_total, sums, out);
}

void windows_look(const struct windows_shape *s, const struct windows *w,
                  struct windows_view *out)
{
    *out = (struct windows_view){.events_total = w->events_total,
                                 .newest_time_ms = w->newest_time_ms,
                                 .kept = w->count,
                                 .tiles = w->tile_count};
    for (uint32_t i = 0; i < window_count(s); i++) {
        struct aggregate sum = w->at[i].running;
        add_tiles(s, w, w->newest_time_ms, s->length_ms[i], &sum);
        out->window[i].count = sum.count;
        out->window[i].amount_count = sum.amount_count;
        out->window[i].amount_sum = (double)sum.sum / s->amount_scale;
    }
}

/* --- stored bytes ------------------------------------------------------ */

size_t windows_bytes_max(const struct windows_shape *s)
{
    if (window_count(s) == 0) return HEAD_BYTES;
    return HEAD_BYTES + (size_t)s->events_max * POINT_BYTES +
           (size_t)TILES_MAX * TILE_BYTES;
}

size_t windows_encoded_size(const struct windows_shape *s,
                            const struct windows *w)
{
    (void)s; /* the bytes say all that they hold */
    return HEAD_BYTES + (size_t)w->count * POINT_BYTES +
           (size_t)w->tile_count * TILE_BYTES;
}

size_t windows_encode(const struct windows_shape *s, const struct windows *w,
                      uint8_t *out)
{
    uint8_t *to = out;
    (void)s;
    to = put_u8(to, VERSION);
    to = put_u8(to, (uint8_t)w->tile_count);
    to = put_u32(to, w->count);
    to = put_u64(to, w->events_total);
    to = put_i64(to, w->newest_time_ms);
    for (uint32_t i = w->first; i < w->first + w->count; i++) {
        to = put_i64(to, w->points[i].time_ms);
        to = put_i64(to, w->points[i].amount);
    }
    for (uint32_t i = 0; i < w->tile_count; i++) {
        const struct tile *t = &w->tiles[i];
        to = put_i64(to, t->index);
        to = put_u64(to, t->sum.count);
        to = put_u64(to, t->sum.amount_count);
        to = put_u128(to, (unsigned __int128)t->sum.sum);
        to = put_u128(to, t->sum.squares);
    }
    return (size_t)(to - out);
}

static enum rc decode_points(const struct windows_shape *s, struct windows *w,
                             struct reader *r, uint32_t count, struct err *e)
{
    int64_t before_ms = horizon(w->newest_time_ms, longest_ms(s));
    w->capacity = CAPACITY_FIRST;
    while (w->capacity < count)
        w->capacity *= 2;
    w->points = pool_take(s->pool, w->capacity * sizeof *w->points);
    for (w->count = 0; w->count < count; w->count++) {
        struct point p = {.time_ms = read_i64(r)};
        p.amount = read_i64(r);
        if (w->count == 0 ? p.time_ms <= before_ms : p.time_ms < before_ms)
            return ERR(e, RC_STOP,
                       "windows: event %u is out of its place in "
                       "time",
                       w->count);
        w->points[w->count] = p;
        before_ms = p.time_ms;
    }
    if (count > 0 && before_ms > w->newest_time_ms)
        return ERR(e, RC_STOP, "windows: an event is newer than the newest");
    return RC_OK;
}

static enum rc decode_tiles(const struct windows_shape *s, struct windows *w,
                            struct reader *r, uint32_t count, struct err *e)
{
    int64_t gone_ms = horizon(w->newest_time_ms, longest_ms(s));
    if (count > 0) w->tiles = pool_take(s->pool, TILES_MAX * sizeof *w->tiles);
    for (; w->tile_count < count; w->tile_count++) {
        struct tile t = {.index = read_i64(r)};
        t.sum.count = read_u64(r);
        t.sum.amount_count = read_u64(r);
        t.sum.sum = (__int128)read_u128(r);
        t.sum.squares = read_u128(r);
        if (t.sum.count == 0 || t.sum.count > w->events_total ||
            t.sum.amount_count > t.sum.count || t.sum.sum < -AGGREGATE_MAX ||
            t.sum.sum > AGGREGATE_MAX)
            return ERR(e, RC_STOP, "windows: tile %u holds no possible sum",
                       w->tile_count);
        if ((w->tile_count > 0 &&
             t.index <= w->tiles[w->tile_count - 1].index) ||
            t.index > tile_index(s, w->newest_time_ms) ||
            tile_end_ms(s, &t) <= gone_ms)
            return ERR(e, RC_STOP,
                       "windows: tile %u is out of its place in "
                       "time",
                       w->tile_count);
        w->tiles[w->tile_count] = t;
    }
    return RC_OK;
}

/* Cursors and aggregates, from the points. */
static void rebuild(const struct windows_shape *s, struct windows *w)
{
    for (uint32_t i = 0; i < window_count(s); i++) {
        w->at[i].cursor = 0;
        w->at[i].running = (struct aggregate){0};
        for (uint32_t at = 0; at < w->count; at++)
            add_point(&w->at[i].running, &w->points[at]);
    }
    if (w->count > 0) expire(s, w);
}

static enum rc decode_body(const struct windows_shape *s, struct windows *w,
                           struct slice in, struct err *e)
{
    struct reader r = reader_of(in);
    uint8_t version = read_u8(&r), tiles = read_u8(&r);
    uint32_t count = read_u32(&r);
    w->events_total = read_u64(&r);
    w->newest_time_ms = read_i64(&r);
    if (r.bad) return ERR(e, RC_STOP, "windows: shorter than their head");
    if (version != VERSION)
        return ERR(e, RC_STOP, "windows: version %d, this build reads %d",
                   version, VERSION);
    if (r.left.len != (size_t)count * POINT_BYTES + (size_t)tiles * TILE_BYTES)
        return ERR(e, RC_STOP,
                   "windows: %zu bytes after the head are not %u "
                   "events and %u tiles",
                   r.left.len, count, tiles);
    if (count > w->events_total || count > s->events_max || tiles > TILES_MAX ||
        (count + tiles > 0 && window_count(s) == 0) ||
        (w->events_total == 0 && w->newest_time_ms != INT64_MIN))
        return ERR(e, RC_STOP,
                   "windows: %u events and %u tiles of %llu events "
                   "ever cannot be",
                   count, tiles, (unsigned long long)w->events_total);
    if (count > 0) TRY(decode_points(s, w, &r, count, e));
    if (tiles > 0) TRY(decode_tiles(s, w, &r, tiles, e));
    assert(reader_done(&r));
    rebuild(s, w);
    return RC_OK;
}

enum rc windows_decode(const struct windows_shape *s, struct windows *w,
                       struct slice in, struct err *e)
{
    enum rc rc;
    assert(w->events_total == 0);
    rc = decode_body(s, w, in, e);
    if (rc == RC_OK) return rc;
    pool_give(s->pool, w->points, w->capacity * sizeof *w->points);
    pool_give(s->pool, w->tiles, TILES_MAX * sizeof *w->tiles);
    set_empty(w, w->window_count);
    return rc;
}
