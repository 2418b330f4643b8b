/* test_history.c - goal: a history is a fold over offsets whose bytes depend
 * on nothing else, and whose stored bytes are checked before use.
 * Method: random events against a plain array, every stretch applied twice,
 * every truncation and every single changed head byte of stored rows, and
 * the golden bytes of version 1. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "golden.h"
#include "hash.h"
#include "history.h"
#include "train.h"

enum { EVENTS = 300, KEPT = 20 };

static struct history_shape shape_of(uint32_t events_max, uint32_t fields,
                                     uint32_t numbers, uint32_t categoricals)
{
    struct history_shape s = {.events_max = events_max,
                              .fields = fields,
                              .numbers = numbers,
                              .categoricals = categoricals,
                              .amount_scale = 100};
    history_shape_init(&s);
    return s;
}

static struct history_shape full_shape(void)
{
    return shape_of(KEPT,
                    TRAIN_ITEM | TRAIN_TYPE | TRAIN_CATEGORY | TRAIN_CHANNEL |
                        TRAIN_AMOUNT | TRAIN_TIME,
                    2, 3);
}

static struct past_event event_at(uint64_t seed, uint64_t i)
{
    struct past_event ev = {
        .time_ms =
            (int64_t)(1500000000000 + i * 60000 + draw(seed, i, 0) % 90000),
        .amount = (int64_t)(draw(seed, i, 1) % 100000),
        .item = draw(seed, i, 2),
        .event_id = draw(seed, i, 3),
        .type = draw(seed, i, 4) % 5,
        .category = draw(seed, i, 5) % 50,
        .channel = draw(seed, i, 6) % 3,
        .number = {(float)i, NAN, NAN, NAN, NAN, NAN, NAN, NAN},
        .categorical = {draw(seed, i, 7), 0, 9},
    };
    return ev;
}

static struct slice encode(const struct history_shape *s,
                           const struct history *h)
{
    size_t size = history_encoded_size(s, h);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    assert_int_equal(history_encode(s, h, bytes), size);
    return slice_of(bytes, size);
}

static void free_slice(struct slice s)
{
    free((void *)(uintptr_t)s.ptr);
}

static void assert_same_event(const struct past_event *a,
                              const struct past_event *b)
{
    assert_memory_equal(a, b, sizeof *a);
}

/* Keeps exactly the newest events, all fields as they were when applied. */
static void test_keeps_the_newest(void **state)
{
    struct history_shape s = full_shape();
    struct past_event all[EVENTS], got[KEPT];
    struct history h;
    (void)state;
    history_init(&h);
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint32_t kept = i + 1 < KEPT ? i + 1 : KEPT;
        all[i] = event_at(1, i);
        assert_true(history_apply(&s, &h, 7 + 3 * (int64_t)i, &all[i]));
        assert_int_equal(h.count, kept);
        assert_int_equal(h.events_total, i + 1);
        for (uint32_t n = 1; n <= kept; n += 3) {
            history_copy(&s, &h, n, 0, got);
            for (uint32_t k = 0; k < n; k++)
                assert_same_event(&got[k], &all[i + 1 - n + k]);
        }
    }
    history_fini(&s, &h);
}

/* The context of every event is there, for every W with 2 W <= events. */
static void test_context_is_kept(void **state)
{
    (void)state;
    for (uint32_t window = 1; window <= KEPT / 2; window++)
        for (uint64_t n = 0; n < 500; n++) {
            uint64_t kept = n + 1 < KEPT ? n + 1 : KEPT;
            uint64_t length = n - history_start(n, window) + 1;
            assert_true(length <= kept);
            if (n >= window) assert_true(length > window);
            assert_true(length <= 2 * (uint64_t)window);
        }
}

