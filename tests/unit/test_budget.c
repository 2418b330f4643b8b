/* test_budget.c - goal: what the options may ask for is added up, and refused
 * where it cannot be had.
 * Method: each option that bounds memory is doubled alone: the sum grows by
 * what the option says for all workers. That a run stays below the sum is
 * seen end to end (test_limits.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "budget.h"
#include "kafka_client.h"

static struct config *config_of(const char *const *sets, uint32_t count)
{
    struct config *c;
    struct err e;
    if (config_load(&c, NULL, sets, count, &e) != RC_OK) fail_msg("%s", e.text);
    return c;
}

static uint64_t sum_of(const char *a, const char *b)
{
    const char *sets[] = {a, b};
    struct config *c = config_of(sets, b ? 2 : 1);
    struct budget sum;
    uint64_t lines = 0;
    budget_add_up(&sum, c);
    for (uint32_t i = 0; i < sum.count; i++)
        lines += sum.lines[i].bytes;
    assert_int_equal(lines, sum.total);
    config_free(c);
    return sum.total;
}

static void test_every_bound_counts(void **state)
{
    static const struct {
        const char *once, *twice;
        uint64_t mib; /* by which the sum grows, with two workers */
    } BOUNDS[] = {
        {"state.cache=256MiB", "state.cache=512MiB", 320},
        {"state.store.memory=64MiB", "state.store.memory=128MiB", 64},
        {"model.cache=64MiB", "model.cache=128MiB", 128},
        {"input.queue=16MiB", "input.queue=32MiB", 64},
        {"output.queue=16MiB", "output.queue=32MiB", 48},
        {"kafka.consumer.queued.max.messages.kbytes=1024",
         "kafka.consumer.queued.max.messages.kbytes=2048", 4},
        {"kafka.queue.buffering.max.kbytes=2048",
         "kafka.queue.buffering.max.kbytes=4096", 6},
        {"record.bytes.max=1MiB", "record.bytes.max=2MiB", 6},
        {"standby.replicas=0", "standby.replicas=2", 32},
    };
    (void)state;
    for (size_t i = 0; i < sizeof BOUNDS / sizeof *BOUNDS; i++)
        assert_int_equal(sum_of("workers=2", BOUNDS[i].twice) -
                             sum_of("workers=2", BOUNDS[i].once),
                         BOUNDS[i].mib << 20);
    assert_int_equal(sum_of("schemas.dir=s", "registry.url=http://h") -
                         sum_of("schemas.dir=s", NULL),
                     80 << 20);
    assert_true(sum_of("workers=3", NULL) - sum_of("workers=2", NULL) ==
                sum_of("workers=2", NULL) - sum_of("workers=1", NULL));
    assert_true(sum_of("workers=2", NULL) > sum_of("workers=1", NULL));
}

/* Rows of a batch that are larger than the cache count in its place. */
static void test_large_rows(void **state)
{
    const char *sets[] = {"history.events=65536", "batch.events.max=1024"};
    struct config *c = config_of(sets, 2);
    struct budget b;
    (void)state;
    budget_add_up(&b, c);
    assert_true(b.row_bytes > 65536u * 60);
    assert_true(b.lines[0].bytes > 1024 * b.row_bytes);
    config_free(c);
}

static void test_refused(void **state)
{
    char at[64], below[64];
    const char *sets[1] = {at};
    struct config *c;
    struct budget b;
    struct err e;
    uint64_t total = sum_of("memory.max=0", NULL);
    (void)state;
    (void)snprintf(at, sizeof at, "memory.max=%llu", (unsigned long long)total);
    (void)snprintf(below, sizeof below, "memory.max=%llu",
                   (unsigned long long)total - 1);
    c = config_of(sets, 1);
    budget_add_up(&b, c);
    assert_int_equal(budget_check(&b, c, &e), RC_OK);
    config_free(c);
    sets[0] = below;
    c = config_of(sets, 1);
    budget_add_up(&b, c);
    assert_int_equal(budget_check(&b, c, &e), RC_STOP);
    assert_non_null(strstr(e.text, "state.cache"));
    assert_non_null(strstr(e.text, "explain memory.max"));
    config_free(c);
}

/* librdkafka is given the bounds, and kafka.* comes before them. */
static void test_queues_are_bounded(void **state)
{
    const char *sets[] = {"kafka.bootstrap.servers=none:1", "input.queue=3MiB",
                          "output.queue=5MiB",
                          "kafka.producer.queue.buffering.max.messages=77"};
    struct config *c = config_of(sets, 4);
    static const struct {
        enum kafka_role role;
        const char *key, *value;
    } WANTED[] = {
        {KAFKA_CONSUMER, "queued.max.messages.kbytes", "3072"},
        {KAFKA_CONSUMER, "fetch.max.bytes", "3145728"},
        {KAFKA_PRODUCER, "queue.buffering.max.kbytes", "5120"},
        {KAFKA_PRODUCER, "queue.buffering.max.messages", "77"},
    };
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof WANTED / sizeof *WANTED; i++) {
        rd_kafka_conf_t *conf;
        char value[64];
        size_t size = sizeof value;
        assert_int_equal(
            kafka_conf_new(&conf, c, WANTED[i].role, NULL, NULL, &e), RC_OK);
        assert_int_equal(rd_kafka_conf_get(conf, WANTED[i].key, value, &size),
                         RD_KAFKA_CONF_OK);
        assert_string_equal(value, WANTED[i].value);
        rd_kafka_conf_destroy(conf);
    }
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bound_counts),
        cmocka_unit_test(test_large_rows),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_queues_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
