/* test_catalogue.c - goal: a shelf is the catalogue as of its offset, for any
 * way of getting there; lists hold what it offers, in the order of the scores,
 * within caps, and are as long as that allows.
 * Method: a random log of entries against a plain walk over it; shelves that
 * lag, that begin in the middle, that go back by a plan, that read while
 * another thread writes; lists against all scores, sorted. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "capture.h"
#include "catalogue_read.h"
#include "cli.h"
#include "container.h"
#include "hash.h"
#include "lists.h"
#include "random_model.h"
#include "schemas.h"
#include "shapes.h"
#include "spine_log.h"
#include "train.h"

enum { ITEMS = 200, ENTRIES = 20000, CATEGORIES = 6 };

static const struct random_shape SHAPE = {.layers = 1,
                                          .width = 16,
                                          .heads = 2,
                                          .ffn = 32,
                                          .window = 8,
                                          .items = ITEMS};
static struct model *the_model;

/* Entry i of the log; every fourth is of an item that no model knows. */
static struct catalogue_entry entry_of(uint32_t i)
{
    uint64_t bits = draw(3, i, 0);
    char name[24];
    (void)snprintf(name, sizeof name, "item-%u",
                   (unsigned)(bits % (ITEMS + ITEMS / 3)));
    return (struct catalogue_entry){
        .offset = (int64_t)i * 3,
        .item = hash64(slice_str(name)),
        .category = bits / 1000 % CATEGORIES,
        .available = bits / 100000 % 3 != 0,
    };
}

static void add(struct catalogue *c, uint32_t from, uint32_t until)
{
    struct err e;
    for (uint32_t i = from; i < until; i++) {
        struct catalogue_entry entry = entry_of(i);
        if (catalogue_add(c, &entry, &e) != RC_OK) fail_msg("%s", e.text);
    }
}

static struct catalogue *catalogue_of(catalogue_plan_fn *plan, void *user)
{
    struct catalogue *c;
    struct err e;
    assert_int_equal(catalogue_new(&c, 100000, plan, user, &e), RC_OK);
    return c;
}

static struct shelf *shelf_of(struct catalogue *c)
{
    struct shelf *s;
    struct err e;
    assert_int_equal(shelf_new(&s, c, the_model, &e), RC_OK);
    return s;
}

static bool is_allowed(const struct shelf *s, uint32_t item)
{
    return s->allowed[item / 64] >> item % 64 & 1;
}

/* The shelf is what the first entries of the log make. */
static void check_shelf(const struct shelf *s, uint32_t entries)
{
    bool allowed[ITEMS] = {0};
    uint64_t category[ITEMS] = {0};
    for (uint32_t i = 0; i < entries; i++) {
        struct catalogue_entry entry = entry_of(i);
        int32_t item = model_item_index(the_model, entry.item);
        if (item < 0) continue;
        allowed[item] = entry.available;
        category[item] = entry.category;
    }
    for (uint32_t i = 0; i < ITEMS; i++) {
        assert_int_equal(is_allowed(s, i), allowed[i]);
        if (allowed[i]) assert_int_equal(s->category[i], category[i]);
    }
}

static void test_shelves_follow(void **state)
{
    struct catalogue *c = catalogue_of(NULL, NULL);
    struct shelf *often = shelf_of(c), *lags = shelf_of(c), *late = NULL;
    (void)state;
    assert_int_equal(often->offset, CATALOGUE_NONE);
    check_shelf(often, 0);
    for (uint32_t i = 0; i < 40; i++) {
        add(c, i * 100, (i + 1) * 100);
        shelf_turn(often);
        assert_int_equal(often->offset, ((int64_t)i * 100 + 99) * 3);
        assert_int_equal(shelf_offset_of(often, NULL), often->offset);
        check_shelf(often, (i + 1) * 100);
        if (i == 20) late = shelf_of(c); /* begins with what there is */
        if (i == 20) check_shelf(late, 2100);
    }
    add(c, 4000, ENTRIES);
    check_shelf(lags, 0);
    shelf_turn(lags); /* only so many in one turn */
    check_shelf(lags, SHELF_TURN_ENTRIES);
    for (uint32_t i = 0; i < ENTRIES / SHELF_TURN_ENTRIES; i++)
        shelf_turn(lags);
    shelf_turn(late);
    check_shelf(late, 2100 + SHELF_TURN_ENTRIES);
    check_shelf(lags, ENTRIES);
    assert_int_equal(lags->offset, catalogue_offset(c));
    shelf_free(lags);
    shelf_free(often);
    shelf_free(late);
    lags = shelf_of(c); /* also after items went and came */
    check_shelf(lags, ENTRIES);
    shelf_free(lags);
    catalogue_free(c);
}

