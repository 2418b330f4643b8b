/* Goal    What is written is read back bit for bit, here and by the Python
 *         package; nothing broken is believed.
 * Method  A small file is made in memory and damaged in every way the header
 *         names; each must be refused with a text that says what is wrong.
 *         Every truncation of a good file is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "safetensors.h"

static const float values[6] = {0.0f, 1.5f, -2.25f, 3e-30f, 1e30f, -7.0f};
static const int32_t counts[2] = {-5, 2000000000};

static const char *write_sample(void)
{
    static const char *path = "test_safetensors.tmp";
    struct stored_tensor tensors[] = {
        {.name = "layer.weight",
         .type = TENSOR_F32,
         .dims = 2,
         .shape = {2, 3},
         .data = values,
         .bytes = sizeof values},
        {.name = "empty",
         .type = TENSOR_F32,
         .dims = 1,
         .shape = {0},
         .data = values,
         .bytes = 0},
        {.name = "counts",
         .type = TENSOR_I32,
         .dims = 1,
         .shape = {2},
         .data = counts,
         .bytes = sizeof counts},
    };
    struct err e;
    assert_int_equal(safetensors_write(path, tensors, 3, &e), RC_OK);
    return path;
}

static void test_round_trip(void **state)
{
    const char *path = write_sample();
    struct safetensors *s;
    struct err e;
    const struct stored_tensor *t;
    (void)state;
    assert_int_equal(safetensors_read(&s, path, &e), RC_OK);
    assert_int_equal(safetensors_count(s), 3);
    t = safetensors_find(s, "layer.weight");
    assert_non_null(t);
    assert_int_equal(t->dims, 2);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal((uintptr_t)safetensors_at(s, 0)->data % 64, 0);
    assert_memory_equal(t->data, values, sizeof values);
    t = safetensors_find(s, "counts");
    assert_non_null(t);
    assert_memory_equal(t->data, counts, sizeof counts);
    assert_null(safetensors_find(s, "count"));
    safetensors_free(s);
    (void)unlink(path);
}

static void test_absent_file(void **state)
{
    struct safetensors *s;
    struct err e;
    (void)state;
    assert_int_equal(safetensors_read(&s, "no/such/file", &e), RC_STOP);
    assert_non_null(strstr(e.text, "no/such/file"));
}

/* A file of this header and data_bytes of zeros but for fill. */
static enum rc parse_made(const char *header, size_t data_bytes, uint8_t fill,
                          struct err *e)
{
    size_t length = strlen(header);
    uint8_t *file = malloc(8 + length + data_bytes);
    struct safetensors *s;
    enum rc rc;
    assert_non_null(file);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)(length >> (8 * i));
    memcpy(file + 8, header, length);
    memset(file + 8 + length, fill, data_bytes);
    rc = safetensors_parse(&s, slice_of(file, 8 + length + data_bytes), e);
    if (rc == RC_OK) safetensors_free(s);
    free(file);
    return rc;
}

#define T(dtype, shape, begin, end)                                            \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin   \
    "," #end "]}"

