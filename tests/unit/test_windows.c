/* test_windows.c - goal: windows are exact, whatever the order of events and
 * labels and wherever the row was stored and read back; beyond their limit
 * they are off by at most one tile.
 * Method: a twin that keeps every event and label ever applied and reads each
 * window from scratch; rows must be equal in every bit. Then hand-made cases,
 * damage, and the golden bytes of every version. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "golden.h"
#include "hash.h"
#include "history.h"
#include "train.h"
#include "windows.h"
#include "windows_inside.h"

#define SECOND_MS INT64_C(1000)
#define DAY_MS    (86400 * SECOND_MS)

static struct windows_shape shape_of(uint32_t events_max)
{
    return (struct windows_shape){.count = 3,
                                  .length_ms = {50, 200, 1000},
                                  .events_max = events_max,
                                  .values_max = 5,
                                  .amount_scale = 100,
                                  .has_amount = true,
                                  .has_time = true,
                                  .has_other = true};
}

/* An item's row with labels, whose windows reach further than the others. */
static struct windows_shape item_shape(uint32_t events_max)
{
    struct windows_shape s = shape_of(events_max);
    s.entity = ENTITY_ITEM;
    s.has_labels = true;
    s.label_delay_ms = 60;
    s.label_count = 3;
    s.label_length_ms[0] = 40;
    s.label_length_ms[1] = 300;
    s.label_length_ms[2] = 1200;
    return s;
}

/* --- the twin ---------------------------------------------------------- */

enum { TWIN_MAX = 1000 };

struct twin {
    struct past_event events[TWIN_MAX]; /* by time, then arrival */
    bool fraud[TWIN_MAX];
    struct window_label labels[TWIN_MAX]; /* in order of arrival */
    uint32_t count, label_count;
    int64_t newest_ms;
};

/* By the label that became known last, of equals the later one. */
static bool twin_is_fraud(const struct twin *t, const struct past_event *ev)
{
    const struct window_label *last = NULL;
    for (uint32_t i = 0; i < t->label_count; i++) {
        const struct window_label *l = &t->labels[i];
        if (l->event_id == ev->event_id && l->time_ms == ev->time_ms &&
            (!last || l->known_ms >= last->known_ms))
            last = l;
    }
    return last && last->fraud;
}

static void twin_label(struct twin *t, const struct window_label *l)
{
    t->labels[t->label_count++] = *l;
    for (uint32_t i = 0; i < t->count; i++)
        t->fraud[i] = twin_is_fraud(t, &t->events[i]);
}

static void twin_add(struct aggregate *a, const struct past_event *p)
{
    a->count++;
    if (p->flags & PAST_NO_AMOUNT) return;
    a->amount_count++;
    a->sum += p->amount;
    a->squares += (unsigned __int128)((__int128)p->amount * p->amount);
}

/* Is it the last of its item among the events up to own? */
static bool twin_is_distinct(const struct twin *t, uint32_t i, uint32_t own)
{
    if (t->events[i].item == 0) return false;
    for (uint32_t k = i + 1; k <= own; k++)
        if (t->events[k].item == t->events[i].item) return false;
    return true;
}

static bool twin_is_known(const struct twin *t, const struct windows_shape *s,
                          uint32_t i, int64_t now_ms)
{
    return t->fraud[i] && t->events[i].time_ms + s->label_delay_ms <= now_ms;
}

