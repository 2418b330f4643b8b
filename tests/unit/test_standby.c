/* test_standby.c - goal: all processes agree on who holds a copy; as many
 * hold one as are asked for, never the owner; and when one leaves, only its
 * copies move.
 * Method: groups of every size with owners at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hash.h"
#include "standby.h"

enum { PARTITIONS = 64 };

static struct standby_group *group_of(uint32_t count)
{
    struct standby_group *g = calloc(1, sizeof *g);
    assert_non_null(g);
    g->count = count;
    g->partitions = PARTITIONS;
    g->owners = calloc(PARTITIONS, sizeof *g->owners);
    assert_non_null(g->owners);
    for (uint32_t i = 0; i < count; i++)
        (void)snprintf(g->instances[i], STANDBY_INSTANCE_BYTES, "host%u", i);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        g->owners[p] = (int32_t)(draw(3, p, count) % count);
    return g;
}

static void group_free(struct standby_group *g)
{
    free(g->owners);
    free(g);
}

static uint32_t holders(const struct standby_group *g, int32_t partition,
                        uint32_t replicas)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->count; i++)
        n += standby_holds(g, g->instances[i], partition, replicas);
    return n;
}

static void test_as_many_as_asked_for(void **state)
{
    (void)state;
    for (uint32_t count = 1; count < 8; count++) {
        struct standby_group *g = group_of(count);
        for (uint32_t replicas = 0; replicas < 4; replicas++)
            for (int32_t p = 0; p < PARTITIONS; p++) {
                uint32_t most = replicas < count - 1 ? replicas : count - 1;
                assert_int_equal(holders(g, p, replicas), most);
                assert_false(
                    standby_holds(g, g->instances[g->owners[p]], p, replicas));
            }
        assert_false(standby_holds(g, "stranger", 0, 16));
        g->owners[5] = -1; /* nobody's: nothing to copy */
        assert_int_equal(holders(g, 5, 2), 0);
        group_free(g);
    }
}

static void test_only_what_it_held_moves(void **state)
{
    struct standby_group *before = group_of(5), *after = group_of(5);
    uint32_t moved = 0, held = 0;
    (void)state;
    memcpy(after->owners, before->owners, PARTITIONS * sizeof *after->owners);
    after->count = 4; /* host4 leaves */
    for (int32_t p = 0; p < PARTITIONS; p++) {
        if (before->owners[p] == 4) continue; /* that one gets an owner */
        held += standby_holds(before, "host4", p, 1);
        for (uint32_t i = 0; i < 4; i++)
            moved += standby_holds(after, after->instances[i], p, 1) !=
                     standby_holds(before, before->instances[i], p, 1);
    }
    assert_true(held > 0);
    assert_int_equal(moved, held);
    group_free(before);
    group_free(after);
}

/* No process is left without, none has much more than its share. */
static void test_shares(void **state)
{
    struct standby_group *g = group_of(4);
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t n = 0;
        for (int32_t p = 0; p < PARTITIONS; p++)
            n += standby_holds(g, g->instances[i], p, 1);
        assert_in_range(n, PARTITIONS / 16, PARTITIONS / 2);
    }
    group_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_many_as_asked_for),
        cmocka_unit_test(test_only_what_it_held_moves),
        cmocka_unit_test(test_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
