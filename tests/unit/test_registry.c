/* test_registry.c - goal: a schema that a registry has is found, once, with
 * all that it refers to, and stays found without the registry; one that it
 * lacks is absent for a while; and whatever else a registry does, a key
 * waits and is found in the end.
 * Method: a registry in this process (support/registry), told what to do
 * wrong. Short times, so that a key's wait can be seen to go on. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"
#include "registry.h"
#include "registry_outputs.h"
#include "schema_canonical.h"
#include "schema_dir.h"
#include "schema_type.h"
#include "server.h"
#include "tls.h"

enum {
    WAIT_MS = 5000,     /* for what must come */
    QUIET_MS = 150,     /* for what must not */
    TIMEOUT_MS = 100,   /* registry.timeout */
    RETRY_MS = 300,     /* schemas.retry */
    STOP_MS_MAX = 1000, /* registry_close, whatever is under way */
};

static struct err g_e;

struct fixture {
    struct config config;
    char dir[64], url[64];
    char *urls[3];
    struct server *server;
    struct registry *registry;
};

static void fixture_open(struct fixture *f, const char *tls_folder)
{
    *f = (struct fixture){.dir = "/tmp/millrace-registry-XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    f->server = server_start(tls_folder);
    (void)snprintf(f->url, sizeof f->url, "%s", server_url(f->server));
    f->urls[0] = f->url;
    f->config = (struct config){
        .registry_url = {f->urls, 1},
        .registry_timeout = TIMEOUT_MS,
        .schemas_retry = RETRY_MS,
        .schemas_dir = f->dir,
        .registry_user = "",
        .registry_password = "",
        .registry_ca = "",
        .registry_certificate = "",
        .registry_key = "",
        .registry_key_password = "",
    };
}

static void registry_start(struct fixture *f)
{
    if (registry_open(&f->registry, &f->config, NULL, &g_e) != RC_OK)
        fail_msg("%s", g_e.text);
}

static void registry_end(struct fixture *f)
{
    int64_t from = registry_now_ms();
    registry_close(f->registry);
    f->registry = NULL;
    assert_true(registry_now_ms() - from < STOP_MS_MAX);
}

static void fixture_close(struct fixture *f)
{
    DIR *folder = opendir(f->dir);
    const struct dirent *entry;
    registry_end(f);
    if (f->server) server_stop(f->server);
    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL) {
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s", f->dir, entry->d_name);
        if (entry->d_name[0] != '.') (void)unlink(path);
    }
    (void)closedir(folder);
    assert_int_equal(rmdir(f->dir), 0); /* no draft was left */
}

/* Asks, and waits for an answer: FOUND or ABSENT, WAIT if there is none. */
static enum registry_state ask(struct fixture *f, struct schema_key key,
                               const struct schema **schema, uint32_t wait_ms)
{
    int64_t until_ms;
    enum registry_state state =
        registry_get(f->registry, key, schema, &until_ms, &g_e);
    if (state != REGISTRY_WAIT) return state;
    (void)registry_await(f->registry, wait_ms);
    return registry_get(f->registry, key, schema, &until_ms, &g_e);
}

static void expect(struct fixture *f, struct schema_key key, const char *json)
{
    const struct schema *s;
    assert_int_equal(ask(f, key, &s, WAIT_MS), REGISTRY_FOUND);
    assert_int_equal(schema_json(s).len, strlen(json));
    assert_memory_equal(schema_json(s).ptr, json, strlen(json));
}

static void expect_absent(struct fixture *f, struct schema_key key,
                          const char *word)
{
    const struct schema *s;
    assert_int_equal(ask(f, key, &s, WAIT_MS), REGISTRY_ABSENT);
    if (!strstr(g_e.text, word)) fail_msg("'%s' lacks '%s'", g_e.text, word);
}

static void expect_waits(struct fixture *f, struct schema_key key)
{
    const struct schema *s;
    assert_int_equal(ask(f, key, &s, QUIET_MS), REGISTRY_WAIT);
}

static const char STRING[] = "\"string\"";
static const char STRING_ANSWER[] = "{\"schema\":\"\\\"string\\\"\"}";

/* --- what it has -------------------------------------------------------- */