static void twin_windows(const struct twin *t, const struct windows_shape *s,
                         uint32_t first, uint32_t own, struct reading *r)
{
    int64_t now_ms = t->events[own].time_ms;
    for (uint32_t w = 0; w < s->count; w++)
        for (uint32_t i = first; i <= own; i++) {
            if (t->events[i].time_ms <= now_ms - s->length_ms[w]) continue;
            twin_add(&r->window[w].all, &t->events[i]);
            r->window[w].distinct += twin_is_distinct(t, i, own);
            if (twin_is_known(t, s, i, now_ms))
                twin_add(&r->window[w].frauds, &t->events[i]);
        }
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void twin_values(const struct twin *t, const struct windows_shape *s,
                        uint32_t first, uint32_t own, struct reading *r)
{
    int64_t amounts[VALUES_MAX];
    uint32_t n = 0;
    for (uint32_t i = first; i < own; i++) {
        if (own - i > s->values_max) continue;
        if (t->events[i].flags & PAST_NO_AMOUNT) continue;
        if (twin_is_known(t, s, i, t->events[own].time_ms)) continue;
        twin_add(&r->values.all, &t->events[i]);
        amounts[n++] = t->events[i].amount;
    }
    if (n == 0) return;
    qsort(amounts, n, sizeof *amounts, ascending);
    r->values.median_twice = amounts[n / 2] + amounts[(n - 1) / 2];
}

/* What follows from one mature event more. */
static void twin_mature(struct label_sum *l, const struct past_event *ev,
                        bool fraud)
{
    l->latest_is_fraud = fraud;
    l->good_since_last++;
    if (!fraud) {
        l->run_length = 0;
        return;
    }
    if (l->run_length++ == 0) l->run_start_ms = ev->time_ms;
    if (!l->has_fraud) l->first_ms = ev->time_ms;
    l->has_fraud = true;
    l->last_ms = ev->time_ms;
    l->good_since_last = 0;
}

static void twin_labels(const struct twin *t, const struct windows_shape *s,
                        uint32_t first, uint32_t own, struct reading *r)
{
    int64_t mature_ms = t->events[own].time_ms - s->label_delay_ms;
    bool latest[3] = {false};
    uint32_t seen = 0;
    for (uint32_t i = first; i <= own; i++) {
        int64_t at_ms = t->events[i].time_ms;
        if (at_ms > mature_ms) continue;
        for (uint32_t w = 0; w < s->label_count; w++) {
            if (at_ms <= mature_ms - s->label_length_ms[w]) continue;
            r->labels.window[w].count++;
            r->labels.window[w].frauds += t->fraud[i];
        }
        if (at_ms <= mature_ms - s->label_length_ms[s->label_count - 1])
            continue;
        latest[seen++ % 3] = t->fraud[i];
        twin_mature(&r->labels, &t->events[i], t->fraud[i]);
    }
    r->labels.latest_count = seen < 3 ? seen : 3;
    r->labels.latest_frauds = latest[0] + latest[1] + latest[2];
}

static uint32_t twin_insert(struct twin *t, const struct past_event *ev)
{
    uint32_t at = t->count;
    while (at > 0 && t->events[at - 1].time_ms > ev->time_ms)
        at--;
    memmove(t->events + at + 1, t->events + at,
            (t->count - at) * sizeof *t->events);
    memmove(t->fraud + at + 1, t->fraud + at, t->count - at);
    t->events[at] = *ev;
    t->fraud[at] = twin_is_fraud(t, ev);
    t->count++;
    if (ev->time_ms > t->newest_ms) t->newest_ms = ev->time_ms;
    return at;
}

/* The features of the event that stands at own. */
static void twin_row(const struct twin *t, const struct windows_shape *s,
                     uint32_t own, uint64_t events_total, float *out)
{
    struct reading r = {0};
    int64_t keep_ms = s->length_ms[s->count - 1];
    uint32_t first = 0;
    if (s->label_count > 0)
        keep_ms = s->label_delay_ms + s->label_length_ms[s->label_count - 1];
    while (t->count - first > s->values_max + 1 &&
           t->events[first].time_ms <= t->newest_ms - keep_ms)
        first++;
    twin_windows(t, s, first > own ? own : first, own, &r);
    twin_values(t, s, first, own, &r);
    if (s->label_count > 0) twin_labels(t, s, first, own, &r);
    windows_fill(s, &t->events[own], events_total, &r, out);
}

static struct past_event random_event(uint64_t seed, uint32_t i, int64_t *now)
{
    uint64_t kind = draw(seed, i, 0) % 10;
    struct past_event ev = {.amount = (int64_t)(draw(seed, i, 1) % 20000),
                            .item = draw(seed, i, 6) % 7,
                            .event_id = i + 1};
    if (kind < 6)
        *now += (int64_t)(draw(seed, i, 2) % 40);
    else if (kind == 6)
        *now += (int64_t)(draw(seed, i, 2) % 1500);
    ev.time_ms = *now; /* kinds 7, 8: equal times */
    if (kind == 9) ev.time_ms -= (int64_t)(draw(seed, i, 3) % 1200);
    if (draw(seed, i, 4) % 8 == 0) ev.flags |= PAST_NO_AMOUNT;
    if (draw(seed, i, 5) % 16 == 0) ev.amount = -ev.amount;
    return ev;
}

/* Of an event of the list, or with a time that is not its own: known early or
 * late, a second and a third time, otherwise than before. */
static struct window_label random_label(uint64_t seed, uint32_t i,
                                        const struct past_event *events,
                                        uint32_t count)
{
    uint64_t bits = draw(seed, i, 7);
    const struct past_event *ev = &events[bits % count];
    return (struct window_label){.event_id = ev->event_id,
                                 .time_ms = ev->time_ms + (bits >> 61 == 0),
                                 .known_ms = (int64_t)(bits >> 20) % 50,
                                 .fraud = bits >> 40 & 1};
}

static struct windows *stored_and_back(const struct windows_shape *s,
                                       struct windows *w)
{
    size_t size = windows_encoded_size(s, w);
    uint8_t *bytes = malloc(size), *again = malloc(size);
    struct windows *back = windows_new(s);
    struct err e;
    assert_non_null(bytes);
    assert_non_null(again);
    assert_int_equal(windows_encode(s, w, bytes), size);
    assert_int_equal(windows_decode(s, back, slice_of(bytes, size), &e), RC_OK);
    assert_int_equal(windows_encoded_size(s, back), size);
    assert_int_equal(windows_encode(s, back, again), size);
    assert_memory_equal(bytes, again, size);
    free(bytes);
    free(again);
    windows_free(s, w);
    return back;
}

/* --- tests ------------------------------------------------------------- */

/* One row and its twin go through the same events and labels. */
static void assert_same(const struct windows_shape *s, struct twin *t,
                        uint64_t seed)
{
    enum { EVENTS = 500 };
    static struct past_event events[EVENTS];
    struct windows *w = windows_new(s);
    float row[WINDOW_FEATURES_MAX], twin[WINDOW_FEATURES_MAX];
    size_t size = windows_features(s) * sizeof *row;
    int64_t now = seed % 2 ? 1500000000000 : -700;
    for (uint32_t i = 0; i < EVENTS; i++)
        events[i] = random_event(seed, i, &now);
    *t = (struct twin){.newest_ms = INT64_MIN + 10000};
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint32_t own = twin_insert(t, &events[i]);
        twin_row(t, s, own, i + 1, twin);
        assert_false(windows_apply(s, w, &events[i], row));
        assert_memory_equal(row, twin, size);
        windows_recall(s, w, &events[i], i + 1, row);
        assert_memory_equal(row, twin, size);
        for (uint32_t k = 0; s->has_labels && k < draw(seed, i, 8) % 4; k++) {
            /* Of the latest events, and of some that are still to come. */
            uint32_t to = i + 20 < EVENTS ? i + 20 : EVENTS;
            uint32_t from = i > 40 ? i - 40 : 0;
            struct window_label l =
                random_label(seed, 4 * i + k, events + from, to - from);
            if (t->label_count == TWIN_MAX) break;
            twin_label(t, &l);
            assert_true(windows_label(s, w, t->label_count, &l));
            assert_false(windows_label(s, w, t->label_count, &l));
        }
        if (draw(seed, i, 9) % 7 == 0) w = stored_and_back(s, w);
    }
    windows_free(s, w);
}

