/* test_hold.c - goal: while a registry does not give a schema, the partition
 * that needs it stands still, whatever happens meanwhile, and the others go
 * on; once it is there, the outputs are those of a run that never waited:
 * none is missing, none twice, none out of order, no dead letter.
 * Method: a log in memory whose records name their schema in a header; from
 * its middle on, every second one of a partition names one that only the
 * registry has (support/registry). A run over the same records without headers
 * says what must come out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "outputs.h"
#include "schema_dir.h"
#include "server.h"
#include "source_memory.h"
#include "spine_log.h"

enum {
    EVENTS = 600,
    USERS = 20,
    SEED = 9,
    WAIT_MS = 10000,
    KNOWN_ID = 7,   /* a file in schemas.dir */
    NEW_ID = 8,     /* only the registry has it */
    NEW_FROM = 100, /* first offset of partition 1 that names it */
};

static struct spine_log plain, named;
static struct spine_outputs expected;
static struct spine_run calm;
static int64_t ends[SPINE_PARTITIONS];

static char dir[] = "/tmp/millrace-hold-XXXXXX";
static struct server *server;
static struct spine_run run;

/* --- the log ------------------------------------------------------------ */

static void name_schemas(void)
{
    static const uint8_t IDS[2][5] = {{0, 0, 0, 0, KNOWN_ID},
                                      {0, 0, 0, 0, NEW_ID}};
    static struct header headers[2][3];
    named = plain;
    named.records = calloc(plain.count, sizeof *named.records);
    assert_non_null(named.records);
    for (int i = 0; i < 2; i++) {
        headers[i][0] = plain.records[0].headers[0];
        headers[i][1] = (struct header){slice_str("__value_schema_id"),
                                        slice_of(IDS[i], sizeof IDS[i])};
        headers[i][2] = (struct header){slice_str("__key_schema_id"),
                                        slice_of(IDS[i], sizeof IDS[i])};
    }
    for (uint32_t i = 0; i < plain.count; i++) {
        struct record *r = &named.records[i];
        *r = plain.records[i];
        r->headers = headers[r->partition == 1 && r->offset >= NEW_FROM &&
                             r->offset % 2 == 0];
        r->header_count = 3;
        ends[r->partition] = r->offset + 1;
    }
}

static int start(void **state)
{
    struct err e;
    (void)state;
    spine_log_make(&plain, EVENTS, USERS, SEED);
    name_schemas();
    spine_run_open(&calm, &plain, NULL);
    spine_run_start(&calm);
    spine_run_to_end(&calm);
    expected = spine_outputs_of(&calm, 1);
    assert_non_null(mkdtemp(dir));
    return schema_dir_write(dir, schema_key_id(KNOWN_ID),
                            schema_json(plain.schema), &e) == RC_OK
               ? 0
               : -1;
}

static void file_remove(uint32_t id)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%u.avsc", dir, id);
    (void)unlink(path);
}

static int stop(void **state)
{
    (void)state;
    spine_outputs_free(&expected);
    spine_run_close(&calm);
    free(named.records);
    spine_log_free(&plain);
    file_remove(KNOWN_ID);
    return rmdir(dir);
}

/* --- a run with a registry ---------------------------------------------- */

/* "GET /schemas/ids/8" answers with the log's schema. */
static void serve_schema(void)
{
    json_t *body = json_pack("{ss%}", "schema",
                             (const char *)schema_json(plain.schema).ptr,
                             schema_json(plain.schema).len);
    char *text = json_dumps(body, 0);
    assert_non_null(text);
    server_route(server, "GET /schemas/ids/8", 200, text);
    free(text);
    json_decref(body);
}

static int run_open(void **state)
{
    char url[96], folder[96];
    const char *const sets[] = {url, folder, "commit.interval=1ms", NULL};
    (void)state;
    server = server_start(NULL);
    serve_schema();
    server_mode(server, SERVE_500);
    (void)snprintf(url, sizeof url, "registry.url=%s", server_url(server));
    (void)snprintf(folder, sizeof folder, "schemas.dir=%s", dir);
    spine_run_open(&run, &named, sets);
    spine_run_start(&run);
    return 0;
}