static void test_found_once_and_kept(void **state)
{
    struct schema_key key = schema_key_id(7), guid = {SCHEMA_GUID, 1, 2};
    struct fixture f;
    struct stat at;
    char path[128];
    (void)state;
    fixture_open(&f, NULL);
    server_route(f.server, "GET /schemas/ids/7", 200, STRING_ANSWER);
    server_route(f.server,
                 "GET /schemas/guids/00000000-0000-0001-0000-000000000002", 200,
                 STRING_ANSWER);
    registry_start(&f);
    for (int i = 0; i < 3; i++)
        expect(&f, key, STRING);
    expect(&f, guid, STRING);
    assert_int_equal(server_requests(f.server), 2);
    (void)snprintf(path, sizeof path, "%s/7.avsc", f.dir);
    assert_int_equal(stat(path, &at), 0);
    assert_int_equal(at.st_size, strlen(STRING));
    /* A restart while the registry is gone. */
    registry_end(&f);
    server_stop(f.server);
    f.server = NULL;
    registry_start(&f);
    expect(&f, key, STRING);
    expect(&f, guid, STRING);
    /* Those on the disk do not wait for the one that is not. */
    expect_waits(&f, schema_key_id(8));
    registry_end(&f);
    registry_start(&f);
    expect_waits(&f, schema_key_id(8));
    assert_int_equal(registry_answers(f.registry), 0);
    {
        const struct schema *s;
        int64_t until_ms;
        (void)registry_get(f.registry, key, &s, &until_ms, &g_e);
        for (int i = 0; i < WAIT_MS && registry_answers(f.registry) == 0; i++)
            (void)usleep(1000);
    }
    expect(&f, key, STRING);
    fixture_close(&f);
}

/* A file that a crash of something else cut short. */
static void test_damaged_file(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    assert_int_equal(schema_dir_write(f.dir, schema_key_id(7),
                                      slice_str("{\"type\":"), &g_e),
                     RC_OK);
    server_route(f.server, "GET /schemas/ids/7", 200, STRING_ANSWER);
    registry_start(&f);
    expect(&f, schema_key_id(7), STRING);
    fixture_close(&f);
}

/* Types of other subjects, which refer to each other and share one: each is
 * written out where it first stands. */
static void test_references(void **state)
{
    static const char MAIN[] =
        "{\"schema\":\"{\\\"type\\\":\\\"record\\\",\\\"name\\\":\\\"Pay\\\","
        "\\\"namespace\\\":\\\"shop\\\",\\\"fields\\\":["
        "{\\\"name\\\":\\\"card\\\",\\\"type\\\":\\\"bank.Card\\\"},"
        "{\\\"name\\\":\\\"kind\\\",\\\"type\\\":[\\\"null\\\","
        "\\\"bank.Kind\\\"]}]}\",\"references\":["
        "{\"name\":\"bank.Card\",\"subject\":\"a/card\",\"version\":3},"
        "{\"name\":\"bank.Kind\",\"subject\":\"kind\",\"version\":1}]}";
    static const char CARD[] =
        "{\"subject\":\"a/card\",\"version\":3,\"id\":5,\"schema\":\""
        "{\\\"type\\\":\\\"record\\\",\\\"name\\\":\\\"bank.Card\\\","
        "\\\"fields\\\":[{\\\"name\\\":\\\"kind\\\",\\\"type\\\":\\\"Kind\\\"}"
        "]}\",\"references\":[{\"name\":\"bank.Kind\",\"subject\":\"kind\","
        "\"version\":1}]}";
    static const char KIND[] =
        "{\"schema\":\"{\\\"type\\\":\\\"enum\\\",\\\"name\\\":\\\"Kind\\\","
        "\\\"namespace\\\":\\\"bank\\\",\\\"symbols\\\":[\\\"A\\\"]}\"}";
    static const char WHOLE[] =
        "{\"name\":\"shop.Pay\",\"type\":\"record\",\"fields\":[{\"name\":"
        "\"card\",\"type\":{\"name\":\"bank.Card\",\"type\":\"record\","
        "\"fields\":[{\"name\":\"kind\",\"type\":{\"name\":\"bank.Kind\","
        "\"type\":\"enum\",\"symbols\":[\"A\"]}}]}},{\"name\":\"kind\","
        "\"type\":[\"null\",\"bank.Kind\"]}]}";
    const struct schema *s;
    struct fixture f;
    char *form;
    size_t len;
    (void)state;
    fixture_open(&f, NULL);
    server_route(f.server, "GET /schemas/ids/7", 200, MAIN);
    server_route(f.server, "GET /subjects/a%2Fcard/versions/3?deleted=true",
                 200, CARD);
    server_route(f.server, "GET /subjects/kind/versions/1?deleted=true", 200,
                 KIND);
    registry_start(&f);
    assert_int_equal(ask(&f, schema_key_id(7), &s, WAIT_MS), REGISTRY_FOUND);
    assert_int_equal(server_requests(f.server), 3);
    assert_int_equal(schema_canonical(s, &form, &len, &g_e), RC_OK);
    assert_string_equal(form, WHOLE);
    free(form);
    fixture_close(&f);
}

