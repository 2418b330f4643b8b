/* Goal    inspect shows a user, a store and a damaged row for what they are;
 *         reset asks before it changes anything.
 * Method  A generated log, folded by inspect and counted by cat; a store with
 *         rows put in by hand, one of them changed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "capture.h"
#include "cli.h"
#include "feature_row.h"
#include "hash.h"
#include "random_model.h"
#include "shapes.h"
#include "store.h"
#include "train.h"
#include "user_row.h"

static struct captured got;
static char dir[64], line[1024];

static const char ROLES[] =
    "--set input.topic=tx --set role.user=user_id --set role.item=item_id "
    "--set role.time=time --set role.amount=amount --set role.type=type "
    "--set role.category=category --set role.channel=channel "
    "--set role.event_id=event_id --set admin.listen=";

static void run(int (*command)(int argc, char **argv), const char *format, ...)
{
    va_list args;
    va_start(args, format);
    assert_true(vsnprintf(line, sizeof line, format, args) < (int)sizeof line);
    va_end(args);
    capture(&got, command, line);
}

static int make_dir(void **state)
{
    (void)state;
    (void)strcpy(dir, "/tmp/millrace-test-inspect-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

/* --- a user ------------------------------------------------------------ */

/* Events of the first user that cat names, and that user's id. */
static json_int_t count_events(char user[32])
{
    json_int_t count = 0;
    char *rest = got.out, *text;
    user[0] = '\0';
    while ((text = strsep(&rest, "\n")) && *text) {
        json_t *ev = json_loads(text, 0, NULL);
        const char *id = json_string_value(json_object_get(ev, "user_id"));
        assert_non_null(id);
        if (!user[0]) (void)snprintf(user, 32, "%s", id);
        count += strcmp(user, id) == 0;
        json_decref(ev);
    }
    return count;
}

static void test_a_user_of_a_log(void **state)
{
    json_int_t count, total = 0;
    char user[32];
    json_t *row, *events, *ev;
    size_t i;
    (void)state;
    run(command_generate, "generate --to %s/ev.avro --events 500 --users 10",
        dir);
    assert_int_equal(got.status, EXIT_OK);
    run(command_cat, "cat %s/ev.avro", dir);
    count = count_events(user);
    assert_true(count > 1);
    run(command_inspect, "inspect user %s --json --log %s/ev.avro %s", user,
        dir, ROLES);
    assert_int_equal(got.status, EXIT_OK);
    row = json_loads(got.out, 0, NULL);
    assert_non_null(row);
    assert_string_equal(json_string_value(json_object_get(row, "user")), user);
    assert_int_equal(json_integer_value(json_object_get(row, "events_total")),
                     count);
    events = json_object_get(row, "events");
    json_array_foreach(events, i, ev)
        assert_int_equal(json_integer_value(json_object_get(ev, "n")), total++);
    assert_int_equal(total, count < 128 ? count : 128);
    json_decref(row);
    run(command_inspect, "inspect user %s --events 1 --log %s/ev.avro %s", user,
        dir, ROLES);
    assert_non_null(strstr(got.out, "the newest 1 events"));
    run(command_inspect, "inspect user nobody --log %s/ev.avro %s", dir, ROLES);
    assert_int_equal(got.status, EXIT_FAILED);
    assert_non_null(strstr(got.err, "no user nobody"));
}

/* --- by a model -------------------------------------------------------- */

/* Random weights, three segments, items counted by their index. */
static void write_model(void)
{
    const struct random_shape shape = {.layers = 1,
                                       .width = 16,
                                       .heads = 2,
                                       .ffn = 32,
                                       .window = 8,
                                       .items = 30};
    const struct random_names names = {.generated_items = true};
    struct model *m = random_model_named(shape, names, 3);
    char path[96];
    struct err e;
    assert_true(segments_init(&m->segments, 3, shape.width));
    for (uint32_t i = 0; i < 3 * shape.width; i++)
        m->segments.centroids[i] = draw_unit(draw(9, 9, i)) * 4 - 2;
    for (uint32_t i = 0; i < shape.items; i++)
        m->item_counts[i] = (float)i;
    (void)snprintf(path, sizeof path, "%s/model", dir);
    if (model_write(m, path, "# card\n", &e) != RC_OK) fail_msg("%s", e.text);
    model_free(m);
}