static void test_gap_late_and_ratio_are_frozen(void **state)
{
    struct history_shape s = full_shape();
    struct history h;
    struct past_event a = {.time_ms = 1000, .amount = 900};
    struct past_event b = {.time_ms = 5000, .amount = 1900};
    struct past_event late = {.time_ms = 2000, .amount = 400};
    struct past_event c = {.time_ms = 5500,
                           .flags = PAST_NO_AMOUNT | PAST_LATE};
    (void)state;
    history_init(&h);
    assert_true(history_apply(&s, &h, 0, &a));
    assert_int_equal(a.gap_ms, -1);
    assert_true(a.amount_log_ratio == 0);
    assert_true(history_apply(&s, &h, 1, &b));
    assert_int_equal(b.gap_ms, 4000);
    /* ln((19 + 1) / (9 + 1)) */
    assert_float_equal(b.amount_log_ratio, logf(2), 1e-6);
    assert_true(history_apply(&s, &h, 2, &late));
    assert_int_equal(late.gap_ms, 0);
    assert_int_equal(late.flags, PAST_LATE);
    /* ln((4 + 1) / (14 + 1)) */
    assert_float_equal(late.amount_log_ratio, -logf(3), 1e-6);
    assert_true(history_apply(&s, &h, 3, &c));
    assert_int_equal(c.gap_ms, 500); /* to the newest, not to the late one */
    assert_int_equal(c.flags, PAST_NO_AMOUNT); /* a caller's mark is no mark */
    assert_true(c.amount_log_ratio == 0);
    assert_int_equal(h.amount_count, 3);
    history_fini(&s, &h);
}

static void test_without_a_time(void **state)
{
    struct history_shape s = full_shape();
    struct history h;
    struct past_event a = {.time_ms = 100, .flags = PAST_NO_TIME};
    struct past_event b = {.time_ms = 50, .flags = PAST_NO_TIME};
    (void)state;
    history_init(&h);
    assert_true(history_apply(&s, &h, 0, &a));
    assert_true(history_apply(&s, &h, 1, &b));
    assert_int_equal(a.gap_ms, -1);
    assert_int_equal(b.gap_ms, 0);
    assert_int_equal(b.flags, PAST_NO_TIME);
    history_fini(&s, &h);
}

static void test_refunds_and_extremes_stay_finite(void **state)
{
    struct history_shape s = full_shape();
    struct history h;
    const int64_t amounts[] = {-500, 500, PAST_AMOUNT_MAX, -PAST_AMOUNT_MAX, 0};
    const int64_t times[] = {0, INT64_MAX, INT64_MIN + 1, INT64_MAX, 5};
    (void)state;
    history_init(&h);
    for (int i = 0; i < 5; i++) {
        struct past_event ev = {.amount = amounts[i], .time_ms = times[i]};
        assert_true(history_apply(&s, &h, i, &ev));
        assert_true(isfinite(ev.amount_log_ratio));
        assert_true(ev.gap_ms >= -1);
    }
    history_fini(&s, &h);
}

/* I3: any stretch applied twice ends in the same bytes. */
static void test_applying_twice_does_nothing(void **state)
{
    struct history_shape s = full_shape();
    (void)state;
    for (uint32_t from = 0; from < 60; from += 7)
        for (uint32_t to = from; to < 60; to += 5) {
            struct history once, twice;
            struct slice a, b;
            history_init(&once);
            history_init(&twice);
            for (uint32_t i = 0; i < 60; i++) {
                struct past_event x = event_at(2, i), y = event_at(2, i);
                assert_true(history_apply(&s, &once, i, &x));
                assert_true(history_apply(&s, &twice, i, &y));
                if (i != to) continue;
                for (uint32_t again = from; again <= to; again++) {
                    struct past_event z = event_at(2, again);
                    assert_false(history_apply(&s, &twice, again, &z));
                }
            }
            a = encode(&s, &once);
            b = encode(&s, &twice);
            assert_true(slice_equal(a, b));
            free_slice(a);
            free_slice(b);
            history_fini(&s, &once);
            history_fini(&s, &twice);
        }
}

/* Stored and read back at any point, what follows is the same. */
static void test_round_trip_at_any_point(void **state)
{
    struct history_shape s = full_shape();
    struct history h, back;
    struct err e;
    (void)state;
    history_init(&h);
    for (uint32_t i = 0; i < 3 * KEPT; i++) {
        struct past_event x = event_at(3, i), y = event_at(3, i + 1), z = y;
        struct slice bytes, again;
        assert_true(history_apply(&s, &h, i, &x));
        bytes = encode(&s, &h);
        history_init(&back);
        assert_int_equal(history_decode(&s, &back, bytes, &e), RC_OK);
        again = encode(&s, &back);
        assert_true(slice_equal(bytes, again));
        /* The next event sees the same past. */
        assert_true(history_apply(&s, &back, i + 1, &y));
        free_slice(again);
        again = encode(&s, &back);
        history_fini(&s, &back);
        history_init(&back);
        assert_int_equal(history_decode(&s, &back, bytes, &e), RC_OK);
        assert_true(history_apply(&s, &back, i + 1, &z));
        assert_same_event(&y, &z);
        history_fini(&s, &back);
        free_slice(bytes);
        free_slice(again);
    }
    history_fini(&s, &h);
}

