/* Goal    Command lines mean what --help says; a wrong one is a usage error
 *         that changes nothing.
 * Method  cli_parse on made argument lists, with stdout and stderr put into
 *         a scratch file where their text matters. */
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
#include "log.h"
#include "progress.h"

static struct {
    bool flag;
    const char *text;
    struct cli_texts texts;
    uint32_t number;
    uint64_t large, size;
    double real;
    int64_t time, span;
} got;

static const struct cli_option OPTIONS[] = {
    {"flag", NULL, CLI_FLAG, &got.flag, "a flag"},
    {"text", "TEXT", CLI_TEXT, &got.text, "a text"},
    {"many", "TEXT", CLI_TEXTS, &got.texts, "texts"},
    {"number", "N", CLI_U32, &got.number, "a number"},
    {"large", "N", CLI_U64, &got.large, "a large number"},
    {"size", "BYTES", CLI_SIZE, &got.size, "a size"},
    {"real", "X", CLI_F64, &got.real, "a real"},
    {"time", "TIME", CLI_TIME, &got.time, "a time"},
    {"span", "SPAN", CLI_SPAN, &got.span, "a span"},
    {NULL, NULL, CLI_FLAG, NULL, NULL},
};
static const struct cli_usage USAGE = {
    .synopsis = "try [options] FILE...",
    .about = "Tries things.",
    .uses = CLI_CONFIG | CLI_JSON,
    .options = OPTIONS,
    .example = "millrace try --flag",
};

static struct captured captured;
static struct cli cli;

static int try_parse(int argc, char **argv)
{
    /* cli lends its texts from argv, whose words live until the next one. */
    static char *kept[CAPTURE_WORDS_MAX + 1];
    static char words[CAPTURE_WORDS_MAX][128];
    assert_true(argc <= CAPTURE_WORDS_MAX);
    for (int i = 0; i < argc; i++) {
        (void)snprintf(words[i], sizeof words[i], "%s", argv[i]);
        kept[i] = words[i];
    }
    kept[argc] = NULL;
    memset(&got, 0, sizeof got);
    return cli_parse(&cli, &USAGE, argc, kept);
}

static int parse(const char *line)
{
    capture(&captured, try_parse, line);
    return captured.status;
}

static void test_all_kinds(void **state)
{
    (void)state;
    assert_int_equal(
        parse("try one --flag --text=t --many a --many b --number 7 two "
              "--large 18446744073709551615 --size 64KiB --real -2.5e3 "
              "--time 2018-07-25 --span 7d --set workers=2 --set a=b "
              "--config f.conf --json -- --three"),
        CLI_GO);
    assert_true(got.flag);
    assert_string_equal(got.text, "t");
    assert_int_equal(got.texts.count, 2);
    assert_string_equal(got.texts.at[1], "b");
    assert_int_equal(got.number, 7);
    assert_true(got.large == UINT64_MAX);
    assert_int_equal(got.size, 65536);
    assert_true(got.real == -2500);
    assert_true(got.time == 1532476800000);
    assert_int_equal(got.span, 7 * 86400000);
    assert_int_equal(cli.sets.count, 2);
    assert_string_equal(cli.sets.at[0], "workers=2");
    assert_string_equal(cli.config_path, "f.conf");
    assert_true(cli.json);
    assert_int_equal(cli.arg_count, 3);
    assert_string_equal(cli.args[0], "one");
    assert_string_equal(cli.args[1], "two");
    assert_string_equal(cli.args[2], "--three");
}

static void test_wrong_lines(void **state)
{
    static const struct {
        const char *line, *says;
    } CASES[] = {
        {"try --nosuch", "'--nosuch'"},
        {"try -x", "'-x'"},
        {"try --text", "--text needs an argument"},
        {"try --flag=1", "'--flag=1'"},
        {"try --number -1", "--number: '-1' is not a whole number"},
        {"try --number 4294967296", "whole number"},
        {"try --number=", "whole number"},
        {"try --large 18446744073709551616", "whole number"},
        {"try --real x", "--real: 'x' is not a number"},
        {"try --real inf", "number"},
        {"try --time yesterday", "2018-07-25"},
        {"try --time 2018-07-25T", "2018-07-25"},
        {"try --size 1MB", "512MiB"},
        {"try --span 7", "30s or 7d"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        assert_int_equal(parse(CASES[i].line), EXIT_USAGE);
        if (!strstr(captured.err, CASES[i].says) ||
            !strstr(captured.err, "see millrace try --help"))
            fail_msg("%s: '%s'", CASES[i].line, captured.err);
    }
}

static void test_help(void **state)
{
    (void)state;
    assert_int_equal(parse("try --help"), EXIT_OK);
    assert_non_null(
        strstr(captured.out, "usage: millrace try [options] FILE..."));
    assert_non_null(strstr(captured.out, "--number N "));
    assert_non_null(strstr(captured.out, "--set KEY=VALUE"));
    assert_string_equal(strstr(captured.out, "Example:\n"),
                        "Example:\n  millrace try --flag\n");
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } CASES[] = {{"1970-01-01", 0},
                 {"1970-01-02T00:00:01Z", 86401000},
                 {"1970-01-02 00:00:01", 86401000},
                 {"2018-08-08", 1533686400000},
                 {"1533686400000", 1533686400000}};
    int64_t ms;
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        assert_true(cli_read_time(CASES[i].text, &ms));
        assert_true(ms == CASES[i].ms);
    }
    assert_false(cli_read_time("", &ms));
    assert_false(cli_read_time("2018-13-01", &ms));
    assert_false(cli_read_time("12x", &ms));
}

