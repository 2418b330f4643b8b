/* Goal    A new model and configuration come into force while events flow:
 *         every output is, in all bytes, what the model and policy that it
 *         names make of the whole log; nothing is half applied.
 * Method  One log, scored by model A alone, by model B alone, and by A until
 *         a reload on another thread brings B, with rebalances and small
 *         caches in the way. Each output of the last must stand in the run
 *         of the model that it names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <jansson.h>
#include <pthread.h>

#include "catalogue.h"
#include "hash.h"
#include "model_dir.h"
#include "outputs.h"
#include "reload.h"
#include "serving.h"
#include "source_memory.h"
#include "spine_log.h"

enum {
    RECORDS = 20000,
    TOMBSTONES = 870, /* among them: each forgets a user */
    EVENTS = RECORDS - TOMBSTONES,
    USERS = 80,
    SEED = 5,
    CACHE = 4 << 20,
};

#define TTL   "state.ttl=300d"
#define AHEAD "time.future.max=200d"
#define LISTS "output.recommendations.topic=lists"
#define OFTEN "commit.interval=1ms"

static char folder[] = "/tmp/millrace-reload-XXXXXX";
static char dir_a[128], dir_b[128];
static struct spine_log the_log;
static struct spine_run run_a, run_b;
static struct spine_outputs of_a, of_b;

/* ----------------------------------------------------------- the service */

/* A worker as service.c would have it, and the reload behind it. */
struct live {
    struct spine_run run;
    struct reload *reload;
    atomic_bool stop;
    /* What the configuration says when it is read again. */
    const char *sets[2]; /* the second may be NULL */
    /* Of the reload's thread. */
    pthread_t thread;
    atomic_bool done;
    enum rc rc;
    json_t *result;
    struct err e;
};

static void ok(enum rc rc, const struct err *e)
{
    if (rc != RC_OK) fail_msg("%s", e->text);
}

static enum rc read_again(void *user, struct config **out, struct err *e)
{
    struct live *l = user;
    const char *sets[] = {LISTS,      OFTEN,      TTL, AHEAD,
                          l->sets[0], l->sets[1], NULL};
    (void)e;
    *out = spine_config(sets);
    return RC_OK;
}

/* "model.dir=..." for dir_a or dir_b. */
static const char *model_set(const char *dir)
{
    static char texts[2][192];
    char *text = texts[dir == dir_b];
    (void)snprintf(text, sizeof texts[0], "model.dir=%s", dir);
    return text;
}

static struct catalogue *the_catalogue; /* NULL: all items are available */

static void live_open(struct live *l, size_t context_bytes)
{
    const char *sets[] = {model_set(dir_a), LISTS, OFTEN, TTL, AHEAD, NULL};
    struct reload_options o = {.reader = the_log.schema,
                               .catalogue = the_catalogue,
                               .stop = &l->stop,
                               .workers = 1,
                               .read = read_again,
                               .user = l};
    const struct config *config;
    struct model *model;
    struct err e;
    *l = (struct live){.sets = {model_set(dir_b)}};
    spine_run_open(&l->run, &the_log, sets);
    ok(model_open(&o.model, dir_a, &e), &e);
    o.config = l->run.config;
    o.metrics = l->run.metrics;
    ok(reload_new(&l->reload, &o, &e), &e);
    l->run.options.model = o.model;
    l->run.options.context_bytes_max = context_bytes;
    l->run.options.catalogue = the_catalogue;
    l->run.options.handover = reload_join(l->reload, 0, &config, &model);
    assert_ptr_equal(config, l->run.config);
    assert_ptr_equal(model, o.model);
}

static void live_close(struct live *l)
{
    spine_run_close(&l->run);
    reload_free(l->reload);
    json_decref(l->result);
}

static void *reload_main(void *arg)
{
    struct live *l = arg;
    l->rc = reload_run(l->reload, &l->result, &l->e);
    atomic_store(&l->done, true);
    return NULL;
}

static void step(struct live *l, uint32_t times)
{
    struct err e;
    for (uint32_t i = 0; i < times; i++)
        ok(worker_step(l->run.worker, &e), &e);
}

