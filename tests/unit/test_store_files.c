/* test_store_files.c - goal: a log that does not go on where the one before
 * it ends is found, and a torn end at the end is not taken for one.
 * Method: logs of batches written by hand in RocksDB's framing. What the
 * check says of real files, whole and harmed, is in test_store.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "bytes.h"
#include "store_inside.h"

enum { BLOCK = 32768, TYPE_FULL = 1, TYPE_FIRST = 2, TYPE_LAST = 4 };

static struct store g_store;

static FILE *open_log(int number)
{
    char path[PATH_MAX_BYTES + 64];
    FILE *file;
    (void)snprintf(path, sizeof path, "%s/rocksdb/%06d.log", g_store.dir,
                   number);
    file = fopen(path, "w");
    assert_non_null(file);
    return file;
}

static void put_fragment(FILE *file, uint8_t type, const uint8_t *bytes,
                         size_t len)
{
    uint8_t head[7] = {0}; /* RocksDB looks at the checksum itself */
    head[4] = (uint8_t)len;
    head[5] = (uint8_t)(len >> 8);
    head[6] = type;
    assert_int_equal(fwrite(head, 1, sizeof head, file), sizeof head);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
}

static void put_batch(FILE *file, uint64_t first, uint32_t count)
{
    uint8_t bytes[40] = {0};
    (void)put_u32(put_u64(bytes, first), count);
    put_fragment(file, TYPE_FULL, bytes, sizeof bytes);
}

static enum rc check(struct err *e)
{
    return store_files_check(&g_store, e);
}

static void test_logs_that_follow(void **state)
{
    FILE *a = open_log(8), *b = open_log(12);
    struct err e;
    (void)state;
    put_batch(a, 100, 3);
    put_batch(a, 103, 1);
    put_batch(b, 104, 7);
    assert_int_equal(fclose(a) | fclose(b), 0);
    assert_int_equal(check(&e), RC_OK);
    (void)fclose(open_log(9)); /* one that holds nothing */
    assert_int_equal(check(&e), RC_OK);
}

static void test_a_gap_between_logs(void **state)
{
    FILE *a = open_log(8), *b = open_log(12);
    struct err e;
    (void)state;
    put_batch(a, 100, 3);
    put_batch(b, 104, 7);
    assert_int_equal(fclose(a) | fclose(b), 0);
    assert_int_equal(check(&e), RC_SKIP);
    assert_non_null(strstr(e.text, "000012.log"));
}

/* A torn end is what a machine leaves that dies; one before another log, from
 * which something is missing, is not. */
static void test_torn_ends(void **state)
{
    static const uint8_t GARBAGE[] = {1, 2, 3, 4, 0xff, 0x7f, 1, 5, 6};
    FILE *a = open_log(8), *b = open_log(12);
    struct err e;
    (void)state;
    put_batch(a, 100, 3);
    put_batch(b, 103, 1);
    (void)fwrite(GARBAGE, 1, sizeof GARBAGE, b);
    assert_int_equal(fclose(a) | fclose(b), 0);
    assert_int_equal(check(&e), RC_OK);
    a = open_log(8);
    put_batch(a, 100, 2);
    (void)fwrite(GARBAGE, 1, sizeof GARBAGE, a); /* it was the third */
    assert_int_equal(fclose(a), 0);
    assert_int_equal(check(&e), RC_SKIP);
}

/* A record over several blocks, and one whose first part is shorter than what
 * is to be read of it. */
static void test_fragments(void **state)
{
    static uint8_t big[BLOCK];
    FILE *a = open_log(8), *b = open_log(12);
    struct err e;
    (void)state;
    (void)put_u32(put_u64(big, 100), 3);
    put_fragment(a, TYPE_FIRST, big, BLOCK - 7);
    put_fragment(a, TYPE_LAST, big, BLOCK - 7 - 7 - 5);
    (void)put_u32(put_u64(big, 103), 2);
    put_fragment(a, TYPE_FIRST, big, 5); /* to the end of the second block */
    put_fragment(a, TYPE_LAST, big + 5, 35);
    put_batch(b, 105, 1);
    assert_int_equal(fclose(a) | fclose(b), 0);
    assert_int_equal(check(&e), RC_OK);
    b = open_log(12);
    put_batch(b, 106, 1);
    assert_int_equal(fclose(b), 0);
    assert_int_equal(check(&e), RC_SKIP);
}

static int make_dir(void **state)
{
    char path[PATH_MAX_BYTES + 64];
    (void)state;
    (void)snprintf(g_store.dir, sizeof g_store.dir,
                   "/tmp/millrace-files-XXXXXX");
    if (!mkdtemp(g_store.dir)) return -1;
    (void)snprintf(path, sizeof path, "mkdir '%s/rocksdb'", g_store.dir);
    return system(path);
}

static int remove_dir(void **state)
{
    char path[PATH_MAX_BYTES + 64];
    (void)state;
    (void)snprintf(path, sizeof path, "rm -rf '%s'", g_store.dir);
    return system(path);
}

int main(void)
{
#define TEST(function)                                                         \
    cmocka_unit_test_setup_teardown(function, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(test_logs_that_follow),
        TEST(test_a_gap_between_logs),
        TEST(test_torn_ends),
        TEST(test_fragments),
    };
    return cmocka_run_group_tests_name("store files", tests, NULL, NULL);
}