static void test_human(void **state)
{
    char out[CLI_HUMAN_BYTES];
    (void)state;
    assert_string_equal(cli_human(0, out), "0");
    assert_string_equal(cli_human(999, out), "999");
    assert_string_equal(cli_human(999.9, out), "1.00 k");
    assert_string_equal(cli_human(1303778, out), "1.30 M");
    assert_string_equal(cli_human(-12345, out), "-12.3 k");
    assert_string_equal(cli_human_bytes(512, out), "512 B");
    assert_string_equal(cli_human_bytes(128.0 * 1048576, out), "128 MiB");
    assert_string_equal(cli_human_seconds(0.0123, out), "12.3 ms");
    assert_string_equal(cli_human_seconds(2.5, out), "2.5 s");
    assert_string_equal(cli_human_seconds(119.7, out), "2 min 0 s");
    assert_string_equal(cli_human_seconds(7500, out), "2 h 5 min");
    assert_string_equal(cli_human_seconds(1.0 / 0.0, out), "?");
}

static bool on_terminal;
static double first_look_s; /* 0: when progress.h says */

/* A command of 100 events that shows its progress. */
static int show_progress(int argc, char **argv)
{
    struct progress p;
    (void)argc;
    progress_start(&p, argv[0], "events", 100);
    p.terminal = on_terminal;
    if (first_look_s > 0) {
        p.started_s -= 20; /* so long ago that a look is due */
        p.next_s = p.started_s;
    }
    progress_update(&p, 50, "loss 1.5");
    for (int i = 51; i < 100; i++)
        progress_update(&p, i, NULL);
    LOG(WARN, "TESTLINE", "between=1");
    progress_end(&p);
    return progress_seconds(&p) < 60 ? EXIT_OK : EXIT_FAILED;
}

/* Nothing shorter than a second writes, to a terminal or elsewhere. */
static void test_short_progress_is_silent(void **state)
{
    (void)state;
    first_look_s = 0;
    for (int i = 0; i < 2; i++) {
        on_terminal = i == 1;
        capture(&captured, show_progress, "try");
        assert_int_equal(captured.status, EXIT_OK);
        assert_null(strstr(captured.err, "try"));
        assert_non_null(strstr(captured.err, "WARN TESTLINE"));
        assert_string_equal(captured.out, "");
    }
}

static void test_progress_as_log_lines(void **state)
{
    const char *line;
    (void)state;
    on_terminal = false;
    first_look_s = 20;
    capture(&captured, show_progress, "try");
    line = strstr(captured.err, "INFO PROGRESS try 50%  50 events  2.5");
    assert_non_null(line);
    assert_non_null(strstr(line, "20.0 s left  loss 1.5\n"));
    assert_null(strstr(line + 6, "PROGRESS")); /* the next in ten seconds */
    assert_null(strchr(captured.err, '\033'));
}

/* Drawn over itself, wiped before a log line and at the end. */
static void test_progress_on_a_terminal(void **state)
{
    static const char WIPE[] = "\r\033[K";
    (void)state;
    on_terminal = true;
    first_look_s = 20;
    capture(&captured, show_progress, "try");
    assert_int_equal(strncmp(captured.err, WIPE, strlen(WIPE)), 0);
    assert_non_null(strstr(captured.err, "try [############............] 50%"));
    assert_null(strstr(captured.err, "PROGRESS"));
    assert_non_null(strstr(captured.err, "TESTLINE"));
    assert_string_equal(captured.err + strlen(captured.err) - strlen(WIPE),
                        WIPE);
}

static int load_config(int argc, char **argv)
{
    struct cli mine;
    struct config *c;
    int status = cli_parse(&mine, &USAGE, argc, argv);
    if (status != CLI_GO) return status;
    c = cli_config(&mine);
    if (!c) return EXIT_CONFIG;
    LOG(WARN, "TESTLEVEL", "level=%u", c->log_level);
    config_free(c);
    return EXIT_OK;
}

static void test_config_of_a_command(void **state)
{
    (void)state;
    capture(&captured, load_config, "try --set log.level=error");
    assert_int_equal(captured.status, EXIT_OK);
    assert_null(strstr(captured.err, "TESTLEVEL"));
    capture(&captured, load_config, "try --set log.level=info");
    assert_non_null(strstr(captured.err, "WARN TESTLEVEL level=1"));
    capture(&captured, load_config, "try --set workers=0");
    assert_int_equal(captured.status, EXIT_CONFIG);
    assert_non_null(strstr(captured.err, "millrace try: --set: workers: '0'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_kinds),
        cmocka_unit_test(test_wrong_lines),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_human),
        cmocka_unit_test(test_short_progress_is_silent),
        cmocka_unit_test(test_progress_as_log_lines),
        cmocka_unit_test(test_progress_on_a_terminal),
        cmocka_unit_test(test_config_of_a_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
