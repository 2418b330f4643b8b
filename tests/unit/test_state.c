/* test_state.c - goal: the store lags the log and never leads it; whatever
 * happens, folding from the checkpoint ends in the same bytes.
 * Method: a log of random events, a worker of a few lines that takes it
 * through recall, apply, commit and checkpoint, and a crash made by copying
 * the store's folder at any point. What every user's row must be is known
 * from one fold of the whole log in memory. The sentences of the design's
 * "Writing behind" and "On assignment" have a test each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "state_rig.h"

/* Calls of malloc, where no sanitizer has its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_MALLOC 0
static uint64_t mallocs;
#else
#define COUNTS_MALLOC 1
static _Atomic uint64_t mallocs;
void *__libc_malloc(size_t size);
void *malloc(size_t size)
{
    mallocs++;
    return __libc_malloc(size);
}
#endif

/* --- writing behind ---------------------------------------------------- */

/* A crash at any point: the copy of the folder folds to the same bytes, and
 * its checkpoint is at or before what was committed (I2, I3). */
static void crash_anywhere(void **state, bool forgets)
{
    struct rig r, after;
    char copy[300];
    (void)snprintf(copy, sizeof copy, "%s-copy", (char *)*state);
    rig_init(&r, *state);
    r.forgets = forgets;
    rig_open(&r);
    for (int crash = 0; crash < 8; crash++) {
        rig_run(&r, 150 + 200 * crash, true);
        rig_apply(&r, 17); /* under way: not committed */
        rig_copy(*state, copy);
        rig_init(&after, copy);
        after.log = r.log;
        after.forgets = forgets;
        rig_open(&after);
        assert_true(after.p->next <= after.p->committed);
        assert_int_equal(after.p->committed, r.p->committed);
        rig_run(&after, 1800, true);
        rig_folded(&after, 1800);
        rig_fini(&after);
        rig_commit(&r);
    }
    rig_fini(&r);
}

static void test_a_crash_anywhere_folds_to_the_same(void **state)
{
    crash_anywhere(state, false);
}

static void test_forgetting_is_part_of_the_fold(void **state)
{
    crash_anywhere(state, true);
}

static void test_applying_twice_does_nothing(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    r.forgets = true;
    r.jumps = true;
    rig_open(&r);
    rig_run(&r, 500, true);
    rig_checkpoint_all(&r);
    r.p->next = 0; /* the whole log once more */
    rig_run(&r, 500, false);
    assert_int_equal(state_stats(r.st).dirty_rows, 0);
    rig_folded(&r, 500);
    rig_fini(&r);
}

/* The slice is what is longest dirty, so the checkpoint trails by the age. */
static void test_longest_dirty_first(void **state)
{
    struct rig r;
    int64_t before = -1;
    rig_init(&r, *state);
    r.options.checkpoint_rows = 1;
    r.options.checkpoint_age_ms = 1;
    rig_open(&r);
    rig_apply(&r, BATCH);
    rig_commit(&r);
    for (uint64_t rows = state_stats(r.st).dirty_rows; rows > 0; rows--) {
        struct partition *p = r.p;
        assert_int_equal(state_stats(r.st).dirty_rows, rows);
        (void)usleep(2000);
        assert_int_equal(state_checkpoint(r.st, false, &r.e), RC_OK);
        assert_true(p->checkpoint > before);
        before = p->checkpoint;
    }
    assert_int_equal(r.p->checkpoint, r.p->committed);
    rig_fini(&r);
}

/* A user with an event in every batch is written once per age, not once per
 * commit. */
static void test_a_busy_user_is_written_by_age(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    r.users = 1;
    r.options.checkpoint_age_ms = 100000;
    rig_open(&r);
    rig_run(&r, 1000, true);
    assert_int_equal(state_stats(r.st).rows_written_total, 0);
    assert_int_equal(r.p->checkpoint, 0);
    rig_checkpoint_all(&r);
    assert_int_equal(state_stats(r.st).rows_written_total, 1);
    assert_int_equal(r.p->checkpoint, 1000);
    rig_fini(&r);
}