static void reload_start(struct live *l)
{
    json_decref(l->result);
    l->result = NULL;
    atomic_store(&l->done, false);
    assert_int_equal(pthread_create(&l->thread, NULL, reload_main, l), 0);
}

/* Steps on while the reload works, a batch a millisecond. */
static enum rc reload_now(struct live *l)
{
    reload_start(l);
    while (!atomic_load(&l->done)) {
        step(l, 1);
        (void)usleep(1000);
    }
    assert_int_equal(pthread_join(l->thread, NULL), 0);
    return l->rc;
}

static uint64_t warmed(const struct live *l)
{
    return (uint64_t)json_integer_value(
        json_object_get(l->result, "contexts_warmed"));
}

/* -------------------------------------------------------------- outputs */

static struct decoder *decoders[OUTPUTS];
static struct schema *schemas[OUTPUTS];

/* A text of the record by its distance from the end: 5 policy, ... 6 ... */
enum { FROM_END_POLICY = 4, FROM_END_MODEL = 6 };
static void text_of(const struct message *m, uint32_t from_end, char out[17])
{
    struct datum at[64];
    struct tape tape = {.at = at, .max = 64};
    struct err e;
    ok(decoder_decode(decoders[m->output],
                      slice_of(m->value.ptr + 5, m->value.len - 5), &tape, &e),
       &e);
    assert_int_equal(at[tape.count - from_end].s.len, 16);
    memcpy(out, at[tape.count - from_end].s.ptr, 16);
    out[16] = 0;
}

static bool same_value(const struct message *x, const struct message *y)
{
    return x->output == y->output && slice_equal(x->key, y->key) &&
           slice_equal(x->value, y->value);
}

/* Every output is that of the model which it names; B after A in each
 * partition. Returns how many are B's. */
static uint32_t check_outputs(const struct live *l)
{
    struct spine_outputs got = spine_outputs_of(&l->run, 1);
    uint32_t of_new = 0;
    int64_t partition = -1;
    bool was_new = false;
    assert_int_equal(got.count, of_a.count);
    for (uint32_t i = 0; i < got.count; i++) {
        const struct message *m = got.at[i].message;
        char hash[17], a[17];
        bool is_new;
        text_of(m, FROM_END_MODEL, hash);
        text_of(of_a.at[i].message, FROM_END_MODEL, a);
        is_new = strcmp(hash, a) != 0;
        if (got.at[i].partition != partition) was_new = false;
        partition = got.at[i].partition;
        assert_true(is_new || !was_new);
        was_new = is_new;
        of_new += is_new;
        if (!same_value(m, (is_new ? &of_b : &of_a)->at[i].message))
            fail_msg("partition %lld, offset %lld is not what model %s says",
                     (long long)partition, (long long)got.at[i].offset, hash);
    }
    spine_outputs_free(&got);
    return of_new;
}

/* -------------------------------------------------------------- fixtures */

static void write_model(char *dir, size_t size, const char *name, uint64_t seed)
{
    struct model *m = spine_model(SPINE_ITEMS, seed);
    struct err e;
    (void)snprintf(dir, size, "%s/%s", folder, name);
    ok(model_write(m, dir, "Random.\n", &e), &e);
    model_free(m);
}

static void run_alone(struct spine_run *r, const char *dir)
{
    struct model *m;
    struct err e;
    ok(model_open(&m, dir, &e), &e);
    spine_run_open(r, &the_log, NULL);
    r->options.model = m;
    spine_run_start(r);
    spine_run_to_end(r);
    spine_run_crash(r);
    model_free(m);
}

/* Every 23rd record has no value: its user is forgotten, and the contexts
 * that were made before are of somebody else. */
static void make_log(void)
{
    uint32_t made = 0;
    spine_log_make(&the_log, RECORDS, USERS, SEED);
    for (uint32_t i = 11; i < RECORDS; i += 23, made++) {
        struct record *r = &the_log.records[i];
        /* The user's name is the first field: its length, zigzag, its text. */
        r->key = slice_of(r->value.ptr + 1, r->value.ptr[0] / 2);
        r->value = slice_of(NULL, 0);
    }
    assert_int_equal(made, TOMBSTONES);
}

