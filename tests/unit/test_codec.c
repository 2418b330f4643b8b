/* Goal: bytes decode to the tape that the specification asks for, whatever
 * pair of schemas; what does not fit them fails and touches nothing.
 * Method: schemas and bytes written out by hand from the specification, then
 * every truncation and every single-byte change of a rich message. Random
 * pairs of schemas and values are compared with fastavro by
 * tests/support/codec_oracle.py, and with Avro-C in test_codec_avro.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec.h"

enum { TAPE_MAX = 4096 };
static struct datum g_datums[TAPE_MAX];
static struct tape g_tape = {g_datums, TAPE_MAX, 0};
static struct err g_e;

static struct schema *parsed(const char *json)
{
    struct schema *s;
    if (schema_parse(&s, slice_str(json), &g_e) != RC_OK)
        fail_msg("%s: %s", json, g_e.text);
    return s;
}

static struct decoder *compiled(const char *writer, const char *reader)
{
    struct schema *w = parsed(writer), *r = parsed(reader);
    struct decoder *d;
    if (decoder_compile(&d, w, r, &g_e) != RC_OK)
        fail_msg("%s / %s: %s", writer, reader, g_e.text);
    schema_free(w); /* a decoder stands alone */
    schema_free(r);
    return d;
}

/* Decodes bytes into g_tape. */
static enum rc decoded(const char *writer, const char *reader,
                       const char *bytes, size_t len)
{
    struct decoder *d = compiled(writer, reader);
    enum rc rc = decoder_decode(d, slice_of(bytes, len), &g_tape, &g_e);
    /* Defaults and symbols live in the decoder, so look at kinds here. */
    decoder_free(d);
    return rc;
}
#define DECODED(w, r, bytes) decoded((w), (r), (bytes), sizeof(bytes) - 1)

static void expect_int(const char *w, const char *r, const char *bytes,
                       size_t len, enum datum_kind kind, int64_t value)
{
    assert_int_equal(decoded(w, r, bytes, len), RC_OK);
    assert_int_equal(g_tape.count, 1);
    assert_int_equal(g_tape.at[0].kind, kind);
    assert_int_equal(g_tape.at[0].i, value);
}
#define EXPECT_INT(w, r, bytes, kind, value)                                   \
    expect_int((w), (r), (bytes), sizeof(bytes) - 1, (kind), (value))

static void expect_refused(const char *json)
{
    struct schema *s;
    g_e.text[0] = '\0';
    if (schema_parse(&s, slice_str(json), &g_e) != RC_STOP)
        fail_msg("accepted: %s", json);
    assert_null(s);
    assert_true(g_e.text[0] != '\0');
}

