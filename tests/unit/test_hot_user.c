/* test_hot_user.c - goal: ten million events of one user cost as much each as
 * a thousand, and its row does not grow.
 * Method: events through admission, history and windows: in order, late by
 * up to the longest window, with repeated ids, in bursts of one time. The
 * encoded row must stay below user_row_bytes_max and, once full, keep its
 * size; the time of each tenth is compared with the first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "admit.h"
#include "hash.h"
#include "train.h"
#include "user_row.h"

enum {
    EVENTS = 10000000,
    PARTS = 10,
    SLOWER_MAX = 4, /* times the fastest part: machines are shared */
    DAY_MS = 86400000,
};

struct rig {
    struct history_shape hs;
    struct windows_shape ws;
    struct admit admit;
    struct history h;
    struct windows *w;
    uint64_t applied, repeated;
};

static struct rig rig;

static int start(void **state)
{
    (void)state;
    rig.hs =
        (struct history_shape){.events_max = 128,
                               .fields = TRAIN_ITEM | TRAIN_AMOUNT | TRAIN_TIME,
                               .amount_scale = 100};
    history_shape_init(&rig.hs);
    rig.ws = (struct windows_shape){
        .count = 3,
        .length_ms = {DAY_MS, 7 * DAY_MS, INT64_C(30) * DAY_MS},
        .events_max = 1024,
        .amount_scale = 100,
        .has_amount = true,
        .has_time = true,
        .has_other = true,
        .values_max = 32};
    rig.admit = (struct admit){.lateness_ms = DAY_MS};
    history_init(&rig.h);
    rig.w = windows_new(&rig.ws);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    history_fini(&rig.hs, &rig.h);
    windows_free(&rig.ws, rig.w);
    return 0;
}

static void one(int64_t i)
{
    float row[WINDOW_FEATURES_MAX];
    uint64_t bits = draw(1, (uint64_t)i, 0);
    struct past_event ev = {.time_ms = i / 50 * 1000,
                            .event_id = (uint64_t)i + 1,
                            .item = bits % 1000 + 1,
                            .amount = (int64_t)(bits >> 40)};
    uint32_t after;
    if (bits % 101 == 0) ev.time_ms -= (int64_t)(bits >> 32) % (3 * DAY_MS);
    if (bits % 103 == 0) ev.event_id -= (bits >> 20) % 100;
    if (admit_judge(&rig.admit, &rig.hs, &rig.h, i, &ev, &after) ==
        VERDICT_REPEATED) {
        rig.repeated++;
        return;
    }
    assert_true(history_apply(&rig.hs, &rig.h, i, &ev));
    (void)windows_apply(&rig.ws, rig.w, &ev, row);
    rig.applied++;
}

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void test_ten_million(void **state)
{
    double fastest = 1e9, slowest = 0;
    size_t most = user_row_bytes_max(&rig.hs, &rig.ws);
    (void)state;
    for (int64_t part = 0; part < PARTS; part++) {
        double from = now_s(), took;
        size_t size;
        for (int64_t i = 0; i < EVENTS / PARTS; i++)
            one(part * (EVENTS / PARTS) + i);
        took = now_s() - from;
        size = user_row_encoded_size(&rig.hs, &rig.ws, &rig.h, rig.w);
        assert_in_range(size, most / 2, most);
        if (took < fastest) fastest = took;
        if (took > slowest) slowest = took;
    }
    assert_int_equal(rig.applied + rig.repeated, EVENTS);
    assert_true(rig.repeated > 0);
    (void)printf("%.0f to %.0f ns an event, a row of at most %zu bytes\n",
                 fastest * 1e9 * PARTS / EVENTS, slowest * 1e9 * PARTS / EVENTS,
                 most);
    assert_true(slowest < SLOWER_MAX * fastest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ten_million)};
    return cmocka_run_group_tests(tests, start, stop);
}
