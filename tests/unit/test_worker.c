/* test_worker.c - goal: whatever fails and whenever, what is committed in
 * the end is what an undisturbed run commits, once, and so is the state.
 * Method: one log in memory with a model of random weights. A run without
 * trouble gives the outputs that all others must equal in every byte: runs
 * with failing sends and commits, with partitions revoked and lost, with
 * crashes at any step on a real store. Bad events stand between good ones.
 * Invariants are cited as in worker.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "hash.h"
#include "outputs.h"
#include "spine_log.h"

enum { EVENTS = 1500, USERS = 40, SEED = 5 };

static struct spine_log the_log;
static struct spine_run calm; /* a run without trouble */
static struct spine_outputs expected;

/* Commit at every step, so that there is something to be torn. */
static const char *const OFTEN[] = {"commit.interval=1ms", NULL};

static int start(void **state)
{
    (void)state;
    spine_log_make(&the_log, EVENTS, USERS, SEED);
    spine_run_open(&calm, &the_log, NULL);
    spine_run_start(&calm);
    spine_run_to_end(&calm);
    expected = spine_outputs_of(&calm, 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    spine_outputs_free(&expected);
    spine_run_close(&calm);
    spine_log_free(&the_log);
    return 0;
}

static void check(const struct spine_run *r)
{
    struct spine_outputs got = spine_outputs_of(r, 1);
    spine_outputs_same(&expected, &got);
    spine_outputs_free(&got);
    for (int p = 0; p < SPINE_PARTITIONS; p++)
        assert_int_equal(r->committed[p].offset, calm.committed[p].offset);
}

/* --- without trouble ---------------------------------------------------- */

/* Two outputs an event, in the order of the log; key, time and headers are
 * those of the event. */
static void test_outputs(void **state)
{
    (void)state;
    assert_int_equal(expected.count, 2 * EVENTS);
    for (uint32_t i = 0; i < expected.count; i++) {
        const struct message *m = expected.at[i].message;
        const struct spine_output *before = i ? &expected.at[i - 1] : NULL;
        assert_int_equal(m->output,
                         i % 2 ? OUTPUT_RECOMMENDATIONS : OUTPUT_FRAUD);
        if (i % 2) assert_int_equal(expected.at[i].offset, before->offset);
        assert_true(m->key.len > 5 && memcmp(m->key.ptr, "user-", 5) == 0);
        assert_in_range(m->timestamp_ms, 1599900000000, 1700000000000);
        assert_int_equal(m->header_count, 1);
        assert_memory_equal(m->headers[0].value.ptr, "abc", 3);
        assert_int_equal(m->value.ptr[0], 0); /* Confluent: magic, id */
        assert_int_equal(m->value.ptr[4], i % 2 ? 2 : 1);
    }
    assert_int_equal(spine_run_count(&calm, COUNT_events), EVENTS);
    assert_int_equal(spine_run_count(&calm, COUNT_events_scored), EVENTS);
    assert_int_equal(spine_run_count(&calm, COUNT_events_folded), 0);
}

static enum rc see_order(void *user, const struct batch *b, struct err *e)
{
    int64_t *next = user;
    (void)e;
    for (uint32_t i = 0; i < b->count; i++) {
        int32_t p = b->records[i].partition;
        assert_int_equal(b->records[i].offset, next[p]);
        next[p]++;
    }
    return RC_OK;
}

static void test_offset_order(void **state)
{
    int64_t next[SPINE_PARTITIONS] = {0};
    struct spine_run r;
    (void)state;
    spine_run_open(&r, &the_log, NULL);
    r.options.observe = see_order;
    r.options.observer = next;
    spine_run_start(&r);
    spine_run_to_end(&r);
    assert_int_equal(next[0] + next[1], EVENTS);
    check(&r);
    spine_run_close(&r);
}

/* --- I6: bad events ----------------------------------------------------- */

static struct slice header_of(const struct message *m, const char *name)
{
    for (uint32_t h = 0; h < m->header_count; h++)
        if (slice_equal(m->headers[h].name, slice_str(name)))
            return m->headers[h].value;
    return slice_of(NULL, 0);
}

static void check_dead_letter(const struct message *m, const struct record *bad)
{
    char number[32];
    assert_int_equal(m->output, OUTPUT_DEAD_LETTERS);
    assert_true(slice_equal(m->value, bad->value));
    assert_true(slice_equal(m->key, bad->key));
    assert_true(slice_equal(header_of(m, "trace"), slice_str("abc")));
    assert_true(
        slice_equal(header_of(m, DEAD_LETTER_REASON), slice_str("bytes")));
    assert_true(header_of(m, DEAD_LETTER_DETAIL).len > 0);
    assert_true(
        slice_equal(header_of(m, DEAD_LETTER_TOPIC), slice_str("events")));
    (void)snprintf(number, sizeof number, "%d", bad->partition);
    assert_true(
        slice_equal(header_of(m, DEAD_LETTER_PARTITION), slice_str(number)));
    (void)snprintf(number, sizeof number, "%lld", (long long)bad->offset);
    assert_true(
        slice_equal(header_of(m, DEAD_LETTER_OFFSET), slice_str(number)));
}

/* Every seventh message is cut short. The others' scores are those of a log
 * in which it never was. */
static void test_bad_among_good(void **state)
{
    struct spine_log bad = the_log, good = the_log;
    struct spine_run with, without;
    struct spine_outputs a, b;
    uint32_t kept = 0, letters = 0;
    (void)state;
    bad.records = calloc(EVENTS, sizeof *bad.records);
    good.records = calloc(EVENTS, sizeof *good.records);
    for (uint32_t i = 0; i < EVENTS; i++) {
        bad.records[i] = the_log.records[i];
        if (i % 7 == 3)
            bad.records[i].value.len -= 1 + i % 20;
        else
            good.records[kept++] = the_log.records[i];
    }
    good.count = kept;
    spine_run_open(&with, &bad, NULL);
    spine_run_start(&with);
    spine_run_to_end(&with);
    spine_run_open(&without, &good, NULL);
    spine_run_start(&without);
    spine_run_to_end(&without);
    a = spine_outputs_of(&with, 1);
    b = spine_outputs_of(&without, 1);
    assert_int_equal(a.count, 2 * kept + (EVENTS - kept));
    for (uint32_t i = 0, g = 0; i < a.count; i++) {
        const struct message *m = a.at[i].message;
        if (m->output == OUTPUT_DEAD_LETTERS) {
            letters++;
            continue;
        }
        assert_true(slice_equal(m->value, b.at[g].message->value));
        g++;
    }
    assert_int_equal(letters, EVENTS - kept);
    for (uint32_t i = 0; i < EVENTS; i++)
        for (uint32_t k = 0; i % 7 == 3 && k < a.count; k++)
            if (a.at[k].offset == bad.records[i].offset &&
                a.at[k].partition == bad.records[i].partition)
                check_dead_letter(a.at[k].message, &bad.records[i]);
    spine_outputs_free(&a);
    spine_outputs_free(&b);
    spine_run_close(&with);
    spine_run_close(&without);
    free(bad.records);
    free(good.records);
}

/* A model without items scores every event and makes no list, although the
 * configuration wants one of every event. */
static void test_model_without_items(void **state)
{
    struct spine_log log = the_log;
    struct spine_run r;
    struct spine_outputs got;
    (void)state;
    log.model = spine_model(0, SPINE_MODEL_SEED);
    spine_run_open(&r, &log, NULL);
    spine_run_start(&r);
    spine_run_to_end(&r);
    got = spine_outputs_of(&r, 1);
    assert_int_equal(got.count, EVENTS);
    for (uint32_t i = 0; i < got.count; i++)
        assert_int_equal(got.at[i].message->output, OUTPUT_FRAUD);
    spine_outputs_free(&got);
    spine_run_close(&r);
    model_free(log.model);
}

/* --- forgetting --------------------------------------------------------- */

/* The log with a record without a value for every 23rd: its user goes. */
static struct spine_log with_tombstones(void)
{
    struct spine_log log = the_log;
    log.records = calloc(EVENTS, sizeof *log.records);
    assert_non_null(log.records);
    for (uint32_t i = 0; i < EVENTS; i++) {
        struct record *r = &log.records[i];
        *r = the_log.records[i];
        if (i % 23 != 11) continue;
        /* The user's name is the first field: its length, zigzag, its text. */
        r->key = slice_of(r->value.ptr + 1, r->value.ptr[0] / 2);
        r->value = slice_of(NULL, 0);
    }
    return log;
}

/* The same events; but nobody is forgotten, whoever was comes back under
 * another name, of which the first letter says how often that happened. */
static struct spine_log with_new_names(const struct spine_log *tombstones)
{
    static const char LETTERS[] = "uABCDEFGHIJKLMNOPQRSTUVWXYZ";
    struct spine_log log = *tombstones;
    uint32_t times[USERS] = {0};
    log.records = calloc(EVENTS, sizeof *log.records);
    assert_non_null(log.records);
    for (uint32_t i = 0; i < EVENTS; i++) {
        struct record *r = &log.records[i];
        uint8_t *value;
        *r = tombstones->records[i];
        if (!r->value.ptr) {
            times[atoi((const char *)r->key.ptr + 5)]++;
            r->key = slice_str("nobody");
            continue;
        }
        value = malloc(r->value.len);
        assert_non_null(value);
        memcpy(value, r->value.ptr, r->value.len);
        value[1] = (uint8_t)LETTERS[times[atoi((const char *)value + 6)]];
        r->value.ptr = value;
    }
    return log;
}

static void free_new_names(struct spine_log *log)
{
    for (uint32_t i = 0; i < EVENTS; i++)
        free((void *)(uintptr_t)log->records[i].value.ptr);
    free(log->records);
}

/* Back to the old name, in key and value. */
static void rename_back(const struct message *m)
{
    uint8_t *in_value =
        memmem(m->value.ptr, m->value.len, m->key.ptr, m->key.len);
    assert_non_null(in_value);
    in_value[0] = 'u';
    ((uint8_t *)(uintptr_t)m->key.ptr)[0] = 'u';
}

static struct spine_outputs outputs_with(struct spine_run *r,
                                         const struct spine_log *log,
                                         const char *const *sets)
{
    spine_run_open(r, log, sets);
    spine_run_start(r);
    spine_run_to_end(r);
    return spine_outputs_of(r, 1);
}

/* A forgotten user's next event is scored as anybody's first, also in the
 * batch that forgets; events before it are scored with all that was known. */
static void test_forgotten_users_begin_anew(void **state)
{
    static const char *const SIZES[] = {"batch.events.max=1",
                                        "batch.events.max=64"};
    struct spine_log forget = with_tombstones(),
                     renamed = with_new_names(&forget);
    struct spine_run runs[3];
    struct spine_outputs a = outputs_with(&runs[0], &renamed, NULL), b;
    (void)state;
    for (uint32_t i = 0; i < a.count; i++)
        rename_back(a.at[i].message);
    for (int k = 0; k < 2; k++) {
        const char *sets[] = {SIZES[k], NULL};
        b = outputs_with(&runs[1 + k], &forget, sets);
        assert_int_equal(b.count, 2 * (EVENTS - EVENTS / 23));
        spine_outputs_same(&a, &b);
        assert_int_equal(spine_run_count(&runs[1 + k], COUNT_users_forgotten),
                         EVENTS / 23);
        spine_outputs_free(&b);
        spine_run_close(&runs[1 + k]);
    }
    spine_outputs_free(&a);
    spine_run_close(&runs[0]);
    free_new_names(&renamed);
    free(forget.records);
}

/* Without a value a record needs a key that can be a user. */
static void test_bad_tombstones(void **state)
{
    struct spine_log log = with_tombstones();
    char long_key[300];
    struct slice keys[3] = {slice_of(NULL, 0), slice_of(long_key, 300),
                            slice_str("\xff\xfe")};
    struct spine_run r;
    struct spine_outputs got;
    uint32_t letters = 0;
    (void)state;
    memset(long_key, 'x', sizeof long_key);
    for (uint32_t i = 11; i < EVENTS; i += 23)
        log.records[i].key = keys[i % 3];
    got = outputs_with(&r, &log, NULL);
    for (uint32_t i = 0; i < got.count; i++) {
        const struct message *m = got.at[i].message;
        if (m->output != OUTPUT_DEAD_LETTERS) continue;
        letters++;
        assert_null(m->value.ptr);
    }
    assert_int_equal(letters, EVENTS / 23);
    assert_int_equal(spine_run_count(&r, COUNT_users_forgotten), 0);
    spine_outputs_free(&got);
    spine_run_close(&r);
    free(log.records);
}

/* --- I1, I3: failing sends and commits ---------------------------------- */

static void test_sink_fails(void **state)
{
    (void)state;
    for (uint32_t at = 1; at <= 40; at += 3) {
        struct spine_run r;
        struct err e;
        spine_run_open(&r, &the_log, OFTEN);
        spine_run_start(&r);
        for (uint32_t i = 0; i < 60; i++) {
            if (i % 11 == 0) sink_memory_fail(r.sink, at % 7 + 1, at % 5 + 1);
            assert_int_equal(worker_step(r.worker, &e), RC_OK);
        }
        sink_memory_fail(r.sink, 0, at % 2);
        spine_run_to_end(&r);
        if (spine_run_count(&r, COUNT_rewinds) == 0)
            fail_msg("no failure was met");
        check(&r);
        spine_run_close(&r);
    }
}

/* A sink that never works again ends the run; it does not spin. */
static void test_sink_stays_broken(void **state)
{
    struct spine_run r;
    struct err e;
    enum rc rc = RC_OK;
    uint32_t steps = 0;
    (void)state;
    spine_run_open(&r, &the_log, OFTEN);
    spine_run_start(&r);
    while (rc == RC_OK && steps++ < 4 * WORKER_FAILURES_MAX) {
        sink_memory_fail(r.sink, 1, 1);
        rc = worker_step(r.worker, &e);
    }
    assert_int_equal(rc, RC_STOP);
    assert_non_null(strstr(e.text, "failures"));
    assert_int_equal(sink_memory_count(r.sink), 0);
    spine_run_close(&r);
}

/* Brokers that are away fail what takes the failed batch back as well: that
 * is a failure more, not the end. */
static void test_aborts_fail(void **state)
{
    struct spine_run r;
    struct err e;
    (void)state;
    spine_run_open(&r, &the_log, OFTEN);
    spine_run_start(&r);
    for (uint32_t i = 0; i < 20; i++) {
        if (i % 7 == 0) sink_memory_fail(r.sink, 2, 0);
        if (i % 7 == 0) sink_memory_fail_aborts(r.sink, 3);
        assert_int_equal(worker_step(r.worker, &e), RC_OK);
    }
    sink_memory_fail(r.sink, 0, 0);
    sink_memory_fail_aborts(r.sink, 0);
    assert_true(spine_run_count(&r, COUNT_rewinds) >= 4);
    spine_run_to_end(&r);
    check(&r);
    spine_run_close(&r);
}

/* And where they never come back it ends as any other failure does. */
static void test_aborts_stay_broken(void **state)
{
    struct spine_run r;
    struct err e;
    (void)state;
    spine_run_open(&r, &the_log, OFTEN);
    spine_run_start(&r);
    sink_memory_fail(r.sink, 1, 0);
    sink_memory_fail_aborts(r.sink, UINT32_MAX);
    assert_int_equal(worker_step(r.worker, &e), RC_STOP);
    assert_non_null(strstr(e.text, "failures"));
    assert_int_equal(sink_memory_count(r.sink), 0);
    spine_run_close(&r);
}

/* A record that comes a second time does nothing, and takes the position
 * that is committed nowhere. */
static void test_a_record_comes_twice(void **state)
{
    struct spine_log log = the_log;
    struct spine_run r;
    uint32_t last = the_log.count - 1;
    (void)state;
    log.records = malloc((the_log.count + 2) * sizeof *log.records);
    assert_non_null(log.records);
    memcpy(log.records, the_log.records, last * sizeof *log.records);
    log.records[last] = the_log.records[last - 40];
    log.records[last + 1] = the_log.records[last];
    log.records[last + 2] = the_log.records[last - 30];
    log.count = the_log.count + 2;
    spine_run_open(&r, &log, OFTEN);
    source_memory_repeats(r.source);
    spine_run_start(&r);
    spine_run_to_end(&r);
    assert_int_equal(spine_run_count(&r, COUNT_events_repeated), 2);
    for (uint32_t i = 0; i < SPINE_PARTITIONS; i++)
        assert_int_equal(r.committed[i].offset, calm.committed[i].offset);
    check(&r);
    spine_run_close(&r);
    free(log.records);
}

/* --- I7: assignments ---------------------------------------------------- */

static void test_rebalance(void **state)
{
    (void)state;
    for (uint64_t at = 1; at < EVENTS; at += 211) {
        struct spine_run r;
        spine_run_open(&r, &the_log, NULL);
        source_memory_change(r.source, SOURCE_REVOKED, at);
        source_memory_change(r.source, SOURCE_LOST, at + 150);
        source_memory_change(r.source, SOURCE_LOST, at + 151);
        source_memory_change(r.source, SOURCE_REVOKED, at + 400);
        spine_run_start(&r);
        spine_run_to_end(&r);
        assert_true(spine_run_count(&r, COUNT_rebalances) >= 5);
        /* Rows lived in memory only: all was folded again. */
        assert_true(spine_run_count(&r, COUNT_events_folded) > 0);
        check(&r);
        spine_run_close(&r);
    }
}

/* The commit of a hand-over fails: the work is discarded, not lost. */
static void test_rebalance_with_failing_commit(void **state)
{
    struct spine_run r;
    struct err e;
    (void)state;
    spine_run_open(&r, &the_log,
                   (const char *const[]){"commit.interval=3s", NULL});
    source_memory_change(r.source, SOURCE_REVOKED, 500);
    spine_run_start(&r);
    while (source_memory_given(r.source) < 500)
        assert_int_equal(worker_step(r.worker, &e), RC_OK);
    assert_int_equal(sink_memory_commits(r.sink), 0);
    sink_memory_fail(r.sink, 0, 1);
    spine_run_to_end(&r);
    check(&r);
    spine_run_close(&r);
}

/* --- I2, I3: crashes on a real store ------------------------------------ */

static void make_dir(char *dir, size_t size)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(dir, size, "%s/millrace-worker-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
}

static void drop_dir(const char *dir)
{
    char command[512];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static struct store *open_store(const char *dir)
{
    const struct store_options o = {.dir = dir, .memory_bytes = 8 << 20};
    struct store *s;
    struct err e;
    if (store_open(&s, &o, &e) != RC_OK) fail_msg("%s", e.text);
    return s;
}

struct rows {
    uint64_t count, sum; /* of hashes of keys with their rows */
};

static enum rc add_row(void *user, struct slice key, struct slice row,
                       struct err *e)
{
    struct rows *r = user;
    (void)e;
    r->count++;
    r->sum += draw(hash64(key), hash64(row), 0);
    return RC_OK;
}

static enum rc add_family(void *user, const char *name,
                          const struct family_meta *meta, bool found,
                          struct err *e)
{
    struct rows **at = user;
    (void)meta;
    (void)found;
    return store_each_row((struct store *)at[1], name, add_row, at[0], e);
}

/* All rows of a store, as one number. */
static struct rows rows_of(const char *dir)
{
    struct store *s = open_store(dir);
    struct rows rows = {0};
    void *at[2] = {&rows, s};
    struct err e;
    if (store_each_family(s, add_family, at, &e) != RC_OK)
        fail_msg("%s", e.text);
    store_close(s);
    return rows;
}

/* Crashes after `steps` steps each time, until the log is done. */
static struct rows run_with_crashes(const struct spine_log *log,
                                    const struct spine_outputs *all,
                                    uint64_t seed, uint32_t crashes)
{
    struct spine_outputs got;
    struct spine_run r;
    struct store *s;
    struct rows rows;
    char dir[256];
    struct err e;
    make_dir(dir, sizeof dir);
    spine_run_open(&r, log, OFTEN);
    for (uint32_t c = 0; c <= crashes; c++) {
        uint64_t steps = draw(seed, c, 0) % 25;
        s = open_store(dir);
        r.options.store = s;
        if (c == 0)
            spine_run_start(&r);
        else
            spine_run_again(&r, log);
        if (c == crashes) break;
        while (steps-- > 0)
            assert_int_equal(worker_step(r.worker, &e), RC_OK);
        spine_run_crash(&r);
        store_close(s);
    }
    spine_run_to_end(&r);
    got = spine_outputs_of(&r, 1);
    spine_outputs_same(all, &got);
    spine_outputs_free(&got);
    if (crashes > 0) assert_true(spine_run_count(&r, COUNT_events_folded) > 0);
    spine_run_close(&r);
    store_close(s);
    rows = rows_of(dir);
    drop_dir(dir);
    return rows;
}

static void crash_through(const struct spine_log *log,
                          const struct spine_outputs *all)
{
    struct rows calm_rows = run_with_crashes(log, all, 0, 0);
    assert_true(calm_rows.count > USERS / 2);
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct rows rows = run_with_crashes(log, all, seed, 2 + seed % 4);
        assert_int_equal(rows.count, calm_rows.count);
        assert_true(rows.sum == calm_rows.sum);
    }
}

static void test_crashes(void **state)
{
    (void)state;
    crash_through(&the_log, &expected);
}

/* Nothing that was forgotten comes back with a fold (I3). */
static void test_crashes_with_tombstones(void **state)
{
    struct spine_log log = with_tombstones();
    struct spine_run r;
    struct spine_outputs all = outputs_with(&r, &log, NULL);
    (void)state;
    crash_through(&log, &all);
    spine_outputs_free(&all);
    spine_run_close(&r);
    free(log.records);
}

/* A log of as many records, but others: the topic was made anew, and what the
 * store holds says nothing about it. The group's offsets fit. */
static void test_another_log_is_refused(void **state)
{
    struct spine_log other;
    struct spine_run r;
    struct store *s;
    char dir[256];
    struct err e;
    (void)state;
    make_dir(dir, sizeof dir);
    s = open_store(dir);
    spine_run_open(&r, &the_log, NULL);
    r.options.store = s;
    spine_run_start(&r);
    spine_run_to_end(&r);
    spine_run_crash(&r);
    spine_run_again(&r, &the_log); /* the same one is taken */
    spine_run_to_end(&r);
    spine_run_crash(&r);
    spine_log_make(&other, EVENTS, USERS, SEED + 1);
    for (uint32_t i = 0; i < EVENTS; i++) { /* the same places */
        other.records[i].partition = the_log.records[i].partition;
        other.records[i].offset = the_log.records[i].offset;
    }
    spine_run_again(&r, &other);
    assert_int_equal(worker_step(r.worker, &e), RC_STOP);
    assert_non_null(strstr(e.text, "made anew"));
    assert_non_null(strstr(e.text, "millrace reset"));
    spine_run_close(&r);
    store_close(s);
    spine_log_free(&other);
    drop_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_offset_order),
        cmocka_unit_test(test_bad_among_good),
        cmocka_unit_test(test_model_without_items),
        cmocka_unit_test(test_forgotten_users_begin_anew),
        cmocka_unit_test(test_bad_tombstones),
        cmocka_unit_test(test_sink_fails),
        cmocka_unit_test(test_sink_stays_broken),
        cmocka_unit_test(test_aborts_fail),
        cmocka_unit_test(test_aborts_stay_broken),
        cmocka_unit_test(test_a_record_comes_twice),
        cmocka_unit_test(test_rebalance),
        cmocka_unit_test(test_rebalance_with_failing_commit),
        cmocka_unit_test(test_crashes),
        cmocka_unit_test(test_crashes_with_tombstones),
        cmocka_unit_test(test_another_log_is_refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