static void test_running_equals_from_scratch(void **state)
{
    struct twin *t = malloc(sizeof *t);
    (void)state;
    assert_non_null(t);
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct windows_shape s = seed % 3 ? item_shape(4096) : shape_of(4096);
        if (seed % 3 == 2) { /* a user's row with labels */
            s.entity = ENTITY_USER;
            s.label_count = 0;
        }
        if (seed % 4 == 3) s.values_max = 0;
        assert_same(&s, t, seed);
    }
    free(t);
}

static struct slice bytes_of(const struct windows_shape *s,
                             const struct windows *w)
{
    size_t size = windows_encoded_size(s, w);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    assert_int_equal(windows_encode(s, w, bytes), size);
    return slice_of(bytes, size);
}

enum { ORDER_EVENTS = 60, ORDER_LABELS = 90, ORDERS = 40 };

/* The bytes of a row to which these came in some order. */
static struct slice row_in_order(const struct windows_shape *s, uint64_t seed,
                                 const struct past_event *events,
                                 const struct window_label *labels)
{
    struct windows *w = windows_new(s);
    uint32_t order[ORDER_EVENTS + ORDER_LABELS],
        all = ORDER_EVENTS + ORDER_LABELS;
    float row[WINDOW_FEATURES_MAX];
    struct slice bytes;
    for (uint32_t i = 0; i < all; i++) {
        uint32_t k = (uint32_t)(draw(seed, i, 0) % (i + 1));
        order[i] = order[k];
        order[k] = i;
    }
    for (uint32_t i = 0; i < all; i++)
        if (order[i] < ORDER_EVENTS)
            (void)windows_apply(s, w, &events[order[i]], row);
        else
            (void)windows_label(s, w, i, &labels[order[i] - ORDER_EVENTS]);
    (void)windows_label(s, w, all, &labels[ORDER_LABELS - 1]);
    bytes = bytes_of(s, w);
    windows_free(s, w);
    return bytes;
}

/* One event each step_ms, a label of each, and labels of events that are not
 * there. */
static void assert_any_order(const struct windows_shape *s, int64_t step_ms)
{
    struct past_event events[ORDER_EVENTS];
    struct window_label labels[ORDER_LABELS];
    struct slice first;
    for (uint32_t i = 0; i < ORDER_EVENTS; i++)
        events[i] = (struct past_event){.time_ms = 5000 + step_ms * (int64_t)i,
                                        .amount = i,
                                        .event_id = i + 1};
    for (uint32_t i = 0; i < ORDER_LABELS; i++)
        labels[i] = (struct window_label){
            .event_id = i + 1,
            .time_ms = 5000 + step_ms * (int64_t)(i % ORDER_EVENTS) +
                       (i >= ORDER_EVENTS),
            .known_ms = i,
            .fraud = draw(5, i, 0) % 2};
    first = row_in_order(s, 0, events, labels);
    for (uint64_t seed = 1; seed < ORDERS; seed++) {
        struct slice bytes = row_in_order(s, seed, events, labels);
        assert_true(slice_equal(first, bytes));
        free((void *)(uintptr_t)bytes.ptr);
    }
    free((void *)(uintptr_t)first.ptr);
}