static int start(void **state)
{
    struct err e;
    (void)state;
    if (!mkdtemp(folder)) return -1;
    make_log();
    write_model(dir_a, sizeof dir_a, "a", 7);
    write_model(dir_b, sizeof dir_b, "b", 8);
    run_alone(&run_a, dir_a);
    run_alone(&run_b, dir_b);
    of_a = spine_outputs_of(&run_a, 1);
    of_b = spine_outputs_of(&run_b, 1);
    ok(outputs_parse_schemas(schemas, &e), &e);
    for (uint32_t i = 0; i < OUTPUTS; i++)
        if (schemas[i])
            ok(decoder_compile(&decoders[i], schemas[i], schemas[i], &e), &e);
    return 0;
}

static int stop(void **state)
{
    char command[128];
    (void)state;
    for (uint32_t i = 0; i < OUTPUTS; i++) {
        decoder_free(decoders[i]);
        schema_free(schemas[i]);
    }
    spine_outputs_free(&of_a);
    spine_outputs_free(&of_b);
    spine_run_close(&run_a);
    spine_run_close(&run_b);
    spine_log_free(&the_log);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* ----------------------------------------------------------------- tests */

/* The two models must differ, or equal bytes would say nothing. */
static void test_models_differ(void **state)
{
    uint32_t same = 0;
    (void)state;
    assert_int_equal(of_a.count, 2 * EVENTS);
    for (uint32_t i = 0; i < of_a.count; i++)
        same += same_value(of_a.at[i].message, of_b.at[i].message);
    assert_int_equal(same, 0);
}

static void test_each_output_is_of_its_model(void **state)
{
    static const struct {
        size_t context_bytes;
        enum source_change_kind change; /* while it warms, and after */
    } ways[] = {{CACHE, SOURCE_NO_CHANGE},
                {48 << 10, SOURCE_NO_CHANGE},
                {CACHE, SOURCE_LOST},
                {CACHE, SOURCE_REVOKED}};
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct live l;
        uint32_t of_new;
        live_open(&l, ways[i].context_bytes);
        for (uint64_t at = 1700; ways[i].change && at < 3200; at += 170)
            source_memory_change(l.run.source, ways[i].change, at);
        spine_run_start(&l.run);
        step(&l, 100);
        ok(reload_now(&l), &l.e);
        spine_run_to_end(&l.run);
        of_new = check_outputs(&l);
        assert_true(of_new > EVENTS / 10);
        assert_true(of_new < 2 * EVENTS - 2 * 100);
        assert_true(ways[i].change || warmed(&l) > 0);
        live_close(&l);
    }
}

/* A worker that comes back after it was thrown out, or after damage, serves
 * with what is in force: what it began with may be gone. */
static void test_begins_again_with_what_is_in_force(void **state)
{
    const struct config *config;
    struct model *model;
    struct live l;
    (void)state;
    live_open(&l, CACHE);
    spine_run_start(&l.run);
    step(&l, 50);
    ok(reload_now(&l), &l.e);
    step(&l, 50);
    spine_run_crash(&l.run);
    handover_end(l.run.options.handover);
    l.run.options.handover = reload_join(l.reload, 0, &config, &model);
    assert_ptr_not_equal(model, l.run.options.model);
    assert_string_equal(model_info(model)->hash,
                        json_string_value(json_object_get(l.result, "model")));
    l.run.options.config = config;
    l.run.options.model = model;
    spine_run_again(&l.run, &the_log);
    spine_run_to_end(&l.run);
    assert_true(check_outputs(&l) > EVENTS / 10);
    live_close(&l);
}

/* Contexts that were warmed are not made again: a user needs one, but for
 * those whose anchor moves. */
static void test_warmed_contexts_are_used(void **state)
{
    uint64_t misses[2];
    (void)state;
    for (uint32_t cold = 0; cold < 2; cold++) {
        struct live l;
        live_open(&l, CACHE);
        l.sets[1] = cold ? "reload.warm=0" : NULL;
        spine_run_start(&l.run);
        step(&l, 200);
        ok(reload_now(&l), &l.e);
        step(&l, 40);
        misses[cold] =
            scorer_stats(worker_scorer(l.run.worker)).misses_total - warmed(&l);
        assert_true(cold ? warmed(&l) == 0 : warmed(&l) > USERS / 2);
        spine_run_to_end(&l.run);
        (void)check_outputs(&l);
        live_close(&l);
    }
    assert_true(misses[1] > misses[0] + USERS / 4);
}

