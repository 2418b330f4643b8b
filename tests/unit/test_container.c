/* Goal: a container file gives back the values that were put in, whatever
 * codec; a damaged one stops with its place; a file is whole or absent.
 * Method: files of every codec written and read in a folder of their own,
 * then cut off at every byte and changed at every byte. That other programs
 * read ours and we read theirs is tests/support/container_oracle.py's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "container.h"

static struct err g_e;
static char g_dir[] = "/tmp/millrace-container-XXXXXX";
static char g_path[128], g_part[160];

static int dir_make(void **state)
{
    (void)state;
    if (!mkdtemp(g_dir)) return -1;
    (void)snprintf(g_path, sizeof g_path, "%s/file.avro", g_dir);
    (void)snprintf(g_part, sizeof g_part, "%s.part", g_path);
    return 0;
}

static int dir_remove(void **state)
{
    (void)state;
    (void)unlink(g_path);
    (void)unlink(g_part);
    return rmdir(g_dir);
}

static struct schema *string_schema(void)
{
    struct schema *s;
    assert_int_equal(schema_parse(&s, slice_str("\"string\""), &g_e), RC_OK);
    return s;
}

/* Value number i: a string of len bytes, encoded. */
static size_t value_make(uint8_t *out, uint32_t i, uint32_t len)
{
    size_t used = 0;
    for (uint32_t bits = len * 2;; bits >>= 7) {
        out[used++] = (uint8_t)((bits & 0x7f) | (bits > 0x7f ? 0x80 : 0));
        if (bits <= 0x7f) break;
    }
    for (uint32_t k = 0; k < len; k++)
        out[used++] = (uint8_t)('a' + (i * 7 + k * k) % 26);
    return used;
}

static void file_write(const char *codec, uint32_t count, uint32_t len)
{
    struct schema *s = string_schema();
    struct container_writer *w;
    uint8_t *bytes = malloc(len + 16);
    assert_int_equal(container_create(&w, g_path, s, codec, &g_e), RC_OK);
    for (uint32_t i = 0; i < count; i++) {
        size_t used = value_make(bytes, i, len);
        assert_int_equal(container_append(w, slice_of(bytes, used), &g_e),
                         RC_OK);
    }
    assert_int_equal(container_finish(w, &g_e), RC_OK);
    free(bytes);
    schema_free(s);
}

/* Values until the end or a fault. */
static enum rc file_read(uint32_t *count, uint32_t len)
{
    struct container_reader *r;
    uint8_t *bytes = malloc(len + 16);
    enum rc rc = container_open(&r, g_path, &g_e);
    bool ended = false;
    *count = 0;
    while (rc == RC_OK) {
        struct slice value;
        rc = container_next(r, &value, &ended, &g_e);
        if (rc != RC_OK || ended) break;
        if (len) {
            size_t used = value_make(bytes, *count, len);
            assert_int_equal(value.len, used);
            assert_memory_equal(value.ptr, bytes, used);
        }
        (*count)++;
    }
    if (r) container_close(r);
    free(bytes);
    return rc;
}

static void test_round_trip(void **state)
{
    static const char *const CODECS[] = {"null", "deflate", "zstandard"};
    static const uint32_t SIZES[][2] = {
        {0, 10}, {1, 10}, {20000, 10}, {3, 100000}, {1, 1 << 20}};
    (void)state;
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
            uint32_t count;
            file_write(CODECS[c], SIZES[i][0], SIZES[i][1]);
            assert_int_equal(access(g_part, F_OK), -1);
            assert_int_equal(file_read(&count, SIZES[i][1]), RC_OK);
            assert_int_equal(count, SIZES[i][0]);
        }
}

static uint8_t *file_load(size_t *len)
{
    FILE *file = fopen(g_path, "rb");
    uint8_t *bytes = malloc(1 << 20);
    assert_non_null(file);
    *len = fread(bytes, 1, 1 << 20, file);
    (void)fclose(file);
    return bytes;
}

