/* history.c - see history.h.
 *
 * Stored bytes, little-endian, version 1:
 *
 *   version u8 | fields u8 | numbers u8 | categoricals u8 | count u32 |
 *   events_total u64 | applied_offset i64 | newest_time_ms i64 |
 *   amount_count u64 | amount_sum i128 | listed_ms i64 |
 *   count x event, oldest first
 *
 *   event: time_ms i64 | gap_ms i64 | event_id u64 | flags u32 |
 *          item u64 | type u64 | category u64 | channel u64   if mapped
 *          amount i64, amount_log_ratio f32                   if mapped
 *          numbers x f32 | categoricals x u64
 *
 * Events are kept in memory as these bytes too, so encoding is two copies. */
#include "history.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "bytes.h"
#include "train.h"

enum {
    VERSION = 1,
    HEAD_BYTES = 4 + 4 + 5 * 8 + 16,
    EVENT_FIXED_BYTES = 8 + 8 + 8 + 4,
    EVENT_ID_AT = 8 + 8,
    ITEM_AT = EVENT_FIXED_BYTES, /* the first of those that may be left out */
    CAPACITY_FIRST = 4,
    FIELDS_STORED =
        TRAIN_ITEM | TRAIN_TYPE | TRAIN_CATEGORY | TRAIN_CHANNEL | TRAIN_AMOUNT,
};

/* 2^64 events of PAST_AMOUNT_MAX. */
#define SUM_MAX ((__int128)1 << 117)

void history_shape_init(struct history_shape *s)
{
    assert(s->numbers <= EXTRA_MAX && s->categoricals <= EXTRA_MAX);
    s->stride = EVENT_FIXED_BYTES + 4 * s->numbers + 8 * s->categoricals;
    for (uint32_t bit = 1; bit <= FIELDS_STORED; bit <<= 1)
        if (s->fields & FIELDS_STORED & bit)
            s->stride += bit == TRAIN_AMOUNT ? 8 + 4 : 8;
}

void history_init(struct history *h)
{
    *h = (struct history){.applied_offset = -1,
                          .newest_time_ms = INT64_MIN,
                          .listed_ms = INT64_MIN};
}

void history_fini(const struct history_shape *s, struct history *h)
{
    pool_give(s->pool, h->packed, (size_t)h->capacity * s->stride);
    history_init(h);
}

static void pack(const struct history_shape *s, const struct past_event *ev,
                 uint8_t *to)
{
    to = put_i64(to, ev->time_ms);
    to = put_i64(to, ev->gap_ms);
    to = put_u64(to, ev->event_id);
    to = put_u32(to, ev->flags);
    if (s->fields & TRAIN_ITEM) to = put_u64(to, ev->item);
    if (s->fields & TRAIN_TYPE) to = put_u64(to, ev->type);
    if (s->fields & TRAIN_CATEGORY) to = put_u64(to, ev->category);
    if (s->fields & TRAIN_CHANNEL) to = put_u64(to, ev->channel);
    if (s->fields & TRAIN_AMOUNT) {
        to = put_i64(to, ev->amount);
        to = put_f32(to, ev->amount_log_ratio);
    }
    for (uint32_t i = 0; i < s->numbers; i++)
        to = put_f32(to, ev->number[i]);
    for (uint32_t i = 0; i < s->categoricals; i++)
        to = put_u64(to, ev->categorical[i]);
}

static uint64_t take_u64(const uint8_t **from)
{
    *from += 8;
    return get_u64(*from - 8);
}

static void unpack(const struct history_shape *s, const uint8_t *from,
                   struct past_event *ev)
{
    *ev = (struct past_event){0};
    ev->time_ms = (int64_t)take_u64(&from);
    ev->gap_ms = (int64_t)take_u64(&from);
    ev->event_id = take_u64(&from);
    ev->flags = get_u32(from);
    from += 4;
    if (s->fields & TRAIN_ITEM) ev->item = take_u64(&from);
    if (s->fields & TRAIN_TYPE) ev->type = take_u64(&from);
    if (s->fields & TRAIN_CATEGORY) ev->category = take_u64(&from);
    if (s->fields & TRAIN_CHANNEL) ev->channel = take_u64(&from);
    if (s->fields & TRAIN_AMOUNT) {
        ev->amount = (int64_t)take_u64(&from);
        ev->amount_log_ratio = get_f32(from);
        from += 4;
    }
    for (uint32_t i = 0; i < EXTRA_MAX; i++)
        ev->number[i] = i < s->numbers ? get_f32(from + 4 * i) : NAN;
    from += 4 * s->numbers;
    for (uint32_t i = 0; i < s->categoricals; i++)
        ev->categorical[i] = take_u64(&from);
}

