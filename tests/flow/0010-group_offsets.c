/* Goal: a group's offsets are read as they are and set from outside it; what
 * the cluster refuses is said.
 * Method: numbered records on the in-process cluster, a group that has
 * committed nothing, then offsets set and read back. Deletion is left out:
 * the in-process cluster does not know it. */
#include "flow.h"

#include <string.h>

#include "group_offsets.h"

static rd_kafka_t *admin_of(const struct flow *f)
{
    rd_kafka_conf_t *conf;
    rd_kafka_t *rk;
    struct err e;
    flow_ok(kafka_conf_new(&conf, f->config, KAFKA_ADMIN, NULL, NULL, &e), &e);
    flow_ok(kafka_client_new(&rk, conf, KAFKA_ADMIN, &e), &e);
    return rk;
}

static void test_read_set_read(void **state)
{
    struct group_offset at[FLOW_PARTITIONS];
    int64_t to[FLOW_PARTITIONS], records = 0;
    struct flow f;
    rd_kafka_t *rk;
    struct err e;
    (void)state;
    flow_start(&f);
    flow_produce(&f, 0, 1000);
    rk = admin_of(&f);
    flow_ok(group_offsets_read(rk, "g", "in", at, FLOW_PARTITIONS, &e), &e);
    for (int i = 0; i < FLOW_PARTITIONS; i++) {
        assert_int_equal(at[i].committed, -1);
        assert_int_equal(at[i].log_start, 0);
        records += at[i].log_end;
        to[i] = at[i].log_end - i;
    }
    assert_int_equal(records, 1000);
    flow_ok(group_offsets_set(rk, "g", "in", to, FLOW_PARTITIONS, &e), &e);
    flow_ok(group_offsets_read(rk, "g", "in", at, FLOW_PARTITIONS, &e), &e);
    for (int i = 0; i < FLOW_PARTITIONS; i++)
        assert_int_equal(at[i].committed, to[i]);
    /* Another group's are its own. */
    flow_ok(group_offsets_read(rk, "h", "in", at, FLOW_PARTITIONS, &e), &e);
    assert_int_equal(at[0].committed, -1);
    rd_kafka_destroy(rk);
    flow_stop(&f);
}

static void test_a_partition_that_is_not_there(void **state)
{
    struct group_offset at[FLOW_PARTITIONS + 1];
    struct flow f;
    rd_kafka_t *rk;
    struct err e;
    (void)state;
    flow_start(&f);
    rk = admin_of(&f);
    assert_int_not_equal(
        group_offsets_read(rk, "g", "in", at, FLOW_PARTITIONS + 1, &e), RC_OK);
    assert_non_null(strstr(e.text, "partition 4"));
    rd_kafka_destroy(rk);
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_set_read),
        cmocka_unit_test(test_a_partition_that_is_not_there),
    };
    return cmocka_run_group_tests_name("group_offsets", tests, NULL, NULL);
}
