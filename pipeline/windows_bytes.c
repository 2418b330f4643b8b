/* windows_bytes.c - the stored bytes of windows.
 *
 * Little-endian, version 2:
 *
 *   version u8 | tile_count u8 | columns u8 | 0 u8 | count u32 |
 *   label_count u32 | events_total u64 | newest_time_ms i64 |
 *   label_offset i64 |
 *   count x { time_ms i64, amount i64, other u64 if COLUMN_OTHER,
 *             event_id u64 if COLUMN_ID } |
 *   label_count x { time_ms i64, event_id u64, known_ms i64, fraud u8 } |
 *   tile_count x { index i64, count u64, amount_count u64, sum i128,
 *                  squares u128 }
 *
 *   amount is INT64_MIN where the event has none. Cursors, sums and which
 *   points are frauds are not stored: they follow from the rest.
 *
 * Version 1 had neither labels nor columns:
 *
 *   version u8 | tile_count u8 | count u32 | events_total u64 |
 *   newest_time_ms i64 | count x { time_ms i64, amount i64 } | tiles
 *
 *   Its events are read as ones whose other end and id are not known. */
#include <assert.h>

#include "bytes.h"
#include "windows_inside.h"

enum {
    VERSION_PLAIN = 1,
    VERSION = 2,
    COLUMN_OTHER = 1,
    COLUMN_ID = 2,
    HEAD_BYTES = 4 + 4 + 4 + 3 * 8,
    LABEL_BYTES = 3 * 8 + 1,
    TILE_BYTES = 3 * 8 + 2 * 16,
    CAPACITY_FIRST = 8,
};

static uint8_t columns_of(const struct windows_shape *s)
{
    return (s->has_other ? COLUMN_OTHER : 0) | (s->has_labels ? COLUMN_ID : 0);
}

static size_t point_bytes(uint8_t columns)
{
    return 16u + (columns & COLUMN_OTHER ? 8u : 0u) +
           (columns & COLUMN_ID ? 8u : 0u);
}

size_t windows_bytes_max(const struct windows_shape *s)
{
    if (!s->has_time) return HEAD_BYTES;
    return HEAD_BYTES +
           (size_t)s->events_max * (point_bytes(columns_of(s)) +
                                    (s->has_labels ? LABEL_BYTES : 0)) +
           (size_t)TILES_MAX * TILE_BYTES;
}

size_t windows_encoded_size(const struct windows_shape *s,
                            const struct windows *w)
{
    return HEAD_BYTES + (size_t)w->count * point_bytes(columns_of(s)) +
           (size_t)w->label_total * LABEL_BYTES +
           (size_t)w->tile_count * TILE_BYTES;
}

/* --- encoding ----------------------------------------------------------- */

static uint8_t *put_points(const struct windows *w, uint8_t *to)
{
    for (uint32_t i = w->first; i < windows_end(w); i++) {
        to = put_i64(to, w->points[i].time_ms);
        to = put_i64(to, w->points[i].amount);
        if (w->others) to = put_u64(to, w->others[i]);
        if (w->ids) to = put_u64(to, w->ids[i]);
    }
    return to;
}

static uint8_t *put_labels(const struct windows *w, uint8_t *to)
{
    for (uint32_t i = 0; i < w->label_total; i++) {
        to = put_i64(to, w->labels[i].time_ms);
        to = put_u64(to, w->labels[i].event_id);
        to = put_i64(to, w->labels[i].known_ms);
        to = put_u8(to, w->labels[i].fraud);
    }
    return to;
}

static uint8_t *put_tiles(const struct windows *w, uint8_t *to)
{
    for (uint32_t i = 0; i < w->tile_count; i++) {
        const struct tile *t = &w->tiles[i];
        to = put_i64(to, t->index);
        to = put_u64(to, t->sum.count);
        to = put_u64(to, t->sum.amount_count);
        to = put_u128(to, (unsigned __int128)t->sum.sum);
        to = put_u128(to, t->sum.squares);
    }
    return to;
}