/* What reload.c does, with many batches between a user's context being made
 * and its use: some lag, some are of users who were forgotten meanwhile. */
static void test_lagging_contexts(void **state)
{
    struct live l;
    struct serving *next;
    struct serving_options o = {.context_bytes_max = CACHE, .lists = true};
    struct hot_page *page = hot_page_new(SPINE_WINDOW, 256);
    struct handover *h;
    struct model *b;
    struct err e;
    (void)state;
    live_open(&l, CACHE);
    h = l.run.options.handover;
    spine_run_start(&l.run);
    step(&l, 200);
    ok(model_open(&b, dir_b, &e), &e);
    o.config = l.run.config;
    o.model = b;
    o.fields = mapping_fields(l.run.mapping);
    ok(serving_new(&next, &o, &e), &e);
    do {
        handover_ask(h, page);
        step(&l, 5);
        assert_ptr_equal(handover_filled(h), page);
        assert_true(serving_warm(next, page));
        assert_true(handover_busy(h));
    } while (!page->last);
    handover_asked(h);
    assert_false(handover_busy(h));
    handover_give(h, next);
    step(&l, 1);
    assert_true(next->warmed_count > USERS / 2);
    assert_true(serving_stats(next).contexts > USERS / 4);
    serving_free(handover_used(h));
    spine_run_to_end(&l.run);
    assert_true(check_outputs(&l) > EVENTS);
    hot_page_free(page);
    live_close(&l);
    model_free(b);
}

/* Another policy, the same model: contexts stay, outputs say so. */
static void test_policy_alone(void **state)
{
    struct live l;
    struct spine_outputs got;
    char first[17], last[17], model[17];
    const struct scorer *scorer;
    uint64_t misses;
    (void)state;
    live_open(&l, CACHE);
    l.sets[0] = model_set(dir_a);
    l.sets[1] = "fraud.threshold=0.0";
    spine_run_start(&l.run);
    step(&l, 200);
    scorer = worker_scorer(l.run.worker);
    misses = scorer_stats(scorer).misses_total;
    ok(reload_now(&l), &l.e);
    assert_ptr_equal(worker_scorer(l.run.worker), scorer);
    assert_true(scorer_stats(scorer).misses_total - misses < USERS / 4);
    assert_string_equal(json_string_value(json_array_get(
                            json_object_get(l.result, "changed"), 0)),
                        "fraud.threshold");
    spine_run_to_end(&l.run);
    got = spine_outputs_of(&l.run, 1);
    text_of(got.at[0].message, FROM_END_POLICY, first);
    text_of(got.at[got.count - 1].message, FROM_END_POLICY, last);
    assert_string_not_equal(first, last);
    text_of(got.at[got.count - 1].message, FROM_END_MODEL, model);
    text_of(of_a.at[0].message, FROM_END_MODEL, first);
    assert_string_equal(model, first);
    /* Every fraud score is at or above 0. */
    assert_true(spine_run_count(&l.run, COUNT_outputs_flagged) > EVENTS / 2);
    spine_outputs_free(&got);
    live_close(&l);
}

static double total(const struct live *l, const char *name)
{
    char *page, line[128], *at;
    size_t len;
    struct err e;
    double value;
    ok(metrics_write(l->run.metrics, &page, &len, &e), &e);
    (void)snprintf(line, sizeof line, "\n%s ", name);
    at = strstr(page, line);
    assert_non_null(at);
    value = strtod(at + strlen(line), NULL);
    free(page);
    return value;
}

static void expect_refusal(struct live *l, const char *set, const char *says)
{
    l->sets[1] = set;
    assert_int_equal(reload_now(l), RC_SKIP);
    assert_null(l->result);
    if (!strstr(l->e.text, says)) fail_msg("%s: not '%s'", l->e.text, says);
    assert_null(strstr(l->e.text, "s3cret"));
}