static const struct {
    const char *header;
    size_t data_bytes;
    uint8_t fill;
    const char *says; /* NULL: it is good */
} cases[] = {
    {"{\"a\":" T("F32", "[2]", 0, 8) "}", 8, 0, NULL},
    {"{\"a\":" T("F32", "[]", 0, 4) "}", 4, 0, NULL},
    {"{\"a\":" T("F32", "[2]", 0, 8) "}", 4, 0, "truncated"},
    {"{\"a\":" T("F32", "[2]", 0, 8) "}", 12, 0, "after the last tensor"},
    {"{\"a\":" T("F32", "[3]", 0, 8) "}", 8, 0, "its shape needs 12"},
    {"{\"a\":" T("F32", "[-2]", 0, 8) "}", 8, 0, "not a size"},
    {"{\"a\":" T("F32", "[2.0]", 0, 8) "}", 8, 0, "not a size"},
    {"{\"a\":" T("F32", "[4611686018427387904,16]", 0, 8) "}", 8, 0,
     "overflows"},
    {"{\"a\":" T("F32", "[1,1,1,1,2]", 0, 8) "}", 8, 0, "5 dimensions"},
    {"{\"a\":" T("F33", "[2]", 0, 8) "}", 8, 0, "unknown dtype F33"},
    {"{\"a\":" T("F32", "[2]", 8, 0) "}", 8, 0, "damaged"},
    {"{\"a\":" T("F32", "[2]", -8, 0) "}", 8, 0, "damaged"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, 0, "no data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, 0, "no shape"},
    {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, 0, "no dtype"},
    {"{\"a\":" T("F32", "[2]", 0, 8) ",\"a\":" T("F32", "[2]", 8, 16) "}", 16,
     0, "duplicate"},
    {"{\"a\":" T("F32", "[2]", 0, 8) ",\"b\":" T("F32", "[2]", 4, 12) "}", 12,
     0, "overlaps"},
    {"{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 8, 12) "}", 12,
     0, "a hole"},
    {"{\"a\":" T("U8", "[1]", 0, 1) ",\"b\":" T("F32", "[1]", 1, 5) "}", 5, 0,
     "not aligned"},
    {"{\"a\":" T("F32", "[2]", 0, 8) "}", 8, 0xff, "2 of 2 values not finite"},
    {"{\"a\":" T("BF16", "[2]", 0, 4) "}", 4, 0xff, "not finite"},
    {"{\"a\":" T("F16", "[2]", 0, 4) "}", 4, 0xff, "not finite"},
    {"{\"a\":" T("F64", "[1]", 0, 8) "}", 8, 0xff, "not finite"},
    {"{\"a\":" T("I64", "[1]", 0, 8) "}", 8, 0xff, NULL},
    {"{\"a\":3}", 0, 0, "no dtype"},
    {"[]", 0, 0, "not a JSON object"},
    {"{\"a\":", 0, 0, "header"},
};

static void test_broken_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {.text = ""};
        enum rc rc =
            parse_made(cases[i].header, cases[i].data_bytes, cases[i].fill, &e);
        if (!cases[i].says) {
            assert_int_equal(rc, RC_OK);
            continue;
        }
        if (rc != RC_STOP || !strstr(e.text, cases[i].says))
            fail_msg("%s: says \"%s\"", cases[i].header, e.text);
    }
}

static void test_every_truncation(void **state)
{
    const char *path = write_sample();
    FILE *file = fopen(path, "rb");
    uint8_t bytes[1024];
    size_t size;
    (void)state;
    assert_non_null(file);
    size = fread(bytes, 1, sizeof bytes, file);
    (void)fclose(file);
    assert_true(size > 100 && size < sizeof bytes);
    for (size_t cut = 0; cut < size; cut++) {
        struct safetensors *s;
        struct err e;
        assert_int_equal(safetensors_parse(&s, slice_of(bytes, cut), &e),
                         RC_STOP);
        assert_null(s);
    }
    (void)unlink(path);
}

static void test_huge_header_is_not_believed(void **state)
{
    uint8_t bytes[16];
    struct safetensors *s;
    struct err e;
    (void)state;
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(safetensors_parse(&s, slice_of(bytes, 16), &e), RC_STOP);
    assert_non_null(strstr(e.text, "at most"));
}

static const char *python(void)
{
    const char *path = getenv("MILLRACE_PYTHON");
    if (!path) path = SOURCE_DIR "/.venv/bin/python3";
    return access(path, X_OK) == 0 ? path : NULL;
}

static void test_python_reads_it(void **state)
{
    char command[1024];
    const char *path;
    (void)state;
    if (!python()) {
        print_message("no Python: ops/test makes .venv\n");
        skip();
    }
    path = write_sample();
    (void)snprintf(
        command, sizeof command,
        "%s -c \"from safetensors.numpy import load_file; import numpy as n; "
        "t = load_file('%s'); "
        "assert sorted(t) == ['counts', 'empty', 'layer.weight']; "
        "assert t['layer.weight'].shape == (2, 3); "
        "assert t['layer.weight'].ravel().tolist() == "
        "n.array([0, 1.5, -2.25, 3e-30, 1e30, -7], n.float32).tolist(); "
        "assert t['counts'].tolist() == [-5, 2000000000]\"",
        python(), path);
    assert_int_equal(system(command), 0);
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_absent_file),
        cmocka_unit_test(test_broken_headers),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_huge_header_is_not_believed),
        cmocka_unit_test(test_python_reads_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