static int64_t planned(void *user, const struct record *r)
{
    const int64_t *plan = user;
    return plan[r->offset];
}

static void test_a_plan_goes_anywhere(void **state)
{
    static const int64_t PLAN[] = {
        CATALOGUE_NONE, 30, 31, 3 * 5000, 60, 3 * 900 + 2, CATALOGUE_UNPLANNED};
    static const uint32_t ENTRIES_THEN[] = {0, 11, 11, 5001, 21, 901, 901};
    struct catalogue *c = catalogue_of(planned, (void *)PLAN);
    struct shelf *s;
    (void)state;
    add(c, 0, 6000);
    s = shelf_of(c);
    check_shelf(s, 0);
    for (uint32_t i = 0; i < 7; i++) {
        const struct record r = {.offset = i};
        int64_t offset = shelf_offset_of(s, &r);
        if (PLAN[i] != CATALOGUE_UNPLANNED) assert_int_equal(offset, PLAN[i]);
        shelf_move(s, offset);
        shelf_turn(s); /* does nothing */
        assert_int_equal(s->offset, offset);
        check_shelf(s, ENTRIES_THEN[i]);
    }
    shelf_free(s);
    catalogue_free(c);
}

static void *add_all(void *user)
{
    add(user, 0, ENTRIES);
    return NULL;
}

static void test_two_threads(void **state)
{
    struct catalogue *c = catalogue_of(NULL, NULL);
    struct shelf *s = shelf_of(c);
    pthread_t writer;
    (void)state;
    assert_int_equal(pthread_create(&writer, NULL, add_all, c), 0);
    while (s->offset < (int64_t)(ENTRIES - 1) * 3)
        shelf_turn(s);
    assert_int_equal(pthread_join(writer, NULL), 0);
    check_shelf(s, ENTRIES);
    shelf_free(s);
    catalogue_free(c);
}

static void test_too_many_items(void **state)
{
    struct catalogue *c;
    struct err e;
    (void)state;
    assert_int_equal(catalogue_new(&c, 3000, NULL, NULL, &e), RC_OK);
    for (uint64_t i = 1; i <= 12000; i++) { /* they come and go */
        struct catalogue_entry entry = {
            .offset = (int64_t)i, .item = hash_mix(i), .available = true};
        assert_int_equal(catalogue_add(c, &entry, &e), RC_OK);
        if (i <= 2000) continue;
        entry.item = hash_mix(i - 2000);
        entry.available = false;
        assert_int_equal(catalogue_add(c, &entry, &e), RC_OK);
    }
    assert_int_equal(catalogue_available(c), 2000);
    for (uint64_t i = 0; i <= 1000; i++) {
        const struct catalogue_entry entry = {.offset = 20000 + (int64_t)i,
                                              .item = hash_mix(90000 + i),
                                              .available = true};
        assert_int_equal(catalogue_add(c, &entry, &e),
                         i < 1000 ? RC_OK : RC_STOP);
    }
    assert_non_null(strstr(e.text, "catalogue.items.max"));
    catalogue_free(c);
}

/* --- files -------------------------------------------------------------- */