/* Fields that are not mapped take no bytes and come back as "none". */
static void test_unmapped_fields(void **state)
{
    struct history_shape small = shape_of(4, TRAIN_AMOUNT, 0, 0);
    struct past_event ev = event_at(4, 0), got;
    struct history h;
    (void)state;
    assert_int_equal(small.stride, full_shape().stride - 4 * 8 - 2 * 4 - 3 * 8);
    history_init(&h);
    assert_true(history_apply(&small, &h, 0, &ev));
    history_copy(&small, &h, 1, 0, &got);
    assert_int_equal(got.item, 0);
    assert_int_equal(got.categorical[0], 0);
    assert_true(isnan(got.number[0]));
    assert_int_equal(got.amount, ev.amount);
    assert_int_equal(got.time_ms, ev.time_ms);
    history_fini(&small, &h);
}

static void assert_refused(const struct history_shape *s, struct slice bytes)
{
    struct history h;
    struct err e;
    history_init(&h);
    assert_int_equal(history_decode(s, &h, bytes, &e), RC_STOP);
    assert_int_equal(h.count, 0);
    assert_null(h.packed);
}

static void test_damage_is_refused(void **state)
{
    struct history_shape s = full_shape(),
                         other = shape_of(KEPT, TRAIN_ITEM, 2, 3);
    struct history_shape fewer = full_shape();
    struct history h;
    struct slice bytes;
    uint8_t *copy;
    (void)state;
    history_init(&h);
    for (uint32_t i = 0; i < KEPT + 5; i++) {
        struct past_event ev = event_at(5, i);
        assert_true(history_apply(&s, &h, i, &ev));
    }
    bytes = encode(&s, &h);
    for (size_t len = 0; len < bytes.len; len++)
        assert_refused(&s, slice_of(bytes.ptr, len));
    copy = malloc(bytes.len + 1);
    assert_non_null(copy);
    memcpy(copy, bytes.ptr, bytes.len);
    copy[bytes.len] = 0;
    assert_refused(&s, slice_of(copy, bytes.len + 1));
    for (size_t i = 0; i < 8; i++) { /* version, fields, extras, count */
        copy[i] ^= 1;
        assert_refused(&s, slice_of(copy, bytes.len));
        copy[i] ^= 1;
    }
    assert_refused(&other, bytes);
    fewer.events_max = KEPT - 1;
    assert_refused(&fewer, bytes);
    free(copy);
    free_slice(bytes);
    history_fini(&s, &h);
}

/* Bytes that an earlier build stored are read for ever. */
static void test_golden_bytes(void **state)
{
    struct history_shape s = full_shape();
    struct history h, back;
    struct slice bytes, golden;
    struct err e;
    (void)state;
    history_init(&h);
    for (uint32_t i = 0; i < KEPT + 7; i++) {
        struct past_event ev = event_at(6, i);
        if (i % 9 == 5) ev.time_ms -= 200000;
        if (i % 11 == 3) ev.flags = PAST_NO_AMOUNT;
        assert_true(history_apply(&s, &h, 2 * (int64_t)i, &ev));
    }
    h.listed_ms = INT64_C(1600000012345);
    bytes = encode(&s, &h);
    golden = golden_bytes("history_v1.bin", bytes);
    assert_true(slice_equal(bytes, golden));
    history_init(&back);
    assert_int_equal(history_decode(&s, &back, golden, &e), RC_OK);
    assert_int_equal(back.events_total, KEPT + 7);
    assert_true(back.listed_ms == h.listed_ms);
    history_fini(&s, &back);
    history_fini(&s, &h);
    free_slice(bytes);
    free_slice(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_the_newest),
        cmocka_unit_test(test_context_is_kept),
        cmocka_unit_test(test_gap_late_and_ratio_are_frozen),
        cmocka_unit_test(test_without_a_time),
        cmocka_unit_test(test_refunds_and_extremes_stay_finite),
        cmocka_unit_test(test_applying_twice_does_nothing),
        cmocka_unit_test(test_round_trip_at_any_point),
        cmocka_unit_test(test_unmapped_fields),
        cmocka_unit_test(test_damage_is_refused),
        cmocka_unit_test(test_golden_bytes),
    };
    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
