/* Goal    `millrace config` finds what would only fail later, explains every
 *         option, shows no secret; the pages of config/ are the lists.
 * Method  The command itself, its JSON read back, on the shipped examples
 *         and on files broken one way each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "capture.h"
#include "cli.h"
#include "config_docs.h"
#include "random_model.h"

static struct captured got;

static int config(const char *line)
{
    char words[1024];
    (void)snprintf(words, sizeof words, "config %s", line);
    capture(&got, command_config, words);
    return got.status;
}

static json_t *read_out(void)
{
    json_error_t fault;
    json_t *root = json_loads(got.out, 0, &fault);
    if (!root) fail_msg("not JSON (%s): %s", fault.text, got.out);
    return root;
}

/* The faults that check finds, each followed by a semicolon. */
static void faults_of(const char *line, char *out, size_t size)
{
    char words[512];
    json_t *root, *list;
    int status;
    (void)snprintf(words, sizeof words, "check --json %s", line);
    status = config(words);
    root = read_out();
    list = json_object_get(root, "faults");
    *out = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        (void)snprintf(out + strlen(out), size - strlen(out), "%s; ",
                       json_string_value(json_array_get(list, i)));
    assert_true(json_is_true(json_object_get(root, "valid")) == (*out == 0));
    assert_int_equal(status, *out ? EXIT_CONFIG : EXIT_OK);
    json_decref(root);
}

static void test_examples_are_good(void **state)
{
    char faults[4096];
    (void)state;
    faults_of("--config " SOURCE_DIR "/config/handbook.conf", faults,
              sizeof faults);
    assert_string_equal(faults, "");
    faults_of("--config " SOURCE_DIR
              "/config/example.conf --set state.dir=/tmp/x",
              faults, sizeof faults);
    assert_string_equal(faults, "");
}

static void test_check_finds(void **state)
{
    static const struct {
        const char *line, *says;
    } CASES[] = {
        {"--set workres=1", "did you mean 'workers'"},
        {"--set input.schema=/nowhere/x.avsc", "input.schema: cannot find"},
        {"--set input.schema=/tmp", "/tmp is not a file"},
        {"--set schemas.dir=/nowhere", "schemas.dir: cannot find"},
        {"--set schemas.dir=/dev/null", "is not a folder"},
        {"--set model.dir=/nowhere", "model.dir: cannot find"},
        {"--set state.dir=/dev/null", "not a folder that can be written"},
        {"--set state.dir=/nowhere/x/y",
         "state.dir: /nowhere/x/y cannot be made"},
        {"--set registry.url=ftp://a --set schemas.dir=/tmp", "http://HOST"},
        {"--set registry.url=http://a,b --set schemas.dir=/tmp", "http://HOST"},
        {"--set registry.url=http://ann:hunter2@a --set schemas.dir=/tmp",
         "registry.user and registry.password"},
        {"--set registry.url=http://a", "registry.url needs schemas.dir"},
        {"--set registry.url=http://a --set schemas.dir=/nowhere/x",
         "schemas.dir: /nowhere/x cannot be made"},
        {"--set registry.register=true", "registry.register needs registry.u"},
        {"--set registry.key=/dev/null", "registry.key go together"},
        {"--set registry.ca=/nowhere/ca", "registry.ca: cannot find"},
        {"--set registry.password=a", "needs registry.user"},
        {"--set kafka.nonsense=1", "kafka.nonsense: librdkafka refuses"},
        {"--set kafka.session.timeout.ms=abc", "librdkafka refuses"},
        {"--set kafka.consumer.fetch.min.bytes=-5", "librdkafka refuses"},
        {"--set kafka.ssl.ca.location=/nowhere/ca", "cannot read /nowhere/ca"},
        {"--set memory.max=64MiB", "memory.max is 64 MiB"},
        {"--set state.ttl=12h", "must be longer than time.future.max"},
        {"--config /nowhere.conf", "/nowhere.conf"},
        {"--config " SOURCE_DIR "/config/handbook.conf --set role.item=shop",
         "no field 'shop'"},
        {"--config " SOURCE_DIR
         "/config/handbook.conf --set role.amount=user_id",
         "user_id"},
    };
    char faults[4096];
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        faults_of(CASES[i].line, faults, sizeof faults);
        if (!strstr(faults, CASES[i].says))
            fail_msg("%s: '%s'", CASES[i].line, faults);
    }
}

