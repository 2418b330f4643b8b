/* test_no_leakage.c - goal: nothing of the future enters a score.
 * Method: for random t the log cut after event t must give for t the bits
 * that the whole log gives. That this test can see a leak is shown by one:
 * the linker puts a wrapper of this file around windows_apply, which in
 * sabotage adds to the first feature how much log is still to come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hash.h"
#include "spine_log.h"

enum { EVENTS = 1200, USERS = 25, SEED = 3, CUTS = 24 };

static struct spine_log the_log;

/* --- the sabotage ------------------------------------------------------- */

static const struct spine_log *looks_into; /* NULL: honest */

bool __real_windows_apply(const struct windows_shape *s, struct windows *w,
                          const struct past_event *ev, float *out);
bool __wrap_windows_apply(const struct windows_shape *s, struct windows *w,
                          const struct past_event *ev, float *out);

bool __wrap_windows_apply(const struct windows_shape *s, struct windows *w,
                          const struct past_event *ev, float *out)
{
    bool tiled = __real_windows_apply(s, w, ev, out);
    /* Event i of the log is made 600 s after event i - 1. */
    if (looks_into)
        out[0] += (float)(looks_into->count -
                          (uint32_t)((ev->time_ms - INT64_C(1600000000000)) /
                                     600000));
    return tiled;
}

/* --- the test ----------------------------------------------------------- */

static struct spine_outputs score(struct spine_run *r,
                                  const struct spine_log *log)
{
    spine_run_open(r, log, (const char *const[]){"batch.events.max=64", NULL});
    spine_run_start(r);
    spine_run_to_end(r);
    return spine_outputs_of(r, 1);
}

/* The output at a place, or NULL. */
static const struct message *find(const struct spine_outputs *o,
                                  const struct record *at, enum output output)
{
    for (uint32_t i = 0; i < o->count; i++)
        if (o->at[i].partition == at->partition &&
            o->at[i].offset == at->offset && o->at[i].message->output == output)
            return o->at[i].message;
    return NULL;
}

/* How many of the cuts change what is said of their last event. */
static uint32_t changed_by_cuts(bool sabotage)
{
    struct spine_run whole_run, cut_run;
    struct spine_log cut = the_log;
    struct spine_outputs whole;
    uint32_t changed = 0;
    looks_into = sabotage ? &the_log : NULL;
    whole = score(&whole_run, &the_log);
    looks_into = sabotage ? &cut : NULL;
    for (uint32_t i = 0; i < CUTS; i++) {
        uint32_t t = (uint32_t)(draw(17, i, 0) % EVENTS);
        struct spine_outputs got;
        bool same = true;
        cut.count = t + 1;
        got = score(&cut_run, &cut);
        for (enum output k = OUTPUT_FRAUD; k <= OUTPUT_RECOMMENDATIONS; k++) {
            const struct message *a = find(&whole, &the_log.records[t], k);
            const struct message *b = find(&got, &the_log.records[t], k);
            assert_non_null(a);
            assert_non_null(b);
            same = same && slice_equal(a->value, b->value);
        }
        changed += !same;
        spine_outputs_free(&got);
        spine_run_close(&cut_run);
    }
    spine_outputs_free(&whole);
    spine_run_close(&whole_run);
    looks_into = NULL;
    return changed;
}

static void test_no_leakage(void **state)
{
    (void)state;
    assert_int_equal(changed_by_cuts(false), 0);
}

static void test_sabotage_is_caught(void **state)
{
    (void)state;
    assert_true(changed_by_cuts(true) > CUTS / 2);
}

static int start(void **state)
{
    (void)state;
    spine_log_make(&the_log, EVENTS, USERS, SEED);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    spine_log_free(&the_log);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_leakage),
        cmocka_unit_test(test_sabotage_is_caught),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