static void file_store(const uint8_t *bytes, size_t len)
{
    FILE *file = fopen(g_path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* A file cut off is either one with fewer blocks, or an error. */
static void test_every_truncation(void **state)
{
    static const char *const CODECS[] = {"null", "deflate", "zstandard"};
    (void)state;
    for (size_t c = 0; c < 3; c++) {
        size_t len;
        uint32_t whole = 0, count;
        uint8_t *bytes;
        file_write(CODECS[c], 3, 30);
        bytes = file_load(&len);
        for (size_t cut = 0; cut < len; cut++) {
            file_store(bytes, cut);
            if (file_read(&count, 30) == RC_OK) {
                assert_int_equal(count, 0);
                whole++;
            } else {
                assert_int_equal(g_e.rc, RC_STOP);
                assert_non_null(strstr(g_e.text, g_path));
            }
        }
        assert_int_equal(whole, 1); /* right behind the head */
        free(bytes);
    }
}

static void test_every_change(void **state)
{
    static const char *const CODECS[] = {"null", "deflate", "zstandard"};
    (void)state;
    for (size_t c = 0; c < 3; c++) {
        size_t len;
        uint32_t count, failed = 0;
        uint8_t *bytes;
        file_write(CODECS[c], 3, 30);
        bytes = file_load(&len);
        for (size_t at = 0; at < len; at++)
            for (uint32_t bit = 0; bit < 8; bit += 3) {
                bytes[at] ^= (uint8_t)(1u << bit);
                file_store(bytes, len);
                failed += file_read(&count, 0) != RC_OK;
                bytes[at] ^= (uint8_t)(1u << bit);
            }
        /* A changed letter of a string goes unseen; magic, marker, codec
         * name and sizes do not. */
        assert_true(failed > 3 * 40);
        free(bytes);
    }
}

static void test_same_file_twice(void **state)
{
    uint8_t *first, *second;
    size_t first_len, second_len;
    (void)state;
    file_write("zstandard", 5000, 20);
    first = file_load(&first_len);
    file_write("zstandard", 5000, 20);
    second = file_load(&second_len);
    assert_int_equal(first_len, second_len);
    assert_memory_equal(first, second, first_len);
    free(first);
    free(second);
}

static void test_whole_or_absent(void **state)
{
    struct schema *s = string_schema();
    struct container_writer *w;
    (void)state;
    (void)unlink(g_path);
    assert_int_equal(container_create(&w, g_path, s, "null", &g_e), RC_OK);
    assert_int_equal(container_append(w, slice_of("\x02x", 2), &g_e), RC_OK);
    assert_int_equal(access(g_path, F_OK), -1);
    container_abandon(w);
    assert_int_equal(access(g_path, F_OK), -1);
    assert_int_equal(access(g_part, F_OK), -1);
    assert_int_equal(container_create(&w, g_path, s, "snappy", &g_e), RC_STOP);
    assert_null(w);
    assert_int_equal(container_create(&w, "/no/such/folder/f", s, "null", &g_e),
                     RC_STOP);
    schema_free(s);
}

static void test_blocks_are_counted(void **state)
{
    struct container_reader *r;
    struct slice value;
    bool ended = false;
    uint64_t blocks = 0, done = 0, total = 0;
    uint32_t count = 0;
    (void)state;
    file_write("null", 20000, 10);
    assert_int_equal(container_open(&r, g_path, &g_e), RC_OK);
    assert_int_equal(container_block(r), 0);
    for (;;) {
        assert_int_equal(container_next(r, &value, &ended, &g_e), RC_OK);
        if (ended) break;
        assert_true(container_block(r) >= blocks);
        blocks = container_block(r);
        count++;
    }
    assert_true(blocks > 1);
    assert_int_equal(count, 20000);
    container_progress(r, &done, &total);
    assert_true(done == total && total > 200000);
    container_close(r);
}

/* A head by hand: the schema "null", the codec given, then one block. */
static void bomb_write(const char *codec, const void *block, size_t len)
{
    static uint8_t bytes[96 << 10];
    size_t used = 0;
    const char *schema = "\"null\"";
    memcpy(bytes,
           "Obj\x01\x04\x16"
           "avro.schema\x0c",
           18);
    used = 18;
    memcpy(bytes + used, schema, 6);
    used += 6;
    memcpy(bytes + used,
           "\x14"
           "avro.codec",
           11);
    used += 11;
    bytes[used++] = (uint8_t)(2 * strlen(codec));
    memcpy(bytes + used, codec, strlen(codec));
    used += strlen(codec);
    bytes[used++] = 0;
    memset(bytes + used, 's', 16);
    used += 16;
    memcpy(bytes + used, block, len);
    used += len;
    memset(bytes + used, 's', 16);
    used += 16;
    file_store(bytes, used);
}

static void test_hostile_blocks(void **state)
{
    uint32_t count;
    (void)state;
    bomb_write("null", "\x06\x00", 2); /* three nulls, no bytes */
    assert_int_equal(file_read(&count, 0), RC_OK);
    assert_int_equal(count, 3);
    /* More values than a block may have, negative counts and sizes, a size
     * beyond the limit, bytes left over. */
    bomb_write("null", "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", 11);
    assert_int_equal(file_read(&count, 0), RC_STOP);
    bomb_write("null", "\x01\x00", 2);
    assert_int_equal(file_read(&count, 0), RC_STOP);
    bomb_write("null", "\x02\x01", 2);
    assert_int_equal(file_read(&count, 0), RC_STOP);
    bomb_write("null", "\x02\xfe\xff\xff\xff\x0f", 6);
    assert_int_equal(file_read(&count, 0), RC_STOP);
    bomb_write("null", "\x02\x02x", 3);
    assert_int_equal(file_read(&count, 0), RC_STOP);
    bomb_write("lzma", "\x02\x00", 2);
    assert_int_equal(file_read(&count, 0), RC_STOP);
    assert_non_null(strstr(g_e.text, "lzma"));
    bomb_write("deflate", "\x02\x06xyz", 5);
    assert_int_equal(file_read(&count, 0), RC_STOP);
    bomb_write("zstandard", "\x02\x06xyz", 5);
    assert_int_equal(file_read(&count, 0), RC_STOP);
}

static size_t varint_put(uint8_t *out, uint64_t value)
{
    size_t used = 0;
    for (value *= 2; value > 0x7f; value >>= 7)
        out[used++] = (uint8_t)(value | 0x80);
    out[used++] = (uint8_t)value;
    return used;
}

/* plain_len zero bytes, packed by the libraries themselves. */
static size_t packed_zeros(const char *codec, uint8_t *out, size_t size,
                           size_t plain_len)
{
    uint8_t *plain = calloc(1, plain_len);
    size_t used;
    if (strcmp(codec, "deflate") == 0) {
        z_stream z = {.next_in = plain,
                      .avail_in = (uInt)plain_len,
                      .next_out = out,
                      .avail_out = (uInt)size};
        assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, 0), Z_OK);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        used = size - z.avail_out;
        (void)deflateEnd(&z);
    } else {
        used = ZSTD_compress(out, size, plain, plain_len, 3);
        assert_false(ZSTD_isError(used));
    }
    free(plain);
    return used;
}