/* After a failed batch the dirty rows are thrown away and folded again. */
static void test_rewind(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    r.forgets = true;
    rig_open(&r);
    rig_run(&r, 300, true);
    for (int i = 0; i < 5; i++) {
        int64_t committed = r.p->committed;
        rig_apply(&r, 20);
        rig_apply(&r, 20);
        state_rewind(r.st);
        assert_int_equal(state_stats(r.st).dirty_rows, 0);
        assert_int_equal(r.p->committed, committed);
        assert_true(r.p->next <= committed);
        assert_true(r.p->next >= r.p->checkpoint);
        rig_run(&r, 300 + 100 * (i + 1), true);
    }
    rig_folded(&r, 800);
    rig_fini(&r);
}

/* Nothing older is dirty: the newest time is that of the commit again. */
static void test_rewind_of_the_newest_time(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 200, true);
    rig_checkpoint_all(&r);
    rig_apply(&r, 17);
    state_rewind(r.st);
    assert_int_equal(r.p->next, 200);
    rig_assert_stream(&r);
    rig_fini(&r);
}

static void test_rewind_without_a_store(void **state)
{
    struct rig r;
    (void)state;
    rig_init(&r, NULL);
    rig_open(&r);
    rig_run(&r, 300, true);
    rig_apply(&r, 20);
    state_rewind(r.st);
    assert_true(r.p->next <= 1); /* offset 0 may be a bad event */
    rig_run(&r, 400, true);
    rig_folded(&r, 400);
    rig_fini(&r);
}

/* --- forgetting -------------------------------------------------------- */

static uint32_t kept_events(struct rig *r, const char *user)
{
    struct user_state *us;
    if (state_peek(r->st, r->p, slice_str(user), &us, &r->e) != RC_OK)
        fail_msg("%s", r->e.text);
    return us ? us->history.count : 0;
}

/* A batch of events of one user; the last may forget it. */
static void apply_of(struct rig *r, const char *user, uint32_t count,
                     bool forget)
{
    float row[WINDOW_FEATURES_MAX];
    batch_reset(&r->b);
    r->b.count = count;
    for (uint32_t i = 0; i < count; i++) {
        r->b.partitions[i] = r->p;
        r->b.records[i].offset = r->p->next;
        rig_event(r, r->p->next, i, &r->b.events[i]);
        r->b.events[i].user = slice_str(user);
        r->b.events[i].bad = BAD_NONE;
        r->b.events[i].forget = forget && i == count - 1;
        state_pass(r->p, &r->b.records[i], &r->b.events[i]);
    }
    assert_int_equal(state_recall(r->st, &r->b, &r->e), RC_OK);
    for (uint32_t i = 0; i < count; i++) {
        struct user_state *us = r->b.users[i];
        struct past_event *past = &r->b.events[i].past;
        int64_t offset = r->b.records[i].offset;
        if (r->b.events[i].forget) {
            rig_forget(r, i);
            continue;
        }
        assert_true(history_apply(state_history_shape(r->st), &us->history,
                                  offset, past));
        (void)windows_apply(state_windows_shape(r->st), us->windows, past, row);
        state_touched(r->st, us, &r->b.events[i].place);
    }
}

static bool is_stored(struct rig *r, const char *user)
{
    uint8_t *row;
    size_t size;
    assert_int_equal(store_find_row(r->store, "users/events/3", slice_str(user),
                                    &row, &size, &r->e),
                     RC_OK);
    free(row);
    return row != NULL;
}

static void test_forget(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    apply_of(&r, "anna", 5, false);
    apply_of(&r, "bert", 5, false);
    rig_commit(&r);
    rig_checkpoint_all(&r);
    assert_true(is_stored(&r, "anna"));
    apply_of(&r, "anna", 3, true); /* two events more, then it */
    assert_int_equal(kept_events(&r, "anna"), 0);
    assert_true(is_stored(&r, "anna")); /* not committed yet (I2) */
    rig_commit(&r);
    rig_checkpoint_all(&r);
    assert_false(is_stored(&r, "anna"));
    assert_int_equal(kept_events(&r, "anna"), 0);
    assert_int_equal(kept_events(&r, "bert"), 5);
    /* Once more, with nothing there: nothing to write. */
    apply_of(&r, "anna", 1, true);
    rig_commit(&r);
    assert_int_equal(state_stats(r.st).dirty_rows, 0);
    /* Who comes back begins anew. */
    apply_of(&r, "anna", 2, false);
    rig_commit(&r);
    rig_checkpoint_all(&r);
    assert_int_equal(kept_events(&r, "anna"), 2);
    assert_true(is_stored(&r, "anna"));
    rig_fini(&r);
}

