/* test_family_meta.c - goal: what says where a family stands comes back as it
 * was, and nothing damaged is believed.
 * Method: encode and decode; every truncation and every flipped bit; the
 * bytes of versions 1 and 2, which are read forever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <xxhash.h>

#include "bytes.h"
#include "family_meta.h"

static const struct family_meta META = {
    .cluster_id = "cluster-1",
    .shape = "history.events=16",
    .partitions = 8,
    .checkpoint = 100,
    .applied = 200,
    .released_ms = 1600000000000,
    .seen_offset = 198,
    .seen_hash = 0xfedcba9876543210u,
    .changelog_next = 77,
    .unsent = true,
    .label_checkpoint = 30,
    .label_applied = 40,
};

static void expect_meta(const struct family_meta *got)
{
    assert_string_equal(got->cluster_id, META.cluster_id);
    assert_string_equal(got->shape, META.shape);
    assert_int_equal(got->partitions, META.partitions);
    assert_int_equal(got->checkpoint, META.checkpoint);
    assert_int_equal(got->applied, META.applied);
    assert_int_equal(got->released_ms, META.released_ms);
}

static void test_round_trip(void **state)
{
    uint8_t bytes[FAMILY_META_BYTES_MAX];
    struct family_meta got;
    struct err e;
    (void)state;
    for (int unsent = 0; unsent < 2; unsent++) {
        struct family_meta m = META;
        size_t size;
        m.unsent = unsent;
        size = family_meta_encode(&m, bytes);
        assert_int_equal(
            family_meta_decode(&got, "f", slice_of(bytes, size), &e), RC_OK);
        expect_meta(&got);
        assert_int_equal(got.seen_offset, META.seen_offset);
        assert_true(got.seen_hash == META.seen_hash);
        assert_int_equal(got.changelog_next, META.changelog_next);
        assert_int_equal(got.unsent, unsent);
        assert_int_equal(got.label_checkpoint, META.label_checkpoint);
        assert_int_equal(got.label_applied, META.label_applied);
    }
}

static void test_longest_texts(void **state)
{
    uint8_t bytes[FAMILY_META_BYTES_MAX];
    struct family_meta m = META, got;
    struct err e;
    size_t size;
    (void)state;
    memset(m.cluster_id, 'c', STORE_TEXT_MAX - 1);
    memset(m.shape, 's', STORE_TEXT_MAX - 1);
    size = family_meta_encode(&m, bytes);
    assert_in_range(size, 1, sizeof bytes);
    assert_int_equal(family_meta_decode(&got, "f", slice_of(bytes, size), &e),
                     RC_OK);
    assert_string_equal(got.shape, m.shape);
}

static void test_damage_is_found(void **state)
{
    uint8_t bytes[FAMILY_META_BYTES_MAX];
    struct family_meta got;
    struct err e;
    size_t size = family_meta_encode(&META, bytes);
    (void)state;
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(
            family_meta_decode(&got, "f", slice_of(bytes, cut), &e), RC_STOP);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(
            family_meta_decode(&got, "f", slice_of(bytes, size), &e), RC_STOP);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(family_meta_decode(&got, "f", slice_of(bytes, size), &e),
                     RC_OK);
}

/* A store of version 1 has seen no record, and no changelog has its rows. */
static void test_version_1(void **state)
{
    uint8_t bytes[FAMILY_META_BYTES_MAX], *to = put_u8(bytes, 1);
    struct family_meta got;
    struct err e;
    (void)state;
    to = put_bytes(put_u32(to, 9), slice_str("cluster-1"));
    to = put_bytes(put_u32(to, 17), slice_str("history.events=16"));
    to = put_u32(to, 8);
    to = put_i64(put_i64(to, 100), 200);
    to = put_i64(to, 1600000000000);
    to = put_u64(to, XXH3_64bits(bytes, (size_t)(to - bytes)));
    assert_int_equal(family_meta_decode(
                         &got, "f", slice_of(bytes, (size_t)(to - bytes)), &e),
                     RC_OK);
    expect_meta(&got);
    assert_int_equal(got.seen_offset, -1);
    assert_int_equal(got.changelog_next, -1);
    assert_true(got.unsent);
    assert_false(family_meta_is_newer(slice_of(bytes, (size_t)(to - bytes))));
    bytes[0] = 4; /* a flipped bit, not another version */
    assert_false(family_meta_is_newer(slice_of(bytes, (size_t)(to - bytes))));
    (void)put_u64(to - 8, XXH3_64bits(bytes, (size_t)(to - bytes) - 8));
    assert_true(family_meta_is_newer(slice_of(bytes, (size_t)(to - bytes))));
    assert_int_equal(family_meta_decode(
                         &got, "f", slice_of(bytes, (size_t)(to - bytes)), &e),
                     RC_STOP);
    assert_non_null(strstr(e.text, "version 4"));
}

/* One of version 2 has rows that hold no label. */
static void test_version_2(void **state)
{
    uint8_t bytes[FAMILY_META_BYTES_MAX];
    struct family_meta got;
    struct err e;
    size_t size = family_meta_encode(&META, bytes) - 2 * 8;
    (void)state;
    bytes[0] = 2;
    (void)put_u64(bytes + size - 8, XXH3_64bits(bytes, size - 8));
    assert_int_equal(family_meta_decode(&got, "f", slice_of(bytes, size), &e),
                     RC_OK);
    expect_meta(&got);
    assert_int_equal(got.seen_offset, META.seen_offset);
    assert_true(got.unsent);
    assert_int_equal(got.label_checkpoint, 0);
    assert_int_equal(got.label_applied, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_longest_texts),
        cmocka_unit_test(test_damage_is_found),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_version_2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
