/* Goal    A dead letter is read back as it was written, whatever producers
 *         put into its headers; what was redriven is known again.
 * Method  Records made by hand, as outputs.c and sink_kafka.c make them, and
 *         forged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dead_letter.h"

enum { HEADERS_MAX = 16 };

static struct header list[HEADERS_MAX];

static void add(struct record *r, const char *name, const char *value)
{
    assert_true(r->header_count < HEADERS_MAX);
    list[r->header_count++] =
        (struct header){slice_str(name), slice_str(value)};
    r->headers = list;
}

static struct record letter(void)
{
    struct record r = {.partition = 2, .offset = 77};
    add(&r, "millrace.reason", "bytes");
    add(&r, "millrace.detail", "ends early");
    add(&r, "millrace.source.topic", "payments");
    add(&r, "millrace.source.partition", "3");
    add(&r, "millrace.source.offset", "9007199254740993");
    add(&r, "millrace.source.timestamp", "1700000000123");
    return r;
}

static void test_letter(void **state)
{
    struct record r = letter();
    struct dead_letter d;
    (void)state;
    add(&r, "trace", "t1");
    assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_IS_LETTER);
    assert_true(slice_equal(d.reason, slice_str("bytes")));
    assert_true(slice_equal(d.detail, slice_str("ends early")));
    assert_true(slice_equal(d.topic, slice_str("payments")));
    assert_int_equal(d.partition, 3);
    assert_true(d.offset == INT64_C(9007199254740993));
    assert_true(d.timestamp_ms == INT64_C(1700000000123));
    assert_int_equal(d.redriven, 0);
    assert_false(d.omitted);
    list[5].value = slice_str("-1");
    assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_IS_LETTER);
    assert_true(d.timestamp_ms == -1);
    list[5].value = slice_str("-2");
    assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_FOREIGN);
}

static void test_omitted_is_said_by_us_alone(void **state)
{
    struct record r = letter();
    struct dead_letter d;
    (void)state;
    add(&r, "millrace.value", "omitted");
    assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_IS_LETTER);
    assert_true(d.omitted);
    r = letter();
    add(&r, "millrace.value", "omitted");
    add(&r, "millrace.key", "omitted");
    assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_IS_LETTER);
    assert_true(d.omitted);
    r = letter();
    add(&r, "a", "");
    add(&r, "b", "");
    add(&r, "millrace.value", "omitted");
    assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_IS_LETTER);
    assert_false(d.omitted);
}

static void test_foreign_records(void **state)
{
    static const char *const PARTITIONS[] = {
        "", "-1", "x", "2147483648", "99999999999999999999", "1 "};
    struct record none = {0}, r;
    struct dead_letter d;
    (void)state;
    assert_int_equal(dead_letter_read(&none, &d), DEAD_LETTER_FOREIGN);
    for (size_t i = 0; i < sizeof PARTITIONS / sizeof PARTITIONS[0]; i++) {
        r = letter();
        list[3].value = slice_str(PARTITIONS[i]);
        assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_FOREIGN);
    }
    for (uint32_t i = 0; i < DEAD_LETTER_HEADERS; i++) {
        r = letter();
        list[i].name = slice_str("other");
        assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_FOREIGN);
        r = letter();
        r.header_count = i;
        assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_FOREIGN);
    }
}

/* What goes back: the original headers alone, and how often. */
static void test_headers_go_back(void **state)
{
    struct record r = letter();
    struct header out[HEADERS_MAX + 1];
    struct dead_letter d;
    (void)state;
    add(&r, "trace", "t1");
    add(&r, "millrace.redriven", "2");
    add(&r, "millrace.reason", "forged");
    add(&r, "millrace", "kept");
    add(&r, "trace", "t2");
    assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_IS_LETTER);
    assert_int_equal(d.redriven, 2);
    assert_true(slice_equal(d.reason, slice_str("bytes")));
    assert_int_equal(dead_letter_headers(&r, "3", out), 4);
    assert_true(slice_equal(out[0].value, slice_str("t1")));
    assert_true(slice_equal(out[1].name, slice_str("millrace")));
    assert_true(slice_equal(out[2].value, slice_str("t2")));
    assert_true(slice_equal(out[3].name, slice_str("millrace.redriven")));
    assert_true(slice_equal(out[3].value, slice_str("3")));
}

static void test_forged_counts(void **state)
{
    static const char *const COUNTS[] = {"-1", "", "4294967295", "1e3"};
    (void)state;
    for (size_t i = 0; i < sizeof COUNTS / sizeof COUNTS[0]; i++) {
        struct record r = letter();
        struct dead_letter d;
        add(&r, "millrace.redriven", COUNTS[i]);
        assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_IS_LETTER);
        assert_int_equal(d.redriven, 0);
    }
}

static struct record mark(int32_t partition, const char *offsets)
{
    struct record r = {.partition = partition, .offset = 900};
    add(&r, "millrace.mark", offsets);
    return r;
}

static bool marked(const struct dead_letter_marks *m, int32_t partition,
                   int64_t offset)
{
    const struct record r = {.partition = partition, .offset = offset};
    return dead_letter_is_marked(m, &r);
}

static void test_marks(void **state)
{
    struct dead_letter_marks m = {0};
    struct record r = mark(2, "77,5,123456789012");
    struct dead_letter d;
    struct err e;
    (void)state;
    assert_false(marked(&m, 2, 77));
    assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_IS_MARK);
    assert_int_equal(dead_letter_add_mark(&m, &r, &e), RC_OK);
    assert_true(marked(&m, 2, 77));
    assert_true(marked(&m, 2, 5));
    assert_true(marked(&m, 2, INT64_C(123456789012)));
    assert_false(marked(&m, 2, 6));
    assert_false(marked(&m, 1, 77));
    /* A letter whose producer has such a header is none. */
    r = letter();
    add(&r, "millrace.mark", "1");
    assert_int_equal(dead_letter_read(&r, &d), DEAD_LETTER_IS_LETTER);
    dead_letter_marks_fini(&m);
}

static void test_forged_marks(void **state)
{
    static const char *const TEXTS[] = {",",  "1,,2", "a",
                                        "-1", "1 2",  "99999999999999999999"};
    struct dead_letter_marks m = {0};
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof TEXTS / sizeof TEXTS[0]; i++) {
        struct record r = mark(0, TEXTS[i]);
        assert_int_equal(dead_letter_add_mark(&m, &r, &e), RC_SKIP);
        assert_non_null(strstr(e.text, "partition 0, offset 900"));
    }
    dead_letter_marks_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_letter),
        cmocka_unit_test(test_omitted_is_said_by_us_alone),
        cmocka_unit_test(test_foreign_records),
        cmocka_unit_test(test_headers_go_back),
        cmocka_unit_test(test_forged_counts),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_forged_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
