/* test_windows.c - goal: windows are exact, whatever the order of events and
 * wherever the row was stored and read back; beyond their limit they are off
 * by at most one tile.
 * Method: a twin that keeps every event ever applied and adds each window up
 * from scratch; rows must be equal in every bit. Then hand-made cases,
 * damage, the golden bytes, and the published features of the handbook. */
#include <inttypes.h>
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
                                  .amount_scale = 100,
                                  .has_amount = true,
                                  .has_time = true,
                                  .numbers = 1,
                                  .number_names = {"age"}};
}

/* --- the twin ---------------------------------------------------------- */

struct twin {
    struct past_event events[2000]; /* in order of arrival */
    uint32_t count;
    int64_t newest_ms;
};

static void twin_row(struct twin *t, const struct windows_shape *s,
                     const struct past_event *ev, float *out)
{
    struct aggregate sums[WINDOWS_MAX] = {{0}};
    int64_t longest_ms = s->length_ms[s->count - 1];
    t->events[t->count++] = *ev;
    if (ev->time_ms > t->newest_ms) t->newest_ms = ev->time_ms;
    for (uint32_t w = 0; w < s->count; w++)
        for (uint32_t i = 0; i < t->count; i++) {
            const struct past_event *p = &t->events[i];
            bool own = i == t->count - 1;
            bool gone = p->time_ms <= t->newest_ms - longest_ms;
            if (gone && !own) continue;
            if (p->time_ms > ev->time_ms) continue;
            if (p->time_ms <= ev->time_ms - s->length_ms[w]) continue;
            sums[w].count++;
            if (p->flags & PAST_NO_AMOUNT) continue;
            sums[w].amount_count++;
            sums[w].sum += p->amount;
            sums[w].squares +=
                (unsigned __int128)((__int128)p->amount * p->amount);
        }
    features_fill(s, ev, t->count, sums, out);
}

static struct past_event random_event(uint64_t seed, uint32_t i, int64_t *now)
{
    uint64_t kind = draw(seed, i, 0) % 10;
    struct past_event ev = {.amount = (int64_t)(draw(seed, i, 1) % 20000),
                            .number = {(float)i}};
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

static void test_running_equals_from_scratch(void **state)
{
    struct windows_shape s = shape_of(4096);
    struct twin *t = malloc(sizeof *t);
    float row[FEATURES_MAX], twin[FEATURES_MAX];
    (void)state;
    assert_non_null(t);
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct windows *w = windows_new(&s);
        int64_t now = seed % 2 ? 1500000000000 : -700;
        *t = (struct twin){.newest_ms = INT64_MIN + 2000};
        for (uint32_t i = 0; i < 800; i++) {
            struct past_event ev = random_event(seed, i, &now);
            twin_row(t, &s, &ev, twin);
            assert_false(windows_apply(&s, w, &ev, row));
            assert_memory_equal(row, twin, windows_features(&s) * sizeof *row);
            if (draw(seed, i, 9) % 7 == 0) w = stored_and_back(&s, w);
        }
        windows_free(&s, w);
    }
    free(t);
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
    float row[FEATURES_MAX];
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
    assert_true(feature(&s, row, "age") == 0);
    windows_free(&s, w);
}

/* A late event counts for later ones, and sees only what is before it. */
static void test_late_events_land_in_their_place(void **state)
{
    struct windows_shape s = shape_of(100);
    struct windows *w = windows_new(&s);
    float row[FEATURES_MAX];
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
        float row[FEATURES_MAX];
        (void)windows_apply(&s, w, &ev, row);
        assert_true(feature(&s, row, "hour") == (float)CASES[i].hour);
        assert_true(feature(&s, row, "is_weekend") == (float)CASES[i].weekend);
        assert_true(feature(&s, row, "is_night") == (float)CASES[i].night);
        windows_free(&s, w);
    }
}