/* The batch fails after it: the user is as it was, committed events that no
 * store has are folded again. */
static void test_a_failed_batch_forgets_nobody(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    r.options.checkpoint_age_ms = 100000;
    rig_open(&r);
    apply_of(&r, "anna", 4, false);
    rig_commit(&r);
    rig_checkpoint_all(&r);
    apply_of(&r, "anna", 2, false);
    rig_commit(&r);
    apply_of(&r, "anna", 1, true);
    state_rewind(r.st);
    assert_int_equal(r.p->next, 4);
    assert_int_equal(kept_events(&r, "anna"), 4);
    apply_of(&r, "anna", 2, false);
    assert_int_equal(kept_events(&r, "anna"), 6);
    rig_fini(&r);
}

static bool files_hold(const char *dir, const char *text)
{
    char command[800];
    (void)snprintf(command, sizeof command, "grep -raqF '%s' '%s'", text, dir);
    return system(command) == 0;
}

static int64_t erased_to(struct rig *r)
{
    int64_t forgotten, erased;
    assert_int_equal(
        store_forgotten(r->store, "users/events/3", &forgotten, &erased, &r->e),
        RC_OK);
    return erased;
}

static void wait_erased(struct rig *r, int64_t offset)
{
    for (int i = 0; i < 1000 && erased_to(r) < offset; i++)
        (void)usleep(10000);
    assert_int_equal(erased_to(r), offset);
}

/* The id is in no file any more, though its row was in RocksDB's tables and
 * logs, below and above others. */
static void test_the_bytes_of_a_forgotten_user_go(void **state)
{
    static const char USER[] = "8f2c-who-shall-be-forgotten";
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    for (int i = 0; i < 3; i++) {
        rig_run(&r, 400 * (i + 1), true);
        apply_of(&r, USER, 5, false);
        rig_commit(&r);
        rig_checkpoint_all(&r);
        if (i == 0) rig_crash(&r), rig_open(&r); /* from the log to a table */
    }
    assert_true(files_hold(*state, USER));
    assert_int_equal(erased_to(&r), -1);
    apply_of(&r, USER, 1, true);
    rig_commit(&r);
    rig_checkpoint_all(&r);
    wait_erased(&r, r.p->next - 1);
    assert_false(is_stored(&r, USER));
    assert_false(files_hold(*state, USER));
    rig_fini(&r);
}

/* Killed between the deletion and the compaction: the next start does it. */
static void test_a_crash_does_not_keep_the_bytes(void **state)
{
    static const char USER[] = "8f2c-who-shall-be-forgotten";
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    apply_of(&r, USER, 5, false);
    rig_commit(&r);
    rig_checkpoint_all(&r);
    apply_of(&r, USER, 1, true);
    rig_commit(&r);
    rig_checkpoint_all(&r);
    rig_crash(&r);
    assert_true(files_hold(*state, USER));
    rig_open(&r);
    wait_erased(&r, 5);
    assert_false(files_hold(*state, USER));
    rig_fini(&r);
}

/* Many more users than fit: clean rows leave, dirty ones never do. */
static void test_cache_is_bounded(void **state)
{
    struct rig r;
    struct state_stats s;
    rig_init(&r, *state);
    r.users = 4000;
    rig_open(&r);
    while (r.p->next < 20000) {
        rig_apply(&r, BATCH);
        rig_commit(&r);
        if (state_full(r.st)) rig_checkpoint_all(&r);
        assert_false(state_full(r.st));
    }
    s = state_stats(r.st);
    assert_true(s.evictions_total > 1000);
    assert_true(s.misses_total > 4000);
    assert_true(s.cache_bytes <= r.options.cache_bytes + (BATCH * 4096));
    rig_folded(&r, 20000);
    rig_fini(&r);
}

static void test_full_says_so(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    r.users = 100000;
    r.options.checkpoint_age_ms = 100000;
    rig_open(&r);
    while (!state_full(r.st)) {
        rig_apply(&r, BATCH);
        assert_true(r.p->next < 100000);
    }
    rig_commit(&r);
    /* Full is reason enough: neither age nor the rows' limit counts. */
    assert_int_equal(state_checkpoint(r.st, false, &r.e), RC_OK);
    assert_false(state_full(r.st));
    assert_int_equal(state_stats(r.st).dirty_rows, 0);
    rig_fini(&r);
}

