/* Goal    A configuration means the same wherever a value comes from, every
 *         fault is found with its place, and secrets stay unprinted.
 * Method  Small files written to a scratch folder, loaded with and without
 *         environment and --set; all faults collected and compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"

static char folder[] = "/tmp/millrace-test-config-XXXXXX";
static char path[128];

static const char *write_file(const char *text)
{
    FILE *file;
    (void)snprintf(path, sizeof path, "%s/test.conf", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) < 0, 0);
    assert_int_equal(fclose(file), 0);
    return path;
}

struct faults {
    uint32_t count;
    char text[8][ERR_TEXT_BYTES];
};

static void collect(void *user, const char *text)
{
    struct faults *f = user;
    assert_true(f->count < 8);
    (void)snprintf(f->text[f->count++], ERR_TEXT_BYTES, "%s", text);
}

static struct config *load(const char *text)
{
    struct config *c;
    struct err e;
    if (config_load(&c, text ? write_file(text) : NULL, NULL, 0, &e) != RC_OK)
        fail_msg("%s", e.text);
    return c;
}

/* The file has exactly one fault, whose text holds each of the parts. */
static void expect_fault(const char *text, const char *part1, const char *part2)
{
    struct faults f = {0};
    struct config *c;
    struct err e;
    assert_int_equal(config_check(&c, write_file(text), NULL, 0, collect, &f),
                     1);
    config_free(c);
    if (!strstr(f.text[0], part1) || !strstr(f.text[0], part2))
        fail_msg("'%s' lacks '%s' or '%s'", f.text[0], part1, part2);
    assert_int_equal(config_load(&c, path, NULL, 0, &e), RC_STOP);
    assert_null(c);
    assert_string_equal(e.text, f.text[0]);
}

static void test_defaults(void **state)
{
    struct config *c = load(NULL);
    (void)state;
    assert_int_equal(c->workers, 1);
    assert_int_equal(c->state_cache, 128u << 20);
    assert_int_equal(c->state_checkpoint_age, 10000);
    assert_int_equal(c->delivery, EXACTLY_ONCE);
    assert_int_equal(c->windows.count, 3);
    assert_int_equal(c->windows.at_ms[2], 30ll * 86400000);
    assert_string_equal(c->role_user, "user");
    assert_int_equal(c->recommend_types.count, 0);
    assert_string_equal(c->origins[OPTION_workers].origin, "default");
    assert_string_equal(c->origins[OPTION_workers].value, "1");
    config_free(c);
}

static void test_every_type(void **state)
{
    struct config *c = load("\xef\xbb\xbf# first line with a mark\r\n"
                            "\r\n"
                            "   # indented comment\n"
                            "workers=4\r\n"
                            "  fraud.threshold =  0.25  \t\n"
                            "recommend.seen = true\n"
                            "delivery = at_least_once\n"
                            "state.cache = 2GiB\n"
                            "record.bytes.max = 4096\n"
                            "state.checkpoint.age = 250ms\n"
                            "time.future.max = 0\n"
                            "windows = 15m, 1h ,7d\n"
                            "feature.numbers = a, b.c\n"
                            "role.user = a = b # not a comment\n"
                            "kafka.bootstrap.servers = x:1,y:2\n"
                            "kafka.consumer.fetch.min.bytes = 1");
    (void)state;
    assert_int_equal(c->workers, 4);
    assert_true(c->fraud_threshold == 0.25);
    assert_true(c->recommend_seen);
    assert_int_equal(c->delivery, AT_LEAST_ONCE);
    assert_true(c->state_cache == 2ull << 30);
    assert_int_equal(c->record_bytes_max, 4096);
    assert_int_equal(c->state_checkpoint_age, 250);
    assert_int_equal(c->time_future_max, 0);
    assert_int_equal(c->windows.at_ms[0], 900000);
    assert_int_equal(c->windows.at_ms[1], 3600000);
    assert_int_equal(c->feature_numbers.count, 2);
    assert_string_equal(c->feature_numbers.at[1], "b.c");
    assert_string_equal(c->role_user, "a = b # not a comment");
    assert_int_equal(c->kafka_count, 2);
    assert_string_equal(c->kafka[0].key, "bootstrap.servers");
    assert_string_equal(c->kafka[0].value, "x:1,y:2");
    assert_string_equal(c->kafka[1].key, "consumer.fetch.min.bytes");
    assert_non_null(strstr(c->origins[OPTION_workers].origin, "test.conf:4"));
    config_free(c);
}