/* Events and labels commute: in whatever order they come, the same row comes
 * of it. Once the labels are more than the row keeps, once events stay that
 * are older than any window. */
static void test_any_order_is_the_same_row(void **state)
{
    struct windows_shape s = item_shape(64);
    (void)state;
    assert_any_order(&s, 20);
    s = item_shape(128);
    s.values_max = 100;
    assert_any_order(&s, 400);
}

static float feature(const struct windows_shape *s, const float *row,
                     const char *name)
{
    for (uint32_t f = 0; f < windows_features(s); f++) {
        char buffer[64];
        if (strcmp(windows_feature_name(s, f, buffer, sizeof buffer), name) ==
            0)
            return row[f];
    }
    fail_msg("no feature %s", name);
    return NAN;
}

static void test_by_hand(void **state)
{
    struct windows_shape s = shape_of(100);
    struct windows *w = windows_new(&s);
    float row[WINDOW_FEATURES_MAX];
    struct past_event a = {.time_ms = 1000, .gap_ms = -1, .amount = 1000};
    struct past_event b = {.time_ms = 1049, .gap_ms = 49, .amount = 3000};
    struct past_event c = {.time_ms = 1050, .gap_ms = 1, .amount = 2000};
    (void)state;
    (void)windows_apply(&s, w, &a, row);
    assert_true(feature(&s, row, "count_50ms") == 1);
    assert_true(feature(&s, row, "amount") == 10);
    assert_true(isnan(feature(&s, row, "gap_s")));
    assert_true(isnan(feature(&s, row, "amount_log_ratio")));
    assert_true(isnan(feature(&s, row, "amount_ratio_50ms")));
    assert_true(isnan(feature(&s, row, "amount_deviation_50ms")));
    (void)windows_apply(&s, w, &b, row);
    assert_true(feature(&s, row, "count_50ms") == 2);
    assert_true(feature(&s, row, "amount_mean_50ms") == 20);
    assert_true(feature(&s, row, "amount_deviation_50ms") == 10);
    assert_true(feature(&s, row, "amount_ratio_50ms") == 3);
    assert_true(isnan(feature(&s, row, "amount_z_50ms"))); /* of one amount */
    assert_float_equal(feature(&s, row, "gap_s"), 0.049, 1e-6);
    (void)windows_apply(&s, w, &c, row); /* a is exactly 50 ms old: outside */
    assert_true(feature(&s, row, "count_50ms") == 2);
    assert_true(feature(&s, row, "amount_sum_50ms") == 50);
    assert_true(feature(&s, row, "count_1s") == 3);
    assert_true(feature(&s, row, "amount_z_1s") == 0);
    assert_true(feature(&s, row, "events_total") == 3);
    windows_free(&s, w);
}

static void label(const struct windows_shape *s, struct windows *w,
                  uint64_t event_id, int64_t time_ms, bool fraud,
                  int64_t known_ms)
{
    const struct window_label l = {.event_id = event_id,
                                   .time_ms = time_ms,
                                   .known_ms = known_ms,
                                   .fraud = fraud};
    assert_true(windows_label(s, w, windows_label_offset(w) + 1, &l));
}

static void event(const struct windows_shape *s, struct windows *w, uint64_t id,
                  int64_t time_ms, int64_t amount, float *row)
{
    const struct past_event ev = {
        .time_ms = time_ms, .event_id = id, .item = id, .amount = amount};
    (void)windows_apply(s, w, &ev, row);
}

