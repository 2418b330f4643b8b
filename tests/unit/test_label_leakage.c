/* test_label_leakage.c - goal: no window tells an event anything of its own
 * label, nor of one that is not mature yet.
 * Method: two copies of a row at a random moment. In one the event at hand,
 * and all that are younger than the delay, are labelled fraud before the event
 * comes, in the other good; its features must be the same bits, then and when
 * they are recalled. One more label, of an event exactly as old as the delay,
 * must change them. That this test can see a leak is shown by one: the linker
 * puts a wrapper of this file around windows_read, which in sabotage counts
 * the event among its own mature ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hash.h"
#include "windows_inside.h"

enum { EVENTS = 300, MOMENTS = 200, DELAY_MS = 60 };

static const struct windows_shape shape = {.entity = ENTITY_ITEM,
                                           .count = 2,
                                           .length_ms = {50, 1000},
                                           .events_max = 512,
                                           .values_max = 5,
                                           .amount_scale = 100,
                                           .has_amount = true,
                                           .has_time = true,
                                           .has_other = true,
                                           .has_labels = true,
                                           .label_delay_ms = DELAY_MS,
                                           .label_count = 2,
                                           .label_length_ms = {40, 1200}};

/* --- the sabotage ------------------------------------------------------- */

static bool sabotage;

void __real_windows_read(const struct windows_shape *s, const struct windows *w,
                         uint32_t end, bool has_own, int64_t now_ms,
                         struct reading *out);
void __wrap_windows_read(const struct windows_shape *s, const struct windows *w,
                         uint32_t end, bool has_own, int64_t now_ms,
                         struct reading *out);

void __wrap_windows_read(const struct windows_shape *s, const struct windows *w,
                         uint32_t end, bool has_own, int64_t now_ms,
                         struct reading *out)
{
    __real_windows_read(s, w, end, has_own, now_ms, out);
    if (!sabotage || !has_own) return;
    out->labels.window[0].count++;
    out->labels.window[0].frauds += w->points[end - 1].fraud;
}

/* --- the test ----------------------------------------------------------- */

/* In time order but for every eighth, which is late. */
static struct past_event event_at(uint64_t seed, uint32_t i)
{
    struct past_event ev = {.time_ms = 10000 + 12 * (int64_t)i,
                            .amount = (int64_t)(draw(seed, i, 1) % 900),
                            .item = draw(seed, i, 2) % 9,
                            .event_id = i + 1};
    if (draw(seed, i, 3) % 8 == 0)
        ev.time_ms -= 12 * (int64_t)(draw(seed, i, 4) % 30);
    return ev;
}

static void label(struct windows *w, const struct past_event *ev, bool fraud,
                  int64_t known_ms)
{
    const struct window_label l = {.event_id = ev->event_id,
                                   .time_ms = ev->time_ms,
                                   .known_ms = known_ms,
                                   .fraud = fraud};
    assert_true(windows_label(&shape, w, windows_label_offset(w) + 1, &l));
}

static struct windows *row_before(uint64_t seed, uint32_t t)
{
    struct windows *w = windows_new(&shape);
    for (uint32_t i = 0; i < t; i++) {
        struct past_event ev = event_at(seed, i);
        float row[WINDOW_FEATURES_MAX];
        (void)windows_apply(&shape, w, &ev, row);
        label(w, &ev, draw(seed, i, 5) % 3 == 0, 0);
    }
    return w;
}

/* What the event at t finds, and what is recalled of it, where all labels
 * that must not count say `fraud`; and those that just count `mature`. */
static void features_at(uint64_t seed, uint32_t t, bool fraud, bool mature,
                        float *applied, float *recalled)
{
    struct windows *w = row_before(seed, t);
    struct past_event ev = event_at(seed, t);
    for (uint32_t i = 0; i < EVENTS; i++) {
        struct past_event other = event_at(seed, i);
        int64_t age_ms = ev.time_ms - other.time_ms;
        if (age_ms < DELAY_MS) label(w, &other, fraud, 1);
        if (age_ms == DELAY_MS) label(w, &other, mature, 1);
    }
    (void)windows_apply(&shape, w, &ev, applied);
    windows_recall(&shape, w, &ev, t + 1, recalled);
    windows_free(&shape, w);
}

/* How many of the moments tell a fraud from a good event by labels that must
 * not count, or by those that must. */
static uint32_t moments_that_tell(bool by_mature)
{
    size_t size = windows_features(&shape) * sizeof(float);
    uint32_t tell = 0;
    for (uint64_t seed = 0; seed < MOMENTS; seed++) {
        uint32_t t = 100 + (uint32_t)(draw(17, seed, 0) % (EVENTS - 100));
        float a[2][WINDOW_FEATURES_MAX], b[2][WINDOW_FEATURES_MAX];
        features_at(seed, t, !by_mature, true, a[0], a[1]);
        features_at(seed, t, false, !by_mature, b[0], b[1]);
        tell += memcmp(a[0], b[0], size) != 0 || memcmp(a[1], b[1], size) != 0;
    }
    return tell;
}

static void test_no_immature_label_counts(void **state)
{
    (void)state;
    assert_int_equal(moments_that_tell(false), 0);
}

static void test_mature_labels_count(void **state)
{
    (void)state;
    assert_true(moments_that_tell(true) > MOMENTS / 2);
}

static void test_sabotage_is_caught(void **state)
{
    (void)state;
    sabotage = true;
    assert_int_equal(moments_that_tell(false), MOMENTS);
    sabotage = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_immature_label_counts),
        cmocka_unit_test(test_mature_labels_count),
        cmocka_unit_test(test_sabotage_is_caught),
    };
    return cmocka_run_group_tests_name("label leakage", tests, NULL, NULL);
}