static void test_order(void **state)
{
    static const char *const SETS[] = {"workers=4", "workers = 5",
                                       "kafka.ssl.ca.location=/set"};
    struct config *c;
    struct err e;
    (void)state;
    (void)write_file("workers = 2\nbatch.events.max = 7\nrole.event_id = f\n"
                     "kafka.ssl.ca.location = /file\n");
    assert_int_equal(setenv("MILLRACE_WORKERS", "3", 1), 0);
    assert_int_equal(setenv("MILLRACE_ROLE_EVENT_ID", "env", 1), 0);
    assert_int_equal(setenv("MILLRACE_KAFKA_SSL_CA_LOCATION", "/env", 1), 0);

    assert_int_equal(config_load(&c, path, SETS, 3, &e), RC_OK);
    assert_int_equal(c->workers, 5);
    assert_string_equal(c->origins[OPTION_workers].origin, "--set");
    assert_int_equal(c->batch_events_max, 7);
    assert_string_equal(c->role_event_id, "env");
    assert_string_equal(c->origins[OPTION_role_event_id].origin,
                        "MILLRACE_ROLE_EVENT_ID");
    assert_int_equal(c->kafka_count, 1);
    assert_string_equal(c->kafka[0].value, "/set");
    config_free(c);

    assert_int_equal(config_load(&c, path, NULL, 0, &e), RC_OK);
    assert_int_equal(c->workers, 3);
    assert_string_equal(c->kafka[0].value, "/env");
    assert_string_equal(c->kafka[0].origin, "MILLRACE_KAFKA_SSL_CA_LOCATION");
    config_free(c);
    (void)unsetenv("MILLRACE_WORKERS");
    (void)unsetenv("MILLRACE_ROLE_EVENT_ID");
    (void)unsetenv("MILLRACE_KAFKA_SSL_CA_LOCATION");
}

static void test_each_fault(void **state)
{
    (void)state;
    expect_fault("\n\nworkres = 2\n", "test.conf:3", "did you mean 'workers'");
    expect_fault("wrokers = 2\n", "test.conf:1", "did you mean 'workers'");
    expect_fault("bootstrap.servers = x\n", "no option", "begin with kafka.");
    expect_fault("workers = 0\n", "workers: '0'", "1 to 64");
    expect_fault("workers = 65\n", "test.conf:1", "1 to 64");
    expect_fault("workers = 2x\n", "'2x'", "whole number");
    expect_fault("workers = -1\n", "'-1'", "1 to 64");
    expect_fault("workers = 18446744073709551617\n", "workers", "1 to 64");
    expect_fault("workers =\n", "''", "1 to 64");
    expect_fault("fraud.threshold = nan\n", "'nan'", "0 to 1");
    expect_fault("fraud.threshold = 1.5\n", "'1.5'", "0 to 1");
    expect_fault("fraud.threshold = 0.5.1\n", "'0.5.1'", "0 to 1");
    expect_fault("recommend.seen = yes\n", "'yes'", "true or false");
    expect_fault("delivery = once\n", "'once'", "at_least_once|exactly_once");
    expect_fault("delivery = exactly\n", "'exactly'", "at_least_once|");
    expect_fault("commit.interval = 100\n", "'100'", "0 to 3s");
    expect_fault("commit.interval = 1h\n", "'1h'", "0 to 3s");
    expect_fault("commit.interval = 1 s\n", "'1 s'", "ms, s, m, h, d");
    expect_fault("state.keep = 99999999999999999d\n", "state.keep",
                 "at least 0");
    expect_fault("state.cache = 1MB\n", "'1MB'", "at least 1MiB");
    expect_fault("record.bytes.max = 1GiB\n", "'1GiB'", "64 to 64MiB");
    expect_fault("state.cache = 99999999999999GiB\n", "state.cache", "1MiB");
    expect_fault("windows = 7d,1d\n", "'7d,1d'", "ascending");
    expect_fault("windows = 1d,,7d\n", "windows", "at most 8");
    expect_fault("windows = 0\n", "windows", "ascending");
    expect_fault("windows = 1s,2s,3s,4s,5s,6s,7s,8s,9s\n", "windows",
                 "at most 8");
    expect_fault("feature.numbers = a,,b\n", "feature.numbers", "at most 8");
    expect_fault("workers\n", "test.conf:1", "not 'key = value'");
    expect_fault("= 2\n", "test.conf:1", "no key");
    expect_fault("workers = 2\n\nworkers = 2\n", "test.conf:3", "line 1");
    expect_fault("kafka.group.id = x\n", "kafka.group.id", "group.id");
    expect_fault("kafka.consumer.enable.auto.commit = true\n", "cannot", "I1");
    expect_fault("kafka. = x\n", "kafka.", "names no property");
    expect_fault("role.user =\n", "role.user", "needs a user");
    expect_fault("admin.token = short\n", "admin.token has 5 bytes",
                 "16 to 255");
    expect_fault("admin.token = 0123456789 abcdef\n", "admin.token", "ASCII");
    expect_fault("recommend.when = types\nrole.type = t\n", "test.conf:1",
                 "recommend.types");
}