/* A model written by this program, against what a configuration gives it. */
static void test_check_opens_the_model(void **state)
{
    static const struct {
        const char *line, *says;
    } CASES[] = {
        {"--set history.events=64", ""},
        {"--set history.events=62", "set history.events = 64"},
        {"--set role.amount.scale=10", "role.amount.scale = 100"},
        {"--set input.schema=" SOURCE_DIR "/schemas/interaction.avsc "
         "--set role.user=user_id",
         "on other features than"},
    };
    const struct random_shape shape = {.layers = 1,
                                       .width = 16,
                                       .heads = 2,
                                       .ffn = 32,
                                       .window = 32,
                                       .items = 20,
                                       .features = 3};
    struct model *m = random_model(shape, 1);
    char folder[] = "/tmp/millrace-test-model-XXXXXX", line[512], faults[4096];
    struct err e;
    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(line, sizeof line, "%s/model", folder);
    if (model_write(m, line, "a test's", &e) != RC_OK) fail_msg("%s", e.text);
    model_free(m);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        (void)snprintf(line, sizeof line, "--set model.dir=%s/model %s", folder,
                       CASES[i].line);
        faults_of(line, faults, sizeof faults);
        if (*CASES[i].says ? !strstr(faults, CASES[i].says) : *faults)
            fail_msg("%s: '%s'", line, faults);
    }
    (void)snprintf(line, sizeof line, "--set model.dir=%s", folder);
    faults_of(line, faults, sizeof faults); /* a folder, but no model */
    assert_non_null(strstr(faults, "model.dir"));
    (void)snprintf(line, sizeof line, "rm -r %s", folder);
    assert_int_equal(system(line), 0);
}

static void test_check_finds_all(void **state)
{
    (void)state;
    assert_int_equal(config("check --set workers=0 --set x=1 "
                            "--set kafka.nonsense=2 --set model.dir=/nowhere"),
                     EXIT_CONFIG);
    assert_non_null(strstr(got.out, "fault: --set: workers: '0'"));
    assert_non_null(strstr(got.out, "fault: --set: no option 'x'"));
    assert_non_null(strstr(got.out, "fault: --set: kafka.nonsense"));
    assert_non_null(strstr(got.out, "fault: --set: model.dir"));
    assert_non_null(strstr(got.out, "4 faults\n"));
}

static void test_check_notes_misspelt_environment(void **state)
{
    (void)state;
    assert_int_equal(setenv("MILLRACE_WORKRES", "2", 1), 0);
    assert_int_equal(config("check"), EXIT_OK);
    assert_non_null(strstr(got.out, "note: MILLRACE_WORKRES"));
    (void)unsetenv("MILLRACE_WORKRES");
    assert_int_equal(config("check"), EXIT_OK);
    assert_null(strstr(got.out, "MILLRACE_WORKRES"));
}

static void test_explain(void **state)
{
    json_t *root;
    (void)state;
    assert_int_equal(config("explain commit.interval --set commit.interval=1s"),
                     EXIT_OK);
    assert_non_null(strstr(got.out, "a duration (ms, s, m, h, d): 0 to 3s"));
    assert_non_null(strstr(got.out, "MILLRACE_COMMIT_INTERVAL"));
    assert_non_null(strstr(got.out, "now          1s"));
    assert_non_null(strstr(got.out, "from         --set"));

    assert_int_equal(config("explain delivery --json"), EXIT_OK);
    root = read_out();
    assert_string_equal(json_string_value(json_object_get(root, "range")),
                        "at_least_once|exactly_once");
    json_decref(root);

    assert_int_equal(config("explain delivry"), EXIT_USAGE);
    assert_non_null(strstr(got.err, "did you mean 'delivery'"));
    assert_int_equal(config("explain kafka.linger.ms"), EXIT_FAILED);
    assert_int_equal(config("explain kafka.linger.ms --set kafka.linger.ms=3"),
                     EXIT_OK);
    assert_non_null(strstr(got.out, "now   3"));
    /* A fault elsewhere does not keep us from asking. */
    assert_int_equal(config("explain workers --set x=1"), EXIT_OK);
    assert_non_null(strstr(got.err, "1 faults left out"));
}