/* What is refused changes nothing, says why, and is counted. */
static void test_refusals(void **state)
{
    struct live l;
    char text[256];
    (void)state;
    live_open(&l, CACHE);
    spine_run_start(&l.run);
    step(&l, 50);
    expect_refusal(&l, "workers=2", "read at start alone: workers;");
    expect_refusal(&l, "kafka.sasl.password=s3cret",
                   "start alone: kafka.sasl.password;");
    expect_refusal(&l, "admin.token=s3cret-s3cret-s3cret",
                   "start alone: admin.token;");
    expect_refusal(&l, "model.dir=/nowhere", "/nowhere");
    /* It would expire users by one event. */
    expect_refusal(&l, "time.future.max=400d", "state.ttl: must be longer");
    l.sets[0] = "recommend.when=never";
    expect_refusal(&l, "batch.events.max=17", "batch.events.max;");
    l.sets[0] = model_set(dir_b);
    (void)snprintf(text, sizeof text, "%s/model.safetensors", dir_b);
    assert_int_equal(rename(text, "/tmp/millrace-reload-away"), 0);
    expect_refusal(&l, NULL, "model.safetensors");
    assert_int_equal(rename("/tmp/millrace-reload-away", text), 0);
    spine_run_to_end(&l.run);
    assert_int_equal(check_outputs(&l), 0);
    assert_true(total(&l, "millrace_reload_failures_total") == 7);
    assert_true(total(&l, "millrace_reloads_total") == 0);
    live_close(&l);
}

/* Many in a row, to and fro. */
static void test_again_and_again(void **state)
{
    struct live l;
    (void)state;
    live_open(&l, CACHE);
    spine_run_start(&l.run);
    for (uint32_t i = 0; i < 6; i++) {
        l.sets[0] = model_set(i % 2 ? dir_a : dir_b);
        step(&l, 20);
        ok(reload_now(&l), &l.e);
    }
    assert_true(total(&l, "millrace_reloads_total") == 6);
    spine_run_to_end(&l.run);
    live_close(&l);
}

/* A worker that does not turn keeps a reload waiting, and the next one out;
 * one that ends lets it go. */
static void test_worker_ends_meanwhile(void **state)
{
    struct live l;
    struct err e;
    json_t *none;
    (void)state;
    live_open(&l, CACHE);
    l.sets[1] = "reload.warm=50ms";
    spine_run_start(&l.run);
    step(&l, 50);
    reload_start(&l);
    (void)usleep(300000);
    assert_false(atomic_load(&l.done));
    assert_int_equal(reload_run(l.reload, &none, &e), RC_AGAIN);
    assert_non_null(strstr(e.text, "another one is under way"));
    spine_run_crash(&l.run);
    handover_end(l.run.options.handover);
    assert_int_equal(pthread_join(l.thread, NULL), 0);
    assert_int_equal(l.rc, RC_OK);
    live_close(&l);

    live_open(&l, CACHE);
    spine_run_start(&l.run);
    step(&l, 50);
    atomic_store(&l.stop, true);
    assert_int_equal(reload_now(&l), RC_AGAIN);
    live_close(&l);
}

/* Item i at offset i; what is gone comes after all of them. */
static void offer(uint32_t from, uint32_t until, bool available)
{
    struct err e;
    for (uint32_t i = from; i < until; i++) {
        char name[24];
        (void)snprintf(name, sizeof name, "item-%u", i);
        const struct catalogue_entry entry = {
            .offset = i + (available ? 0 : SPINE_ITEMS),
            .item = hash64(slice_str(name)),
            .available = available,
        };
        ok(catalogue_add(the_catalogue, &entry, &e), &e);
    }
}

/* Whether all items of a list are among those that were offered as of its
 * offset, which it gives. */