static void test_all_faults(void **state)
{
    static const char *const SETS[] = {"nonsense", "poll.wait.ms=0"};
    struct faults f = {0};
    struct config *c;
    struct err e;
    (void)state;
    (void)write_file("workers = 3\nbatch.events.max = x\nwindws = 1d\n");
    assert_int_equal(setenv("MILLRACE_WORKERS", "many", 1), 0);
    assert_int_equal(config_check(&c, path, SETS, 2, collect, &f), 5);
    assert_int_equal(c->workers, 3); /* a fault leaves what stood before */
    assert_int_equal(c->batch_events_max, 256);
    config_free(c);
    assert_non_null(strstr(f.text[0], "batch.events.max"));
    assert_non_null(strstr(f.text[1], "did you mean 'windows'"));
    assert_non_null(strstr(f.text[2], "MILLRACE_WORKERS: workers: 'many'"));
    assert_non_null(strstr(f.text[3], "--set: no '='"));
    assert_non_null(strstr(f.text[4], "1 to 10000"));

    assert_int_equal(config_load(&c, path, SETS, 2, &e), RC_STOP);
    assert_non_null(strstr(e.text, "batch.events.max"));
    assert_non_null(strstr(e.text, "and 4 more"));
    (void)unsetenv("MILLRACE_WORKERS");
}

static void test_files_that_are_none(void **state)
{
    struct config *c;
    struct err e;
    FILE *file;
    (void)state;
    assert_int_equal(config_load(&c, "/nowhere/x.conf", NULL, 0, &e), RC_STOP);
    assert_non_null(strstr(e.text, "/nowhere/x.conf: No such file"));
    assert_int_equal(config_load(&c, folder, NULL, 0, &e), RC_STOP);
    assert_non_null(strstr(e.text, folder));

    file = fopen(write_file(""), "w");
    assert_non_null(file);
    assert_int_equal(fwrite("workers\0= 2", 1, 11, file), 11);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(config_load(&c, path, NULL, 0, &e), RC_STOP);
    assert_non_null(strstr(e.text, "zero byte"));
}