/* Delay 60, windows 40, 300 and 1200. */
static void test_labels_by_hand(void **state)
{
    struct windows_shape s = item_shape(100);
    struct windows *w = windows_new(&s);
    float row[WINDOW_FEATURES_MAX];
    (void)state;
    event(&s, w, 1, 1000, 100, row);
    assert_true(feature(&s, row, "item_fraud_mature_1200ms") == 0);
    assert_true(isnan(feature(&s, row, "item_fraud_rate_1200ms")));
    assert_true(isnan(feature(&s, row, "item_fraud_latest_1")));
    label(&s, w, 2, 1100, true, 1); /* before its event */
    event(&s, w, 2, 1100, 200, row);
    assert_true(feature(&s, row, "item_fraud_mature_40ms") == 0);
    assert_true(feature(&s, row, "item_fraud_mature_300ms") == 1);
    assert_true(feature(&s, row, "item_fraud_rate_300ms") == 0);
    assert_true(feature(&s, row, "item_fraud_latest_1") == 0);
    assert_true(isnan(feature(&s, row, "item_fraud_since_last_s")));
    event(&s, w, 3, 1159, 300, row); /* 59 ms after: it is not mature */
    assert_true(feature(&s, row, "item_fraud_latest_1") == 0);
    event(&s, w, 4, 1160, 400, row);
    assert_true(feature(&s, row, "item_fraud_latest_1") == 1);
    assert_true(feature(&s, row, "item_fraud_rate_40ms") == 1);
    assert_true(feature(&s, row, "item_fraud_rate_300ms") == 0.5F);
    assert_true(feature(&s, row, "item_fraud_run_length") == 1);
    label(&s, w, 3, 1159, true, 1);
    label(&s, w, 9, 1159, true, 1); /* of no event: no change */
    label(&s, w, 3, 1158, true, 1); /* nor one with another time */
    event(&s, w, 5, 1230, 500, row);
    assert_true(feature(&s, row, "item_fraud_mature_300ms") == 4);
    assert_true(feature(&s, row, "item_fraud_rate_300ms") == 0.5F);
    assert_true(feature(&s, row, "item_fraud_run_length") == 0); /* 4: good */
    assert_true(isnan(feature(&s, row, "item_fraud_run_age_s")));
    assert_true(feature(&s, row, "item_fraud_latest_3") == (float)(2 / 3.0));
    assert_true(feature(&s, row, "item_fraud_good_since_last") == 1);
    assert_float_equal(feature(&s, row, "item_fraud_since_first_s"), 0.130,
                       1e-6);
    assert_float_equal(feature(&s, row, "item_fraud_since_last_s"), 0.071,
                       1e-6);
    label(&s, w, 4, 1160, true, 5);
    event(&s, w, 6, 1231, 600, row);
    assert_true(feature(&s, row, "item_fraud_run_length") == 3);
    assert_float_equal(feature(&s, row, "item_fraud_run_age_s"), 0.131, 1e-6);
    label(&s, w, 4, 1160, false, 4); /* known before: the other stays */
    event(&s, w, 7, 1232, 700, row);
    assert_true(feature(&s, row, "item_fraud_run_length") == 3);
    label(&s, w, 4, 1160, false, 5); /* of equals the one applied later */
    event(&s, w, 8, 1233, 800, row);
    assert_true(feature(&s, row, "item_fraud_run_length") == 0);
    windows_free(&s, w);
}

/* Of a user: what an amount is compared with has no known fraud in it. */
static void test_known_frauds_are_left_out(void **state)
{
    struct windows_shape s = item_shape(100);
    struct windows *w;
    float row[WINDOW_FEATURES_MAX];
    (void)state;
    s.entity = ENTITY_USER;
    s.label_count = 0;
    s.values_max = 4;
    w = windows_new(&s);
    event(&s, w, 1, 1000, 77777, row); /* not of the newest four */
    event(&s, w, 2, 1001, 100, row);
    event(&s, w, 3, 1002, 300, row);
    event(&s, w, 4, 1003, 50000, row);
    event(&s, w, 5, 1004, 800, row);
    event(&s, w, 6, 1005, 1100, row);
    assert_true(feature(&s, row, "amount_ratio_median") == 2);
    label(&s, w, 4, 1003, true, 1);
    label(&s, w, 1, 1000, true, 1);
    event(&s, w, 7, 1062, 1200, row); /* 4 is not mature, 1 is */
    assert_true(feature(&s, row, "amount_ratio_1s") ==
                (float)(12 / ((3 + 1 + 500 + 8 + 11) / 5.0)));
    event(&s, w, 8, 1063, 1200, row);
    assert_true(feature(&s, row, "amount_ratio_median") == (float)(12 / 11.0));
    assert_true(feature(&s, row, "amount_ratio_1s") ==
                (float)(12 / ((3 + 1 + 8 + 11 + 12) / 5.0)));
    assert_true(feature(&s, row, "amount_sum_1s") ==
                777.77F + 1 + 3 + 500 + 8 + 11 + 12 + 12);
    assert_true(feature(&s, row, "distinct_items_1s") == 8);
    windows_free(&s, w);
}

/* On tiles a label of fraud that names no exact event is one of the tile's. */
static void test_labels_on_tiles(void **state)
{
    struct windows_shape s = item_shape(16);
    struct windows *w = windows_new(&s);
    float row[WINDOW_FEATURES_MAX];
    (void)state;
    for (uint32_t i = 1; i <= 40; i++)
        event(&s, w, i, 1000 + i, 100, row);
    for (uint32_t i = 1; i <= 8; i++)
        label(&s, w, i, 1000 + i, true, 1);
    label(&s, w, 40, 1040, true, 1);
    w = stored_and_back(&s, w);
    event(&s, w, 41, 1140, 100, row);
    assert_true(feature(&s, row, "item_fraud_mature_300ms") == 40);
    assert_true(feature(&s, row, "item_fraud_rate_300ms") == (float)(9 / 40.0));
    assert_true(feature(&s, row, "item_fraud_run_length") == 1);
    assert_true(feature(&s, row, "item_count_200ms") == 41);
    windows_free(&s, w);
}