/* Users that are in memory cost no malloc, once their histories are full. */
static void test_steady_state_takes_no_memory(void **state)
{
    struct rig r;
    uint64_t before;
    (void)state;
    if (!COUNTS_MALLOC) skip();
    rig_init(&r, NULL);
    rig_open(&r);
    rig_run(&r, 30000, false);
    before = mallocs;
    rig_run(&r, 60000, false);
    assert_int_equal(mallocs - before, 0);
    rig_fini(&r);
}

/* --- on assignment ----------------------------------------------------- */

static void test_a_new_group_starts_at_the_log_start(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    r.log.log_start = 40;
    rig_open(&r);
    assert_int_equal(r.p->next, 40);
    assert_int_equal(r.p->committed, 40);
    assert_int_equal(state_stats(r.st).rows, 0);
    /* Again, with nothing committed in between, also where retention moved. */
    assert_int_equal(state_close_partition(r.st, r.p, false, &r.e), RC_OK);
    rig_crash(&r);
    r.log.log_start = 60;
    rig_open(&r);
    assert_int_equal(r.p->next, 60);
    rig_fini(&r);
}

/* kafka.auto.offset.reset = latest: nothing before is scored or folded. */
static void test_a_new_group_may_begin_later(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    r.jumps = true;
    r.log.log_start = 40;
    r.log.begin = 500;
    rig_open(&r);
    assert_int_equal(r.p->next, 500);
    assert_int_equal(r.p->committed, 500);
    rig_run(&r, 600, false);
    rig_checkpoint_all(&r);
    rig_crash(&r);
    r.log.begin = 700; /* of no account once it has committed */
    rig_open(&r);
    assert_int_equal(r.p->next, 600);
    rig_fini(&r);
}

static void test_a_store_that_leads_is_refused(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 200, true);
    rig_checkpoint_all(&r);
    r.log.committed = 199;
    rig_refused(&r, "leads the log");
    r.log.committed = -1;
    rig_refused(&r, "no committed offset");
    r.log.committed = 200;
    rig_crash(&r);
    rig_open(&r);
    assert_int_equal(r.p->next, 200);
    rig_fini(&r);
}

static void test_offsets_out_of_order_are_refused(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 200, false);
    rig_checkpoint_all(&r);
    rig_run(&r, 300, false);
    r.log.log_start = 201; /* the checkpoint is at 200 */
    rig_refused(&r, "retention was faster");
    r.log.log_start = 301;
    rig_refused(&r, "lost to retention");
    r.log.log_start = 0;
    r.log.log_end = 299;
    rig_refused(&r, "made anew");
    r.log.log_end = 300;
    rig_crash(&r);
    rig_open(&r);
    assert_int_equal(r.p->next, 200);
    assert_int_equal(r.p->committed, 300);
    rig_run(&r, 400, true);
    rig_folded(&r, 400);
    rig_fini(&r);
}

static void test_another_cluster_topic_or_shape_is_refused(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 100, false);
    rig_checkpoint_all(&r);
    r.log.cluster_id = "cluster-2";
    rig_refused(&r, "cluster-2");
    r.log.cluster_id = "cluster-1";
    r.log.partitions = 9;
    rig_refused(&r, "now it has 9");
    r.log.partitions = 8;
    r.options.history.events_max = 17;
    rig_refused(&r, "history.events=17");
    r.options.history.events_max = 16;
    r.options.windows.length_ms[1] = 500000;
    rig_refused(&r, "other options");
    rig_fini(&r);
}

/* A host without the store folds the whole log, if it still is whole. */
static void test_no_record_but_a_commit(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    r.log.committed = 150;
    rig_open(&r);
    assert_int_equal(r.p->next, 0);
    assert_int_equal(r.p->committed, 150);
    rig_run(&r, 200, true);
    rig_folded(&r, 200);
    rig_crash(&r);
    rig_shell("rm -rf '%s/rocksdb' '%s/instance'", *state, *state);
    r.log.log_start = 1;
    rig_refused(&r, "this host has none");
    rig_fini(&r);
}