static void test_references(void **state)
{
    char text[512], secret_path[160];
    struct config *c;
    FILE *file;
    (void)state;
    (void)snprintf(secret_path, sizeof secret_path, "%s/secret", folder);
    file = fopen(secret_path, "w");
    assert_non_null(file);
    assert_int_equal(fputs("hunter2\r\n", file) < 0, 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(setenv("TEST_SIDE", "b", 1), 0);
    (void)snprintf(text, sizeof text,
                   "kafka.sasl.username = a${env:TEST_SIDE}c-${file:%s}\n"
                   "kafka.sasl.password = plain\n"
                   "kafka.client.id = ${env:TEST_SIDE}$${x}$\n"
                   "workers = ${env:TEST_WORKERS}\n"
                   "kafka.debug = all\n",
                   secret_path);
    assert_int_equal(setenv("TEST_WORKERS", "2", 1), 0);
    c = load(text);
    assert_int_equal(c->workers, 2);
    assert_string_equal(property_shown(&c->origins[OPTION_workers]),
                        "********");
    assert_string_equal(c->kafka[0].value, "abc-hunter2");
    assert_string_equal(property_shown(&c->kafka[0]), "********");
    assert_string_equal(c->kafka[1].value, "plain");
    assert_string_equal(property_shown(&c->kafka[1]), "********");
    assert_string_equal(c->kafka[2].value, "b${x}$");
    assert_string_equal(property_shown(&c->kafka[3]), "all");
    config_free(c);

    assert_int_equal(setenv("TEST_WORKERS", "topsecret", 1), 0);
    expect_fault("workers = ${env:TEST_WORKERS}\n", "'********'", "1 to 64");
    (void)unsetenv("TEST_WORKERS");
    expect_fault("workers = ${env:TEST_WORKERS}\n", "TEST_WORKERS", "not set");
    expect_fault("group.id = ${file:/nowhere/x}\n", "/nowhere/x",
                 "No such file");
    expect_fault("group.id = ${x}\n", "${x}", "neither");
    expect_fault("group.id = ${env:TEST_SIDE\n", "group.id", "without '}'");
}

/* A path in a file begins at that file's folder, elsewhere it stays. */
static void test_paths(void **state)
{
    static const char *const SETS[] = {"model.dir=m"};
    char want[160];
    struct config *c;
    struct err e;
    (void)state;
    (void)write_file("input.schema = a/b.avsc\nschemas.dir = /abs\n"
                     "model.dir = m\nkafka.sasl.password = ${file:secret}\n");
    assert_int_equal(config_load(&c, path, SETS, 1, &e), RC_OK);
    (void)snprintf(want, sizeof want, "%s/a/b.avsc", folder);
    assert_string_equal(c->input_schema, want);
    assert_string_equal(c->schemas_dir, "/abs");
    assert_string_equal(c->model_dir, "m");
    assert_string_equal(c->state_dir, "millrace-state"); /* the default */
    assert_string_equal(c->kafka[0].value, "hunter2");
    config_free(c);
    c = load("model.dir =\n"); /* empty is none, not the folder */
    assert_string_equal(c->model_dir, "");
    config_free(c);
}

static void ignore(void *user, const char *text)
{
    char *all = user;
    (void)strncat(all, text, 2000 - strlen(all));
}

/* A private key pasted over several lines, a --set gone wrong, a value that is
 * refused: none is quoted. */
static void test_faults_quote_no_secrets(void **state)
{
    static const char *const SETS[] = {"kafka.sasl.password:hunter2"};
    char said[2048] = "";
    struct config *c;
    (void)state;
    (void)write_file("kafka.ssl.key.pem = -----BEGIN PRIVATE KEY-----\n"
                     "MIIEvQhunter2IBADANBgkqhkiG9w0BAQE\n"
                     "FAASChunter2BKcwggSjAgEAAoIBAQ==\n"
                     "admin.token = hunter2\n");
    assert_int_equal(config_check(&c, path, SETS, 1, ignore, said), 4);
    config_free(c);
    assert_null(strstr(said, "hunter2"));
    assert_non_null(strstr(said, "test.conf:2: not 'key = value'"));
    assert_non_null(strstr(said, "test.conf:3: what stands before"));
    assert_non_null(strstr(said, "--set"));
}

static void test_secret_keys(void **state)
{
    (void)state;
    assert_true(config_is_secret("sasl.password"));
    assert_true(config_is_secret("admin.token"));
    assert_true(config_is_secret("consumer.ssl.key.pem"));
    assert_true(config_is_secret("sasl.jaas.config"));
    assert_true(config_is_secret("sasl.oauthbearer.client.secret"));
    assert_false(config_is_secret("ssl.key.location"));
    assert_false(config_is_secret("bootstrap.servers"));
}

/* Each default is a value of its own range, and no key is another's name in
 * the environment. */
static void test_list(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < OPTION_COUNT; i++) {
        char a[160], b[160];
        assert_ptr_equal(config_find(CONFIG_OPTIONS[i].key),
                         &CONFIG_OPTIONS[i]);
        assert_ptr_equal(config_nearest(CONFIG_OPTIONS[i].key),
                         &CONFIG_OPTIONS[i]);
        config_env_name(CONFIG_OPTIONS[i].key, a, sizeof a);
        for (uint32_t j = 0; j < i; j++) {
            config_env_name(CONFIG_OPTIONS[j].key, b, sizeof b);
            assert_string_not_equal(a, b);
        }
    }
    assert_null(config_find("work"));
    assert_null(config_nearest("completely.different.thing"));
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char name[160];
    (void)state;
    (void)snprintf(name, sizeof name, "%s/secret", folder);
    (void)unlink(name);
    (void)snprintf(name, sizeof name, "%s/test.conf", folder);
    (void)unlink(name);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_each_fault),
        cmocka_unit_test(test_all_faults),
        cmocka_unit_test(test_files_that_are_none),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_faults_quote_no_secrets),
        cmocka_unit_test(test_secret_keys),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