/* A late event counts for later ones, and sees only what is before it. */
static void test_late_events_land_in_their_place(void **state)
{
    struct windows_shape s = shape_of(100);
    struct windows *w = windows_new(&s);
    float row[WINDOW_FEATURES_MAX];
    struct past_event a = {.time_ms = 1000, .amount = 100};
    struct past_event b = {.time_ms = 1100, .amount = 200};
    struct past_event late = {
        .time_ms = 1040, .amount = 400, .flags = PAST_LATE};
    struct past_event c = {.time_ms = 1101, .amount = 800};
    (void)state;
    (void)windows_apply(&s, w, &a, row);
    (void)windows_apply(&s, w, &b, row);
    (void)windows_apply(&s, w, &late, row);
    assert_true(feature(&s, row, "count_50ms") == 2);
    assert_true(feature(&s, row, "amount_sum_200ms") == 5);
    (void)windows_apply(&s, w, &c, row);
    assert_true(feature(&s, row, "count_50ms") == 2);
    assert_true(feature(&s, row, "amount_sum_200ms") == 15);
    windows_free(&s, w);
}

static void test_calendar(void **state)
{
    struct windows_shape s = shape_of(100);
    static const struct {
        int64_t second;
        int hour, weekend, night;
    } CASES[] = {
        {0, 0, 0, 1},           /* Thursday 1970-01-01 00:00 */
        {-1, 23, 0, 0},         /* Wednesday 23:59:59 */
        {1533340800, 0, 1, 1},  /* Saturday 2018-08-04 00:00 */
        {1533513599, 23, 1, 0}, /* Sunday 2018-08-05 23:59:59 */
        {1533513600, 0, 0, 1},  /* Monday 2018-08-06 00:00 */
        {1533538800, 7, 0, 0},  /* 07:00 is no night */
        {1533538799, 6, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct windows *w = windows_new(&s);
        struct past_event ev = {.time_ms = CASES[i].second * 1000};
        float row[WINDOW_FEATURES_MAX];
        (void)windows_apply(&s, w, &ev, row);
        assert_true(feature(&s, row, "hour") == (float)CASES[i].hour);
        assert_true(feature(&s, row, "is_weekend") == (float)CASES[i].weekend);
        assert_true(feature(&s, row, "is_night") == (float)CASES[i].night);
        windows_free(&s, w);
    }
}

static void assert_name(const struct windows_shape *s, uint32_t f,
                        const char *expected)
{
    char name[64];
    assert_string_equal(windows_feature_name(s, f, name, sizeof name),
                        expected);
}

static void test_features_follow_the_mapping(void **state)
{
    struct windows_shape all = shape_of(100), s = all;
    (void)state;
    assert_int_equal(windows_features(&all), 7 + 4 + 3 * 7);
    assert_name(&all, 11, "count_50ms");
    assert_name(&all, 12, "distinct_items_50ms");
    s.has_other = false;
    assert_int_equal(windows_features(&s), 7 + 4 + 3 * 6);
    s.has_amount = false;
    assert_int_equal(windows_features(&s), 5 + 3 * 1);
    s.has_time = false;
    assert_int_equal(windows_features(&s), 1);
    s = all;
    s.length_ms[0] = 7 * DAY_MS;
    s.length_ms[1] = 90 * SECOND_MS;
    assert_name(&s, 11, "count_7d");
    assert_name(&s, 18, "count_90s");
    s = item_shape(100);
    assert_int_equal(windows_features(&s), 3 + 4 + 3 * 7 + 3 * 2 + 7);
    assert_name(&s, 0, "item_amount_log_ratio");
    assert_name(&s, 8, "item_distinct_users_50ms");
    assert_name(&s, 28, "item_fraud_mature_40ms");
    assert_name(&s, 29, "item_fraud_rate_40ms");
    assert_name(&s, 40, "item_fraud_good_since_last");
    s.has_labels = false;
    assert_int_equal(windows_features(&s), 3 + 4 + 3 * 7);
}

/* Equal amounts deviate by nothing, also where doubles would disagree. */
static void test_deviation_is_exact(void **state)
{
    struct windows_shape s = shape_of(100);
    const int64_t amounts[] = {3, 99999999999, PAST_AMOUNT_MAX,
                               -PAST_AMOUNT_MAX};
    (void)state;
    for (int k = 0; k < 4; k++) {
        struct windows *w = windows_new(&s);
        float row[WINDOW_FEATURES_MAX];
        for (int i = 0; i < 90; i++) {
            struct past_event ev = {.time_ms = i, .amount = amounts[k]};
            (void)windows_apply(&s, w, &ev, row);
        }
        assert_true(feature(&s, row, "amount_deviation_1s") == 0);
        windows_free(&s, w);
    }
}

/* Beyond the limit: the newest window is off by one tile's events at most,
 * and stored and kept rows still go on alike. */
static void test_tiles(void **state)
{
    struct windows_shape exact = shape_of(4096), few = shape_of(16);
    struct windows *a = windows_new(&exact), *b = windows_new(&few);
    struct windows *c = windows_new(&few);
    int64_t now = 5000;
    bool tiled = false;
    (void)state;
    for (uint32_t i = 0; i < 1500; i++) {
        struct past_event ev = {.time_ms = now, .amount = (int64_t)i};
        float full[WINDOW_FEATURES_MAX], row[WINDOW_FEATURES_MAX];
        float kept[WINDOW_FEATURES_MAX];
        now += (int64_t)(draw(3, i, 0) % 6);
        if (draw(3, i, 1) % 9 == 0)
            ev.time_ms -= (int64_t)(draw(3, i, 2) % 900);
        assert_false(windows_apply(&exact, a, &ev, full));
        tiled |= windows_apply(&few, b, &ev, row);
        (void)windows_apply(&few, c, &ev, kept);
        assert_memory_equal(row, kept, windows_features(&few) * sizeof *row);
        if (ev.time_ms == now || i % 2) c = stored_and_back(&few, c);
        /* 16 ms of tile at one event or so in 2.5 ms, and equal times */
        assert_true(fabsf(feature(&few, row, "count_1s") -
                          feature(&exact, full, "count_1s")) <= 24);
    }
    assert_true(tiled);
    windows_free(&exact, a);
    windows_free(&few, b);
    windows_free(&few, c);
}

/* Once the crowd has left the longest window, all is exact again. */
static void test_tiles_are_left_behind(void **state)
{
    struct windows_shape s = shape_of(16);
    struct windows *w = windows_new(&s);
    float row[WINDOW_FEATURES_MAX];
    struct past_event ev = {.time_ms = 0, .amount = 100};
    (void)state;
    for (int i = 0; i < 5000; i++)
        (void)windows_apply(&s, w, &ev, row);
    assert_true(feature(&s, row, "count_1s") == 5000);
    assert_true(feature(&s, row, "amount_sum_50ms") == 5000);
    ev.time_ms = 1016;
    assert_false(windows_apply(&s, w, &ev, row));
    assert_true(feature(&s, row, "count_1s") == 1);
    windows_free(&s, w);
}

static void test_extreme_times(void **state)
{
    struct windows_shape s = shape_of(16);
    const int64_t times[] = {INT64_MIN + 1, INT64_MIN + 2, 0,        INT64_MAX,
                             INT64_MIN,     INT64_MAX - 1, INT64_MAX};
    struct windows *w = windows_new(&s);
    (void)state;
    for (int round = 0; round < 20; round++)
        for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
            struct past_event ev = {.time_ms = times[i], .amount = INT64_MAX};
            float row[WINDOW_FEATURES_MAX];
            (void)windows_apply(&s, w, &ev, row);
            assert_true(feature(&s, row, "count_50ms") >= 1);
            w = stored_and_back(&s, w);
        }
    windows_free(&s, w);
}

