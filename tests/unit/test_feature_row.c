/* test_feature_row.c - goal: a configuration makes one list of features and
 * one description of rows, in which whatever matters shows.
 * Method: shapes from option lines; names, places and hashes of features, and
 * descriptions of this version and of the one before. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shapes.h"
#include "store.h"
#include "train.h"

enum { FIELDS = TRAIN_ITEM | TRAIN_AMOUNT | TRAIN_TIME };

struct made {
    struct config *config;
    struct history_shape history;
    struct feature_shape features;
};

static struct made make(const char *const *sets, uint32_t count)
{
    const char *all[16] = {"role.item=i", "role.event_id=e", "role.label=l"};
    struct made m;
    struct err e;
    assert_true(count + 3 <= 16);
    for (uint32_t i = 0; i < count; i++)
        all[3 + i] = sets[i];
    if (config_load(&m.config, NULL, all, count + 3, &e) != RC_OK)
        fail_msg("%s", e.text);
    shapes_init(&m.history, &m.features, m.config, FIELDS);
    return m;
}

#define MAKE(...)                                                              \
    make((const char *const[]){__VA_ARGS__},                                   \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static const char *const CHAIN[] = {"stages=items,users", "labels.role=true",
                                    "feature.numbers=age", "windows=1d",
                                    "windows.labels=7d"};
enum { CHAIN_SETS = sizeof CHAIN / sizeof CHAIN[0] };

static uint32_t place_of(const struct feature_shape *s, const char *name)
{
    for (uint32_t f = 0; f < feature_row_count(s); f++) {
        char buffer[FEATURE_NAME_BYTES];
        if (strcmp(feature_row_name(s, f, buffer, sizeof buffer), name) == 0)
            return f;
    }
    fail_msg("no feature %s", name);
    return 0;
}

static void test_the_row_is_put_together(void **state)
{
    struct made m = make(CHAIN, CHAIN_SETS);
    const struct feature_shape *s = &m.features;
    struct past_event ev = {.number = {7}};
    float row[FEATURES_MAX] = {1}, item[FEATURES_MAX] = {0};
    uint32_t at = feature_row_item_at(s), rate;
    (void)state;
    assert_int_equal(place_of(s, "amount"), 0);
    assert_int_equal(place_of(s, "age"), at - 1);
    assert_int_equal(place_of(s, "item_amount_log_ratio"), at);
    rate = place_of(s, "item_fraud_rate_7d");
    assert_int_equal(at + feature_row_item_count(s), feature_row_count(s));
    item[rate - at] = 0.5F;
    feature_row_complete(s, &ev, item, row);
    assert_true(row[0] == 1 && row[at - 1] == 7 && row[rate] == 0.5F);
    feature_row_complete(s, &ev, NULL, row);
    assert_true(row[at - 1] == 7 && isnan(row[at]) && isnan(row[rate]));
    config_free(m.config);
}

static void test_without_an_items_stage(void **state)
{
    struct made m = MAKE("labels.role=true"), plain = MAKE("windows=1d,7d,30d");
    (void)state;
    assert_int_equal(feature_row_item_count(&m.features), 0);
    assert_int_equal(feature_row_count(&m.features),
                     windows_features(&m.features.user));
    /* Labels change what features say, not which there are. */
    assert_true(m.features.user.has_labels);
    assert_false(plain.features.user.has_labels);
    assert_true(feature_row_hash(&m.features) ==
                feature_row_hash(&plain.features));
    config_free(m.config);
    config_free(plain.config);
}

static void test_the_hash_is_of_the_list(void **state)
{
    static const char *const OTHER[] = {"windows=2d", "windows.item=2d",
                                        "windows.labels=2d",
                                        "feature.numbers=size"};
    struct made m = make(CHAIN, CHAIN_SETS);
    (void)state;
    for (size_t i = 0; i < sizeof OTHER / sizeof OTHER[0]; i++) {
        const char *sets[CHAIN_SETS + 1];
        struct made other;
        memcpy((void *)sets, (const void *)CHAIN, sizeof CHAIN);
        sets[CHAIN_SETS] = OTHER[i];
        other = make(sets, CHAIN_SETS + 1);
        assert_true(feature_row_hash(&other.features) !=
                    feature_row_hash(&m.features));
        config_free(other.config);
    }
    config_free(m.config);
}

static void describe(const struct made *m, char *out)
{
    shapes_describe(&m->history, &m->features.user, out, STORE_TEXT_MAX);
}

static void test_descriptions(void **state)
{
    static const char OLD[] =
        "history.events=128 fields=0x31 numbers=0 categories=0 scale=100 "
        "windows.events=1024 features=0123456789abcdef "
        "windows=86400s,604800s,2592000s";
    struct made m = MAKE("windows=1d,7d,30d"), longer = MAKE("windows=1d,7d");
    struct made labels = MAKE("labels.role=true");
    struct made values = MAKE("windows.values=33");
    char now[STORE_TEXT_MAX], other[STORE_TEXT_MAX];
    (void)state;
    describe(&m, now);
    assert_true(shapes_agree(now, now));
    assert_true(shapes_agree(OLD, now));
    describe(&longer, other);
    assert_false(shapes_agree(other, now));
    assert_false(shapes_agree(OLD, other));
    describe(&values, other);
    assert_false(shapes_agree(other, now));
    describe(&labels, other);
    assert_false(shapes_agree(other, now));
    shapes_describe(&m.history, &m.features.item, other, sizeof other);
    assert_false(shapes_agree(other, now));
    config_free(m.config);
    config_free(longer.config);
    config_free(labels.config);
    config_free(values.config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_row_is_put_together),
        cmocka_unit_test(test_without_an_items_stage),
        cmocka_unit_test(test_the_hash_is_of_the_list),
        cmocka_unit_test(test_descriptions),
    };
    return cmocka_run_group_tests_name("feature row", tests, NULL, NULL);
}