static void append(struct container_writer *w, const struct schema *s,
                   const char *item, bool available, const char *category)
{
    struct datum at[7] = {
        {.kind = DATUM_RECORD, .span = 7, .count = 4},
        {.kind = DATUM_STRING, .span = 1, .s = slice_str(item)},
        {.kind = DATUM_BOOLEAN, .span = 1, .i = available},
        {.kind = DATUM_UNION, .span = 2, .i = category != NULL},
        {.kind = category ? DATUM_STRING : DATUM_NULL, .span = 1},
        {.kind = DATUM_UNION, .span = 2, .i = 0},
        {.kind = DATUM_NULL, .span = 1},
    };
    struct tape tape = {.at = at, .count = 7, .max = 7};
    uint8_t bytes[256];
    size_t used;
    struct err e;
    if (category) at[4].s = slice_str(category);
    if (encoder_encode(s, &tape, bytes, sizeof bytes, &used, &e) != RC_OK)
        fail_msg("%s", e.text);
    assert_int_equal(container_append(w, slice_of(bytes, used), &e), RC_OK);
}

/* i000000 and so on, of three categories, as generate names them. */
static void write_items(const char *path, uint32_t count)
{
    struct container_writer *w;
    struct schema *s;
    struct err e;
    assert_int_equal(schema_parse(&s, schemas_get("catalogue"), &e), RC_OK);
    assert_int_equal(container_create(&w, path, s, "null", &e), RC_OK);
    for (uint32_t i = 0; i < count; i++) {
        char name[24], category[8];
        (void)snprintf(name, sizeof name, "i%06u", i);
        (void)snprintf(category, sizeof category, "c%u", i % 3);
        append(w, s, name, true, category);
    }
    assert_int_equal(container_finish(w, &e), RC_OK);
    schema_free(s);
}

/* One that fits events of users and items alone. */
static void write_model(const char *dir)
{
    static char texts[FEATURES_MAX][FEATURE_NAME_BYTES];
    const char *list[FEATURES_MAX];
    const struct random_names names = {.features = list,
                                       .generated_items = true};
    struct random_shape shape = SHAPE;
    struct history_shape history;
    struct feature_shape features;
    struct config *c = spine_config(
        (const char *const[]){"role.time=", "role.amount=", "role.type=",
                              "role.category=", "role.channel=", NULL});
    struct model *m;
    struct err e;
    shapes_init(&history, &features, c, TRAIN_ITEM);
    shape.features = feature_row_count(&features);
    for (uint32_t f = 0; f < shape.features; f++)
        list[f] = feature_row_name(&features, f, texts[f], FEATURE_NAME_BYTES);
    m = random_model_named(shape, names, 3);
    if (model_write(m, dir, "# card\n", &e) != RC_OK) fail_msg("%s", e.text);
    model_free(m);
    config_free(c);
}

static void test_files(void **state)
{
    static const char PATH[] = "test_catalogue.tmp.avro";
    struct catalogue *c = catalogue_of(NULL, NULL);
    struct container_writer *w;
    struct schema *s;
    struct shelf *shelf;
    struct err e;
    (void)state;
    assert_int_equal(schema_parse(&s, schemas_get("catalogue"), &e), RC_OK);
    assert_int_equal(container_create(&w, PATH, s, "null", &e), RC_OK);
    append(w, s, "item-1", true, "shoes");
    append(w, s, "item-2", true, NULL);
    append(w, s, "item-3", false, "shoes");
    assert_int_equal(container_finish(w, &e), RC_OK);
    if (catalogue_read_file(c, PATH, &e) != RC_OK) fail_msg("%s", e.text);
    shelf = shelf_of(c);
    assert_int_equal(shelf->offset, 2);
    assert_false(is_allowed(shelf, 0));
    assert_true(is_allowed(shelf, 1) && is_allowed(shelf, 2));
    assert_false(is_allowed(shelf, 3));
    assert_true(shelf->category[1] == hash64(slice_str("shoes")));
    assert_true(shelf->category[2] == 0);
    shelf_free(shelf);
    catalogue_free(c);

    c = catalogue_of(NULL, NULL);
    assert_int_equal(container_create(&w, PATH, s, "null", &e), RC_OK);
    append(w, s, "item-1", true, NULL);
    append(w, s, "", true, NULL);
    assert_int_equal(container_finish(w, &e), RC_OK);
    assert_int_equal(catalogue_read_file(c, PATH, &e), RC_STOP);
    assert_non_null(strstr(e.text, "item 1: an item without item_id"));
    assert_int_equal(catalogue_read_file(c, "/nowhere.avro", &e), RC_STOP);
    assert_non_null(strstr(e.text, "/nowhere.avro"));
    catalogue_free(c);
    schema_free(s);
    (void)unlink(PATH);
}