size_t windows_encode(const struct windows_shape *s, const struct windows *w,
                      uint8_t *out)
{
    uint8_t *to = out;
    to = put_u8(to, VERSION);
    to = put_u8(to, (uint8_t)w->tile_count);
    to = put_u8(to, columns_of(s));
    to = put_u8(to, 0);
    to = put_u32(to, w->count);
    to = put_u32(to, w->label_total);
    to = put_u64(to, w->events_total);
    to = put_i64(to, w->newest_time_ms);
    to = put_i64(to, w->label_offset);
    to = put_points(w, to);
    to = put_labels(w, to);
    to = put_tiles(w, to);
    return (size_t)(to - out);
}

/* --- decoding ----------------------------------------------------------- */

struct head {
    uint8_t version, columns, zero;
    uint32_t tiles, count, labels;
};

static enum rc decode_points(const struct windows_shape *s, struct windows *w,
                             struct reader *r, const struct head *head,
                             struct err *e)
{
    int64_t gone_ms = windows_horizon(w->newest_time_ms, windows_keep_ms(s));
    int64_t before_ms = INT64_MIN;
    uint32_t capacity = CAPACITY_FIRST;
    while (capacity < head->count)
        capacity *= 2;
    windows_set_capacity(s, w, capacity);
    for (; w->count < head->count; w->count++) {
        struct point p = {.time_ms = read_i64(r)};
        bool is_old = p.time_ms <= gone_ms;
        p.amount = read_i64(r);
        if (p.time_ms < before_ms ||
            (is_old && head->count - w->count > windows_stay(s)))
            return ERR(e, RC_STOP,
                       "windows: event %u is out of its place in "
                       "time",
                       w->count);
        w->points[w->count] = p;
        if (w->others)
            windows_set_other(w, w->count,
                              head->columns & COLUMN_OTHER ? read_u64(r) : 0);
        if (w->ids)
            w->ids[w->count] = head->columns & COLUMN_ID ? read_u64(r) : 0;
        before_ms = p.time_ms;
    }
    if (before_ms > w->newest_time_ms)
        return ERR(e, RC_STOP, "windows: an event is newer than the newest");
    return RC_OK;
}

static enum rc decode_labels(const struct windows_shape *s, struct windows *w,
                             struct reader *r, uint32_t count, struct err *e)
{
    int64_t gone_ms = windows_labels_gone(s, w);
    uint32_t capacity = CAPACITY_FIRST;
    while (capacity < count)
        capacity *= 2;
    windows_set_label_capacity(s, w, capacity);
    for (; w->label_total < count; w->label_total++) {
        const struct label *before = w->labels + w->label_total - 1;
        struct label l = {.time_ms = read_i64(r)};
        uint8_t fraud;
        l.event_id = read_u64(r);
        l.known_ms = read_i64(r);
        fraud = read_u8(r);
        l.fraud = fraud;
        if (fraud > 1 || l.event_id == 0 || l.time_ms <= gone_ms ||
            (w->label_total > 0 &&
             (l.time_ms < before->time_ms || (l.time_ms == before->time_ms &&
                                              l.event_id <= before->event_id))))
            return ERR(e, RC_STOP, "windows: label %u is out of its place",
                       w->label_total);
        w->labels[w->label_total] = l;
    }
    return RC_OK;
}

static enum rc decode_tiles(const struct windows_shape *s, struct windows *w,
                            struct reader *r, uint32_t count, struct err *e)
{
    int64_t gone_ms = windows_horizon(w->newest_time_ms, windows_keep_ms(s));
    w->tiles = pool_take(s->pool, TILES_MAX * sizeof *w->tiles);
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
            t.index > windows_tile_index(s, w->newest_time_ms) ||
            windows_tile_end(s, t.index) <= gone_ms)
            return ERR(e, RC_STOP,
                       "windows: tile %u is out of its place in "
                       "time",
                       w->tile_count);
        w->tiles[w->tile_count] = t;
    }
    return RC_OK;
}