/* Random weights over the features that ROLES give. */
static void write_fraud_model(const char *name, bool reference)
{
    static const char *const SETS[] = {"role.user=user_id",
                                       "role.amount=amount"};
    static char names[64][FEATURE_NAME_BYTES];
    const char *list[64];
    struct random_shape shape = {.layers = 1,
                                 .width = 16,
                                 .heads = 2,
                                 .ffn = 32,
                                 .window = 8,
                                 .items = 30,
                                 .has_time = true};
    struct history_shape history;
    struct feature_shape row;
    struct config *c;
    struct model *m;
    char path[96];
    struct err e;
    if (config_load(&c, NULL, SETS, 2, &e) != RC_OK) fail_msg("%s", e.text);
    shapes_init(&history, &row, c,
                TRAIN_ITEM | TRAIN_TYPE | TRAIN_CATEGORY | TRAIN_CHANNEL |
                    TRAIN_AMOUNT | TRAIN_TIME);
    shape.features = feature_row_count(&row);
    assert_in_range(shape.features, 10, 64);
    for (uint32_t f = 0; f < shape.features; f++)
        list[f] = feature_row_name(&row, f, names[f], FEATURE_NAME_BYTES);
    m = random_model_named(shape, (struct random_names){list, true}, 3);
    m->tables.has_fraud_reference = reference;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    if (model_write(m, path, "# card\n", &e) != RC_OK) fail_msg("%s", e.text);
    model_free(m);
    config_free(c);
}

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void inspect_event_40(const char *id, const char *model,
                             const char *more)
{
    run(command_inspect,
        "inspect event %s %s --log %s/ev.avro --set model.dir=%s/%s %s", id,
        more, dir, dir, model, ROLES);
    assert_int_equal(got.status, EXIT_OK);
}

/* The id of the log's fortieth event. */
static void make_events(char id[64])
{
    json_t *ev;
    run(command_generate, "generate --to %s/ev.avro --events 500 --users 10",
        dir);
    run(command_cat, "cat --limit 40 %s/ev.avro", dir);
    ev = json_loads(strrchr(got.out, '{'), 0, NULL);
    assert_non_null(ev);
    (void)snprintf(id, 64, "%s",
                   json_string_value(json_object_get(ev, "event_id")));
    json_decref(ev);
}

/* All reasons are there, whatever the options say of them, and add up. */
static void test_an_event_of_a_log(void **state)
{
    json_t *out, *at;
    double sum = 0, p, log_odds;
    char id[64];
    size_t i;
    (void)state;
    make_events(id);
    write_fraud_model("full", true);
    write_fraud_model("bare", false);
    inspect_event_40(id, "full", "--json --set reasons.per_second=0");
    out = json_loads(got.out, 0, NULL);
    assert_non_null(out);
    assert_string_equal(json_string_value(json_object_get(out, "event_id")),
                        id);
    assert_int_equal(json_integer_value(json_object_get(out, "offset")), 39);
    assert_true(json_array_size(json_object_get(out, "reasons")) > 8);
    json_array_foreach(json_object_get(out, "reasons"), i, at) sum +=
        number_of(at, "contribution");
    p = number_of(out, "probability");
    log_odds = number_of(out, "reasons_log_odds");
    assert_true(fabs(log(p / (1 - p)) - log_odds) < 1e-4);
    assert_true(fabs(sum - (log_odds - number_of(out, "reasons_base"))) < 1e-4);
    json_decref(out);
    inspect_event_40(id, "full", "");
    assert_non_null(strstr(got.out, "EVENT_ITSELF"));
    assert_non_null(strstr(got.out, "  together\n"));
    inspect_event_40(id, "bare", "");
    assert_non_null(strstr(got.out, "no reasons: the model has no reference"));
}

