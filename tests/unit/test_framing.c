/* test_framing.c - goal: whatever way a message names its schema, the right
 * decoder is found and the Avro begins at the right byte; a message that
 * names none, or half of one, is told so.
 * Method: three schemas in a folder, read as a long: 7 is an int, a GUID is
 * a long, another file a record for its fingerprint. Fingerprints and
 * canonical forms are those of the specification and of its Java
 * implementation; more of them are compared with fastavro's in
 * support/codec_oracle.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "framing.h"
#include "log.h"
#include "schema_canonical.h"
#include "schema_dir.h"

static struct err g_e;
static char dir[] = "/tmp/millrace-framing-XXXXXX";
static struct schema *reader;
static const struct schema_key GUID = {SCHEMA_GUID, 0x0102030405060708,
                                       0x090a0b0c0d0e0f10};

static void store(struct schema_key key, const char *json)
{
    assert_int_equal(schema_dir_write(dir, key, slice_str(json), &g_e), RC_OK);
}

static int start(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    store(schema_key_id(7), "\"int\"");
    store(GUID, "\"long\"");
    store(schema_key_id(300), "[\"null\", \"int\"]");
    return schema_parse(&reader, slice_str("[\"null\",\"long\"]"), &g_e) ==
                   RC_OK
               ? 0
               : -1;
}

static int stop(void **state)
{
    char line[128];
    (void)state;
    schema_free(reader);
    (void)snprintf(line, sizeof line, "rm -r %s", dir);
    return system(line);
}

/* --- a message ---------------------------------------------------------- */

struct fixture {
    struct config config;
    struct registry *registry;
    struct framing *framing;
};

static void fixture_open(struct fixture *f, uint32_t format)
{
    *f = (struct fixture){.config = {.input_format = format,
                                     .schemas_dir = dir,
                                     .schemas_retry = 60000}};
    if (registry_open(&f->registry, &f->config, reader, &g_e) != RC_OK ||
        framing_new(&f->framing, &f->config, f->registry, reader, &g_e) !=
            RC_OK)
        fail_msg("%s", g_e.text);
}

static void fixture_close(struct fixture *f)
{
    framing_free(f->framing);
    registry_close(f->registry);
}

static const char VALUE_HEADER[] = "__value_schema_id";

struct bytes {
    const char *at;
    size_t len;
};
#define BYTES(text)                                                            \
    (struct bytes)                                                             \
    {                                                                          \
        (text), sizeof(text) - 1                                               \
    }
#define NO_HEADER                                                              \
    (struct bytes)                                                             \
    {                                                                          \
        NULL, 0                                                                \
    }

static enum rc look(struct fixture *f, struct bytes header, struct bytes value,
                    struct framed *out)
{
    const struct header headers[] = {
        {slice_str("other"), slice_str("x")},
        {slice_str(VALUE_HEADER), slice_of(header.at, header.len)}};
    const struct record r = {.value = slice_of(value.at, value.len),
                             .headers = headers,
                             .header_count = header.at ? 2 : 1};
    return framing_require(f->framing, &r, out, &g_e);
}

/* The number that the message is read as. */
static void expect(struct fixture *f, struct bytes header, struct bytes value,
                   int64_t number)
{
    struct datum at[4];
    struct tape tape = {.at = at, .max = 4};
    struct framed framed;
    if (look(f, header, value, &framed) != RC_OK) fail_msg("%s", g_e.text);
    if (decoder_decode(framed.decoder, framed.avro, &tape, &g_e) != RC_OK)
        fail_msg("%s", g_e.text);
    assert_int_equal(at[tape.count - 1].kind, DATUM_LONG);
    assert_int_equal(at[tape.count - 1].i, number);
}

static void expect_none(struct fixture *f, struct bytes header,
                        struct bytes value, const char *word)
{
    struct framed framed;
    assert_int_equal(look(f, header, value, &framed), RC_SKIP);
    if (!strstr(g_e.text, word)) fail_msg("'%s' lacks '%s'", g_e.text, word);
}

#define ID_7   "\x00\x00\x00\x00\x07"
#define ID_300 "\x00\x00\x00\x01\x2c"
#define ID_9   "\x00\x00\x00\x00\x09"
#define BY_GUID                                                                \
    "\x01\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"