static enum rc decode_head(const struct windows_shape *s, struct windows *w,
                           struct reader *r, struct head *head, struct err *e)
{
    *head = (struct head){.version = read_u8(r)};
    if (!r->bad && head->version != VERSION_PLAIN && head->version != VERSION)
        return ERR(e, RC_STOP, "windows: version %d, this build reads %d",
                   head->version, VERSION);
    head->tiles = read_u8(r);
    if (head->version == VERSION) {
        head->columns = read_u8(r);
        head->zero = read_u8(r);
    }
    head->count = read_u32(r);
    if (head->version == VERSION) head->labels = read_u32(r);
    w->events_total = read_u64(r);
    w->newest_time_ms = read_i64(r);
    if (head->version == VERSION) w->label_offset = read_i64(r);
    if (r->bad) return ERR(e, RC_STOP, "windows: shorter than their head");
    if (head->version == VERSION &&
        (head->columns != columns_of(s) || head->zero != 0))
        return ERR(e, RC_STOP,
                   "windows: their events have other fields than the "
                   "configuration maps; `millrace reset` folds them anew");
    return RC_OK;
}

static enum rc check_counts(const struct windows_shape *s,
                            const struct windows *w, const struct reader *r,
                            const struct head *head, struct err *e)
{
    if (r->left.len != head->count * point_bytes(head->columns) +
                           (size_t)head->labels * LABEL_BYTES +
                           (size_t)head->tiles * TILE_BYTES)
        return ERR(e, RC_STOP,
                   "windows: %zu bytes after the head are not %u "
                   "events, %u labels and %u tiles",
                   r->left.len, head->count, head->labels, head->tiles);
    if (head->count > w->events_total || head->count > s->events_max ||
        head->labels > s->events_max || head->tiles > TILES_MAX ||
        (head->count + head->labels + head->tiles > 0 && !s->has_time) ||
        (head->labels > 0 && !s->has_labels) || w->label_offset < -1 ||
        (w->events_total == 0 && w->newest_time_ms != INT64_MIN))
        return ERR(e, RC_STOP,
                   "windows: %u events, %u labels and %u tiles of %llu events "
                   "ever cannot be",
                   head->count, head->labels, head->tiles,
                   (unsigned long long)w->events_total);
    return RC_OK;
}

static enum rc decode_body(const struct windows_shape *s, struct windows *w,
                           struct slice in, struct err *e)
{
    struct reader r = reader_of(in);
    struct head head;
    TRY(decode_head(s, w, &r, &head, e));
    TRY(check_counts(s, w, &r, &head, e));
    if (head.count > 0) TRY(decode_points(s, w, &r, &head, e));
    if (head.labels > 0) TRY(decode_labels(s, w, &r, head.labels, e));
    if (head.tiles > 0) TRY(decode_tiles(s, w, &r, head.tiles, e));
    assert(reader_done(&r));
    windows_link(s, w);
    windows_mark(w);
    windows_sum(s, w);
    windows_count_tile_frauds(s, w);
    return RC_OK;
}

bool windows_lack_ends(struct slice in)
{
    return in.len > 0 && in.ptr[0] == VERSION_PLAIN;
}

/* The newest point of this time and amount that nothing is known of. */
static uint32_t find_unknown(const struct windows *w,
                             const struct past_event *ev)
{
    int64_t amount = ev->flags & PAST_NO_AMOUNT ? NO_AMOUNT : ev->amount;
    uint32_t at = windows_newer(w, w->first, windows_end(w), ev->time_ms);
    while (at-- > w->first && w->points[at].time_ms == ev->time_ms)
        if (w->points[at].amount == amount &&
            (!w->others || w->others[at] == 0) && (!w->ids || w->ids[at] == 0))
            return at;
    return NO_POINT;
}

void windows_fill_in(const struct windows_shape *s, struct windows *w,
                     const struct past_event *known, uint32_t count)
{
    while (count-- > 0) {
        uint32_t at = find_unknown(w, &known[count]);
        if (at == NO_POINT) continue;
        if (w->others) windows_set_other(w, at, known[count].item);
        if (w->ids) w->ids[at] = known[count].event_id;
    }
    windows_link(s, w);
    windows_sum(s, w);
}

enum rc windows_decode(const struct windows_shape *s, struct windows *w,
                       struct slice in, struct err *e)
{
    enum rc rc;
    assert(w->events_total == 0 && w->label_offset == -1);
    rc = decode_body(s, w, in, e);
    if (rc == RC_OK) return rc;
    windows_release(s, w);
    windows_set_empty(s, w);
    return rc;
}