/* A few kilobytes that unpack to more than a block may hold are refused; at
 * the limit they unpack, and fail only since "null" values have no bytes. */
static void test_bomb(void **state)
{
    static const char *const CODECS[] = {"deflate", "zstandard"};
    static uint8_t packed[64 << 10], block[80 << 10];
    (void)state;
    for (size_t c = 0; c < 2; c++)
        for (size_t over = 0; over < 2; over++) {
            size_t len = packed_zeros(CODECS[c], packed, sizeof packed,
                                      CONTAINER_BLOCK_MAX + over);
            size_t used = varint_put(block, 1);
            uint32_t count;
            used += varint_put(block + used, len);
            memcpy(block + used, packed, len);
            bomb_write(CODECS[c], block, used + len);
            assert_int_equal(file_read(&count, 0), RC_STOP);
            assert_non_null(
                strstr(g_e.text, over ? "a block of over" : "left over"));
        }
}

static void test_value_too_large(void **state)
{
    struct schema *s = string_schema();
    struct container_writer *w;
    uint8_t *bytes = calloc(1, CONTAINER_BLOCK_MAX + 1);
    (void)state;
    assert_int_equal(container_create(&w, g_path, s, "null", &g_e), RC_OK);
    assert_int_equal(
        container_append(w, slice_of(bytes, CONTAINER_BLOCK_MAX + 1), &g_e),
        RC_SKIP);
    container_abandon(w);
    free(bytes);
    schema_free(s);
}

static void test_no_container(void **state)
{
    uint32_t count;
    (void)state;
    file_store((const uint8_t *)"plain text", 10);
    assert_int_equal(file_read(&count, 0), RC_STOP);
    assert_non_null(strstr(g_e.text, "not an Avro container"));
    (void)unlink(g_path);
    assert_int_equal(file_read(&count, 0), RC_STOP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_change),
        cmocka_unit_test(test_same_file_twice),
        cmocka_unit_test(test_whole_or_absent),
        cmocka_unit_test(test_blocks_are_counted),
        cmocka_unit_test(test_hostile_blocks),
        cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_value_too_large),
        cmocka_unit_test(test_no_container),
    };
    return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