/* Schemas that refer to themselves, by a chain without end. */
static void test_references_have_an_end(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    for (int i = 0; i < REGISTRY_REFERENCE_DEPTH_MAX + 2; i++) {
        char request[96], body[256];
        (void)snprintf(request, sizeof request,
                       i ? "GET /subjects/s/versions/%d?deleted=true"
                         : "GET /schemas/ids/7",
                       i);
        (void)snprintf(body, sizeof body,
                       "{\"schema\":\"\\\"int\\\"\",\"references\":[{"
                       "\"name\":\"n\",\"subject\":\"s\",\"version\":%d}]}",
                       i + 1);
        server_route(f.server, request, 200, body);
    }
    registry_start(&f);
    expect_absent(&f, schema_key_id(7), "deeper than");
    fixture_close(&f);
}

/* --- what it has not ---------------------------------------------------- */

static void test_absent_for_a_while(void **state)
{
    struct schema_key key = schema_key_id(7);
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    registry_start(&f);
    for (int i = 0; i < 5; i++)
        expect_absent(&f, key, "no such schema: Schema not found");
    assert_int_equal(server_requests(f.server), 1);
    server_route(f.server, "GET /schemas/ids/7", 200, STRING_ANSWER);
    expect_absent(&f, key, "no such schema");
    (void)usleep((RETRY_MS + 50) * 1000);
    expect(&f, key, STRING);
    fixture_close(&f);
}

static void test_unusable(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    server_route(f.server, "GET /schemas/ids/1", 200,
                 "{\"schemaType\":\"PROTOBUF\",\"schema\":\"syntax\"}");
    server_route(f.server, "GET /schemas/ids/2", 200,
                 "{\"schema\":\"{\\\"type\\\":\\\"recor\\\"}\"}");
    registry_start(&f);
    expect_absent(&f, schema_key_id(1), "PROTOBUF, not Avro");
    expect_absent(&f, schema_key_id(2), "recor");
    fixture_close(&f);
}

/* Without a registry, a file that comes later is seen later. */
static void test_files_alone(void **state)
{
    struct schema_key key = schema_key_id(7);
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    f.config.registry_url.count = 0;
    registry_start(&f);
    expect_absent(&f, key, "no such file");
    assert_int_equal(schema_dir_write(f.dir, key, slice_str(STRING), &g_e),
                     RC_OK);
    expect_absent(&f, key, "no such file");
    (void)usleep((RETRY_MS + 50) * 1000);
    expect(&f, key, STRING);
    fixture_close(&f);
}

/* More made-up keys than the table holds; those in use stay. */
static void test_flood(void **state)
{
    const struct schema *s;
    int64_t until_ms;
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    f.config.registry_url.count = 0;
    f.config.schemas_retry = 60000;
    assert_int_equal(
        schema_dir_write(f.dir, schema_key_id(7), slice_str(STRING), &g_e),
        RC_OK);
    registry_start(&f);
    expect(&f, schema_key_id(7), STRING);
    for (uint32_t id = 100; id < 100 + 3 * REGISTRY_KEYS_MAX; id++)
        (void)registry_get(f.registry, schema_key_id(id), &s, &until_ms, &g_e);
    assert_true(registry_await(f.registry, WAIT_MS));
    expect(&f, schema_key_id(7), STRING);
    expect_absent(&f, schema_key_id(99), "no such file");
    fixture_close(&f);
}