/* The file says what a replay lists, and caps need one. */
static void test_replay_with_a_file(void **state)
{
    static const char ROLES[] =
        "--set role.user=user_id --set role.item=item_id --set "
        "role.event_id=event_id --set history.events=32 --set "
        "recommend.items=5 --set model.dir=test_catalogue.tmp/model";
    static struct captured got;
    char line[1024], *rest, *text;
    uint32_t lists = 0;
    (void)state;
    assert_int_equal(system("rm -rf test_catalogue.tmp; mkdir "
                            "test_catalogue.tmp"),
                     0);
    write_items("test_catalogue.tmp/items.avro", 7);
    write_model("test_catalogue.tmp/model");
    capture(&got, command_generate,
            "generate --to test_catalogue.tmp/ev.avro --events 200 --users 9");
    assert_int_equal(got.status, EXIT_OK);
    (void)snprintf(line, sizeof line,
                   "replay test_catalogue.tmp/ev.avro %s --catalogue "
                   "test_catalogue.tmp/items.avro --set "
                   "recommend.category.max=2 --recommendations-to "
                   "test_catalogue.tmp/lists.avro",
                   ROLES);
    capture(&got, command_replay, line);
    if (got.status != EXIT_OK) fail_msg("%s", got.err);
    capture(&got, command_cat, "cat test_catalogue.tmp/lists.avro");
    for (rest = got.out; (text = strsep(&rest, "\n")) && *text; lists++) {
        json_t *list = json_loads(text, 0, NULL), *item;
        json_t *items = json_object_get(list, "items");
        size_t i;
        /* Three categories, two items of each; some the user has had. */
        assert_in_range(json_array_size(items), 1, 5);
        json_array_foreach(items, i, item)
        {
            const char *name =
                json_string_value(json_object_get(item, "item_id"));
            assert_in_range(atoi(name + 1), 0, 6);
        }
        assert_int_equal(
            json_integer_value(json_object_get(list, "catalogue_offset")), 6);
        json_decref(list);
    }
    assert_int_equal(lists, 200);
    (void)snprintf(line, sizeof line,
                   "replay test_catalogue.tmp/ev.avro %s --set "
                   "recommend.category.max=2 --recommendations-to "
                   "test_catalogue.tmp/lists.avro",
                   ROLES);
    capture(&got, command_replay, line);
    assert_int_equal(got.status, EXIT_FAILED);
    assert_non_null(strstr(got.err, "--catalogue FILE"));
    capture(&got, command_inspect,
            "inspect item i000004 --set model.dir=test_catalogue.tmp/model "
            "--catalogue test_catalogue.tmp/items.avro");
    assert_non_null(strstr(got.out, "catalogue  available, category c1"));
    capture(&got, command_inspect,
            "inspect item i000008 --set model.dir=test_catalogue.tmp/model "
            "--catalogue test_catalogue.tmp/items.avro");
    assert_int_equal(got.status, EXIT_OK);
    assert_null(strstr(got.out, "available"));
    assert_int_equal(system("rm -rf test_catalogue.tmp"), 0);
}

/* --- lists -------------------------------------------------------------- */

enum { EVENTS_MAX = 8, HISTORY = 12 };