static void test_confluent(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f, FORMAT_CONFLUENT);
    for (int i = 0; i < 2; i++) {
        expect(&f, NO_HEADER, BYTES(ID_7 "\x54"), 42);
        expect(&f, NO_HEADER, BYTES(BY_GUID "\x54"), 42);
        expect(&f, BYTES(ID_7), BYTES("\x54"), 42);
        expect(&f, BYTES(BY_GUID), BYTES("\x54"), 42);
        expect(&f, NO_HEADER, BYTES(ID_300 "\x02\x54"), 42);
        /* The header counts, whatever the value begins with. */
        expect(&f, BYTES(ID_300), BYTES("\x02\x54"), 42);
    }
    expect_none(&f, BYTES(""), BYTES(ID_7 "\x54"), "neither an id nor a GUID");
    expect_none(&f, BYTES("\x00\x00\x00\x00"), BYTES("\x54"), "neither");
    expect_none(&f, BYTES(ID_7 "\x00"), BYTES("\x54"), "neither");
    expect_none(&f, BYTES("\x02\x00\x00\x00\x07"), BYTES("\x54"), "neither");
    expect_none(&f, BYTES(ID_9), BYTES("\x54"), "no schema by the key");
    expect_none(&f, NO_HEADER, BYTES(""), "names no schema");
    expect_none(&f, NO_HEADER, BYTES("\x00\x00\x00\x00"), "names no schema");
    expect_none(&f, NO_HEADER, BYTES("\x01\x01\x02\x03"), "names no schema");
    expect_none(&f, NO_HEADER, BYTES("\x54"), "names no schema");
    fixture_close(&f);
}

/* C3 01 and the fingerprint of a schema, the lowest byte first. */
static void single(char out[11], const char *json, char last)
{
    struct schema *s;
    uint64_t print;
    assert_int_equal(schema_parse(&s, slice_str(json), &g_e), RC_OK);
    assert_int_equal(schema_fingerprint(s, &print, &g_e), RC_OK);
    schema_free(s);
    memcpy(out, "\xc3\x01", 2);
    for (int i = 0; i < 8; i++)
        out[2 + i] = (char)(print >> (8 * i));
    out[10] = last;
}

static void test_single_object(void **state)
{
    static const uint32_t FORMATS[] = {FORMAT_SINGLE_OBJECT, FORMAT_AUTO};
    char of_int[11], of_reader[12], of_other[11];
    struct fixture f;
    (void)state;
    single(of_int, "\"int\"", 0x54);
    single(of_reader, "[\"null\",\"long\"]", 0x02);
    of_reader[11] = 0x54;
    single(of_other, "\"string\"", 0x00);
    for (int i = 0; i < 2; i++) {
        fixture_open(&f, FORMATS[i]);
        expect(&f, NO_HEADER, (struct bytes){of_int, 11}, 42);
        expect(&f, NO_HEADER, (struct bytes){of_reader, 12}, 42);
        expect_none(&f, NO_HEADER, (struct bytes){of_other, 11},
                    "no schema by the key");
        expect_none(&f, NO_HEADER, (struct bytes){of_int, 9},
                    "names no schema");
        if (FORMATS[i] == FORMAT_AUTO)
            expect(&f, NO_HEADER, BYTES(ID_7 "\x54"), 42);
        else
            expect_none(&f, NO_HEADER, BYTES(ID_7 "\x54"), "names no schema");
        fixture_close(&f);
    }
    fixture_open(&f, FORMAT_CONFLUENT);
    expect_none(&f, NO_HEADER, (struct bytes){of_int, 11}, "names no schema");
    fixture_close(&f);
}

/* Plain values may begin with anything. */
static void test_plain(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f, FORMAT_PLAIN);
    expect(&f, NO_HEADER, BYTES("\x02\x54"), 42);
    expect(&f, BYTES(ID_7), BYTES("\x02\x54"), 42);
    fixture_close(&f);
}

/* --- the canonical form ------------------------------------------------- */

static void expect_form(const char *json, const char *form, uint64_t print)
{
    struct schema *s;
    uint64_t got;
    char *text;
    size_t len;
    if (schema_parse(&s, slice_str(json), &g_e) != RC_OK)
        fail_msg("%s", g_e.text);
    assert_int_equal(schema_canonical(s, &text, &len, &g_e), RC_OK);
    assert_string_equal(text, form);
    assert_int_equal(len, strlen(form));
    assert_int_equal(schema_fingerprint(s, &got, &g_e), RC_OK);
    assert_true(got == print);
    free(text);
    schema_free(s);
}

static void test_canonical_form(void **state)
{
    (void)state;
    expect_form("\"null\"", "\"null\"", UINT64_C(0x63dd24e7cc258f8a));
    expect_form("{ \"type\" : \"int\", \"logicalType\": \"date\" }", "\"int\"",
                UINT64_C(0x7275d51a3f395c8f));
    expect_form("{\"type\":\"fixed\",\"size\":15,\"namespace\":\"x.y\","
                "\"aliases\":[\"z\"],\"name\":\"foo\",\"doc\":\"d\"}",
                "{\"name\":\"x.y.foo\",\"type\":\"fixed\",\"size\":15}",
                UINT64_C(0x7c880d2890fb8ef1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_confluent),
        cmocka_unit_test(test_single_object),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_canonical_form),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, start, stop);
}