/* Large schemas, up to the limit; the next one is absent, and says why. */
static void test_memory_is_bounded(void **state)
{
    enum { LARGE = SCHEMA_BYTES_MAX - 100, FIT = REGISTRY_BYTES_MAX / LARGE };
    static char text[LARGE + 1];
    struct fixture f;
    const struct schema *s;
    int used;
    (void)state;
    used = snprintf(text, sizeof text, "{\"type\":\"int\",\"doc\":\"");
    memset(text + used, 'x', LARGE - (size_t)used);
    memcpy(text + LARGE - 2, "\"}", 3);
    fixture_open(&f, NULL);
    f.config.registry_url.count = 0;
    registry_start(&f);
    for (uint32_t id = 1; id <= FIT + 1; id++)
        assert_int_equal(
            schema_dir_write(f.dir, schema_key_id(id), slice_str(text), &g_e),
            RC_OK);
    for (uint32_t id = 1; id <= FIT; id++)
        assert_int_equal(ask(&f, schema_key_id(id), &s, WAIT_MS),
                         REGISTRY_FOUND);
    expect_absent(&f, schema_key_id(FIT + 1), "too much memory");
    fixture_close(&f);
}

/* --- what it does wrong ------------------------------------------------- */

/* A key waits as long as it lasts, and no longer; leaving takes no time. */
static void test_bad_days(void **state)
{
    (void)state;
    for (enum serve mode = SERVE_500; mode < SERVES; mode++) {
        struct fixture f;
        if (mode == SERVE_SLOW) continue;
        fixture_open(&f, NULL);
        server_route(f.server, "GET /schemas/ids/7", 200, STRING_ANSWER);
        server_mode(f.server, mode);
        registry_start(&f);
        expect_waits(&f, schema_key_id(7));
        assert_true(server_requests(f.server) > 0 || mode == SERVE_DROP);
        server_mode(f.server, SERVE_WELL);
        expect(&f, schema_key_id(7), STRING);
        server_mode(f.server, mode);
        expect_waits(&f, schema_key_id(9));
        fixture_close(&f);
    }
}

/* Slower than the time-out allows, although bytes keep coming. */
static void test_slow(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    server_route(f.server, "GET /schemas/ids/7", 200, STRING_ANSWER);
    server_mode(f.server, SERVE_SLOW);
    registry_start(&f);
    expect_waits(&f, schema_key_id(7));
    registry_end(&f);
    f.config.registry_timeout = WAIT_MS;
    registry_start(&f);
    expect(&f, schema_key_id(7), STRING);
    fixture_close(&f);
}

/* Whatever time a request may still have, nobody waits for it to leave. */
static void test_leaving(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    f.config.registry_timeout = 30000;
    server_mode(f.server, SERVE_HANG);
    registry_start(&f);
    expect_waits(&f, schema_key_id(7));
    assert_int_equal(server_requests(f.server), 1);
    fixture_close(&f);
}

static void test_retry_after(void **state)
{
    uint32_t before;
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    server_mode(f.server, SERVE_429);
    registry_start(&f);
    expect_waits(&f, schema_key_id(7));
    before = server_requests(f.server);
    expect_waits(&f, schema_key_id(7));
    expect_waits(&f, schema_key_id(7));
    assert_int_equal(server_requests(f.server), before); /* within 1 s */
    server_route(f.server, "GET /schemas/ids/7", 200, STRING_ANSWER);
    server_mode(f.server, SERVE_WELL);
    expect(&f, schema_key_id(7), STRING);
    fixture_close(&f);
}

static void test_next_url(void **state)
{
    struct fixture f;
    struct server *second = server_start(NULL);
    (void)state;
    fixture_open(&f, NULL);
    f.urls[1] = (char *)(uintptr_t)server_url(second);
    f.config.registry_url.count = 2;
    server_mode(f.server, SERVE_HANG);
    server_route(second, "GET /schemas/ids/7", 200, STRING_ANSWER);
    server_route(second, "GET /schemas/ids/8", 200, STRING_ANSWER);
    registry_start(&f);
    expect(&f, schema_key_id(7), STRING);
    assert_int_equal(server_requests(f.server), 1);
    expect(&f, schema_key_id(8), STRING);
    assert_int_equal(server_requests(f.server), 1); /* stays with the good */
    fixture_close(&f);
    server_stop(second);
}

/* --- who asks ----------------------------------------------------------- */

static void test_password(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    f.config.registry_user = "ann";
    f.config.registry_password = "s3cret";
    server_route(f.server, "GET /schemas/ids/7", 200, STRING_ANSWER);
    registry_start(&f);
    expect(&f, schema_key_id(7), STRING);
    assert_true(
        server_saw(f.server, "Authorization: Basic YW5uOnMzY3JldA==\r\n"));
    fixture_close(&f);
}

