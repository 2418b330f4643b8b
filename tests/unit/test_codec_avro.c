/* Goal: Avro-C, an implementation that shares no code with ours, agrees on
 * what valid bytes are.
 * Method: seeded random values of schemas that have every type. Avro-C makes
 * and writes each; we decode it and encode it again; Avro-C reads that, and
 * finds it equal to the value that it made. Only valid bytes: others crash
 * it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <avro.h>
#include <cmocka.h>

#include "codec.h"
#include "hash.h"

enum { VALUES = 2000, BYTES = 1 << 16, TAPE_MAX = 1 << 14 };

static const char *const SCHEMAS[] = {
    "\"long\"",
    "{\"type\":\"record\",\"name\":\"R\",\"fields\":["
    "{\"name\":\"a\",\"type\":\"null\"},{\"name\":\"b\",\"type\":\"boolean\"},"
    "{\"name\":\"c\",\"type\":\"int\"},{\"name\":\"d\",\"type\":\"long\"},"
    "{\"name\":\"e\",\"type\":\"float\"},{\"name\":\"f\",\"type\":\"double\"},"
    "{\"name\":\"g\",\"type\":\"bytes\"},{\"name\":\"h\",\"type\":\"string\"},"
    "{\"name\":\"i\",\"type\":{\"type\":\"fixed\",\"name\":\"F\",\"size\":5}},"
    "{\"name\":\"j\",\"type\":{\"type\":\"enum\",\"name\":\"E\","
    "\"symbols\":[\"X\",\"Y\",\"Z\"]}}]}",
    "{\"type\":\"array\",\"items\":{\"type\":\"map\",\"values\":"
    "[\"null\",\"string\",\"double\"]}}",
    "{\"type\":\"record\",\"name\":\"Tree\",\"fields\":["
    "{\"name\":\"v\",\"type\":\"int\"},"
    "{\"name\":\"kids\",\"type\":{\"type\":\"array\",\"items\":\"Tree\"}},"
    "{\"name\":\"next\",\"type\":[\"null\",\"Tree\"]}]}",
};

/* A stream of numbers for one value. */
struct stream {
    uint64_t seed, at;
};

static uint64_t next(struct stream *r)
{
    return draw(7, r->seed, r->at++);
}

/* A number of any length. */
static int64_t any_long(struct stream *r)
{
    uint64_t shift = next(r) % 64;
    return (int64_t)(next(r)) >> shift;
}

static void fill(avro_value_t *v, struct stream *r, int depth);

static void fill_text(avro_value_t *v, struct stream *r, bool text)
{
    char bytes[32];
    size_t len = next(r) % sizeof bytes;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(text ? 'a' + (int)(next(r) % 26) : (int)next(r));
    if (text) {
        bytes[len ? len - 1 : 0] = '\0';
        assert_int_equal(avro_value_set_string(v, bytes), 0);
    } else {
        assert_int_equal(avro_value_set_bytes(v, bytes, len), 0);
    }
}

static void fill_items(avro_value_t *v, struct stream *r, int depth, bool map)
{
    uint64_t count = depth > 4 ? 0 : next(r) % 4;
    for (uint64_t i = 0; i < count; i++) {
        avro_value_t child;
        char key[16];
        size_t index;
        (void)snprintf(key, sizeof key, "key%d", (int)i);
        if (map)
            assert_int_equal(avro_value_add(v, key, &child, &index, NULL), 0);
        else
            assert_int_equal(avro_value_append(v, &child, &index), 0);
        fill(&child, r, depth + 1);
    }
}

static void fill_record(avro_value_t *v, struct stream *r, int depth)
{
    size_t count;
    assert_int_equal(avro_value_get_size(v, &count), 0);
    for (size_t i = 0; i < count; i++) {
        avro_value_t child;
        assert_int_equal(avro_value_get_by_index(v, i, &child, NULL), 0);
        fill(&child, r, depth + 1);
    }
}

static void fill_union(avro_value_t *v, struct stream *r, int depth)
{
    size_t branches = avro_schema_union_size(avro_value_get_schema(v));
    int branch = depth > 4 ? 0 : (int)(next(r) % branches);
    avro_value_t child;
    assert_int_equal(avro_value_set_branch(v, branch, &child), 0);
    fill(&child, r, depth + 1);
}