static void test_varints(void **state)
{
    (void)state;
    EXPECT_INT("\"int\"", "\"int\"", "\x00", DATUM_INT, 0);
    EXPECT_INT("\"int\"", "\"int\"", "\x01", DATUM_INT, -1);
    EXPECT_INT("\"int\"", "\"int\"", "\xfe\xff\xff\xff\x0f", DATUM_INT,
               INT32_MAX);
    EXPECT_INT("\"int\"", "\"int\"", "\xff\xff\xff\xff\x0f", DATUM_INT,
               INT32_MIN);
    EXPECT_INT("\"long\"", "\"long\"",
               "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", DATUM_LONG,
               INT64_MIN);
    EXPECT_INT("\"long\"", "\"long\"",
               "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", DATUM_LONG,
               INT64_MAX);
    /* One more than 32 bits hold; 65 bits; no end; nothing at all. */
    assert_int_equal(DECODED("\"int\"", "\"int\"", "\x80\x80\x80\x80\x10"),
                     RC_SKIP);
    assert_int_equal(DECODED("\"long\"", "\"long\"",
                             "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
                     RC_SKIP);
    assert_int_equal(DECODED("\"long\"", "\"long\"",
                             "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
                     RC_SKIP);
    assert_int_equal(DECODED("\"long\"", "\"long\"", "\x80"), RC_SKIP);
    assert_int_equal(DECODED("\"long\"", "\"long\"", ""), RC_SKIP);
    assert_int_equal(DECODED("\"long\"", "\"long\"", "\x02\x00"), RC_SKIP);
}

static void test_scalars(void **state)
{
    (void)state;
    EXPECT_INT("\"boolean\"", "\"boolean\"", "\x01", DATUM_BOOLEAN, 1);
    assert_int_equal(DECODED("\"boolean\"", "\"boolean\"", "\x02"), RC_SKIP);
    assert_int_equal(
        DECODED("\"double\"", "\"double\"", "\x00\x00\x00\x00\x00\x00\xf8\x3f"),
        RC_OK);
    assert_true(g_tape.at[0].d == 1.5);
    assert_int_equal(DECODED("\"double\"", "\"double\"", "\x00\x00\x00"),
                     RC_SKIP);
    assert_int_equal(DECODED("\"float\"", "\"float\"", "\x00\x00\x20\xc0"),
                     RC_OK);
    assert_true(g_tape.at[0].d == -2.5);
    assert_int_equal(DECODED("\"string\"", "\"string\"",
                             "\x06"
                             "abc"),
                     RC_OK);
    assert_int_equal(g_tape.at[0].s.len, 3);
    assert_memory_equal(g_tape.at[0].s.ptr, "abc", 3);
    /* Longer than the message, and of negative length. */
    assert_int_equal(DECODED("\"bytes\"", "\"bytes\"",
                             "\x08"
                             "abc"),
                     RC_SKIP);
    assert_int_equal(DECODED("\"bytes\"", "\"bytes\"",
                             "\x01"
                             "abc"),
                     RC_SKIP);
}

static void test_promotion(void **state)
{
    (void)state;
    EXPECT_INT("\"int\"", "\"long\"", "\x03", DATUM_LONG, -2);
    assert_int_equal(DECODED("\"long\"", "\"double\"", "\x04"), RC_OK);
    assert_int_equal(g_tape.at[0].kind, DATUM_DOUBLE);
    assert_true(g_tape.at[0].d == 2);
    /* 2^24 + 1 is no float: rounded to even, as the specification's float. */
    assert_int_equal(DECODED("\"int\"", "\"float\"", "\x82\x80\x80\x10"),
                     RC_OK);
    assert_true(g_tape.at[0].d == 16777216.0);
    assert_int_equal(DECODED("\"float\"", "\"double\"", "\x00\x00\x20\xc0"),
                     RC_OK);
    assert_int_equal(g_tape.at[0].kind, DATUM_DOUBLE);
    assert_int_equal(DECODED("\"string\"", "\"bytes\"", "\x02z"), RC_OK);
    assert_int_equal(g_tape.at[0].kind, DATUM_BYTES);
    assert_int_equal(DECODED("\"bytes\"", "\"string\"", "\x02z"), RC_OK);
    assert_int_equal(g_tape.at[0].kind, DATUM_STRING);
}

#define LOGICAL(type, logical)                                                 \
    "{\"type\":\"" type "\",\"logicalType\":\"" logical "\"}"
#define DECIMAL(precision, scale)                                              \
    "{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":" precision \
    ",\"scale\":" scale "}"

static void test_logical_types_match(void **state)
{
    static const char *const PAIRS[][2] = {
        {"\"long\"", LOGICAL("long", "timestamp-millis")},
        {LOGICAL("long", "timestamp-millis"), "\"long\""},
        {LOGICAL("long", "timestamp-millis"),
         LOGICAL("long", "local-timestamp-millis")},
        {LOGICAL("long", "something"), LOGICAL("long", "else")},
        {LOGICAL("int", "time-millis"), LOGICAL("long", "timestamp-millis")},
        {DECIMAL("9", "2"), DECIMAL("18", "2")},
        {"\"bytes\"", DECIMAL("18", "2")},
    };
    (void)state;
    for (size_t i = 0; i < sizeof PAIRS / sizeof PAIRS[0]; i++)
        decoder_free(compiled(PAIRS[i][0], PAIRS[i][1]));
}

static void test_no_demotion(void **state)
{
    static const char *const PAIRS[][2] = {
        {"\"long\"", "\"int\""},
        {"\"double\"", "\"float\""},
        {"\"float\"", "\"long\""},
        {"\"string\"", "\"int\""},
        {"\"null\"", "\"boolean\""},
        {"\"boolean\"", "\"int\""},
        {"{\"type\":\"fixed\",\"name\":\"F\",\"size\":2}",
         "{\"type\":\"fixed\",\"name\":\"F\",\"size\":3}"},
        {"{\"type\":\"record\",\"name\":\"A\",\"fields\":[]}",
         "{\"type\":\"record\",\"name\":\"B\",\"fields\":[]}"},
        {"{\"type\":\"array\",\"items\":\"long\"}",
         "{\"type\":\"array\",\"items\":\"int\"}"},
        {"\"long\"", "[\"null\",\"string\"]"},
        {"[\"null\",\"string\"]", "\"long\""},
        /* The numbers are the same, what they count is not. */
        {LOGICAL("long", "timestamp-micros"),
         LOGICAL("long", "timestamp-millis")},
        {LOGICAL("int", "date"), LOGICAL("long", "timestamp-millis")},
        {LOGICAL("int", "time-millis"), LOGICAL("long", "time-micros")},
        {DECIMAL("9", "2"), DECIMAL("9", "4")},
        {DECIMAL("9", "2"), "[\"null\"," DECIMAL("9", "0") "]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof PAIRS / sizeof PAIRS[0]; i++) {
        struct schema *w = parsed(PAIRS[i][0]), *r = parsed(PAIRS[i][1]);
        struct decoder *d;
        if (decoder_compile(&d, w, r, &g_e) != RC_STOP)
            fail_msg("%s is read as %s", PAIRS[i][0], PAIRS[i][1]);
        assert_null(d);
        schema_free(w);
        schema_free(r);
    }
    assert_string_equal(g_e.text, "schemas: a bytes (decimal of scale 2) was "
                                  "written, a union is wanted");
}

#define RECORD(fields)                                                         \
    "{\"type\":\"record\",\"name\":\"R\",\"fields\":[" fields "]}"
#define FIELD(name, type) "{\"name\":\"" name "\",\"type\":" type "}"
#define FIELD_OR(name, type, value)                                            \
    "{\"name\":\"" name "\",\"type\":" type ",\"default\":" value "}"

static void test_fields_added_removed(void **state)
{
    struct decoder *d = compiled(
        RECORD(
            FIELD("gone", "{\"type\":\"map\",\"values\":\"string\"}") "," FIELD(
                "a", "\"int\"") "," FIELD("last", "\"double\"")),
        RECORD(FIELD_OR("new", "\"string\"", "\"h\\u00e9\"") "," FIELD(
            "a",
            "\"long\"") "," FIELD_OR("list",
                                     "{\"type\":\"array\",\"items\":\"int\"}",
                                     "[1,2]")));
    static const char BYTES[] = "\x02\x02k\x02v\x00\x0e"
                                "12345678";
    const struct datum *t = g_tape.at;
    (void)state;
    assert_int_equal(
        decoder_decode(d, slice_of(BYTES, sizeof BYTES - 1), &g_tape, &g_e),
        RC_OK);
    assert_int_equal(g_tape.count, 6);
    assert_int_equal(t[0].kind, DATUM_RECORD);
    assert_int_equal(t[0].count, 3);
    assert_int_equal(t[0].span, 6);
    assert_int_equal(t[1].s.len, 3);
    assert_memory_equal(t[1].s.ptr, "h\xc3\xa9", 3);
    assert_int_equal(t[2].i, 7);
    assert_int_equal(t[3].kind, DATUM_ARRAY);
    assert_int_equal(t[3].count, 2);
    assert_int_equal(t[3].span, 3);
    assert_int_equal(t[5].i, 2);
    decoder_free(d);
}

static void test_fields_reordered(void **state)
{
    struct decoder *d = compiled(
        RECORD(FIELD("a", "{\"type\":\"array\",\"items\":\"int\"}") "," FIELD(
            "skipped",
            "\"string\"") "," FIELD("b", "\"string\"") "," FIELD("c",
                                                                 "\"int\"")),
        RECORD(FIELD("c", "\"int\"") "," FIELD_OR(
            "d", "[\"null\",\"int\"]",
            "null") ","
                    "{\"name\":\"bee\",\"type\":\"string\",\"aliases\":[\"b\"]}"
                    "," FIELD("a", "{\"type\":\"array\",\"items\":\"int\"}")));
    static const char BYTES[] = "\x04\x02\x04\x00\x02s\x04hi\x08";
    const struct datum *t = g_tape.at;
    (void)state;
    assert_int_equal(
        decoder_decode(d, slice_of(BYTES, sizeof BYTES - 1), &g_tape, &g_e),
        RC_OK);
    assert_int_equal(g_tape.count, 8);
    assert_int_equal(t[1].i, 4);
    assert_int_equal(t[2].kind, DATUM_UNION);
    assert_int_equal(t[2].span, 2);
    assert_int_equal(t[3].kind, DATUM_NULL);
    assert_memory_equal(t[4].s.ptr, "hi", 2);
    assert_int_equal(t[5].kind, DATUM_ARRAY);
    assert_int_equal(t[5].count, 2);
    assert_int_equal(t[7].i, 2);
    for (size_t len = 0; len < sizeof BYTES - 1; len++)
        assert_int_equal(decoder_decode(d, slice_of(BYTES, len), &g_tape, &g_e),
                         RC_SKIP);
    decoder_free(d);
}

static void test_missing_default(void **state)
{
    struct schema *w = parsed(RECORD(FIELD("a", "\"int\"")));
    struct schema *r = parsed(RECORD(FIELD("b", "\"int\"")));
    struct decoder *d;
    (void)state;
    assert_int_equal(decoder_compile(&d, w, r, &g_e), RC_STOP);
    assert_non_null(strstr(g_e.text, "'b'"));
    schema_free(r);
    r = parsed(RECORD(FIELD_OR("b", "\"int\"", "\"text\"")));
    assert_int_equal(decoder_compile(&d, w, r, &g_e), RC_STOP);
    schema_free(w);
    schema_free(r);
}

static void test_unions(void **state)
{
    (void)state;
    /* Writer's union, reader's not. */
    EXPECT_INT("[\"null\",\"int\"]", "\"long\"", "\x02\x06", DATUM_LONG, 3);
    assert_int_equal(DECODED("[\"null\",\"int\"]", "\"long\"", "\x00"),
                     RC_SKIP);
    /* Reader's union, writer's not. */
    assert_int_equal(
        DECODED("\"int\"", "[\"null\",\"string\",\"long\"]", "\x06"), RC_OK);
    assert_int_equal(g_tape.count, 2);
    assert_int_equal(g_tape.at[0].kind, DATUM_UNION);
    assert_int_equal(g_tape.at[0].i, 2);
    assert_int_equal(g_tape.at[0].span, 2);
    assert_int_equal(g_tape.at[1].kind, DATUM_LONG);
    /* Both, in another order. */
    assert_int_equal(
        DECODED("[\"null\",\"int\"]", "[\"int\",\"null\"]", "\x00"), RC_OK);
    assert_int_equal(g_tape.at[0].i, 1);
    /* A branch that is the same type goes before one that it could become. */
    assert_int_equal(DECODED("[\"int\",\"long\"]",
                             "[\"double\",\"long\",\"int\"]", "\x00\x06"),
                     RC_OK);
    assert_int_equal(g_tape.at[0].i, 2);
    /* No such branch, on either end. */
    assert_int_equal(
        DECODED("[\"null\",\"int\"]", "[\"null\",\"int\"]", "\x04\x06"),
        RC_SKIP);
    assert_int_equal(
        DECODED("[\"null\",\"int\"]", "[\"null\",\"int\"]", "\x01"), RC_SKIP);
}

#define ENUM(symbols, more)                                                    \
    "{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[" symbols "]" more "}"

static void test_enums(void **state)
{
    struct decoder *d =
        compiled(ENUM("\"A\",\"B\",\"C\"", ""), ENUM("\"C\",\"A\"", ""));
    struct slice c = slice_of("\x04", 1), b = slice_of("\x02", 1);
    (void)state;
    assert_int_equal(decoder_decode(d, c, &g_tape, &g_e), RC_OK);
    assert_int_equal(g_tape.at[0].i, 0);
    assert_memory_equal(g_tape.at[0].s.ptr, "C", 1);
    assert_int_equal(decoder_decode(d, b, &g_tape, &g_e), RC_SKIP);
    assert_int_equal(decoder_decode(d, slice_of("\x06", 1), &g_tape, &g_e),
                     RC_SKIP);
    assert_int_equal(decoder_decode(d, slice_of("\x01", 1), &g_tape, &g_e),
                     RC_SKIP);
    decoder_free(d);
    d = compiled(ENUM("\"A\",\"B\",\"C\"", ""),
                 ENUM("\"C\",\"A\"", ",\"default\":\"A\""));
    assert_int_equal(decoder_decode(d, b, &g_tape, &g_e), RC_OK);
    assert_int_equal(g_tape.at[0].i, 1);
    decoder_free(d);
}

static void test_blocks(void **state)
{
    static const char INTS[] = "{\"type\":\"array\",\"items\":\"int\"}";
    static const char NULLS[] = "{\"type\":\"array\",\"items\":\"null\"}";
    (void)state;
    /* Two blocks, the second of -1 items in 1 byte. */
    assert_int_equal(DECODED(INTS, INTS, "\x04\x02\x04\x01\x02\x06\x00"),
                     RC_OK);
    assert_int_equal(g_tape.at[0].count, 3);
    assert_int_equal(g_tape.at[0].span, 4);
    assert_int_equal(g_tape.at[3].i, 3);
    /* The size that a block gives must be its own. */
    assert_int_equal(DECODED(INTS, INTS, "\x01\x04\x06\x00"), RC_SKIP);
    assert_int_equal(DECODED(INTS, INTS, "\x01\x7f\x06\x00"), RC_SKIP);
    assert_int_equal(DECODED(INTS, INTS, "\x01\x01\x06\x00"), RC_SKIP);
    /* Items without bytes are bounded by the tape: 4095 of them fit. */
    assert_int_equal(DECODED(NULLS, NULLS, "\xfe\x3f\x00"), RC_OK);
    assert_int_equal(g_tape.count, TAPE_MAX);
    assert_int_equal(DECODED(NULLS, NULLS, "\x80\x40\x00"), RC_SKIP);
    assert_int_equal(
        DECODED(NULLS, NULLS, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"),
        RC_SKIP);
    /* INT64_MIN items. */
    assert_int_equal(
        DECODED(NULLS, NULLS,
                "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00"),
        RC_SKIP);
}

/* Skipping must be bounded as decoding is. */
static void test_skip_is_bounded(void **state)
{
    static const char WRITER[] =
        RECORD(FIELD("n", "{\"type\":\"array\",\"items\":\"null\"}"));
    (void)state;
    assert_int_equal(DECODED(WRITER, RECORD(""), "\x14\x00"), RC_OK);
    assert_int_equal(g_tape.count, 1);
    assert_int_equal(DECODED(WRITER, RECORD(""),
                             "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"),
                     RC_SKIP);
}

static void test_recursion_is_bounded(void **state)
{
    static const char LIST[] = RECORD(FIELD("next", "[\"null\",\"R\"]"));
    char bytes[4096];
    struct decoder *d = compiled(LIST, LIST);
    (void)state;
    memset(bytes, 2, sizeof bytes);
    assert_int_equal(
        decoder_decode(d, slice_of("\x02\x02\x00", 3), &g_tape, &g_e), RC_OK);
    assert_int_equal(g_tape.count, 3 + 3 + 1);
    assert_int_equal(
        decoder_decode(d, slice_of(bytes, sizeof bytes), &g_tape, &g_e),
        RC_SKIP);
    assert_non_null(strstr(g_e.text, "deep"));
    decoder_free(d);
}

static const char RICH[] = RECORD(
    FIELD("id", "\"string\"") "," FIELD("n", "[\"null\",\"long\"]") "," FIELD("f", "{\"type\":\"fixed\",\"name\":\"F\",\"size\":2}") "," FIELD(
        "e",
        ENUM(
            "\"A\",\"B\"",
            "")) "," FIELD("m",
                           "{\"type\":\"map\",\"values\":"
                           "\"double\"}") "," FIELD("l",
                                                    "{\"type\":"
                                                    "\"array\","
                                                    "\"items\":{"
                                                    "\"type\":"
                                                    "\"record\","
                                                    "\"name\":"
                                                    "\"Sub\","
                                                    "\"fields\":"
                                                    "[" FIELD(
                                                        "b",
                                                        "\"boolean"
                                                        "\"") "," FIELD("x",
                                                                        "\"floa"
                                                                        "t\"") "]}}"));
static const char RICH_BYTES[] =
    "\x06"
    "abc"
    "\x02\xfe\x01"
    "xy"
    "\x02"
    "\x02\x02k\x00\x00\x00\x00\x00\x00\xf0\x3f\x00"
    "\x04\x01\x00\x00\x80\x3f\x00\x00\x00\x80\x3f\x00";

static void test_every_truncation(void **state)
{
    struct decoder *d = compiled(RICH, RICH);
    size_t len = sizeof RICH_BYTES - 1, used;
    (void)state;
    assert_int_equal(
        decoder_decode(d, slice_of(RICH_BYTES, len), &g_tape, &g_e), RC_OK);
    assert_int_equal(decoder_measure(d, slice_of(RICH_BYTES, len), &used, &g_e),
                     RC_OK);
    assert_int_equal(used, len);
    for (size_t short_len = 0; short_len < len; short_len++) {
        /* A copy of its own size, so that a sanitizer sees any read past it. */
        uint8_t *copy = malloc(short_len ? short_len : 1);
        memcpy(copy, RICH_BYTES, short_len);
        assert_int_equal(
            decoder_decode(d, slice_of(copy, short_len), &g_tape, &g_e),
            RC_SKIP);
        assert_int_equal(
            decoder_measure(d, slice_of(copy, short_len), &used, &g_e),
            RC_SKIP);
        free(copy);
    }
    decoder_free(d);
}

/* Whatever still decodes after a byte is changed encodes to a message that
 * decodes to the same. */
static void test_every_change(void **state)
{
    struct decoder *d = compiled(RICH, RICH);
    struct schema *s = parsed(RICH);
    uint8_t bytes[sizeof RICH_BYTES - 1], out[256], again[256];
    size_t used, used_again;
    uint32_t good = 0;
    (void)state;
    for (size_t at = 0; at < sizeof bytes; at++)
        for (uint32_t change = 1; change < 256; change++) {
            memcpy(bytes, RICH_BYTES, sizeof bytes);
            bytes[at] ^= (uint8_t)change;
            if (decoder_decode(d, slice_of(bytes, sizeof bytes), &g_tape,
                               &g_e) != RC_OK)
                continue;
            good++;
            assert_int_equal(
                encoder_encode(s, &g_tape, out, sizeof out, &used, &g_e),
                RC_OK);
            assert_int_equal(
                decoder_decode(d, slice_of(out, used), &g_tape, &g_e), RC_OK);
            assert_int_equal(encoder_encode(s, &g_tape, again, sizeof again,
                                            &used_again, &g_e),
                             RC_OK);
            assert_int_equal(used, used_again);
            assert_memory_equal(out, again, used);
        }
    assert_true(good > 1000);
    schema_free(s);
    decoder_free(d);
}

static void test_tape_is_bounded(void **state)
{
    struct decoder *d = compiled(RICH, RICH);
    struct slice in = slice_of(RICH_BYTES, sizeof RICH_BYTES - 1);
    struct tape tape = {g_datums, TAPE_MAX, 0};
    uint32_t need;
    (void)state;
    assert_int_equal(decoder_decode(d, in, &tape, &g_e), RC_OK);
    need = tape.count;
    for (tape.max = 0; tape.max < need; tape.max++)
        assert_int_equal(decoder_decode(d, in, &tape, &g_e), RC_SKIP);
    assert_int_equal(decoder_decode(d, in, &tape, &g_e), RC_OK);
    decoder_free(d);
}

static void test_encode(void **state)
{
    struct decoder *d = compiled(RICH, RICH);
    struct schema *s = parsed(RICH), *other = parsed(RECORD(""));
    uint8_t out[sizeof RICH_BYTES];
    size_t len = sizeof RICH_BYTES - 1, used;
    (void)state;
    assert_int_equal(
        decoder_decode(d, slice_of(RICH_BYTES, len), &g_tape, &g_e), RC_OK);
    assert_int_equal(encoder_encode(s, &g_tape, out, len, &used, &g_e), RC_OK);
    assert_int_equal(used, len);
    assert_memory_equal(out, RICH_BYTES, len);
    for (size_t size = 0; size < len; size++)
        assert_int_equal(encoder_encode(s, &g_tape, out, size, &used, &g_e),
                         RC_SKIP);
    assert_int_equal(encoder_encode(other, &g_tape, out, len, &used, &g_e),
                     RC_SKIP);
    for (uint32_t count = g_tape.count; count-- > 0;) {
        struct tape cut = {g_tape.at, TAPE_MAX, count};
        assert_int_equal(encoder_encode(s, &cut, out, len, &used, &g_e),
                         RC_SKIP);
    }
    schema_free(s);
    schema_free(other);
    decoder_free(d);
}

static void test_bad_schemas(void **state)
{
    (void)state;
    expect_refused("");
    expect_refused("{");
    expect_refused("\"strin\"");
    expect_refused("5");
    expect_refused("{}");
    expect_refused("[]");
    expect_refused("[\"int\",\"int\"]");
    expect_refused("[\"int\",[\"null\"]]");
    expect_refused("{\"type\":\"array\"}");
    expect_refused("{\"type\":\"map\",\"values\":\"no\"}");
    expect_refused("{\"type\":\"fixed\",\"name\":\"F\",\"size\":-1}");
    expect_refused("{\"type\":\"fixed\",\"name\":\"F\",\"size\":1048577}");
    expect_refused("{\"type\":\"fixed\",\"name\":\"F\"}");
    expect_refused(ENUM("", ""));
    expect_refused(ENUM("\"A\",\"A\"", ""));
    expect_refused(ENUM("\"A\"", ",\"default\":\"B\""));
    expect_refused(RECORD(FIELD("a", "\"int\"") "," FIELD("a", "\"int\"")));
    expect_refused(RECORD(FIELD("a b", "\"int\"")));
    expect_refused(RECORD("{\"name\":\"a\"}"));
    expect_refused("{\"type\":\"record\",\"name\":\"R\"}");
    expect_refused("{\"type\":\"record\",\"name\":\"int\",\"fields\":[]}");
    /* No value of these is finite. */
    expect_refused(RECORD(FIELD("self", "\"R\"")));
    expect_refused(RECORD(
        FIELD("s", "{\"type\":\"record\",\"name\":\"S\",\"fields\":[" FIELD(
                       "r", "\"R\"") "]}")));
}

static void test_deep_schemas(void **state)
{
    char json[1 << 16];
    struct schema *s;
    (void)state;
    for (int depth = 1; depth < 2000; depth += depth < 40 ? 1 : 500) {
        size_t used = 0;
        for (int i = 1; i < depth; i++)
            used += (size_t)snprintf(json + used, sizeof json - used,
                                     "{\"type\":\"array\",\"items\":");
        used += (size_t)snprintf(json + used, sizeof json - used, "\"int\"");
        for (int i = 1; i < depth; i++)
            json[used++] = '}';
        if (schema_parse(&s, slice_of(json, used), &g_e) == RC_OK) {
            assert_true(depth <= CODEC_DEPTH_MAX);
            schema_free(s);
        } else {
            assert_true(depth > CODEC_DEPTH_MAX);
        }
    }
}

static void test_names(void **state)
{
    struct decoder *d =
        compiled("{\"type\":\"record\",\"name\":\"a.R\",\"fields\":["
                 "{\"name\":\"x\",\"type\":{\"type\":\"fixed\",\"name\":\"F\","
                 "\"size\":1}},{\"name\":\"y\",\"type\":\"a.F\"},"
                 "{\"name\":\"z\",\"type\":\"F\"}]}",
                 "{\"type\":\"record\",\"name\":\"Other\",\"namespace\":\"b\","
                 "\"aliases\":[\"a.R\"],\"fields\":["
                 "{\"name\":\"z\",\"type\":{\"type\":\"fixed\",\"name\":\"F\","
                 "\"size\":1}}]}");
    (void)state;
    assert_int_equal(decoder_decode(d, slice_of("abc", 3), &g_tape, &g_e),
                     RC_OK);
    assert_int_equal(g_tape.count, 2);
    assert_memory_equal(g_tape.at[1].s.ptr, "c", 1);
    decoder_free(d);
    expect_refused("{\"type\":\"record\",\"name\":\"a.R\",\"fields\":["
                   "{\"name\":\"x\",\"type\":{\"type\":\"fixed\","
                   "\"name\":\"F\",\"size\":1}},"
                   "{\"name\":\"y\",\"type\":\"b.F\"}]}");
}

static void test_find(void **state)
{
    struct schema *s = parsed(RECORD(FIELD("user_id", "\"string\"") "," FIELD(
        "card",
        "[\"null\",{\"type\":\"record\",\"name\":\"Card\","
        "\"fields\":[" FIELD(
            "number",
            "\"long\"") "]}]") "," FIELD("at",
                                         "{\"type\":\"long\","
                                         "\"logicalType\":\"timestamp-"
                                         "micros\"}") "," FIELD("sum",
                                                                "{\"type\":"
                                                                "\"bytes\","
                                                                "\"logicalT"
                                                                "ype\":"
                                                                "\"decimal"
                                                                "\","
                                                                "\"precisio"
                                                                "n\":9,"
                                                                "\"scale\":"
                                                                "2}") "," FIELD("odd",
                                                                                "{\"type\":\"int\",\"logicalType\":\"decimal\"}")));
    struct schema_field f;
    (void)state;
    assert_int_equal(schema_find(s, "user_id", &f, &g_e), RC_OK);
    assert_int_equal(f.kind, DATUM_STRING);
    assert_false(f.nullable);
    assert_int_equal(schema_find(s, "card.number", &f, &g_e), RC_OK);
    assert_int_equal(f.kind, DATUM_LONG);
    assert_true(f.nullable);
    assert_int_equal(f.depth, 2);
    assert_int_equal(f.path[0], 1);
    assert_int_equal(f.path[1], 0);
    assert_int_equal(schema_find(s, "at", &f, &g_e), RC_OK);
    assert_string_equal(f.logical_type, "timestamp-micros");
    assert_int_equal(schema_find(s, "sum", &f, &g_e), RC_OK);
    assert_string_equal(f.logical_type, "decimal");
    assert_int_equal(f.scale, 2);
    assert_int_equal(schema_find(s, "odd", &f, &g_e), RC_OK);
    assert_string_equal(f.logical_type, "");
    assert_int_equal(schema_find(s, "userid", &f, &g_e), RC_STOP);
    assert_non_null(strstr(g_e.text, "nearest: user_id"));
    assert_int_equal(schema_find(s, "user_id.x", &f, &g_e), RC_STOP);
    assert_int_equal(schema_find(s, "card.", &f, &g_e), RC_STOP);
    assert_int_equal(schema_find(s, "", &f, &g_e), RC_STOP);
    schema_free(s);
}

static void expect_json(const char *schema, struct slice in,
                        enum json_style style, const char *expected)
{
    struct schema *s = parsed(schema);
    struct decoder *d = compiled(schema, schema);
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    assert_int_equal(decoder_decode(d, in, &g_tape, &g_e), RC_OK);
    assert_int_equal(tape_write_json(s, &g_tape, style, to, &g_e), RC_OK);
    (void)fclose(to);
    assert_string_equal(text, expected);
    free(text);
    schema_free(s);
    decoder_free(d);
}

static void test_json(void **state)
{
    struct slice rich = slice_of(RICH_BYTES, sizeof RICH_BYTES - 1);
    (void)state;
    expect_json(RICH, rich, JSON_AVRO,
                "{\"id\":\"abc\",\"n\":{\"long\":127},\"f\":\"xy\","
                "\"e\":\"B\",\"m\":{\"k\":1.0},\"l\":[{\"b\":true,\"x\":1.0},"
                "{\"b\":false,\"x\":1.0}]}");
    expect_json(RICH, rich, JSON_PLAIN,
                "{\"id\":\"abc\",\"n\":127,\"f\":\"xy\",\"e\":\"B\","
                "\"m\":{\"k\":1.0},\"l\":[{\"b\":true,\"x\":1.0},"
                "{\"b\":false,\"x\":1.0}]}");
    expect_json("\"string\"", slice_of("\x0a\"\n\xc3\xa9\xff", 6), JSON_PLAIN,
                "\"\\\"\\n\xc3\xa9\\ufffd\"");
    expect_json("\"bytes\"",
                slice_of("\x04\xff"
                         "a",
                         3),
                JSON_PLAIN, "\"\\u00ffa\"");
    expect_json("\"bytes\"", slice_of("\x04\xc3\xa9", 3), JSON_AVRO,
                "\"\\u00c3\\u00a9\"");
    expect_json("\"float\"", slice_of("\x00\x00\xc0\x7f", 4), JSON_PLAIN,
                "null");
    expect_json("\"float\"", slice_of("\x00\x00\xc0\x7f", 4), JSON_AVRO,
                "\"NaN\"");
    expect_json("\"float\"", slice_of("\xcd\xcc\xcc\x3d", 4), JSON_AVRO, "0.1");
    expect_json("\"double\"", slice_of("\x9a\x99\x99\x99\x99\x99\xb9\x3f", 8),
                JSON_AVRO, "0.1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_varints),
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_promotion),
        cmocka_unit_test(test_logical_types_match),
        cmocka_unit_test(test_no_demotion),
        cmocka_unit_test(test_fields_added_removed),
        cmocka_unit_test(test_fields_reordered),
        cmocka_unit_test(test_missing_default),
        cmocka_unit_test(test_unions),
        cmocka_unit_test(test_enums),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_skip_is_bounded),
        cmocka_unit_test(test_recursion_is_bounded),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_change),
        cmocka_unit_test(test_tape_is_bounded),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_bad_schemas),
        cmocka_unit_test(test_deep_schemas),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