static int64_t check_list(const struct message *m)
{
    struct datum at[64];
    struct tape tape = {.at = at, .max = 64};
    struct err e;
    int64_t offset;
    ok(decoder_decode(decoders[m->output],
                      slice_of(m->value.ptr + 5, m->value.len - 5), &tape, &e),
       &e);
    offset = at[tape.count - FROM_END_MODEL - 1].i;
    assert_true(at[4].count > 0);
    for (uint32_t k = 0; k < at[4].count; k++) {
        const struct slice id = at[6 + 4 * k].s; /* behind its record */
        char name[24];
        int item;
        (void)snprintf(name, sizeof name, "%.*s", (int)id.len,
                       (const char *)id.ptr);
        item = atoi(name + 5);
        assert_in_range(item, offset < SPINE_ITEMS ? 0 : 10, 29);
    }
    return offset;
}

/* Also a model that comes while it runs goes on with it, and follows it. */
static void test_the_catalogue_stays(void **state)
{
    struct live l;
    struct spine_outputs got;
    uint32_t lists[2] = {0}, lists_of_b = 0;
    struct err e;
    char b[17];
    (void)state;
    text_of(of_b.at[0].message, FROM_END_MODEL, b);
    ok(catalogue_new(&the_catalogue, 100, NULL, NULL, &e), &e);
    offer(0, 30, true);
    live_open(&l, CACHE);
    spine_run_start(&l.run);
    step(&l, 20);
    ok(reload_now(&l), &l.e);
    step(&l, 1);
    offer(0, 10, false);
    spine_run_to_end(&l.run);
    got = spine_outputs_of(&l.run, 1);
    for (uint32_t i = 0; i < got.count; i++) {
        const struct message *m = got.at[i].message;
        char hash[17];
        int64_t offset;
        if (m->output != OUTPUT_RECOMMENDATIONS) continue;
        offset = check_list(m);
        assert_true(offset == 29 || offset == SPINE_ITEMS + 9);
        lists[offset != 29]++;
        text_of(m, FROM_END_MODEL, hash);
        lists_of_b += strcmp(hash, b) == 0;
        if (offset != 29) assert_string_equal(hash, b);
    }
    assert_true(lists[0] > 0 && lists[1] > 0 && lists_of_b >= lists[1]);
    spine_outputs_free(&got);
    live_close(&l);
    catalogue_free(the_catalogue);
    the_catalogue = NULL;
}

/* A LIVE option must act after a reload without a restart. Whoever makes an
 * option LIVE adds it here, with where the new value is read. */
static void test_live_options(void **state)
{
    static const char *const LIVE[] = {
        "time.future.max",       /* mapping_set_config */
        "state.checkpoint.rows", /* state_set_checkpoint */
        "state.checkpoint.age",
        "model.dir",       /* reload.c */
        "reload.warm",     /* reload.c */
        "fraud.threshold", /* policy_init, of the new serving */
        "reasons.threshold",
        "recommend.when",
        "recommend.types",
        "recommend.interval",
        "recommend.seen",
        "recommend.category.max",
        "recommend.events.min",
        "profile.interval",
        "explore.rate",
        "explore.seed",
        "poll.wait.ms", /* worker.c, by its config */
        "commit.interval",
        "drain.timeout", /* reload_drain_ms */
        "log.level",     /* reload.c */
    };
    size_t count = sizeof LIVE / sizeof LIVE[0], found = 0;
    (void)state;
    for (uint32_t i = 0; i < OPTION_COUNT; i++) {
        bool listed = false;
        for (size_t k = 0; k < count; k++)
            listed = listed || strcmp(LIVE[k], CONFIG_OPTIONS[i].key) == 0;
        if (listed != CONFIG_OPTIONS[i].live)
            fail_msg("%s: LIVE here and there?", CONFIG_OPTIONS[i].key);
        found += listed;
    }
    assert_int_equal(found, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models_differ),
        cmocka_unit_test(test_each_output_is_of_its_model),
        cmocka_unit_test(test_begins_again_with_what_is_in_force),
        cmocka_unit_test(test_warmed_contexts_are_used),
        cmocka_unit_test(test_lagging_contexts),
        cmocka_unit_test(test_policy_alone),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_again_and_again),
        cmocka_unit_test(test_worker_ends_meanwhile),
        cmocka_unit_test(test_the_catalogue_stays),
        cmocka_unit_test(test_live_options),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