/* Only a block below events_max grows, and that is no ring yet: first is 0. */
static void grow(const struct history_shape *s, struct history *h)
{
    uint32_t capacity = h->capacity ? h->capacity * 2 : CAPACITY_FIRST;
    uint8_t *packed;
    if (capacity > s->events_max) capacity = s->events_max;
    packed = pool_take(s->pool, (size_t)capacity * s->stride);
    assert(h->first == 0);
    if (h->count) memcpy(packed, h->packed, (size_t)h->count * s->stride);
    pool_give(s->pool, h->packed, (size_t)h->capacity * s->stride);
    h->packed = packed;
    h->capacity = capacity;
}

/* The slot for one more event; the oldest leaves when events_max are kept. */
static uint8_t *slot_take(const struct history_shape *s, struct history *h)
{
    uint32_t slot;
    if (h->count == s->events_max) {
        slot = h->first;
        h->first = (h->first + 1) % s->events_max;
        return h->packed + (size_t)slot * s->stride;
    }
    if (h->count == h->capacity) grow(s, h);
    return h->packed + (size_t)h->count++ * s->stride;
}

/* ln(x + 1), mirrored for refunds. */
static double signed_log(double x)
{
    return x < 0 ? -log1p(-x) : log1p(x);
}

static void freeze_amount(const struct history_shape *s, struct history *h,
                          struct past_event *ev)
{
    double scale = s->amount_scale;
    ev->amount_log_ratio = 0;
    if (ev->flags & PAST_NO_AMOUNT) return;
    if (h->amount_count > 0)
        ev->amount_log_ratio =
            (float)(signed_log((double)ev->amount / scale) -
                    signed_log((double)h->amount_sum / (double)h->amount_count /
                               scale));
    h->amount_count++;
    h->amount_sum += ev->amount;
}

static void freeze_time(struct history *h, struct past_event *ev)
{
    int64_t gap_ms = 0;
    ev->flags &= ~(uint32_t)PAST_LATE;
    if (h->newest_time_ms == INT64_MIN) {
        gap_ms = -1;
    } else if (!(ev->flags & PAST_NO_TIME)) {
        if (ev->time_ms < h->newest_time_ms)
            ev->flags |= PAST_LATE;
        else if (__builtin_sub_overflow(ev->time_ms, h->newest_time_ms,
                                        &gap_ms))
            gap_ms = INT64_MAX;
    }
    ev->gap_ms = gap_ms;
    if (ev->time_ms > h->newest_time_ms) h->newest_time_ms = ev->time_ms;
}

bool history_apply(const struct history_shape *s, struct history *h,
                   int64_t offset, struct past_event *ev)
{
    assert(s->stride > 0 && offset >= 0);
    if (offset <= h->applied_offset) return false; /* I3 */
    freeze_time(h, ev);
    freeze_amount(s, h, ev);
    if (s->events_max > 0) pack(s, ev, slot_take(s, h));
    h->events_total++;
    h->applied_offset = offset;
    return true;
}

/* The newest first: what repeats mostly does so at once. */
bool history_find(const struct history_shape *s, const struct history *h,
                  uint64_t event_id, uint32_t *after)
{
    if (event_id == 0) return false;
    for (uint32_t i = 0; i < h->count; i++) {
        uint32_t slot = h->first + h->count - 1 - i;
        if (slot >= h->capacity) slot -= h->capacity;
        if (get_u64(h->packed + (size_t)slot * s->stride + EVENT_ID_AT) !=
            event_id)
            continue;
        *after = i;
        return true;
    }
    return false;
}

uint32_t history_items(const struct history_shape *s, const struct history *h,
                       uint64_t *out)
{
    for (uint32_t i = 0; i < h->count; i++) {
        uint32_t slot = h->first + i;
        if (slot >= h->capacity) slot -= h->capacity;
        out[i] = s->fields & TRAIN_ITEM
                     ? get_u64(h->packed + (size_t)slot * s->stride + ITEM_AT)
                     : 0;
    }
    return h->count;
}

void history_copy(const struct history_shape *s, const struct history *h,
                  uint32_t count, uint32_t after, struct past_event *out)
{
    assert(after <= h->count && count <= h->count - after);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = h->first + h->count - after - count + i;
        if (slot >= h->capacity) slot -= h->capacity;
        unpack(s, h->packed + (size_t)slot * s->stride, &out[i]);
    }
}