static void test_events_that_are_not_there(void **state)
{
    char id[64];
    (void)state;
    make_events(id);
    write_fraud_model("full", true);
    run(command_inspect,
        "inspect event none --log %s/ev.avro --set model.dir=%s/full %s", dir,
        dir, ROLES);
    assert_int_equal(got.status, EXIT_FAILED);
    assert_non_null(strstr(got.err, "no event none"));
    run(command_inspect, "inspect event none %s", ROLES);
    assert_int_equal(got.status, EXIT_FAILED);
    assert_non_null(strstr(got.err, "--log"));
    run(command_inspect, "inspect event none --log %s/ev.avro %s", dir, ROLES);
    assert_non_null(strstr(got.err, "model.dir"));
}

static void test_an_item_of_a_model(void **state)
{
    json_t *out, *near, *at;
    double before = 1;
    size_t i;
    (void)state;
    write_model();
    run(command_inspect,
        "inspect item i000027 --events 5 --json --set "
        "model.dir=%s/model %s",
        dir, ROLES);
    assert_int_equal(got.status, EXIT_OK);
    out = json_loads(got.out, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(out, "rank")), 3);
    assert_true(json_real_value(json_object_get(out, "events")) == 27);
    near = json_object_get(out, "nearest");
    assert_int_equal(json_array_size(near), 5);
    json_array_foreach(near, i, at)
    {
        double cosine = json_real_value(json_object_get(at, "cosine"));
        const char *name = json_string_value(json_object_get(at, "item"));
        assert_true(cosine <= before);
        assert_string_not_equal(name, "i000027");
        before = cosine;
    }
    json_decref(out);
    run(command_inspect,
        "inspect item i000027 --events 100 --set "
        "model.dir=%s/model %s",
        dir, ROLES);
    assert_int_equal(got.status, EXIT_OK);
    assert_non_null(strstr(got.out, "27 in training, rank 3"));
    assert_non_null(strstr(got.out, "i000029")); /* all the others */
    run(command_inspect, "inspect item nothing --set model.dir=%s/model %s",
        dir, ROLES);
    assert_int_equal(got.status, EXIT_FAILED);
    assert_non_null(strstr(got.err, "no item nothing"));
    run(command_inspect, "inspect item i000027 %s", ROLES);
    assert_int_equal(got.status, EXIT_CONFIG);
}

static void test_a_users_segment(void **state)
{
    char user[32];
    json_t *row;
    (void)state;
    write_model();
    run(command_generate, "generate --to %s/ev.avro --events 300 --users 10",
        dir);
    run(command_cat, "cat %s/ev.avro", dir);
    assert_true(count_events(user) > 0);
    run(command_inspect,
        "inspect user %s --json --log %s/ev.avro --set model.dir=%s/model %s",
        user, dir, dir, ROLES);
    assert_int_equal(got.status, EXIT_OK);
    row = json_loads(got.out, 0, NULL);
    assert_true(json_is_integer(json_object_get(row, "segment")));
    assert_in_range(json_integer_value(json_object_get(row, "segment")), 0, 2);
    json_decref(row);
    run(command_inspect,
        "inspect user %s --log %s/ev.avro --set model.dir=%s/model %s", user,
        dir, dir, ROLES);
    assert_non_null(strstr(got.out, " of 3\n"));
    run(command_inspect, "inspect user %s --json --log %s/ev.avro %s", user,
        dir, ROLES);
    assert_non_null(strstr(got.out, "\"segment\": null"));
}

/* --- a store ----------------------------------------------------------- */

