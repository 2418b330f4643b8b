/* Goal    Every event gets rows inside its tables, the rows mean what the
 *         header says, and buckets keep unseen ids apart from "none".
 * Method  Known values by hand; then many random events, extremes among
 *         them, against the size of each table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "hash.h"
#include "tokenise.h"

enum { ITEM_BUCKETS = 8, HOUR_MS = 3600000 };

static const enum field_kind kinds[] = {
    FIELD_ITEM,         FIELD_TYPE,         FIELD_CATEGORY,    FIELD_CHANNEL,
    FIELD_AMOUNT_LEVEL, FIELD_AMOUNT_RATIO, FIELD_GAP,         FIELD_HOUR,
    FIELD_WEEKDAY,      FIELD_LATE,         FIELD_CATEGORICAL, FIELD_NUMBER,
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* One field of each kind, in the order of enum field_kind. */
static void make(struct tokeniser *t)
{
    struct err e;
    *t = (struct tokeniser){.field_count = KINDS, .item_buckets = ITEM_BUCKETS};
    for (uint32_t f = 0; f < KINDS; f++) {
        struct vocabulary_entry ids[] = {
            {hash64(slice_str("apple")), 5, slice_str("apple")},
            {hash64(slice_str("pear")), 9, slice_str("pear")},
        };
        t->field[f].kind = kinds[f];
        if (!field_has_vocabulary(kinds[f])) continue;
        assert_int_equal(vocabulary_build(&t->vocabulary[f], ids, 2, 10, &e),
                         RC_OK);
    }
    for (uint32_t b = 0; b < NUMBER_BINS - 1; b++)
        t->border[FIELD_NUMBER][b] = (float)b;
}

static uint32_t row(const struct tokeniser *t, enum field_kind f,
                    struct past_event ev)
{
    struct token token;
    tokenise(t, &ev, &token);
    return token.row[f];
}

static void test_ids(void **state)
{
    struct tokeniser t;
    uint64_t pear = hash64(slice_str("pear")), plum = hash64(slice_str("plum"));
    uint32_t bucket;
    (void)state;
    make(&t);
    assert_int_equal(row(&t, FIELD_ITEM, (struct past_event){.item = pear}), 0);
    assert_int_equal(row(&t, FIELD_ITEM, (struct past_event){.item = 0}),
                     2 + ITEM_BUCKETS);
    bucket = row(&t, FIELD_ITEM, (struct past_event){.item = plum});
    assert_in_range(bucket, 2, 2 + ITEM_BUCKETS - 1);
    assert_int_equal(row(&t, FIELD_TYPE, (struct past_event){.type = pear}), 0);
    assert_int_equal(row(&t, FIELD_CHANNEL, (struct past_event){.channel = 0}),
                     2 + TOKEN_BUCKETS);
    assert_int_equal(
        row(&t, FIELD_CATEGORICAL, (struct past_event){.categorical = {pear}}),
        0);
    t.item_buckets = 0;
    assert_int_equal(row(&t, FIELD_ITEM, (struct past_event){.item = plum}), 2);
    tokeniser_fini(&t);
}

static void test_amounts(void **state)
{
    struct tokeniser t;
    (void)state;
    make(&t);
#define AMOUNT(cents)                                                          \
    row(&t, FIELD_AMOUNT_LEVEL, (struct past_event){.amount = (cents)})
    assert_int_equal(AMOUNT(0), 1);
    assert_int_equal(AMOUNT(1), 2);
    assert_int_equal(AMOUNT(2), 6);
    assert_int_equal(AMOUNT(3), 8);     /* 2 times 1.5 */
    assert_int_equal(AMOUNT(1024), 42); /* octave 10 */
    assert_int_equal(AMOUNT(1279), 42);
    assert_int_equal(AMOUNT(1280), 43);
    assert_int_equal(AMOUNT(2047), 45);
    assert_int_equal(AMOUNT(INT64_MAX), 2 + 4 * AMOUNT_OCTAVES - 1);
    assert_int_equal(AMOUNT(-1), 2 + 4 * AMOUNT_OCTAVES);
    assert_int_equal(AMOUNT(INT64_MIN), AMOUNT_ROWS - 1);
    assert_int_equal(
        row(&t, FIELD_AMOUNT_LEVEL,
            (struct past_event){.amount = 7, .flags = PAST_NO_AMOUNT}),
        0);
#define RATIO(x)                                                               \
    row(&t, FIELD_AMOUNT_RATIO, (struct past_event){.amount_log_ratio = (x)})
    assert_int_equal(RATIO(0), 33);
    assert_int_equal(RATIO(0.13f), 34);
    assert_int_equal(RATIO(-0.01f), 32);
    assert_int_equal(RATIO(nextafterf(4, 0)), RATIO_ROWS - 1);
    assert_int_equal(RATIO(INFINITY), RATIO_ROWS - 1);
    assert_int_equal(RATIO(-INFINITY), 1);
    assert_int_equal(RATIO(NAN), 0);
    tokeniser_fini(&t);
}

