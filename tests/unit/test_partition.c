/* Goal: keys go to the partition that Kafka's Java producer would choose.
 * Method: the values that Kafka's own tests hold murmur2 to; partitions of
 * them worked out by hand; librdkafka's murmur2 partitioner as an oracle on
 * keys of every length up to 64. */
#include <librdkafka/rdkafka.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "hash.h"
#include "partition.h"

static const struct {
    const char *key;
    int32_t hash;
} KNOWN[] = {
    {"21", -973932308},
    {"foobar", -790332482},
    {"a-little-bit-long-string", -985981536},
    {"a-little-bit-longer-string", -1486304829},
    {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
    {"abc", 479470107},
};

static void test_known_hashes(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        assert_int_equal((int32_t)partition_murmur2(slice_str(KNOWN[i].key)),
                         KNOWN[i].hash);
}

static void test_negative_hash_is_made_positive(void **unused)
{
    (void)unused;
    /* -973932308 & 0x7fffffff = 1173551340; abs() would give another one. */
    assert_int_equal(partition_of(slice_str("21"), 1000), 340);
    assert_int_equal(partition_of(slice_str("abc"), 8), 479470107 % 8);
    assert_int_equal(partition_of(slice_str("abc"), 1), 0);
}

static void test_agrees_with_librdkafka(void **unused)
{
    uint8_t key[64];
    (void)unused;
    for (uint32_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)draw(7, i, 0);
    for (size_t len = 1; len <= sizeof key; len++)
        for (int32_t count = 1; count <= 64; count += 7)
            assert_int_equal(partition_of(slice_of(key, len), (uint32_t)count),
                             rd_kafka_msg_partitioner_murmur2(
                                 NULL, key, len, count, NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_hashes),
        cmocka_unit_test(test_negative_hash_is_made_positive),
        cmocka_unit_test(test_agrees_with_librdkafka),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