static void test_features_follow_the_mapping(void **state)
{
    struct windows_shape all = shape_of(100), s = all;
    char name[64];
    (void)state;
    assert_int_equal(windows_features(&all), 7 + 3 * 6 + 1);
    assert_string_equal(windows_feature_name(&all, 8, name, sizeof name),
                        "amount_mean_50ms");
    s.has_amount = false;
    assert_int_equal(windows_features(&s), 5 + 3 * 1 + 1);
    s.has_time = false;
    assert_int_equal(windows_features(&s), 1 + 1);
    assert_true(windows_feature_hash(&s) != windows_feature_hash(&all));
    s = all;
    s.length_ms[0] = 60;
    assert_true(windows_feature_hash(&s) != windows_feature_hash(&all));
    s = all;
    s.length_ms[0] = 7 * DAY_MS;
    s.length_ms[1] = 90 * SECOND_MS;
    assert_string_equal(windows_feature_name(&s, 7, name, sizeof name),
                        "count_7d");
    assert_string_equal(windows_feature_name(&s, 13, name, sizeof name),
                        "count_90s");
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
        float row[FEATURES_MAX];
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
        float full[FEATURES_MAX], row[FEATURES_MAX], kept[FEATURES_MAX];
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
    float row[FEATURES_MAX];
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
            float row[FEATURES_MAX];
            (void)windows_apply(&s, w, &ev, row);
            assert_true(feature(&s, row, "count_50ms") >= 1);
            w = stored_and_back(&s, w);
        }
    windows_free(&s, w);
}