static void test_times(void **state)
{
    struct tokeniser t;
    (void)state;
    make(&t);
#define AT(field, ms) row(&t, field, (struct past_event){.time_ms = (ms)})
    assert_int_equal(AT(FIELD_HOUR, 0), 0);
    assert_int_equal(AT(FIELD_HOUR, 5 * HOUR_MS - 1), 4);
    assert_int_equal(AT(FIELD_HOUR, -1), 23);
    assert_int_equal(AT(FIELD_WEEKDAY, 0), 3);
    assert_int_equal(AT(FIELD_WEEKDAY, -1), 2);
    assert_int_equal(AT(FIELD_WEEKDAY, INT64_C(1522540800000)),
                     6); /* a Sunday */
#define GAP(ms) row(&t, FIELD_GAP, (struct past_event){.gap_ms = (ms)})
    assert_int_equal(GAP(-1), 0);
    assert_int_equal(GAP(0), 1);
    assert_int_equal(GAP(1), 2);
    assert_int_equal(GAP(1000), 2 + 19);
    assert_int_equal(GAP(INT64_MAX), GAP_ROWS - 1);
    assert_int_equal(
        row(&t, FIELD_GAP, (struct past_event){.flags = PAST_NO_TIME}), 0);
    assert_int_equal(
        row(&t, FIELD_HOUR, (struct past_event){.flags = PAST_NO_TIME}), 24);
    assert_int_equal(
        row(&t, FIELD_WEEKDAY, (struct past_event){.flags = PAST_NO_TIME}), 7);
    assert_int_equal(
        row(&t, FIELD_LATE, (struct past_event){.flags = PAST_LATE}), 1);
    tokeniser_fini(&t);
}

static void test_numbers(void **state)
{
    struct tokeniser t;
    (void)state;
    make(&t);
#define NUMBER(x) row(&t, FIELD_NUMBER, (struct past_event){.number = {(x)}})
    assert_int_equal(NUMBER(NAN), 0);
    assert_int_equal(NUMBER(-INFINITY), 1);
    assert_int_equal(NUMBER(-0.5f), 1);
    assert_int_equal(NUMBER(0.0f), 2);
    assert_int_equal(NUMBER(3.5f), 5);
    assert_int_equal(NUMBER(INFINITY), NUMBER_ROWS - 1);
    tokeniser_fini(&t);
}

static void test_rows_stay_inside(void **state)
{
    struct tokeniser t;
    (void)state;
    make(&t);
    for (uint64_t i = 0; i < 200000; i++) {
        struct past_event ev;
        struct token token;
        uint64_t words[sizeof ev / 8];
        for (uint32_t w = 0; w < sizeof ev / 8; w++) {
            uint64_t x = draw(1, i, w);
            words[w] = draw(2, i, w) % 8 == 0 ? (uint64_t)-1 : x >> (x % 64);
        }
        memcpy(&ev, words, sizeof ev);
        tokenise(&t, &ev, &token);
        for (uint32_t f = 0; f < KINDS; f++)
            assert_in_range(token.row[f], 0,
                            field_rows(kinds[f], 2, ITEM_BUCKETS) - 1);
        assert_int_equal(token.time_ms, ev.time_ms);
    }
    tokeniser_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_amounts),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_rows_stay_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
