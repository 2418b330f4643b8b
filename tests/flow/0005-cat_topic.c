/* Goal: `millrace cat --topic` shows every message of a topic, those that
 * decode and those that do not, and ends at the topic's end.
 * Method: records whose values are numbers as text, on the in-process
 * cluster, read as Avro ints: "7" is one byte and decodes, "17" has a byte
 * too many. The command's own output is parsed as JSON. */
#include "flow.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static char g_dir[] = "/tmp/millrace-cat-XXXXXX";
static char g_schema[64], g_output[64];

static int dir_make(void **state)
{
    FILE *file;
    (void)state;
    if (!mkdtemp(g_dir)) return -1;
    (void)snprintf(g_schema, sizeof g_schema, "%s/int.avsc", g_dir);
    (void)snprintf(g_output, sizeof g_output, "%s/output", g_dir);
    file = fopen(g_schema, "w");
    if (!file) return -1;
    (void)fputs("\"int\"", file);
    return fclose(file);
}

static int dir_remove(void **state)
{
    (void)state;
    (void)unlink(g_schema);
    (void)unlink(g_output);
    return rmdir(g_dir);
}

/* Runs the command with stdout in a file; ends with a NULL argument. */
static int cat(struct flow *f, const char *topic, const char *const *more)
{
    char servers[256];
    char *args[16] = {"cat", "--topic", (char *)(uintptr_t)topic, "--set",
                      servers};
    int count = 5, status, terminal, file;
    (void)snprintf(servers, sizeof servers, "kafka.bootstrap.servers=%s",
                   mock_cluster_servers(f->cluster));
    for (; *more; more++)
        args[count++] = (char *)(uintptr_t)*more;
    (void)fflush(stdout);
    terminal = dup(STDOUT_FILENO);
    file = open(g_output, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(terminal >= 0 && file >= 0);
    assert_true(dup2(file, STDOUT_FILENO) >= 0);
    status = command_cat(count, args);
    (void)fflush(stdout);
    assert_true(dup2(terminal, STDOUT_FILENO) >= 0);
    (void)close(file);
    (void)close(terminal);
    return status;
}
#define CAT(f, topic, ...)                                                     \
    cat((f), (topic), (const char *const[]){__VA_ARGS__, NULL})

/* One line of the output: a number below 10 decodes, the others show their
 * bytes and why. */
static void line_check(const char *line, uint8_t *seen)
{
    json_error_t fault;
    json_t *j = json_loads(line, 0, &fault);
    const char *key;
    long number;
    assert_non_null(j);
    key = json_string_value(json_object_get(j, "key"));
    assert_non_null(key);
    number = strtol(key, NULL, 10);
    assert_true(number >= 0 && number < 20);
    seen[number]++;
    assert_true(json_is_integer(json_object_get(j, "offset")));
    assert_true(json_is_integer(json_object_get(j, "partition")));
    if (number < 10) {
        /* '0' + number as a zigzag int. */
        long bits = '0' + number;
        assert_int_equal(json_integer_value(json_object_get(j, "value")),
                         bits % 2 ? -(bits + 1) / 2 : bits / 2);
    } else {
        char hex[8];
        (void)snprintf(hex, sizeof hex, "31%02x",
                       (unsigned)('0' + number % 10));
        assert_string_equal(json_string_value(json_object_get(j, "value_hex")),
                            hex);
        assert_non_null(
            strstr(json_string_value(json_object_get(j, "error")), "too many"));
    }
    json_decref(j);
}

static uint32_t output_check(uint8_t *seen)
{
    FILE *file = fopen(g_output, "r");
    char line[1024];
    uint32_t lines = 0;
    assert_non_null(file);
    memset(seen, 0, 20);
    for (; fgets(line, sizeof line, file); lines++)
        line_check(line, seen);
    (void)fclose(file);
    return lines;
}

static void test_cat_topic(void **state)
{
    struct flow f;
    uint8_t seen[20];
    (void)state;
    flow_start(&f);
    flow_produce(&f, 0, 20);
    assert_int_equal(CAT(&f, "in", "--as", g_schema), EXIT_OK);
    assert_int_equal(output_check(seen), 20);
    for (int i = 0; i < 20; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(CAT(&f, "in", "--as", g_schema, "--limit", "3"), EXIT_OK);
    assert_int_equal(output_check(seen), 3);
    assert_int_equal(CAT(&f, "out", "--as", g_schema), EXIT_OK);
    assert_int_equal(output_check(seen), 0);
    flow_stop(&f);
}

static void test_refused(void **state)
{
    struct flow f;
    (void)state;
    flow_start(&f);
    assert_int_equal(CAT(&f, "in", "--limit", "1"),
                     EXIT_FAILED); /* no schema */
    assert_int_equal(CAT(&f, "in", "--as", "no-such-schema"), EXIT_FAILED);
    assert_int_equal(CAT(&f, "in", "--as", g_schema, "file.avro"), EXIT_USAGE);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cat_topic),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
