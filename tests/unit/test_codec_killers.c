/* test_codec_killers.c - goal: what kills Avro-C 1.11.1 is refused here, in
 * less than a millisecond and a megabyte, and leaves nothing behind.
 * Method: each schema or message under an address space that has no more than
 * that left; the fastest of some tries, since others use this machine too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include "codec.h"
#include "metrics.h"

enum {
    TAPE_MAX = 4096,
    TRIES = 5,
    NS_MAX = 1000000,
    BYTES_MAX = 1 << 20,
    LEAK_ROUNDS = 2000,
    DEEP = 4000,
};

#define RECORD(fields)                                                         \
    "{\"type\":\"record\",\"name\":\"R\",\"fields\":[" fields "]}"
#define FIELD(type) "{\"name\":\"f\",\"type\":" type "}"

static struct datum data[TAPE_MAX];

/* Room for BYTES_MAX more than is mapped now; back to what it was after. */
static struct rlimit narrow(void)
{
    struct rlimit before, now;
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu", &pages), 1);
    (void)fclose(file);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    now = before;
    now.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + BYTES_MAX;
    assert_int_equal(setrlimit(RLIMIT_AS, &now), 0);
    return before;
}

static void widen(const struct rlimit *before)
{
    assert_int_equal(setrlimit(RLIMIT_AS, before), 0);
}

static void check_refused(const char *what, enum rc rc, uint64_t ns,
                          const struct err *e)
{
    if (rc == RC_OK) fail_msg("%s: taken", what);
    if (strstr(e->text, "memory")) fail_msg("%s: %s", what, e->text);
    if (ns > NS_MAX) fail_msg("%s: took %llu ns", what, (unsigned long long)ns);
}

static void refuses_schema(const char *what, const char *json)
{
    uint64_t best_ns = UINT64_MAX;
    struct schema *s = NULL;
    struct err e = {0};
    enum rc rc = RC_OK;
    for (int i = 0; i < TRIES; i++) {
        struct rlimit before = narrow();
        uint64_t from_ns = metrics_now_ns(), ns;
        rc = schema_parse(&s, slice_str(json), &e);
        ns = metrics_now_ns() - from_ns;
        widen(&before);
        if (ns < best_ns) best_ns = ns;
    }
    check_refused(what, rc, best_ns, &e);
}

static struct decoder *compiled(const char *json, struct schema **schema)
{
    struct decoder *d = NULL;
    struct err e;
    if (schema_parse(schema, slice_str(json), &e) != RC_OK ||
        decoder_compile(&d, *schema, *schema, &e) != RC_OK)
        fail_msg("%s", e.text);
    return d;
}

static void refuses_message(const char *what, const char *json,
                            struct slice bytes)
{
    uint64_t best_ns = UINT64_MAX;
    struct schema *s;
    struct decoder *d = compiled(json, &s);
    struct err e = {0};
    enum rc rc = RC_OK;
    size_t least_kept = SIZE_MAX;
    for (int i = 0; i < TRIES; i++) {
        struct tape tape = {.at = data, .max = TAPE_MAX};
        struct rlimit before = narrow();
        size_t used = mallinfo2().uordblks, kept;
        uint64_t from_ns = metrics_now_ns(), ns;
        rc = decoder_decode(d, bytes, &tape, &e);
        ns = metrics_now_ns() - from_ns;
        kept = mallinfo2().uordblks - used;
        widen(&before);
        if (ns < best_ns) best_ns = ns;
        if (kept < least_kept) least_kept = kept;
    }
    /* A leak leaks at every try; what the library rounds does not. */
    assert_int_equal(least_kept, 0);
    assert_int_equal(rc, RC_SKIP);
    check_refused(what, rc, best_ns, &e);
    decoder_free(d);
    schema_free(s);
}
#define REFUSES(what, json, bytes)                                             \
    refuses_message(what, json, slice_of((bytes), sizeof(bytes) - 1))

