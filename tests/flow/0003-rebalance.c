/* Goal: I7. A change of assignment that comes in the middle of gathering a
 * batch is only recorded: the batch is finished, committed, handed over.
 * Method: a second member joins, and leaves, while the first reads; every
 * record is then counted in what came out, and no reader is ever given a
 * record of a partition that it does not own (reader_step checks). A record
 * comes twice only if the cluster refused the commit of a revocation. */
#include "flow.h"

#include <string.h>

enum { RECORDS = 6000, STEPS_MAX = 3000, QUIET_STEPS = 20 };
#define COMMIT_SOON_NS UINT64_C(10000000000)

static uint8_t seen[FLOW_RECORDS_MAX];

static uint32_t owned(const struct reader *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < FLOW_PARTITIONS; i++)
        n += r->owns[i];
    return n;
}

static void expect_each(const uint8_t *times, uint32_t most)
{
    for (uint32_t i = 0; i < RECORDS; i++)
        if (times[i] < 1 || times[i] > most)
            fail_msg("record %u: %u times, 1 to %u expected", i, times[i],
                     most);
}

/* The group may still be settling. other: NULL, or it takes part. */
static void commit_soon(struct reader *r, struct reader *other)
{
    uint64_t until_ns = metrics_now_ns() + COMMIT_SOON_NS;
    struct err e;
    enum rc rc;

    while ((rc = reader_commit(r, &e)) == RC_AGAIN &&
           metrics_now_ns() < until_ns) {
        (void)reader_step(r, 20, seen);
        if (other) (void)reader_step(other, 20, seen);
    }
    flow_ok(rc, &e);
}

/* all: the first member gives everything back when the second comes. */
static void join_and_leave(struct flow *f, bool all)
{
    struct reader a, b;
    struct source *s;
    uint32_t steps = 0, most = 1;
    bool shared = false;

    memset(seen, 0, sizeof seen);
    s = flow_source(f, "a");
    reader_init(&a, s, flow_sink(f, s));
    while (owned(&a) < FLOW_PARTITIONS && steps++ < STEPS_MAX)
        (void)reader_step(&a, 50, seen);
    assert_int_equal(owned(&a), FLOW_PARTITIONS);

    s = flow_source(f, "b");
    reader_init(&b, s, flow_sink(f, s));
    flow_produce(f, RECORDS / 2, RECORDS / 2);
    for (steps = 0; !shared && steps < STEPS_MAX; steps++) {
        (void)reader_step(&a, 20, seen);
        (void)reader_step(&b, 20, seen);
        shared = owned(&a) == FLOW_PARTITIONS / 2 &&
                 owned(&b) == FLOW_PARTITIONS / 2;
    }
    assert_true(shared);
    assert_int_equal(a.revoked >= FLOW_PARTITIONS, all);

    commit_soon(&a, &b);
    most += a.discards;
    reader_fini(&a);
    while ((owned(&b) < FLOW_PARTITIONS || reader_step(&b, 200, seen) > 0) &&
           steps++ < STEPS_MAX)
        (void)reader_step(&b, 20, seen);
    assert_int_equal(owned(&b), FLOW_PARTITIONS);
    most += b.discards;
    commit_soon(&b, NULL);
    reader_fini(&b);

    expect_each(seen, most);
    memset(seen, 0, sizeof seen);
    flow_read_all(f, "out", seen);
    expect_each(seen, most);
}

static void test_eager(void **state)
{
    struct flow f;
    (void)state;

    flow_start(&f);
    f.config->group_assignment = ASSIGNMENT_EAGER;
    flow_produce(&f, 0, RECORDS / 2);
    join_and_leave(&f, true);
    flow_stop(&f);
}

/* Only what moves is given back: the first member keeps the rest. */
static void test_cooperative(void **state)
{
    struct flow f;
    (void)state;

    flow_start(&f);
    f.config->group_assignment = ASSIGNMENT_COOPERATIVE;
    flow_produce(&f, 0, RECORDS / 2);
    join_and_leave(&f, false);
    flow_stop(&f);
}

/* A member that does not come back for its session's time: what it had in
 * hand goes to the other, from the last commit on. */
static void test_crash_repeats_from_the_commit(void **state)
{
    struct flow f;
    struct reader a, b;
    struct source *s;
    struct err e;
    uint32_t got = 0, steps = 0, quiet = 0, half;
    (void)state;

    flow_start(&f);
    flow_produce(&f, 0, 1000);
    memset(seen, 0, sizeof seen);
    s = flow_source(&f, "a");
    reader_init(&a, s, flow_sink(&f, s));
    while (got < 500 && steps++ < STEPS_MAX)
        got += reader_step(&a, 50, seen);
    flow_ok(reader_commit(&a, &e), &e);
    half = got;
    while (got < 1000 && steps++ < STEPS_MAX)
        got += reader_step(&a, 50, seen);
    reader_fini(&a); /* without a commit of the second half */

    s = flow_source(&f, "b");
    reader_init(&b, s, flow_sink(&f, s));
    for (steps = 0; steps < STEPS_MAX && quiet < QUIET_STEPS; steps++) {
        uint32_t n = reader_step(&b, 100, seen);
        quiet = n == 0 && owned(&b) == FLOW_PARTITIONS ? quiet + 1 : 0;
    }
    flow_ok(reader_commit(&b, &e), &e);
    reader_fini(&b);
    got = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_in_range(seen[i], 1, 2);
        got += seen[i];
    }
    assert_int_equal(got, 1000 + 1000 - half); /* and no more is repeated */
    flow_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eager),
        cmocka_unit_test(test_cooperative),
        cmocka_unit_test(test_crash_repeats_from_the_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
