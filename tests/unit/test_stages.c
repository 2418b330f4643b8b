/* Goal    The stages of a configuration, and which topic feeds each, follow
 *         from few options; what does not fit together is named.
 * Method  Configurations by hand, each topic compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "stages.h"

enum { SETS_MAX = 12 };

static struct config *load(const char *const *sets)
{
    struct config *c;
    struct err e;
    uint32_t count = 0;
    while (sets[count])
        count++;
    if (config_load(&c, NULL, sets, count, &e) != RC_OK) fail_msg("%s", e.text);
    return c;
}

static void expect_topic(const struct config *c, enum stage_id stage,
                         enum stage_input input, const char *topic)
{
    assert_string_equal(stages_topic(c, stage, input), topic);
}

static void test_users_alone(void **state)
{
    struct config *c = load(
        (const char *const[]){"input.topic=in", "labels.topic=labels", NULL});
    struct err e;
    (void)state;
    assert_true(stages_has(c, STAGE_USERS) && stages_runs(c, STAGE_USERS));
    assert_false(stages_has(c, STAGE_ITEMS) || stages_has(c, STAGE_ROUTE));
    expect_topic(c, STAGE_USERS, INPUT_EVENTS, "in");
    expect_topic(c, STAGE_USERS, INPUT_LABELS, ""); /* train's and replay's */
    assert_false(stages_user_labels(c) || stages_item_labels(c));
    assert_int_equal(stages_check_live(c, &e), RC_OK);
    config_free(c);
}

static void test_items_in_front(void **state)
{
    struct config *c = load((const char *const[]){
        "input.topic=in", "role.item=item", "stages=items,users",
        "enriched.topic=enriched", "labels.items.topic=by-item", NULL});
    struct err e;
    (void)state;
    expect_topic(c, STAGE_ITEMS, INPUT_EVENTS, "in");
    expect_topic(c, STAGE_ITEMS, INPUT_LABELS, "by-item");
    expect_topic(c, STAGE_USERS, INPUT_EVENTS, "enriched");
    assert_true(stages_item_labels(c));
    assert_false(stages_user_labels(c));
    assert_int_equal(stages_check_live(c, &e), RC_OK);
    config_free(c);
}

static void test_all_three(void **state)
{
    char group[STAGES_GROUP_BYTES];
    struct config *c = load((const char *const[]){
        "input.topic=in", "role.item=item", "stages=route,items,users",
        "stages.run=items", "items.topic=items", "enriched.topic=enriched",
        "labels.topic=labels", "labels.items.topic=by-item",
        "labels.users.topic=by-user", NULL});
    struct err e;
    (void)state;
    assert_true(stages_runs(c, STAGE_ITEMS));
    assert_int_equal(stages_running(c), 1);
    assert_string_equal(stages_group(c, STAGE_USERS, group), "millrace");
    assert_string_equal(stages_group(c, STAGE_ITEMS, group), "millrace-items");
    assert_false(stages_runs(c, STAGE_USERS) || stages_runs(c, STAGE_ROUTE));
    expect_topic(c, STAGE_ROUTE, INPUT_EVENTS, "in");
    expect_topic(c, STAGE_ROUTE, INPUT_LABELS, "labels");
    expect_topic(c, STAGE_ITEMS, INPUT_EVENTS, "items");
    expect_topic(c, STAGE_ITEMS, INPUT_LABELS, "by-item");
    expect_topic(c, STAGE_USERS, INPUT_EVENTS, "enriched");
    expect_topic(c, STAGE_USERS, INPUT_LABELS, "by-user");
    assert_int_equal(stages_check_live(c, &e), RC_OK);
    config_free(c);
}

/* A replay needs no topics between them, a live run does. */
static void test_live_needs_topics(void **state)
{
    static const char *const SETS[][SETS_MAX] = {
        {"input.topic=in", "role.item=item", "stages=items,users"},
        {"input.topic=in", "role.item=item", "stages=route,items,users",
         "enriched.topic=enriched"},
        {"input.topic=in", "stages=route,users"},
    };
    static const char *const NAMED[] = {"enriched.topic", "items.topic",
                                        "enriched.topic"};
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct config *c = load(SETS[i]);
        struct err e;
        assert_int_equal(stages_check_live(c, &e), RC_STOP);
        assert_non_null(strstr(e.text, NAMED[i]));
        config_free(c);
    }
}

static void test_what_does_not_fit(void **state)
{
    static const char *const SETS[][SETS_MAX] = {
        {"stages=users,shops"},
        {"stages=users,items", "role.item=item"},
        {"stages=items", "role.item=item"},
        {"stages=items,users"},
        {"stages.run=items"},
        {"stages=items,items,users", "role.item=item"},
        {"labels.role=true", "role.event_id=id"},
        {"labels.role=true", "role.event_id=id", "role.label=fraud",
         "labels.users.topic=labels"},
    };
    static const char *const NAMED[] = {
        "'shops'", "order",     "end with",   "role.item",
        "'items'", "each once", "role.label", "labels.users.topic"};
    (void)state;
    for (uint32_t i = 0; i < sizeof SETS / sizeof SETS[0]; i++) {
        struct config *c;
        struct err e;
        uint32_t count = 0;
        while (SETS[i][count])
            count++;
        assert_int_equal(config_load(&c, NULL, SETS[i], count, &e), RC_STOP);
        if (!strstr(e.text, NAMED[i]))
            fail_msg("'%s' does not name %s", e.text, NAMED[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users_alone),
        cmocka_unit_test(test_items_in_front),
        cmocka_unit_test(test_all_three),
        cmocka_unit_test(test_live_needs_topics),
        cmocka_unit_test(test_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
