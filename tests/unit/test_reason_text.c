/* Goal    Every feature that there is has a code and a sentence of its own,
 *         with the right numbers; nothing that a name holds goes wrong.
 * Method  The names that a configuration of all kinds makes, each high, low
 *         and missing; sentences by hand; long and odd names. */
#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <string.h>

#include "feature_row.h"
#include "reason_text.h"

static struct reason_words words_of(const char *name, float value, float usual)
{
    const struct reason r = {
        .part = REASON_FEATURE, .value = value, .usual = usual};
    struct reason_words out;
    reason_text(&r, name, &out);
    return out;
}

static void expect(const char *name, float value, float usual, const char *code,
                   const char *text)
{
    struct reason_words w = words_of(name, value, usual);
    assert_string_equal(w.code, code);
    assert_string_equal(w.text, text);
    assert_string_equal(w.feature, name);
}

static void test_sentences(void **state)
{
    (void)state;
    expect("amount", 812, 45.1f, "AMOUNT_HIGH", "amount 812.00; usually 45.10");
    expect("amount_ratio_7d", 6.2f, 0.9f, "AMOUNT_ABOVE_OWN_MEAN",
           "amount 6.2 times the user's mean of 7 days; usually 0.9");
    expect("item_amount_ratio_1d", 0.5f, 0.9f, "ITEM_AMOUNT_BELOW_OWN_MEAN",
           "amount 0.5 times the item's mean of 1 day; usually 0.9");
    expect("amount_z_30d", 4.14f, 0, "AMOUNT_FAR_ABOVE_OWN_MEAN",
           "amount +4.1 deviations from the user's mean of 30 days; usually "
           "+0.0 deviations");
    expect("amount_log_ratio", 0, -0.693147f, "AMOUNT_ABOVE_OWN_PAST",
           "amount 1 times the user's mean of all before; usually 0.5");
    expect("count_12h", 14, 2, "MANY_EVENTS",
           "events of the user in 12 hours: 14; usually 2");
    expect("gap_s", 12, 18000, "SHORT_SINCE_LAST_EVENT",
           "12 s since the user's last event; usually 5.0 h");
    expect("item_fraud_rate_28d", 0.125f, 0, "ITEM_FRAUD_RATE_HIGH",
           "12.5 % of the item's events were frauds, in 28 days up to the "
           "label delay; usually 0 %");
    expect("item_fraud_since_last_s", 345600, NAN, "ITEM_LAST_FRAUD_LONG_AGO",
           "4.0 days since the item's last fraud; usually none");
    expect("is_night", 1, 0, "AT_NIGHT", "at night");
    expect("is_night", 0, 1, "BY_DAY", "by day");
    expect("item_fraud_latest_1", 0, 1, "ITEM_LATEST_WAS_GOOD",
           "the item's latest known event was good");
}

static void test_missing(void **state)
{
    (void)state;
    expect("amount_ratio_7d", NAN, 0.9f, "AMOUNT_RATIO_MISSING",
           "amount_ratio_7d has no value; usually 0.9");
    expect("item_fraud_rate_7d", NAN, 0.5f, "ITEM_FRAUD_RATE_MISSING",
           "item_fraud_rate_7d has no value; usually 50 %");
    expect("basket", NAN, 3, "NUMBER_MISSING",
           "basket has no value; usually 3");
}

/* Numbers of the configuration have the names of their fields. */
static void test_own_numbers(void **state)
{
    char longest[1000];
    struct reason_words w;
    (void)state;
    expect("basket", 7, 3, "NUMBER_HIGH", "basket: 7; usually 3");
    expect("item_price", 1.5f, 3, "NUMBER_LOW", "item_price: 1.5; usually 3");
    expect("amount_7d", 1, 2, "NUMBER_LOW", "amount_7d: 1; usually 2");
    expect("count", 1, 2, "NUMBER_LOW", "count: 1; usually 2");
    expect("_", 1, 2, "NUMBER_LOW", "_: 1; usually 2");
    expect("%v%n|", 1, 2, "NUMBER_LOW", "%v%n|: 1; usually 2");
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    w = words_of(longest, 1, 2);
    assert_int_equal(strlen(w.feature), REASON_FEATURE_BYTES - 1);
    assert_int_equal(strlen(w.text), REASON_TEXT_BYTES - 1);
}

static void test_past(void **state)
{
    struct reason r = {.part = REASON_LAST_EVENT, .value = 300};
    struct reason_words w;
    (void)state;
    reason_text(&r, NULL, &w);
    assert_string_equal(w.code, "LAST_EVENT");
    assert_string_equal(w.feature, "past.last");
    assert_string_equal(w.text, "the user's event before, 5 min earlier");
    r.value = NAN;
    reason_text(&r, NULL, &w);
    assert_string_equal(w.text, "the user's event before");
    r = (struct reason){.part = REASON_OTHER, .value = 9};
    reason_text(&r, NULL, &w);
    assert_string_equal(w.code, "OTHER");
    assert_string_equal(w.text, "smaller reasons together: 9");
    for (int part = REASON_EVENT; part < REASON_PARTS; part++) {
        r = (struct reason){.part = (enum reason_part)part, .value = 2};
        reason_text(&r, NULL, &w);
        assert_true(*w.code && *w.feature && *w.text);
    }
}

/* Whatever a row can hold of a user and of an item is known to the table. */
static void test_all_names(void **state)
{
    const struct windows_shape user = {
        .count = 3,
        .length_ms = {5400000, 86400000, 604800000},
        .values_max = 8,
        .has_amount = true,
        .has_time = true,
        .has_other = true,
        .has_labels = true,
        .label_delay_ms = 1,
        .label_count = 2,
        .label_length_ms = {86400000, 604800000},
        .amount_scale = 100};
    struct feature_shape s = {.user = user, .item = user, .has_items = true};
    (void)state;
    s.item.entity = ENTITY_ITEM;
    assert_true(feature_row_count(&s) > 60);
    for (uint32_t f = 0; f < feature_row_count(&s); f++) {
        char name[FEATURE_NAME_BYTES];
        struct reason_words high, low;
        (void)feature_row_name(&s, f, name, sizeof name);
        high = words_of(name, 1, 0);
        low = words_of(name, 0, 1);
        if (strncmp(high.code, "NUMBER", 6) == 0)
            fail_msg("%s is not in the table of reason_text.c", name);
        assert_string_not_equal(high.code, low.code);
        assert_string_not_equal(high.text, low.text);
        assert_null(strchr(high.text, '|'));
        for (const char *c = high.code; *c; c++)
            assert_true(isupper((unsigned char)*c) || *c == '_');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sentences),   cmocka_unit_test(test_missing),
        cmocka_unit_test(test_own_numbers), cmocka_unit_test(test_past),
        cmocka_unit_test(test_all_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