/* A partition that returns folds from its own checkpoint. */
static void test_revoked_and_lost(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 100, false);
    assert_int_equal(state_close_partition(r.st, r.p, true, &r.e), RC_OK);
    assert_int_equal(state_stats(r.st).rows, 0);
    assert_int_equal(
        state_open_partition(r.st, 0, PARTITION, &r.log, &r.p, &r.e), RC_OK);
    assert_int_equal(r.p->next, 100);
    rig_run(&r, 200, false);
    rig_apply(&r, 10);
    assert_int_equal(state_close_partition(r.st, r.p, false, &r.e), RC_OK);
    assert_int_equal(
        state_open_partition(r.st, 0, PARTITION, &r.log, &r.p, &r.e), RC_OK);
    assert_int_equal(r.p->next, 100);
    assert_int_equal(r.p->committed, 200);
    rig_run(&r, 250, false);
    rig_folded(&r, 250);
    rig_fini(&r);
}

/* Another worker of the process waits for the partition, then hears AGAIN. */
static void test_one_owner_at_a_time(void **state)
{
    struct rig r, other;
    rig_init(&r, *state);
    rig_init(&other, *state);
    rig_open(&r);
    other.store = r.store;
    assert_int_equal(rig_open_partition(&other), RC_AGAIN);
    assert_int_equal(state_close_partition(r.st, r.p, true, &r.e), RC_OK);
    assert_int_equal(state_open_partition(other.st, 0, PARTITION, &other.log,
                                          &other.p, &other.e),
                     RC_OK);
    state_free(other.st);
    other.st = NULL;
    other.store = NULL;
    rig_fini(&other);
    rig_fini(&r);
}

/* What reset leaves: a state that begins at an offset, without what is before
 * it, though the group has committed there. */
static void test_a_state_begun_at_an_offset(void **state)
{
    struct rig r;
    uint32_t dropped;
    rig_init(&r, *state);
    r.jumps = true;
    rig_open(&r);
    rig_run(&r, 100, false);
    rig_checkpoint_all(&r);
    rig_crash(&r);
    assert_int_equal(rig_open_store(&r), RC_OK);
    rig_stops(store_begin_at(r.store, "users/events/3", 8, 70, &r.e), &r,
              "there already");
    assert_int_equal(
        store_drop_topic(r.store, "users", "event", &dropped, &r.e), RC_OK);
    assert_int_equal(dropped, 0); /* another topic */
    assert_int_equal(
        store_drop_topic(r.store, "users", "events", &dropped, &r.e), RC_OK);
    assert_int_equal(dropped, 1);
    assert_int_equal(store_begin_at(r.store, "users/events/3", 8, 70, &r.e),
                     RC_OK);
    r.log.log_start = 50;
    r.log.committed = 90;
    assert_int_equal(rig_open_partition(&r), RC_OK);
    assert_int_equal(r.p->next, 70);
    assert_int_equal(r.p->committed, 90);
    rig_run(&r, 200, true);
    rig_checkpoint_all(&r);
    rig_crash(&r);
    rig_open(&r);
    assert_int_equal(r.p->next, 200);
    r.log.cluster_id = "cluster-2"; /* its first owner has said whose it is */
    rig_refused(&r, "cluster-2");
    rig_fini(&r);
}

int main(void)
{
#define TEST(function)                                                         \
    cmocka_unit_test_setup_teardown(function, rig_make_dir, rig_remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(test_a_crash_anywhere_folds_to_the_same),
        TEST(test_applying_twice_does_nothing),
        TEST(test_longest_dirty_first),
        TEST(test_a_busy_user_is_written_by_age),
        TEST(test_rewind),
        TEST(test_rewind_of_the_newest_time),
        TEST(test_rewind_without_a_store),
        TEST(test_forget),
        TEST(test_forgetting_is_part_of_the_fold),
        TEST(test_a_failed_batch_forgets_nobody),
        TEST(test_the_bytes_of_a_forgotten_user_go),
        TEST(test_a_crash_does_not_keep_the_bytes),
        TEST(test_cache_is_bounded),
        TEST(test_full_says_so),
        TEST(test_steady_state_takes_no_memory),
        TEST(test_a_new_group_starts_at_the_log_start),
        TEST(test_a_new_group_may_begin_later),
        TEST(test_a_store_that_leads_is_refused),
        TEST(test_offsets_out_of_order_are_refused),
        TEST(test_another_cluster_topic_or_shape_is_refused),
        TEST(test_no_record_but_a_commit),
        TEST(test_revoked_and_lost),
        TEST(test_one_owner_at_a_time),
        TEST(test_a_state_begun_at_an_offset),
    };
    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