/* Six bytes that say that 765 MB follow. */
static void test_lengths(void **state)
{
    (void)state;
    REFUSES("string", "\"string\"", "\xc0\xec\xc6\xd9\x05x");
    REFUSES("bytes", "\"bytes\"", "\xc0\xec\xc6\xd9\x05x");
    REFUSES("negative string", "\"string\"", "\x01");
    REFUSES("longest string", "\"string\"",
            "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
}

static void test_counts(void **state)
{
    static const char EMPTY[] = "{\"type\":\"array\",\"items\":" RECORD("") "}";
    (void)state;
    REFUSES("longs", "{\"type\":\"array\",\"items\":\"long\"}",
            "\xc0\xec\xc6\xd9\x05x");
    REFUSES("map", "{\"type\":\"map\",\"values\":\"long\"}",
            "\xc0\xec\xc6\xd9\x05x");
    REFUSES("items of no bytes", "{\"type\":\"array\",\"items\":\"null\"}",
            "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00");
    REFUSES("empty records", EMPTY, "\xc0\xec\xc6\xd9\x05\x00");
    /* A block with its size, whose count cannot be made positive. */
    REFUSES("least count", "{\"type\":\"array\",\"items\":\"null\"}",
            "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00");
}

static void test_recursion(void **state)
{
    static char deep[DEEP];
    (void)state;
    memset(deep, 2, sizeof deep);
    refuses_message("list", RECORD(FIELD("[\"null\",\"R\"]")),
                    slice_of(deep, sizeof deep));
    refuses_message("tree",
                    RECORD(FIELD("{\"type\":\"array\",\"items\":\"R\"}")),
                    slice_of(deep, sizeof deep));
}

static void test_indexes(void **state)
{
    static const char ENUM[] =
        "{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"B\"]}";
    (void)state;
    REFUSES("enum beyond", ENUM, "\x04");
    REFUSES("enum below", ENUM, "\x01");
    REFUSES("enum far", ENUM, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    REFUSES("union beyond", "[\"null\",\"int\"]", "\x04");
    REFUSES("union below", "[\"null\",\"int\"]", "\x01");
    REFUSES("boolean", "\"boolean\"", "\x02");
    REFUSES("varint without end", "\"long\"",
            "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
}

static void test_schemas(void **state)
{
    static char deep[DEEP * 32];
    size_t used = 0;
    (void)state;
    refuses_schema("fixed of -1",
                   "{\"type\":\"fixed\",\"name\":\"F\",\"size\":-1}");
    refuses_schema("fixed of 765 MB",
                   "{\"type\":\"fixed\",\"name\":\"F\",\"size\":765000000}");
    refuses_schema("a record in itself", RECORD(FIELD("\"R\"")));
    refuses_schema("a record in itself, by another",
                   RECORD(FIELD("{\"type\":\"record\",\"name\":\"S\","
                                "\"fields\":[" FIELD("\"R\"") "]}")));
    for (int i = 0; i < 300; i++)
        used += (size_t)sprintf(deep + used, "{\"type\":\"array\",\"items\":");
    refuses_schema("deep", deep);
}

/* A failed message leaves nothing behind, a map does not slow the next. */
static void test_leaks(void **state)
{
    static const char MAP[] = RECORD(
        FIELD("{\"type\":\"map\",\"values\":{\"type\":\"array\",\"items\":"
              "\"string\"}}"));
    static const char GOOD[] = "\x02\x02k\x04\x02"
                               "a\x02"
                               "b\x00\x00";
    struct schema *s;
    struct decoder *d = compiled(MAP, &s);
    size_t before = mallinfo2().uordblks;
    uint32_t count = 0;
    (void)state;
    for (int i = 0; i < LEAK_ROUNDS; i++) {
        struct tape tape = {.at = data, .max = TAPE_MAX};
        struct err e;
        size_t len = (size_t)i % sizeof GOOD;
        enum rc rc = decoder_decode(d, slice_of(GOOD, len), &tape, &e);
        assert_int_equal(rc, len == sizeof GOOD - 1 ? RC_OK : RC_SKIP);
        if (rc != RC_OK) continue;
        if (count > 0) assert_int_equal(tape.count, count);
        count = tape.count;
    }
    assert_true(count > 0);
    assert_int_equal(mallinfo2().uordblks, before);
    decoder_free(d);
    schema_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),   cmocka_unit_test(test_counts),
        cmocka_unit_test(test_recursion), cmocka_unit_test(test_indexes),
        cmocka_unit_test(test_schemas),   cmocka_unit_test(test_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