static struct windows *example(const struct windows_shape *s)
{
    struct windows *w = windows_new(s);
    int64_t now = 10000;
    float row[FEATURES_MAX];
    for (uint32_t i = 0; i < 80; i++) {
        struct past_event ev = random_event(77, i, &now);
        now = now > 10700 ? 10700 : now;
        if (ev.time_ms > 10700) ev.time_ms = 10700;
        (void)windows_apply(s, w, &ev, row);
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

static void test_damage_is_refused(void **state)
{
    struct windows_shape s = shape_of(16), fewer = shape_of(15);
    struct windows *w = example(&s);
    struct windows_view view;
    size_t size = windows_encoded_size(&s, w);
    uint8_t *bytes = malloc(size + 1);
    (void)state;
    assert_non_null(bytes);
    windows_look(&s, w, &view);
    assert_int_equal(view.kept, 16);
    assert_true(view.tiles > 0);
    (void)windows_encode(&s, w, bytes);
    for (size_t len = 0; len < size; len++)
        assert_refused(&s, slice_of(bytes, len));
    bytes[size] = 0;
    assert_refused(&s, slice_of(bytes, size + 1));
    assert_refused(&fewer, slice_of(bytes, size));
    for (size_t i = 0; i < 6; i++) { /* version, counts */
        bytes[i] ^= 2;
        assert_refused(&s, slice_of(bytes, size));
        bytes[i] ^= 2;
    }
    bytes[22 + 7] ^= 0x40; /* the first event's time: far ahead */
    assert_refused(&s, slice_of(bytes, size));
    free(bytes);
    windows_free(&s, w);
}

static void test_golden_bytes(void **state)
{
    struct windows_shape s = shape_of(16);
    struct windows *w = example(&s), *back = windows_new(&s);
    size_t size = windows_encoded_size(&s, w);
    uint8_t *bytes = malloc(size);
    struct slice golden;
    struct err e;
    (void)state;
    assert_non_null(bytes);
    (void)windows_encode(&s, w, bytes);
    golden = golden_bytes("windows_v1.bin", slice_of(bytes, size));
    assert_true(slice_equal(golden, slice_of(bytes, size)));
    assert_int_equal(windows_decode(&s, back, golden, &e), RC_OK);
    windows_free(&s, w);
    windows_free(&s, back);
    free((void *)(uintptr_t)golden.ptr);
    free(bytes);
}

/* --- the handbook ------------------------------------------------------ */

enum { CUSTOMERS = 5000, BOOK_ROWS = 1303778, BOOK_FEATURES = 8 };

struct book_row {
    bool known;
    float at[BOOK_FEATURES]; /* weekend, night, then count, mean per window */
};

static FILE *open_xz(const char *folder, const char *name)
{
    char command[1200];
    (void)snprintf(command, sizeof command, "xz -dc '%s/fraud_handbook/%s'",
                   folder, name);
    return popen(command, "r");
}

static struct book_row *read_book(const char *folder, uint32_t *count)
{
    struct book_row *rows = calloc(BOOK_ROWS, sizeof *rows);
    char line[1024];
    FILE *in = open_xz(folder, "golden_features_ch3.csv.xz");
    assert_non_null(rows);
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    *count = 0;
    while (fgets(line, sizeof line, in)) {
        uint32_t id;
        struct book_row r = {.known = true};
        assert_int_equal(
            sscanf(line, "%" SCNu32 ",%*[a-z],%*d,%*f,%f,%f,%f,%f,%f,%f,%f,%f",
                   &id, &r.at[0], &r.at[1], &r.at[2], &r.at[3], &r.at[4],
                   &r.at[5], &r.at[6], &r.at[7]),
            9);
        assert_true(id < BOOK_ROWS);
        rows[id] = r;
        ++*count;
    }
    assert_int_equal(pclose(in), 0);
    return rows;
}

static bool agrees(const struct windows_shape *s, const float *row,
                   const struct book_row *book)
{
    static const char *const NAMES[BOOK_FEATURES] = {
        "is_weekend", "is_night",       "count_1d",  "amount_mean_1d",
        "count_7d",   "amount_mean_7d", "count_30d", "amount_mean_30d"};
    for (int i = 0; i < BOOK_FEATURES; i++) {
        float ours = feature(s, row, NAMES[i]);
        if (!(fabsf(ours - book->at[i]) <= 2e-6f + 1e-6f * fabsf(ours)))
            return false;
    }
    return true;
}

/* The book swaps two transactions of one second in ten places: a row that
 * differs must be of a customer with another in the same second. */
static void test_handbook(void **state)
{
    const char *folder = getenv("MILLRACE_DATA");
    struct windows_shape s = {.count = 3,
                              .length_ms = {DAY_MS, 7 * DAY_MS, 30 * DAY_MS},
                              .events_max = 1024,
                              .amount_scale = 100,
                              .has_amount = true,
                              .has_time = true};
    struct windows **of = calloc(CUSTOMERS, sizeof *of);
    struct book_row *book;
    uint32_t expected, compared = 0, differ = 0, id, customer;
    long second;
    int64_t amount;
    char line[256];
    FILE *in;
    (void)state;
    if (!folder) {
        free(of);
        print_message("MILLRACE_DATA is not set: the handbook's features are "
                      "not compared\n");
        skip();
    }
    assert_non_null(of);
    book = read_book(folder, &expected);
    in = open_xz(folder, "transactions_to_2018-08-14.csv.xz");
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    while (fgets(line, sizeof line, in)) {
        float row[FEATURES_MAX];
        struct past_event ev = {0};
        assert_int_equal(sscanf(line,
                                "%" SCNu32 ",%ld,%" SCNu32 ",%*d,%" SCNd64, &id,
                                &second, &customer, &amount),
                         4);
        assert_true(customer < CUSTOMERS && id < BOOK_ROWS);
        ev.time_ms = (INT64_C(1522540800) + second) * 1000;
        ev.amount = amount;
        if (!of[customer]) of[customer] = windows_new(&s);
        assert_false(windows_apply(&s, of[customer], &ev, row));
        if (!book[id].known) continue;
        compared++;
        differ += !agrees(&s, row, &book[id]);
    }
    assert_int_equal(pclose(in), 0);
    print_message("handbook: %u rows compared, %u differ\n", compared, differ);
    assert_int_equal(compared, expected);
    assert_true(differ <= 20);
    for (uint32_t i = 0; i < CUSTOMERS; i++)
        windows_free(&s, of[i]);
    free(of);
    free(book);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_running_equals_from_scratch),
        cmocka_unit_test(test_late_events_land_in_their_place),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_features_follow_the_mapping),
        cmocka_unit_test(test_deviation_is_exact),
        cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_tiles_are_left_behind),
        cmocka_unit_test(test_extreme_times),
        cmocka_unit_test(test_damage_is_refused),
        cmocka_unit_test(test_golden_bytes),
        cmocka_unit_test(test_handbook),
    };
    return cmocka_run_group_tests_name("windows", tests, NULL, NULL);
}