static void fill_fixed(avro_value_t *v, struct stream *r)
{
    uint64_t bytes = next(r);
    assert_int_equal(avro_value_set_fixed(v, &bytes, 5), 0);
}

static void fill(avro_value_t *v, struct stream *r, int depth)
{
    switch (avro_value_get_type(v)) {
    case AVRO_NULL:
        assert_int_equal(avro_value_set_null(v), 0);
        break;
    case AVRO_BOOLEAN:
        assert_int_equal(avro_value_set_boolean(v, next(r) & 1), 0);
        break;
    case AVRO_INT32:
        assert_int_equal(avro_value_set_int(v, (int32_t)any_long(r)), 0);
        break;
    case AVRO_INT64:
        assert_int_equal(avro_value_set_long(v, any_long(r)), 0);
        break;
    case AVRO_FLOAT:
        assert_int_equal(avro_value_set_float(v, (float)any_long(r)), 0);
        break;
    case AVRO_DOUBLE:
        assert_int_equal(avro_value_set_double(v, (double)any_long(r) / 7), 0);
        break;
    case AVRO_STRING:
        fill_text(v, r, true);
        break;
    case AVRO_BYTES:
        fill_text(v, r, false);
        break;
    case AVRO_FIXED:
        fill_fixed(v, r);
        break;
    case AVRO_ENUM:
        assert_int_equal(avro_value_set_enum(v, (int)(next(r) % 3)), 0);
        break;
    case AVRO_ARRAY:
        fill_items(v, r, depth, false);
        break;
    case AVRO_MAP:
        fill_items(v, r, depth, true);
        break;
    case AVRO_RECORD:
        fill_record(v, r, depth);
        break;
    case AVRO_UNION:
        fill_union(v, r, depth);
        break;
    default:
        fail_msg("a type of no schema");
    }
}

struct pair {
    struct schema *ours;
    struct decoder *decoder;
    avro_schema_t theirs;
    avro_value_iface_t *class;
};

static void pair_open(struct pair *p, const char *json)
{
    struct err e;
    assert_int_equal(schema_parse(&p->ours, slice_str(json), &e), RC_OK);
    assert_int_equal(decoder_compile(&p->decoder, p->ours, p->ours, &e), RC_OK);
    assert_int_equal(
        avro_schema_from_json_length(json, strlen(json), &p->theirs), 0);
    p->class = avro_generic_class_from_schema(p->theirs);
    assert_non_null(p->class);
}

static void pair_close(struct pair *p)
{
    schema_free(p->ours);
    decoder_free(p->decoder);
    avro_value_iface_decref(p->class);
    (void)avro_schema_decref(p->theirs);
}

/* The value that they write, and read from what we write. */
static void value_check(struct pair *p, uint64_t seed)
{
    static char theirs[BYTES];
    static uint8_t ours[BYTES];
    static struct datum datums[TAPE_MAX];
    struct tape tape = {datums, TAPE_MAX, 0};
    struct stream r = {.seed = seed};
    avro_writer_t writer = avro_writer_memory(theirs, sizeof theirs);
    avro_reader_t reader;
    avro_value_t value, again;
    size_t len, used;
    struct err e;
    assert_int_equal(avro_generic_value_new(p->class, &value), 0);
    assert_int_equal(avro_generic_value_new(p->class, &again), 0);
    fill(&value, &r, 0);
    assert_int_equal(avro_value_write(writer, &value), 0);
    len = (size_t)avro_writer_tell(writer);
    if (decoder_decode(p->decoder, slice_of(theirs, len), &tape, &e) != RC_OK)
        fail_msg("seed %d: %s", (int)seed, e.text);
    assert_int_equal(
        encoder_encode(p->ours, &tape, ours, sizeof ours, &used, &e), RC_OK);
    reader = avro_reader_memory((const char *)ours, (int64_t)used);
    assert_int_equal(avro_value_read(reader, &again), 0);
    assert_true(avro_value_equal(&value, &again));
    avro_reader_free(reader);
    avro_writer_free(writer);
    avro_value_decref(&value);
    avro_value_decref(&again);
}

static void test_values(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof SCHEMAS / sizeof SCHEMAS[0]; s++) {
        struct pair p;
        pair_open(&p, SCHEMAS[s]);
        for (uint64_t i = 0; i < VALUES; i++)
            value_check(&p, i);
        pair_close(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
