/* test_sweep.c - goal: rows of users who are gone leave the store, and
 * nobody can tell by the scores when.
 * Method: a log in which many users come early and a few stay, long beyond
 * state.ttl; some of the gone come back late. A run with rows in memory only
 * never sweeps: its outputs must be those of runs on a real store, with
 * crashes and without, while the store ends with the rows of those who were
 * seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "hash.h"
#include "spine_log.h"
#include "user_row.h"

enum {
    EARLY = 600, /* users who come once or twice, at first */
    STAYING = 6, /* users who come all the time */
    RARE = 4,    /* users who come every 40 hours: just in time */
    BACK = 20,   /* of the early ones, at the very end */
    EVENTS_EARLY = 1000,
    EVENTS_LATER = 1500,
    EVENTS = EVENTS_EARLY + EVENTS_LATER + BACK,
    HOUR_MS = 3600000,
    CACHE_BYTES = 64 << 10, /* soon full, so rows are written all the time */
};
#define START_MS INT64_C(1600000000000)

static const char *const SETS[] = {
    "state.ttl=2d",        "time.future.max=1d",
    "commit.interval=1ms", "state.checkpoint.age=100ms",
    "batch.events.max=8",  NULL};
static struct spine_log the_log;

static struct spine_event event_at(uint32_t i)
{
    uint64_t bits = draw(9, i, 0);
    int64_t time_ms = START_MS + (int64_t)i * HOUR_MS / 12;
    struct spine_event ev = {.item = (uint32_t)(bits >> 8) % SPINE_ITEMS,
                             .id = i,
                             .type = "view",
                             .time_ms = time_ms,
                             .cents = (int64_t)(bits >> 20) % 100000,
                             .logged_ms = time_ms};
    ev.user = (uint32_t)(bits % STAYING);
    if (i < EVENTS_EARLY)
        ev.user = STAYING + i % EARLY;
    else if (i % 120 == 0)
        ev.user = STAYING + EARLY + i / 120 % RARE;
    if (i >= EVENTS_EARLY + EVENTS_LATER)
        ev.user = STAYING + (i - EVENTS_EARLY - EVENTS_LATER);
    return ev;
}

static int start(void **state)
{
    (void)state;
    spine_log_begin(&the_log, EVENTS);
    for (uint32_t i = 0; i < EVENTS; i++) {
        struct spine_event ev = event_at(i);
        spine_log_add(&the_log, &ev);
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    spine_log_free(&the_log);
    return 0;
}

/* --- a store ------------------------------------------------------------ */

struct place {
    char dir[64];
    struct store *store;
};

static void place_make(struct place *at)
{
    (void)snprintf(at->dir, sizeof at->dir, "%s",
                   access("/dev/shm", W_OK) == 0
                       ? "/dev/shm/millrace-sweep-XXXXXX"
                       : "/tmp/millrace-sweep-XXXXXX");
    assert_non_null(mkdtemp(at->dir));
}

static void place_open(struct place *at)
{
    const struct store_options o = {.dir = at->dir, .memory_bytes = 8 << 20};
    struct err e;
    if (store_open(&at->store, &o, &e) != RC_OK) fail_msg("%s", e.text);
}

static void place_drop(struct place *at)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", at->dir);
    assert_int_equal(system(command), 0);
}

struct rows {
    struct store *store;
    uint32_t count, gone; /* gone: expired, and still there */
    int64_t oldest_ms;    /* a row whose newest time is older is gone */
};

static enum rc count_row(void *user, struct slice key, struct slice row,
                         struct err *e)
{
    struct rows *r = user;
    int64_t offset, newest_ms;
    assert_int_equal(user_row_head(key, row, &offset, &newest_ms, e), RC_OK);
    r->count++;
    r->gone += newest_ms < r->oldest_ms;
    return RC_OK;
}

static enum rc count_family(void *user, const char *name,
                            const struct family_meta *meta, bool found,
                            struct err *e)
{
    struct rows *r = user;
    (void)meta;
    assert_true(found);
    return store_each_row(r->store, name, count_row, r, e);
}

static struct rows rows_of(struct place *at)
{
    struct rows r = {.oldest_ms = the_log.records[EVENTS - 1].timestamp_ms -
                                  48 * HOUR_MS};
    struct err e;
    place_open(at);
    r.store = at->store;
    assert_int_equal(store_each_family(at->store, count_family, &r, &e), RC_OK);
    store_close(at->store);
    return r;
}

/* --- runs --------------------------------------------------------------- */

/* To the end, with `crashes` on the way. */
static void run_on(struct place *at, struct spine_run *r, uint32_t crashes)
{
    struct err e;
    spine_run_open(r, &the_log, SETS);
    r->options.cache_bytes = CACHE_BYTES;
    for (uint32_t c = 0; c <= crashes; c++) {
        place_open(at);
        r->options.store = at->store;
        if (c == 0)
            spine_run_start(r);
        else
            spine_run_again(r, &the_log);
        if (c == crashes) break;
        for (uint32_t s = 0; s < 60 + 7 * c; s++) {
            if (s % 9 == 8) sink_memory_fail(r->sink, 1, s % 2);
            assert_int_equal(worker_step(r->worker, &e), RC_OK);
        }
        spine_run_crash(r);
        store_close(at->store);
    }
    spine_run_to_end(r);
    worker_free(r->worker);
    r->worker = NULL;
    source_close(r->source);
    mapping_free(r->mapping);
    store_close(at->store);
}

static void test_same_scores(void **state)
{
    struct spine_run memory, r;
    struct spine_outputs expected, got;
    (void)state;
    spine_run_open(&memory, &the_log, SETS);
    spine_run_start(&memory);
    spine_run_to_end(&memory);
    expected = spine_outputs_of(&memory, 1);
    for (uint32_t crashes = 0; crashes <= 4; crashes += 2) {
        struct place at;
        struct rows rows;
        place_make(&at);
        run_on(&at, &r, crashes);
        got = spine_outputs_of(&r, 1);
        spine_outputs_same(&expected, &got);
        rows = rows_of(&at);
        /* All but what the last sixteenth of the time made old is gone. */
        assert_in_range(rows.count, STAYING + RARE + BACK,
                        STAYING + RARE + BACK + 60);
        assert_true(spine_run_count(&r, COUNT_rows_expired) > EARLY / 2);
        spine_outputs_free(&got);
        spine_run_close(&r);
        place_drop(&at);
    }
    spine_outputs_free(&expected);
    spine_run_close(&memory);
}

/* Without state.ttl every row stays. */
static void test_for_ever(void **state)
{
    const char *const sets[] = {"commit.interval=1ms", "batch.events.max=64",
                                NULL};
    struct spine_run r;
    struct place at;
    struct rows rows;
    (void)state;
    place_make(&at);
    place_open(&at);
    spine_run_open(&r, &the_log, sets);
    r.options.store = at.store;
    spine_run_start(&r);
    spine_run_to_end(&r);
    worker_free(r.worker);
    r.worker = NULL;
    source_close(r.source);
    mapping_free(r.mapping);
    store_close(at.store);
    rows = rows_of(&at);
    assert_int_equal(rows.count, EARLY + STAYING + RARE);
    assert_true(rows.gone > EARLY / 2);
    assert_int_equal(spine_run_count(&r, COUNT_rows_expired), 0);
    spine_run_close(&r);
    place_drop(&at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_for_ever),
        cmocka_unit_test(test_same_scores),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
