/* Goal: no message, whatever the schemas, makes the decoder read past its
 * input, write past its tape, or take long; and what decodes is a value.
 * Method: the first byte picks a pair of schemas, the rest is the message.
 * A decoded value must encode, decode to the same, and print as JSON; what
 * decodes in the writer's own shape must measure to the same length. */
#include <assert.h>
#include <stdlib.h>

#include "codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define F(name, type) "{\"name\":\"" name "\",\"type\":" type "}"
#define FD(name, type, value)                                                  \
    "{\"name\":\"" name "\",\"type\":" type ",\"default\":" value "}"
#define R(fields)   "{\"type\":\"record\",\"name\":\"R\",\"fields\":[" fields "]}"
#define ARRAY(type) "{\"type\":\"array\",\"items\":" type "}"
#define MAP(type)   "{\"type\":\"map\",\"values\":" type "}"
#define E           "{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"B\",\"C\"]}"
#define E2                                                                     \
    "{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"C\",\"X\"],\"default\":" \
    "\"X\"}"
#define FIX "{\"type\":\"fixed\",\"name\":\"F\",\"size\":3}"

static const char *const PAIRS[][2] = {
    {R(F("a", "\"string\"") "," F("b", "[\"null\",\"long\"]") "," F("c", E) "," F(
         "d",
         FIX) "," F("e",
                    MAP("\"double\"")) "," F("f",
                                             ARRAY(
                                                 "\"int\"")) "," F("g",
                                                                   "\"boolean"
                                                                   "\"") "," F("h",
                                                                               "\"float\"")),
     R(F("f", ARRAY("\"double\"")) "," F("a", "\"bytes\"") "," F(
         "b",
         "[\"strin"
         "g\","
         "\"null\""
         ",\"float"
         "\"]") "," F("c", E2) "," FD("n", ARRAY("\"int\""),
                                      "[1,2]") "," F("e",
                                                     MAP("[\"double\"]")))},
    {R(F("next", "[\"null\",\"R\"]") "," F("list", ARRAY("\"R\""))),
     R(F("list", ARRAY("\"R\"")) "," F("next", "[\"null\",\"R\"]"))},
    {R(F("nulls", ARRAY("\"null\"")) "," F("maps", MAP(ARRAY("\"null\"")))),
     R("")},
    {R(F("x", ARRAY(ARRAY("[\"null\",\"string\",\"int\"]")))),
     R(FD("y", "[\"null\",\"R\"]",
          "null") "," F("x", ARRAY(ARRAY("[\"long\",\"bytes\",\"null\"]"))))},
};
enum { PAIR_COUNT = sizeof PAIRS / sizeof PAIRS[0], TAPE_MAX = 4096 };

static struct schema *g_schemas[PAIR_COUNT][2];
static struct decoder *g_pair[PAIR_COUNT], *g_own[PAIR_COUNT],
    *g_reader[PAIR_COUNT];

static void start(void)
{
    struct err e;
    for (int i = 0; i < PAIR_COUNT; i++) {
        enum rc rc = RC_OK;
        for (int k = 0; k < 2 && rc == RC_OK; k++)
            rc = schema_parse(&g_schemas[i][k], slice_str(PAIRS[i][k]), &e);
        if (rc == RC_OK)
            rc = decoder_compile(&g_pair[i], g_schemas[i][0], g_schemas[i][1],
                                 &e);
        if (rc == RC_OK)
            rc = decoder_compile(&g_own[i], g_schemas[i][0], g_schemas[i][0],
                                 &e);
        if (rc == RC_OK)
            rc = decoder_compile(&g_reader[i], g_schemas[i][1], g_schemas[i][1],
                                 &e);
        if (rc != RC_OK) {
            (void)fprintf(stderr, "fuzz_codec: pair %d: %s\n", i, e.text);
            abort();
        }
    }
}

/* A decoded tape encodes to bytes that decode and encode to themselves. */
static void round_trip(const struct schema *s, const struct decoder *d,
                       const struct tape *tape)
{
    static struct datum datums[TAPE_MAX];
    static uint8_t bytes[2][1 << 16];
    struct tape again = {datums, TAPE_MAX, 0};
    size_t used, used_again;
    struct err e;
    enum rc rc = encoder_encode(s, tape, bytes[0], sizeof bytes[0], &used, &e);
    if (rc != RC_OK) return; /* larger than the buffer */
    rc = decoder_decode(d, slice_of(bytes[0], used), &again, &e);
    assert(rc == RC_OK && again.count == tape->count);
    rc = encoder_encode(s, &again, bytes[1], sizeof bytes[1], &used_again, &e);
    assert(rc == RC_OK && used == used_again);
    assert(memcmp(bytes[0], bytes[1], used) == 0);
}

static void print(const struct schema *s, const struct tape *tape)
{
    static FILE *nowhere;
    struct err e;
    enum rc rc;
    if (!nowhere) nowhere = fopen("/dev/null", "w");
    rc = tape_write_json(s, tape, JSON_AVRO, nowhere, &e);
    assert(rc == RC_OK);
    rc = tape_write_json(s, tape, JSON_PLAIN, nowhere, &e);
    assert(rc == RC_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct datum datums[TAPE_MAX];
    struct tape tape = {datums, TAPE_MAX, 0};
    struct slice in;
    size_t used;
    struct err e;
    int i;
    if (!g_pair[0]) start();
    if (size == 0 || size > 1 << 14) return 0;
    i = data[0] % PAIR_COUNT;
    in = slice_of(data + 1, size - 1);
    if (decoder_decode(g_own[i], in, &tape, &e) == RC_OK) {
        enum rc rc = decoder_measure(g_own[i], in, &used, &e);
        assert(rc == RC_OK && used == in.len);
        round_trip(g_schemas[i][0], g_own[i], &tape);
        print(g_schemas[i][0], &tape);
    }
    if (decoder_decode(g_pair[i], in, &tape, &e) == RC_OK) {
        round_trip(g_schemas[i][1], g_reader[i], &tape);
        print(g_schemas[i][1], &tape);
    }
    return 0;
}