enum { EXAMPLE_EVENTS = 80 };

static void example_events(struct past_event *out)
{
    int64_t now = 10000;
    for (uint32_t i = 0; i < EXAMPLE_EVENTS; i++) {
        out[i] = random_event(77, i, &now);
        now = now > 10700 ? 10700 : now;
        if (out[i].time_ms > 10700) out[i].time_ms = 10700;
    }
}

static struct windows *example(const struct windows_shape *s)
{
    struct past_event events[EXAMPLE_EVENTS];
    struct windows *w = windows_new(s);
    float row[WINDOW_FEATURES_MAX];
    example_events(events);
    for (uint32_t i = 0; i < EXAMPLE_EVENTS; i++) {
        (void)windows_apply(s, w, &events[i], row);
        if (s->has_labels && i % 5 == 0) {
            struct window_label l = {.event_id = events[i].event_id,
                                     .time_ms = events[i].time_ms,
                                     .known_ms = 20000 + i,
                                     .fraud = i % 2};
            assert_true(windows_label(s, w, i, &l));
        }
    }
    return w;
}

static void assert_refused(const struct windows_shape *s, struct slice bytes)
{
    struct windows *w = windows_new(s);
    struct windows_view view;
    struct err e;
    assert_int_equal(windows_decode(s, w, bytes, &e), RC_STOP);
    windows_look(s, w, &view);
    assert_int_equal(view.kept, 0);
    assert_int_equal(view.tiles, 0);
    windows_free(s, w);
}