struct scene {
    struct config *config;
    struct policy policy;
    struct history_shape shape;
    struct history history;
    struct catalogue *catalogue; /* NULL: none */
    struct lists *lists;
    struct scorer *scorer;
    struct batch batch;
};

static void scene_open(struct scene *t, const char *const *sets, bool has)
{
    const struct scorer_limits limits = {
        .context_bytes_max = 1 << 20, .events_max = EVENTS_MAX, .k_max = 300};
    struct err e;
    *t = (struct scene){.config = spine_config(sets)};
    policy_init(&t->policy, t->config);
    t->shape = (struct history_shape){
        .events_max = HISTORY, .fields = TRAIN_ITEM, .amount_scale = 100};
    history_shape_init(&t->shape);
    history_init(&t->history);
    if (has) t->catalogue = catalogue_of(NULL, NULL);
    if (has) add(t->catalogue, 0, 700);
    const struct lists_options o = {.policy = &t->policy,
                                    .history = &t->shape,
                                    .model = the_model,
                                    .catalogue = t->catalogue,
                                    .events_max = EVENTS_MAX};
    if (lists_new(&t->lists, &o, &e) != RC_OK) fail_msg("%s", e.text);
    assert_int_equal(scorer_new(&t->scorer, the_model, limits, &e), RC_OK);
    assert_int_equal(batch_init(&t->batch, EVENTS_MAX, &e), RC_OK);
}

static void scene_close(struct scene *t)
{
    batch_fini(&t->batch);
    scorer_free(t->scorer);
    lists_free(t->lists);
    catalogue_free(t->catalogue);
    history_fini(&t->shape, &t->history);
    config_free(t->config);
}

static void apply(struct scene *t, const char *item)
{
    struct past_event ev = {.item = hash64(slice_str(item))};
    int64_t offset = t->history.applied_offset + 1;
    assert_true(history_apply(&t->shape, &t->history, offset, &ev));
}

/* Makes the list of a hidden state after the history so far. */
static const struct outcome *make(struct scene *t, const float *hidden)
{
    const struct score score = {.hidden = hidden};
    batch_reset(&t->batch);
    t->batch.count = 1;
    t->batch.events[0].past.event_id = 99;
    lists_begin(t->lists);
    lists_gather(t->lists, &t->history, &t->batch, 0, 0);
    lists_make(t->lists, t->scorer, &score, &t->batch);
    return &t->batch.outcomes[0];
}

/* Taking the best again and again, of what is allowed, unseen, not full. */
static uint32_t plain_list(struct scene *t, const float *score, uint32_t *out)
{
    struct shelf *shelf = t->catalogue ? shelf_of(t->catalogue) : NULL;
    uint64_t seen[HISTORY];
    uint32_t seen_count = history_items(&t->shape, &t->history, seen);
    uint32_t cap = t->policy.category_max, found = 0;
    bool out_of[ITEMS] = {0};
    for (; found < t->policy.list_items; found++) {
        int32_t best = -1;
        for (uint32_t i = 0; i < ITEMS; i++) {
            uint32_t same = 0;
            if (out_of[i] || (shelf && !is_allowed(shelf, i))) continue;
            for (uint32_t k = 0; k < seen_count; k++)
                out_of[i] |= model_item_index(the_model, seen[k]) == (int)i;
            for (uint32_t k = 0; cap && k < found; k++)
                same += shelf->category[i] != 0 &&
                        shelf->category[out[k]] == shelf->category[i];
            if (out_of[i] || (cap && same >= cap)) continue;
            if (best < 0 || score[i] > score[best]) best = (int32_t)i;
        }
        if (best < 0) break;
        out[found] = (uint32_t)best;
        out_of[best] = true;
    }
    shelf_free(shelf);
    return found;
}

static void check_list(struct scene *t, const struct outcome *o,
                       const float *score)
{
    uint32_t want[1000], count = plain_list(t, score, want);
    assert_int_equal(o->list_count, count);
    for (uint32_t k = 0; k < count; k++) {
        assert_int_equal(o->list[k].index, want[k]);
        assert_true(o->list[k].score == score[want[k]]);
        assert_true(o->list[k].propensity == 1);
    }
}

