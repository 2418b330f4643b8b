/* Goal    Log lines have their form and level, and one site that goes wild
 *         does not drown the others or hide that it did.
 * Method  Lines caught from stderr. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "capture.h"
#include "log.h"

static struct captured got;

static uint32_t count(const char *text, const char *part)
{
    uint32_t n = 0;
    for (text = strstr(text, part); text; text = strstr(text + 1, part))
        n++;
    return n;
}

static int one_of_each(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    LOG(DEBUG, "ONE", "n=%d", 1);
    LOG(INFO, "TWO", "n=%d", 2);
    LOG(WARN, "THREE", "n=%d", 3);
    LOG(ERROR, "FOUR", "n=%d", 4);
    return 0;
}

static void test_levels_and_form(void **state)
{
    int year, month, day, hour, minute, second, ms;
    char level[16], code[16], text[16];
    (void)state;
    capture(&got, one_of_each, "x");
    assert_int_equal(count(got.err, "\n"), 3); /* info is the default */
    assert_int_equal(sscanf(got.err, "%d-%d-%dT%d:%d:%d.%dZ %15s %15s %15s",
                            &year, &month, &day, &hour, &minute, &second, &ms,
                            level, code, text),
                     10);
    assert_string_equal(level, "INFO");
    assert_string_equal(code, "TWO");
    assert_string_equal(text, "n=2");
    log_set_level(LOG_ERROR);
    capture(&got, one_of_each, "x");
    assert_int_equal(count(got.err, "\n"), 1);
    assert_non_null(strstr(got.err, " ERROR FOUR n=4\n"));
    log_set_level(LOG_DEBUG);
    capture(&got, one_of_each, "x");
    assert_int_equal(count(got.err, "\n"), 4);
    log_set_level(LOG_INFO);
    assert_string_equal(got.out, "");
}

static int shout(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    for (int i = 0; i < 1001; i++) {
        if (i == 1000) (void)sleep(2); /* into another window */
        LOG(WARN, "LOUD", "i=%d", i);
        if (i == 500) LOG(WARN, "QUIET", "i=%d", i);
    }
    return 0;
}

/* Of a thousand lines at once some are written, none of another site is
 * lost, and the next window says how many were held back. */
static void test_rate_limit(void **state)
{
    uint32_t written, dropped = 0;
    const char *line;
    (void)state;
    capture(&got, shout, "x");
    written = count(got.err, "WARN LOUD");
    assert_in_range(written, 21, 100);
    assert_int_equal(count(got.err, "WARN QUIET"), 1);
    assert_non_null(strstr(got.err, "LOUD i=1000\n"));
    for (line = strstr(got.err, "LOGDROP code=LOUD lines="); line;
         line = strstr(line + 1, "LOGDROP code=LOUD lines=")) {
        uint32_t lines;
        assert_int_equal(sscanf(line, "LOGDROP code=LOUD lines=%u", &lines), 1);
        dropped += lines;
    }
    assert_int_equal(written + dropped, 1001);
}

static int shout_rarely(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    for (int i = 0; i < 1000; i++) {
        if (i == 999) (void)usleep(1100000); /* not yet another window */
        LOG_RARE(WARN, "RARE", "i=%d", i);
    }
    return 0;
}

static void test_rare(void **state)
{
    (void)state;
    capture(&got, shout_rarely, "x");
    assert_int_equal(count(got.err, "\n"), 1);
    assert_non_null(strstr(got.err, "WARN RARE i=0\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels_and_form),
        cmocka_unit_test(test_rate_limit),
        cmocka_unit_test(test_rare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