/* A row of one event; damaged: with a bit changed after it was made. */
static void put_row(struct store *s, const char *user, bool damaged)
{
    struct history_shape hs = {.events_max = 8, .amount_scale = 100};
    struct windows_shape ws = {.amount_scale = 100};
    struct past_event ev = {.time_ms = 1700000000000};
    struct windows *w = windows_new(&ws);
    struct store_writes *writes = store_writes_new();
    struct family_meta meta;
    struct family *f;
    struct history h;
    struct err e;
    uint8_t bytes[512];
    size_t size;
    bool found;
    history_shape_init(&hs);
    history_init(&h);
    assert_true(history_apply(&hs, &h, 4, &ev));
    size = user_row_encode(&hs, &ws, slice_str(user), &h, w, bytes);
    if (damaged) bytes[size / 2] ^= 1;
    assert_int_equal(store_acquire(s, "users/tx/0", &f, &meta, &found, &e),
                     RC_OK);
    meta = (struct family_meta){
        .cluster_id = "here", .partitions = 1, .checkpoint = 5, .applied = 5};
    store_writes_row(writes, f, slice_str(user), slice_of(bytes, size));
    assert_int_equal(store_write(s, writes, f, &meta, &e), RC_OK);
    store_release(s, f);
    store_writes_free(writes);
    history_fini(&hs, &h);
    windows_free(&ws, w);
}

static struct store *open_store(void)
{
    struct store_options o = {.dir = dir, .memory_bytes = 4 << 20};
    struct store *s;
    struct err e;
    assert_int_equal(store_open(&s, &o, &e), RC_OK);
    return s;
}

static void test_a_store(void **state)
{
    struct store *s;
    (void)state;
    run(command_inspect, "inspect store %s", dir);
    assert_int_equal(got.status, EXIT_FAILED);
    assert_non_null(strstr(got.err, "no store"));
    s = open_store();
    put_row(s, "ann", false);
    run(command_inspect, "inspect store %s --verify", dir); /* beside it */
    assert_int_equal(got.status, EXIT_OK);
    assert_non_null(strstr(got.out, "users/tx/0"));
    assert_non_null(strstr(got.out, "every checksum fits"));
    put_row(s, "bob", true);
    store_close(s);
    run(command_inspect, "inspect store %s", dir); /* rows are not looked at */
    assert_int_equal(got.status, EXIT_OK);
    run(command_inspect, "inspect store %s --verify", dir);
    assert_int_equal(got.status, EXIT_FAILED);
    assert_non_null(strstr(got.out, "the user with hash"));
    assert_non_null(strstr(got.err, "millrace reset"));
    run(command_inspect, "inspect store %s --verify --json", dir);
    assert_int_equal(got.status, EXIT_FAILED);
    assert_non_null(strstr(got.out, "\"damaged\": 1"));
}

/* --- the command lines ------------------------------------------------- */

static void test_usage(void **state)
{
    (void)state;
    run(command_inspect, "inspect");
    assert_int_equal(got.status, EXIT_USAGE);
    run(command_inspect, "inspect thing i1");
    assert_int_equal(got.status, EXIT_USAGE);
    run(command_inspect, "inspect user");
    assert_int_equal(got.status, EXIT_USAGE);
    run(command_inspect, "inspect model %s", dir);
    assert_int_equal(got.status, EXIT_FAILED);
    run(command_reset, "reset --to yesterday --yes");
    assert_int_equal(got.status, EXIT_USAGE);
    run(command_reset, "reset --yes extra");
    assert_int_equal(got.status, EXIT_USAGE);
    run(command_reset, "reset --yes"); /* of which topic? */
    assert_int_equal(got.status, EXIT_CONFIG);
}

static void test_reset_asks_on_a_terminal_only(void **state)
{
    (void)state;
    assert_non_null(freopen("/dev/null", "r", stdin));
    run(command_reset, "reset --set input.topic=tx");
    assert_int_equal(got.status, EXIT_USAGE);
    assert_non_null(strstr(got.err, "--yes"));
}

int main(void)
{
#define TEST(function)                                                         \
    cmocka_unit_test_setup_teardown(function, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(test_a_user_of_a_log),
        TEST(test_an_event_of_a_log),
        TEST(test_events_that_are_not_there),
        TEST(test_an_item_of_a_model),
        TEST(test_a_users_segment),
        TEST(test_a_store),
        TEST(test_usage),
        TEST(test_reset_asks_on_a_terminal_only),
    };
    return cmocka_run_group_tests_name("inspect", tests, NULL, NULL);
}