size_t history_bytes_max(const struct history_shape *s)
{
    return HEAD_BYTES + (size_t)s->events_max * s->stride;
}

size_t history_encoded_size(const struct history_shape *s,
                            const struct history *h)
{
    return HEAD_BYTES + (size_t)h->count * s->stride;
}

size_t history_encode(const struct history_shape *s, const struct history *h,
                      uint8_t *out)
{
    uint8_t *to = out;
    uint32_t wrapped = h->first; /* events at the front of a ring, the newest */
    to = put_u8(to, VERSION);
    to = put_u8(to, (uint8_t)(s->fields & FIELDS_STORED));
    to = put_u8(to, (uint8_t)s->numbers);
    to = put_u8(to, (uint8_t)s->categoricals);
    to = put_u32(to, h->count);
    to = put_u64(to, h->events_total);
    to = put_i64(to, h->applied_offset);
    to = put_i64(to, h->newest_time_ms);
    to = put_u64(to, h->amount_count);
    to = put_u128(to, (unsigned __int128)h->amount_sum);
    to = put_i64(to, h->listed_ms);
    if (h->count > 0) {
        to = put_bytes(to, slice_of(h->packed + (size_t)h->first * s->stride,
                                    (size_t)(h->count - wrapped) * s->stride));
        to = put_bytes(to, slice_of(h->packed, (size_t)wrapped * s->stride));
    }
    return (size_t)(to - out);
}

/* The head, after which r stands at the events. */
static enum rc decode_head(const struct history_shape *s, struct history *h,
                           struct reader *r, struct err *e)
{
    uint8_t version = read_u8(r);
    uint8_t fields = read_u8(r), numbers = read_u8(r),
            categoricals = read_u8(r);
    h->count = read_u32(r);
    h->events_total = read_u64(r);
    h->applied_offset = read_i64(r);
    h->newest_time_ms = read_i64(r);
    h->amount_count = read_u64(r);
    h->amount_sum = (__int128)read_u128(r);
    h->listed_ms = read_i64(r);
    if (r->bad) return ERR(e, RC_STOP, "history: shorter than its head");
    if (version != VERSION)
        return ERR(e, RC_STOP, "history: version %d, this build reads %d",
                   version, VERSION);
    if (fields != (s->fields & FIELDS_STORED) || numbers != s->numbers ||
        categoricals != s->categoricals)
        return ERR(e, RC_STOP,
                   "history: its events have other fields than the "
                   "configuration maps; `millrace reset` folds them anew");
    return RC_OK;
}

bool history_stored_head(struct slice in, int64_t *offset, int64_t *newest_ms)
{
    struct reader r = reader_of(in);
    (void)read_bytes(&r, 4 + 4 + 8); /* to events_total, and past it */
    *offset = read_i64(&r);
    *newest_ms = read_i64(&r);
    return !r.bad;
}

enum rc history_decode(const struct history_shape *s, struct history *h,
                       struct slice in, struct err *e)
{
    struct reader r = reader_of(in);
    struct history got;
    uint64_t kept;
    assert(h->packed == NULL);
    history_init(h);
    history_init(&got);
    TRY(decode_head(s, &got, &r, e));
    kept = got.events_total < s->events_max ? got.events_total : s->events_max;
    if (got.count != kept)
        return ERR(e, RC_STOP, "history: keeps %u of %llu events, not %llu",
                   got.count, (unsigned long long)got.events_total,
                   (unsigned long long)kept);
    if (r.left.len != (size_t)got.count * s->stride)
        return ERR(e, RC_STOP, "history: %zu bytes of events, %u need %zu",
                   r.left.len, got.count, (size_t)got.count * s->stride);
    if ((got.events_total == 0 && got.applied_offset != -1) ||
        got.applied_offset < -1 || got.amount_count > got.events_total ||
        got.amount_sum < -SUM_MAX || got.amount_sum > SUM_MAX)
        return ERR(e, RC_STOP, "history: its counters contradict each other");

    *h = got;
    if (got.count == 0) return RC_OK;
    h->capacity = CAPACITY_FIRST;
    while (h->capacity < got.count)
        h->capacity *= 2;
    if (h->capacity > s->events_max) h->capacity = s->events_max;
    h->packed = pool_take(s->pool, (size_t)h->capacity * s->stride);
    memcpy(h->packed, r.left.ptr, r.left.len);
    return RC_OK;
}