static void assert_damage_is_refused(const struct windows_shape *s)
{
    struct windows_shape fewer = *s;
    struct windows *w = example(s);
    struct windows_view view;
    struct slice made = bytes_of(s, w);
    uint8_t *bytes = malloc(made.len + 1);
    assert_non_null(bytes);
    memcpy(bytes, made.ptr, made.len);
    fewer.events_max = 15;
    windows_look(s, w, &view);
    assert_int_equal(view.kept, 16);
    assert_true(view.tiles > 0);
    for (size_t len = 0; len < made.len; len++)
        assert_refused(s, slice_of(bytes, len));
    bytes[made.len] = 0;
    assert_refused(s, slice_of(bytes, made.len + 1));
    assert_refused(&fewer, made);
    for (size_t i = 0; i < 12; i++) { /* version, columns, counts */
        bytes[i] ^= 4;
        assert_refused(s, slice_of(bytes, made.len));
        bytes[i] ^= 4;
    }
    bytes[36 + 7] ^= 0x40; /* the first event's time: far ahead */
    assert_refused(s, slice_of(bytes, made.len));
    free(bytes);
    free((void *)(uintptr_t)made.ptr);
    windows_free(s, w);
}

static void test_damage_is_refused(void **state)
{
    struct windows_shape user = shape_of(16), item = item_shape(16), other;
    struct windows *w = example(&item);
    struct slice bytes = bytes_of(&item, w);
    uint8_t *label = (uint8_t *)(uintptr_t)bytes.ptr + 36 + 16 * 32;
    (void)state;
    assert_damage_is_refused(&user);
    assert_damage_is_refused(&item);
    label[24] ^= 2; /* neither a fraud nor good */
    assert_refused(&item, bytes);
    label[24] ^= 2;
    label[7] ^= 0x40; /* newer than the label after it */
    assert_refused(&item, bytes);
    label[7] ^= 0x40;
    memset(label + 8, 0, 8); /* of no event */
    assert_refused(&item, bytes);
    other = user;
    other.has_other = false; /* a row with a field that is not mapped */
    assert_refused(&other, bytes);
    windows_free(&item, w);
    free((void *)(uintptr_t)bytes.ptr);
}

static void assert_golden(const struct windows_shape *s, const char *name)
{
    struct windows *w = example(s), *back = windows_new(s);
    struct slice fresh = bytes_of(s, w), golden = golden_bytes(name, fresh);
    struct err e;
    assert_true(slice_equal(golden, fresh));
    assert_int_equal(windows_decode(s, back, golden, &e), RC_OK);
    windows_free(s, w);
    windows_free(s, back);
    free((void *)(uintptr_t)golden.ptr);
    free((void *)(uintptr_t)fresh.ptr);
}

static void test_golden_bytes(void **state)
{
    struct windows_shape user = shape_of(16), item = item_shape(16);
    (void)state;
    assert_golden(&user, "windows_v2.bin");
    assert_golden(&item, "windows_v2_item.bin");
}

/* A row of version 1 is one whose events had no other end. With those that
 * are known again it is the row that this version makes of the same events. */
static void test_version_1_is_read(void **state)
{
    struct windows_shape s = shape_of(16);
    struct slice golden = golden_bytes("windows_v1.bin", slice_of(NULL, 0));
    struct past_event events[EXAMPLE_EVENTS];
    struct slice read, made;
    struct windows *w = windows_new(&s), *same;
    struct windows_view view;
    struct err e;
    (void)state;
    s.values_max = 0; /* it kept no event that is in no window */
    assert_true(windows_lack_ends(golden));
    assert_int_equal(windows_decode(&s, w, golden, &e), RC_OK);
    windows_look(&s, w, &view);
    assert_int_equal(view.kept, 16);
    assert_int_equal(view.window[2].distinct, 0);
    example_events(events);
    windows_fill_in(&s, w, events, EXAMPLE_EVENTS);
    windows_look(&s, w, &view);
    assert_true(view.window[2].distinct > 0);
    same = example(&s);
    read = bytes_of(&s, w);
    made = bytes_of(&s, same);
    assert_true(slice_equal(read, made));
    assert_false(windows_lack_ends(made));
    windows_free(&s, w);
    windows_free(&s, same);
    free((void *)(uintptr_t)golden.ptr);
    free((void *)(uintptr_t)read.ptr);
    free((void *)(uintptr_t)made.ptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_running_equals_from_scratch),
        cmocka_unit_test(test_any_order_is_the_same_row),
        cmocka_unit_test(test_labels_by_hand),
        cmocka_unit_test(test_known_frauds_are_left_out),
        cmocka_unit_test(test_labels_on_tiles),
        cmocka_unit_test(test_late_events_land_in_their_place),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_features_follow_the_mapping),
        cmocka_unit_test(test_deviation_is_exact),
        cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_tiles_are_left_behind),
        cmocka_unit_test(test_extreme_times),
        cmocka_unit_test(test_damage_is_refused),
        cmocka_unit_test(test_golden_bytes),
        cmocka_unit_test(test_version_1_is_read),
    };
    return cmocka_run_group_tests_name("windows", tests, NULL, NULL);
}