static void check_scene(const char *const *sets, bool has)
{
    struct scene t;
    float hidden[16], logits[ITEMS], counts[ITEMS];
    const float *list[] = {hidden};
    scene_open(&t, sets, has);
    for (uint32_t i = 0; i < ITEMS; i++)
        counts[i] = model_item_count(the_model, i);
    for (uint32_t i = 0; i < 30; i++) {
        char item[24];
        const struct outcome *o;
        for (uint32_t d = 0; d < 16; d++)
            hidden[d] = draw_unit(draw(8, i, d)) - 0.5f;
        scorer_item_logits(t.scorer, list, 1, logits);
        /* The first events are of items that the model does not know. */
        (void)snprintf(item, sizeof item, "item-%u", i < 3 ? 5000 + i : i * 7);
        apply(&t, item);
        o = make(&t, hidden);
        assert_int_equal(o->list_source, i < 3 ? LIST_POPULARITY : LIST_MODEL);
        check_list(&t, o, i < 3 ? counts : logits);
        assert_int_equal(o->catalogue_offset, has ? 699 * 3 : CATALOGUE_NONE);
    }
    scene_close(&t);
}

static void test_lists(void **state)
{
    (void)state;
    check_scene((const char *const[]){"recommend.items=10", NULL}, false);
    check_scene((const char *const[]){"recommend.items=10", NULL}, true);
    check_scene((const char *const[]){"recommend.items=10",
                                      "catalogue.topic=items",
                                      "recommend.category.max=2", NULL},
                true);
    /* Longer than what is allowed: all of it, caps or not. */
    check_scene((const char *const[]){"recommend.items=100",
                                      "catalogue.topic=items",
                                      "recommend.category.max=5", NULL},
                true);
    check_scene((const char *const[]){"recommend.items=300", NULL}, true);
}

/* Every draw of the pool obeys the caps, and the list is never short. */
static void test_explored_lists(void **state)
{
    const char *const sets[] = {
        "recommend.items=8",        "catalogue.topic=items",
        "recommend.category.max=2", "explore.rate=0.7",
        "explore.pool=40",          NULL};
    float hidden[16];
    uint32_t lower = 0;
    struct scene t;
    (void)state;
    scene_open(&t, sets, true);
    apply(&t, "item-1");
    for (uint32_t i = 0; i < 200; i++) {
        const struct outcome *o;
        struct shelf *shelf = shelf_of(t.catalogue);
        for (uint32_t d = 0; d < 16; d++)
            hidden[d] = draw_unit(draw(8, i, d)) - 0.5f;
        o = make(&t, hidden);
        assert_int_equal(o->list_count, 8);
        for (uint32_t k = 0; k < 8; k++) {
            uint32_t same = 0;
            uint64_t category = shelf->category[o->list[k].index];
            assert_true(is_allowed(shelf, o->list[k].index));
            for (uint32_t j = 0; j < k; j++) {
                assert_int_not_equal(o->list[j].index, o->list[k].index);
                same += category == shelf->category[o->list[j].index];
            }
            assert_true(category == 0 || same < 2);
            lower += o->list[k].propensity < 0.3;
        }
        shelf_free(shelf);
    }
    assert_true(lower > 200);
    scene_close(&t);
}

static int open_model(void **state)
{
    (void)state;
    the_model = random_model(SHAPE, 4);
    for (uint32_t i = 0; i < ITEMS; i++)
        the_model->item_counts[i] = (float)(draw(6, i, 0) % 50);
    model_rank_items(the_model);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    model_free(the_model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shelves_follow),
        cmocka_unit_test(test_a_plan_goes_anywhere),
        cmocka_unit_test(test_two_threads),
        cmocka_unit_test(test_too_many_items),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_replay_with_a_file),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_explored_lists),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