static void test_print_masks_secrets(void **state)
{
    static const char *const LINES[] = {
        "print --set kafka.sasl.password=hunter2 --set "
        "group.id=${env:TEST_SIDE}",
        "print --json --set kafka.sasl.password=hunter2 "
        "--set group.id=${env:TEST_SIDE}",
        "explain group.id --set group.id=${env:TEST_SIDE}",
        "explain kafka.sasl.password --set kafka.sasl.password=hunter2",
        "check --set kafka.linger.ms=${env:TEST_SIDE}",
        "check --set workers=${env:TEST_SIDE}",
        "check --set state.dir=/nowhere/${env:TEST_SIDE}/x",
        "check --set model.dir=/nowhere/${env:TEST_SIDE}",
        "print --set registry.user=ann --set registry.password=hunter2",
        "print --set registry.user=ann --set "
        "registry.password=${env:TEST_SIDE}",
        "print --set registry.key.password=hunter2",
    };
    (void)state;
    assert_int_equal(setenv("TEST_SIDE", "hunter2", 1), 0);
    for (size_t i = 0; i < sizeof LINES / sizeof LINES[0]; i++) {
        (void)config(LINES[i]);
        if (strstr(got.out, "hunter2") || strstr(got.err, "hunter2"))
            fail_msg("%s prints the secret: %s%s", LINES[i], got.out, got.err);
        assert_true(strchr(got.out, '*') || strstr(got.out, "refuses it"));
    }
    (void)unsetenv("TEST_SIDE");
}

static void test_print_has_every_option(void **state)
{
    json_t *list;
    (void)state;
    assert_int_equal(config("print --json --set workers=3"), EXIT_OK);
    list = read_out();
    assert_int_equal(json_array_size(list), OPTION_COUNT);
    for (uint32_t i = 0; i < OPTION_COUNT; i++) {
        json_t *o = json_array_get(list, i);
        assert_string_equal(json_string_value(json_object_get(o, "key")),
                            CONFIG_OPTIONS[i].key);
        if (i == OPTION_workers)
            assert_string_equal(json_string_value(json_object_get(o, "value")),
                                "3");
    }
    json_decref(list);
    assert_int_equal(config("print --set workers=0"), EXIT_CONFIG);
    assert_non_null(strstr(got.err, "1 to 64"));
}

static void test_usage(void **state)
{
    (void)state;
    assert_int_equal(config(""), EXIT_USAGE);
    assert_int_equal(config("check it"), EXIT_USAGE);
    assert_int_equal(config("explain"), EXIT_USAGE);
    assert_int_equal(config("docs other"), EXIT_USAGE);
    assert_int_equal(config("--help"), EXIT_OK);
}

/* The committed page is the one that the list makes. */
static void compare_page(void (*write)(FILE *to), const char *path)
{
    char *made, *committed;
    size_t len, read;
    FILE *to = open_memstream(&made, &len), *from = fopen(path, "r");
    assert_non_null(to);
    write(to);
    assert_int_equal(fclose(to), 0);
    if (!from) fail_msg("%s is missing", path);
    committed = calloc(1, len + 2);
    assert_non_null(committed);
    read = fread(committed, 1, len + 1, from);
    (void)fclose(from);
    if (read != len || memcmp(made, committed, len) != 0)
        fail_msg("%s is out of date: millrace config docs makes it anew", path);
    free(committed);
    free(made);
}

static void test_pages(void **state)
{
    (void)state;
    compare_page(config_docs_options, SOURCE_DIR "/config/OPTIONS.md");
    compare_page(config_docs_metrics, SOURCE_DIR "/config/METRICS.md");
    assert_int_equal(config("docs options"), EXIT_OK);
    assert_non_null(strstr(got.out, "# Options"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples_are_good),
        cmocka_unit_test(test_check_finds),
        cmocka_unit_test(test_check_opens_the_model),
        cmocka_unit_test(test_check_finds_all),
        cmocka_unit_test(test_check_notes_misspelt_environment),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_print_masks_secrets),
        cmocka_unit_test(test_print_has_every_option),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