static int run_close(void **state)
{
    (void)state;
    spine_run_close(&run);
    server_stop(server);
    file_remove(NEW_ID);
    return 0;
}

static bool is_held(void)
{
    return atomic_load(&metrics_worker(run.metrics, 0)
                            ->gauges[GAUGE_partitions_held]) == 1;
}

static void step(void)
{
    struct err e;
    if (worker_step(run.worker, &e) != RC_OK) fail_msg("%s", e.text);
}

/* Until partition 1 is held and all else is committed. */
static void run_until_held(void)
{
    int64_t until = registry_now_ms() + WAIT_MS;
    while (!is_held() || run.committed[0].offset < ends[0] ||
           run.committed[1].offset < NEW_FROM) {
        assert_true(registry_now_ms() < until);
        step();
    }
    for (int i = 0; i < 100; i++)
        step();
    assert_true(is_held());
    assert_int_equal(run.committed[0].offset, ends[0]);
    assert_int_equal(run.committed[1].offset, NEW_FROM);
}

static void check_end(void)
{
    struct spine_outputs got;
    server_mode(server, SERVE_WELL);
    spine_run_to_end(&run);
    got = spine_outputs_of(&run, 1);
    spine_outputs_same(&expected, &got);
    spine_outputs_free(&got);
    assert_false(is_held());
    assert_int_equal(run.committed[1].offset, ends[1]);
}

/* --- tests -------------------------------------------------------------- */

static void test_others_go_on(void **state)
{
    (void)state;
    run_until_held();
    /* More than once where reading the file of the other schema took long. */
    assert_true(spine_run_count(&run, COUNT_holds) >= 1);
    check_end();
    assert_int_equal(spine_run_count(&run, COUNT_rewinds), 0);
}

/* Garbage and a time-out are no answers either. */
static void test_no_answer(void **state)
{
    (void)state;
    server_mode(server, SERVE_GARBAGE);
    run_until_held();
    server_mode(server, SERVE_HANG);
    run_until_held();
    check_end();
}

static void test_revoked_while_held(void **state)
{
    (void)state;
    run_until_held();
    source_memory_change(run.source, SOURCE_REVOKED, 1);
    step();
    run_until_held();
    source_memory_change(run.source, SOURCE_LOST, 1);
    step();
    run_until_held();
    check_end();
}

static void test_crash_while_held(void **state)
{
    (void)state;
    run_until_held();
    spine_run_crash(&run);
    spine_run_again(&run, &named);
    run_until_held();
    check_end();
}

/* A failed batch seeks back to the commit: the hold ends, and comes again. */
static void test_rewind_while_held(void **state)
{
    int64_t until = registry_now_ms() + WAIT_MS;
    (void)state;
    while (!is_held()) {
        assert_true(registry_now_ms() < until);
        step();
    }
    sink_memory_fail(run.sink, 1, 0);
    run_until_held();
    assert_int_equal(spine_run_count(&run, COUNT_rewinds), 1);
    check_end();
}

/* The answer is that there is none: then, and only then, they are dead
 * letters, and the rest of the partition goes on. */
static void test_absent(void **state)
{
    uint32_t dead = 0;
    (void)state;
    run_until_held();
    server_route(server, "GET /schemas/ids/8", 404,
                 "{\"error_code\":40403,\"message\":\"Schema not found\"}");
    server_mode(server, SERVE_WELL);
    spine_run_to_end(&run);
    for (uint32_t i = 0; i < sink_memory_count(run.sink); i++)
        dead += sink_memory_at(run.sink, i)->output == OUTPUT_DEAD_LETTERS;
    assert_int_equal(dead, (ends[1] - NEW_FROM + 1) / 2);
    assert_int_equal(run.committed[1].offset, ends[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, run_open, run_close)
    const struct CMUnitTest tests[] = {
        TEST(test_others_go_on),       TEST(test_no_answer),
        TEST(test_revoked_while_held), TEST(test_crash_while_held),
        TEST(test_rewind_while_held),  TEST(test_absent),
    };
#undef TEST
    return cmocka_run_group_tests(tests, start, stop);
}