static void test_tls(void **state)
{
    char folder[] = "/tmp/millrace-tls-XXXXXX";
    char ca[64], other[64], certificate[64], key[64];
    struct fixture f;
    (void)state;
    assert_non_null(mkdtemp(folder));
    tls_make(folder);
    (void)snprintf(ca, sizeof ca, "%s/ca.pem", folder);
    (void)snprintf(other, sizeof other, "%s/other.pem", folder);
    (void)snprintf(certificate, sizeof certificate, "%s/client.pem", folder);
    (void)snprintf(key, sizeof key, "%s/client.key", folder);
    fixture_open(&f, folder);
    server_route(f.server, "GET /schemas/ids/7", 200, STRING_ANSWER);
    f.config.registry_certificate = certificate;
    f.config.registry_key = key;
    f.config.registry_ca = other; /* did not sign the server's */
    registry_start(&f);
    expect_waits(&f, schema_key_id(7));
    registry_end(&f);
    f.config.registry_ca = ca;
    f.config.registry_certificate = f.config.registry_key = "";
    registry_start(&f);
    expect_waits(&f, schema_key_id(7));
    assert_int_equal(server_requests(f.server), 0);
    registry_end(&f);
    f.config.registry_certificate = certificate;
    f.config.registry_key = key;
    registry_start(&f);
    expect(&f, schema_key_id(7), STRING);
    fixture_close(&f);
    tls_remove(folder);
}

/* --- the ids of outputs ------------------------------------------------- */

static void ids_of(struct fixture *f, const char *more, enum rc rc,
                   uint32_t ids[OUTPUTS])
{
    char url[96], dir[96];
    const char *const sets[] = {url,
                                dir,
                                "registry.register=true",
                                "registry.timeout=100ms",
                                "output.fraud.topic=scores",
                                more};
    struct config *c;
    (void)snprintf(url, sizeof url, "registry.url=%s", f->urls[0]);
    (void)snprintf(dir, sizeof dir, "schemas.dir=%s", f->dir);
    if (config_load(&c, NULL, sets, 6, &g_e) != RC_OK) fail_msg("%s", g_e.text);
    assert_int_equal(registry_output_ids(c, ids, &g_e), rc);
    config_free(c);
}

static void test_output_ids(void **state)
{
    static const char NONE[] = "output.recommendations.topic=";
    static const char SET[] = "output.fraud.schema.id=55";
    uint32_t ids[OUTPUTS];
    struct fixture f;
    (void)state;
    fixture_open(&f, NULL);
    /* No registry, nothing from before, and no id set. */
    server_mode(f.server, SERVE_500);
    ids_of(&f, NONE, RC_STOP, ids);
    assert_non_null(strstr(g_e.text, "output.fraud.schema.id is not set"));
    ids_of(&f, SET, RC_OK, ids);
    assert_int_equal(ids[OUTPUT_FRAUD], 55);
    /* It says, and what it says is kept. */
    server_mode(f.server, SERVE_WELL);
    server_route(f.server, "POST /subjects/scores-value/versions", 200,
                 "{\"id\":31}");
    for (int i = 0; i < 2; i++) {
        ids_of(&f, SET, RC_OK, ids);
        assert_int_equal(ids[OUTPUT_FRAUD], 31);
        assert_int_equal(ids[OUTPUT_RECOMMENDATIONS], 2); /* has no topic */
        server_mode(f.server, SERVE_HANG);
    }
    assert_true(server_saw(f.server, "FraudScore"));
    assert_true(server_saw(f.server, "{\"schema\":\"{"));
    /* It refuses: nobody could read what was written. */
    server_mode(f.server, SERVE_WELL);
    server_route(f.server, "POST /subjects/scores-value/versions", 409,
                 "{\"error_code\":409,\"message\":\"incompatible\"}");
    ids_of(&f, SET, RC_STOP, ids);
    assert_non_null(strstr(g_e.text, "refuses the schema: incompatible"));
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_once_and_kept),
        cmocka_unit_test(test_damaged_file),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_references_have_an_end),
        cmocka_unit_test(test_absent_for_a_while),
        cmocka_unit_test(test_unusable),
        cmocka_unit_test(test_files_alone),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_bad_days),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_next_url),
        cmocka_unit_test(test_password),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_output_ids),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
