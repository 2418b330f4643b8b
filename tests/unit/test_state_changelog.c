/* test_state_changelog.c - goal: whoever takes a partition's rows from the
 * changelog has the bytes that its owner has, whatever happened before; and
 * nothing that does not fit is taken (design: "Moving between hosts", "On
 * assignment").
 * Method: a worker of a few lines over a log of random events, and a changelog
 * in memory that keeps what was sent with a commit, as a compacted topic or
 * whole. A second host is another folder. What every user's row must be is
 * known from one fold of the whole log in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "changelog_copy.h"
#include "hash.h"
#include "log.h"
#include "state.h"
#include "train.h"
#include "user_row.h"

enum {
    BATCH = 16,
    USERS = 40,
    PARTITION = 3,
    RECORDS_MAX = 20000,
    USER_BYTES = 64,
};

/* --- a changelog ------------------------------------------------------- */

struct kept {
    uint8_t *key, *value; /* value NULL: null */
    size_t key_len, value_len;
};

static struct kept records[RECORDS_MAX];
static uint32_t sent, final; /* final <= sent: those of a commit */

static uint8_t *copy_of(struct slice s)
{
    uint8_t *bytes = malloc(s.len ? s.len : 1);
    assert_non_null(bytes);
    if (s.len) memcpy(bytes, s.ptr, s.len);
    return bytes;
}

static enum rc keep(void *user, int32_t partition, struct slice key,
                    struct slice value, struct err *e)
{
    (void)user;
    (void)e;
    assert_int_equal(partition, PARTITION);
    assert_true(sent < RECORDS_MAX);
    records[sent++] = (struct kept){
        copy_of(key), value.ptr ? copy_of(value) : NULL, key.len, value.len};
    return RC_OK;
}

static void forget_after(uint32_t count)
{
    for (; sent > count; sent--) {
        free(records[sent - 1].key);
        free(records[sent - 1].value);
    }
    if (final > sent) final = sent;
}

static struct record record_at(uint32_t i)
{
    return (struct record){
        .partition = PARTITION,
        .offset = i,
        .key = slice_of(records[i].key, records[i].key_len),
        .value = slice_of(records[i].value, records[i].value_len)};
}

/* As compaction leaves it: the newest of every key. */
static bool is_newest(uint32_t i)
{
    for (uint32_t k = i + 1; k < final; k++)
        if (slice_equal(record_at(i).key, record_at(k).key)) return false;
    return true;
}

static struct changelog_record decoded(uint32_t i)
{
    struct changelog_record c;
    struct record r = record_at(i);
    struct err e;
    if (changelog_decode(&c, "rows", &r, USER_BYTES, &e) != RC_OK)
        fail_msg("%s", e.text);
    return c;
}

static bool newest_marker(struct family_meta *out)
{
    for (uint32_t i = final; i-- > 0;) {
        struct changelog_record c = decoded(i);
        if (c.kind != CHANGELOG_MARKER) continue;
        *out = c.marker;
        return true;
    }
    return false;
}

/* --- a log and a worker ------------------------------------------------ */

struct host {
    char dir[64]; /* "": in memory */
    struct store *store;
    struct state *st;
    struct partition *p;
    struct batch b;
    char names[BATCH][16];
    struct partition_log log;
    struct family_meta marker;
    struct state_options options;
    struct err e;
};

static void event_of(struct host *h, int64_t offset, uint32_t slot)
{
    struct event *ev = &h->b.events[slot];
    (void)snprintf(h->names[slot], sizeof h->names[slot], "u%u",
                   (unsigned)(draw(7, (uint64_t)offset, 0) % USERS));
    *ev = (struct event){.user = slice_str(h->names[slot])};
    ev->past = (struct past_event){
        .time_ms = offset * 1000,
        .amount = (int64_t)(draw(7, (uint64_t)offset, 1) % 9999),
        .item = draw(7, (uint64_t)offset, 2)};
    ev->time_ms = ev->past.time_ms;
}

/* The log: another one from offset 0 if user is not NULL. */
static enum rc hash_at(void *user, uint32_t input, int32_t partition,
                       int64_t offset, uint64_t *hash, struct err *e)
{
    (void)input;
    (void)e;
    assert_int_equal(partition, PARTITION);
    *hash = draw(user ? 9 : 8, (uint64_t)offset, 0) | 1;
    return RC_OK;
}

static void host_init(struct host *h, bool on_disk)
{
    *h = (struct host){
        .options = {.history = {.events_max = 16,
                                .fields =
                                    TRAIN_ITEM | TRAIN_AMOUNT | TRAIN_TIME,
                                .amount_scale = 100},
                    .windows = {.count = 1,
                                .length_ms = {60000},
                                .events_max = 32,
                                .amount_scale = 100,
                                .has_amount = true,
                                .has_time = true},
                    .cache_bytes = 1 << 20,
                    .checkpoint_rows = 5,
                    .checkpoint_age_ms = 60000,
                    .user_bytes_max = USER_BYTES,
                    .changelog = on_disk,
                    .row_bytes_max = 1 << 20,
                    .stage = "users",
                    .topic = "events"},
        .log = {.cluster_id = "cluster-1",
                .partitions = 8,
                .log_end = 1000000,
                .committed = -1,
                .hash_at = hash_at}};
    assert_int_equal(batch_init(&h->b, BATCH, &h->e), RC_OK);
    if (!on_disk) return;
    (void)snprintf(h->dir, sizeof h->dir, "%s/millrace-changelog-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(h->dir));
}

/* What an assignment finds: the group's offset and the changelog's end. */
static enum rc try_open(struct host *h)
{
    const struct store_options o = {.dir = h->dir, .memory_bytes = 8 << 20};
    if (h->dir[0] && !h->store)
        assert_int_equal(store_open(&h->store, &o, &h->e), RC_OK);
    if (!h->st)
        assert_int_equal(state_new(&h->st, h->store, &h->options, &h->e),
                         RC_OK);
    h->log.changelog_end = final;
    h->log.marker =
        h->options.changelog && newest_marker(&h->marker) ? &h->marker : NULL;
    return state_open_partition(h->st, 0, PARTITION, &h->log, &h->p, &h->e);
}

static void crash(struct host *h)
{
    state_free(h->st);
    store_close(h->store);
    h->st = NULL;
    h->store = NULL;
}

static void host_fini(struct host *h)
{
    char command[128];
    crash(h);
    batch_fini(&h->b);
    if (!h->dir[0]) return;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", h->dir);
    assert_int_equal(system(command), 0);
}

/* Rows from the changelog, as far as `until`. */
static void copy(struct host *h, bool compacted, uint32_t until)
{
    struct changelog_copy *c = state_copy(h->p);
    for (uint32_t i = (uint32_t)c->next; i < until; i++) {
        struct changelog_record r = decoded(i);
        if (compacted && !is_newest(i)) continue;
        assert_int_equal(changelog_copy_take(c, &r, i, &h->e), RC_OK);
    }
    if (until < final) return;
    assert_int_equal(changelog_copy_end(c, final, &h->e), RC_OK);
    state_restored(h->p);
}

static void open_host(struct host *h)
{
    if (try_open(h) != RC_OK) fail_msg("%s", h->e.text);
    if (h->p->restoring) copy(h, false, final);
}

static void apply(struct host *h, uint32_t count)
{
    float row[WINDOW_FEATURES_MAX];
    batch_reset(&h->b);
    h->b.count = count;
    for (uint32_t i = 0; i < count; i++) {
        h->b.partitions[i] = h->p;
        event_of(h, h->p->next + i, i);
    }
    if (state_recall(h->st, &h->b, &h->e) != RC_OK) fail_msg("%s", h->e.text);
    for (uint32_t i = 0; i < count; i++) {
        struct user_state *us = h->b.users[i];
        struct past_event *past = &h->b.events[i].past;
        int64_t offset = h->p->next + i;
        if (past->time_ms > h->p->stream_ms) h->p->stream_ms = past->time_ms;
        if (!history_apply(state_history_shape(h->st), &us->history, offset,
                           past))
            continue;
        (void)windows_apply(state_windows_shape(h->st), us->windows, past, row);
        state_touched(h->st, us,
                      &(struct log_place){offset, h->p->stream_ms, 0});
    }
    h->p->next += count;
    h->p->seen_offset = h->p->next - 1;
    (void)hash_at(h->log.user, 0, PARTITION, h->p->seen_offset,
                  &h->p->seen_hash, &h->e);
}

/* An event a second: the newest marker knows the newest time before the place
 * that it names, the event there perhaps included. */
static void expect_time_of_marker(const struct host *h)
{
    struct family_meta m;
    if (h->options.admit || !newest_marker(&m) || m.checkpoint == 0) return;
    assert_in_range(m.stream_ms, (m.checkpoint - 1) * 1000,
                    m.checkpoint * 1000);
}

/* commits: false, the transaction is aborted. */
static void commit(struct host *h, bool all, bool commits)
{
    state_choose(h->st, all);
    assert_int_equal(state_send(h->st, keep, NULL, &h->e), RC_OK);
    if (!commits) {
        forget_after(final);
        state_rewind(h->st);
        return;
    }
    final = sent;
    expect_time_of_marker(h);
    state_committed(h->st);
    h->log.committed = h->p->committed;
    assert_int_equal(state_checkpoint(h->st, false, &h->e), RC_OK);
}

/* every: commits between two that store all that is dirty. */
static void run(struct host *h, int64_t end, uint32_t every)
{
    for (uint32_t n = 1; h->p->next < end; n++) {
        int64_t left = end - h->p->next;
        apply(h, left < BATCH ? (uint32_t)left : BATCH);
        commit(h, every > 0 && n % every == 0, true);
    }
}

static void leave(struct host *h)
{
    h->p->leaving = true;
    commit(h, false, true);
    assert_int_equal(state_close_partition(h->st, h->p, true, &h->e), RC_OK);
}

static uint8_t *row_of(struct host *h, uint32_t user, size_t *size)
{
    char name[16];
    struct user_state *us;
    uint8_t *bytes;
    const struct history_shape *hs = state_history_shape(h->st);
    const struct windows_shape *ws = state_windows_shape(h->st);
    (void)snprintf(name, sizeof name, "u%u", user);
    if (state_peek(h->st, h->p, slice_str(name), &us, &h->e) != RC_OK)
        fail_msg("%s", h->e.text);
    *size = 0;
    if (!us) return NULL;
    *size = user_row_encoded_size(hs, ws, &us->history, us->windows);
    bytes = malloc(*size);
    assert_non_null(bytes);
    (void)user_row_encode(hs, ws, slice_str(name), &us->history, us->windows,
                          bytes);
    return bytes;
}

/* Every user's row is what one fold of [0, end) in memory makes. */
static void expect_folded(struct host *h, int64_t end)
{
    struct host whole;
    host_init(&whole, false);
    open_host(&whole);
    run(&whole, end, 0);
    assert_int_equal(h->p->next, end);
    for (uint32_t user = 0; user < USERS; user++) {
        size_t size, expected_size;
        uint8_t *row = row_of(h, user, &size);
        uint8_t *expected = row_of(&whole, user, &expected_size);
        assert_int_equal(size, expected_size);
        if (size) assert_memory_equal(row, expected, size);
        free(row);
        free(expected);
    }
    host_fini(&whole);
}

static void expect_refused(struct host *h, const char *words)
{
    crash(h);
    assert_int_equal(try_open(h), RC_STOP);
    if (!strstr(h->e.text, words))
        fail_msg("'%s' is not in: %s", words, h->e.text);
    assert_non_null(strstr(h->e.text, "millrace reset"));
}

static int start(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    return 0;
}

static int forget_all(void **state)
{
    (void)state;
    forget_after(0);
    return 0;
}

/* --- moving between hosts ---------------------------------------------- */

/* Whenever the first host dies, the second takes what the changelog has and
 * folds the rest; so it does where the topic has been compacted. */
static void test_another_host_has_the_same_bytes(void **state)
{
    (void)state;
    for (int compacted = 0; compacted < 2; compacted++)
        for (int64_t at = 40; at < 700; at += 131) {
            struct host a, b;
            host_init(&a, true);
            host_init(&b, true);
            open_host(&a);
            run(&a, at, 7);
            apply(&a, 9); /* lost with the host */
            b.log.committed = a.log.committed;
            b.log.log_start = at > 300 ? 150 : 0; /* no fold from the start */
            if (try_open(&b) != RC_OK) fail_msg("%s", b.e.text);
            if (at > 300) assert_true(b.p->restoring);
            if (b.p->restoring) copy(&b, compacted, final);
            assert_in_range(b.p->next, 0, at);
            run(&b, 800, 7);
            expect_folded(&b, 800);
            host_fini(&a);
            host_fini(&b);
            forget_after(0);
        }
}

/* A partition that goes to and fro: each host's copy is stale when it comes
 * back, and the other's rows count. */
static void test_to_and_fro(void **state)
{
    struct host hosts[2];
    int64_t committed = -1;
    (void)state;
    host_init(&hosts[0], true);
    host_init(&hosts[1], true);
    for (uint32_t i = 0; i < 9; i++) {
        struct host *h = &hosts[i % 2];
        h->log.committed = committed;
        open_host(h);
        run(h, 100 * (i + 1), 3);
        committed = h->log.committed;
        if (i < 8 && i % 3 == 2)
            crash(h); /* not handed over */
        else if (i < 8)
            leave(h);
    }
    expect_folded(&hosts[0], 900);
    host_fini(&hosts[0]);
    host_fini(&hosts[1]);
}

/* What a transaction took back is not there, and what was folded meanwhile
 * is: rows are as of commits. */
static void test_aborted_slices_leave_nothing(void **state)
{
    struct host a, b;
    (void)state;
    host_init(&a, true);
    host_init(&b, true);
    open_host(&a);
    for (uint32_t n = 0; a.p->next < 500 || a.p->next < a.p->committed; n++) {
        uint32_t before = final;
        int64_t left = a.p->committed - a.p->next;
        bool folds = left > 0;
        apply(&a, folds && left < BATCH ? (uint32_t)left : BATCH);
        folds = a.p->next < a.p->committed;
        commit(&a, n % 2 == 0, folds || n % 5 != 2);
        /* A partition that folds adds nothing. */
        if (folds) assert_int_equal(final, before);
    }
    commit(&a, true, true);
    b.log = a.log;
    b.log.log_start = 1; /* so it must restore */
    open_host(&b);
    expect_folded(&b, a.p->next);
    host_fini(&a);
    host_fini(&b);
}

/* Cut off anywhere, a copy goes on where it was. */
static void test_an_interrupted_copy_goes_on(void **state)
{
    struct host a, b;
    int64_t reached = 0;
    (void)state;
    host_init(&a, true);
    open_host(&a);
    run(&a, 6000, 1);
    assert_true(final > 2500);
    host_init(&b, true);
    b.log = a.log;
    b.log.log_start = 10;
    for (uint32_t until = 1100; until < final; until += 1100) {
        if (try_open(&b) != RC_OK) fail_msg("%s", b.e.text);
        assert_true(b.p->restoring);
        assert_true(state_copy(b.p)->next >= reached);
        reached = state_copy(b.p)->next;
        assert_in_range(reached, 0, until - 1100);
        copy(&b, false, until);
        if (until % 2200)
            crash(&b);
        else /* the partition is taken away meanwhile */
            assert_int_equal(state_close_partition(b.st, b.p, true, &b.e),
                             RC_OK);
    }
    assert_true(reached > 1000); /* it was not read anew each time */
    open_host(&b);
    expect_folded(&b, 6000);
    host_fini(&a);
    host_fini(&b);
}

/* --- what the changelog lacks ------------------------------------------ */

/* Switched on where rows are stored already: it says nothing before it has
 * all of them. */
static void test_a_changelog_that_is_switched_on(void **state)
{
    struct host a, b;
    (void)state;
    host_init(&a, true);
    a.options.changelog = false;
    open_host(&a);
    run(&a, 300, 2);
    assert_int_equal(final, 0);
    crash(&a);
    a.options.changelog = true;
    open_host(&a);
    while (a.p->next < a.p->committed) { /* nothing while it folds */
        int64_t left = a.p->committed - a.p->next;
        apply(&a, left < BATCH ? (uint32_t)left : BATCH);
        if (a.p->next < a.p->committed) assert_false(state_due(a.st));
    }
    assert_true(state_due(a.st)); /* although no event comes */
    commit(&a, false, true);
    assert_true(newest_marker(&a.marker));
    run(&a, 340, 0);
    host_init(&b, true);
    b.log = a.log;
    b.log.log_start = 1;
    open_host(&b);
    run(&b, 340, 0);
    expect_folded(&b, 340);
    host_fini(&a);
    host_fini(&b);
}

/* A row that is too large: the marker stays before its events, and who takes
 * over folds them. */
static void test_a_row_too_large(void **state)
{
    struct host a, b;
    struct family_meta before, after;
    (void)state;
    host_init(&a, true);
    open_host(&a);
    run(&a, 160, 1);
    assert_true(newest_marker(&before));
    a.options.row_bytes_max = 1;
    crash(&a);
    open_host(&a);
    run(&a, 400, 1);
    assert_true(state_stats(a.st).rows_kept_out_total > 0);
    assert_true(newest_marker(&after));
    assert_true(after.checkpoint >= before.checkpoint);
    assert_true(after.checkpoint <= 160 + USERS);
    host_init(&b, true);
    b.log = a.log;
    b.log.log_start = 100;
    open_host(&b);
    assert_true(b.p->next <= after.checkpoint);
    run(&b, 400, 0);
    expect_folded(&b, 400);
    /* Allowed again, all goes out with the next commits. */
    a.options.row_bytes_max = 1 << 20;
    crash(&a);
    open_host(&a);
    commit(&a, true, true);
    assert_true(newest_marker(&after));
    assert_int_equal(after.checkpoint, 400);
    host_fini(&a);
    host_fini(&b);
}

/* Forgotten in the changelog: the row goes from a copy that had it. */
static void test_a_row_that_is_gone(void **state)
{
    struct host a, b;
    size_t size;
    uint8_t *row;
    uint8_t key[USER_BYTES + CHANGELOG_KEY_EXTRA];
    struct changelog_record marker;
    uint8_t bytes[FAMILY_META_BYTES_MAX];
    (void)state;
    host_init(&a, true);
    open_host(&a);
    run(&a, 300, 1);
    assert_true(newest_marker(&marker.marker));
    (void)keep(NULL, PARTITION, changelog_row_key(slice_str("u3"), key),
               slice_of(NULL, 0), &a.e);
    (void)keep(NULL, PARTITION, changelog_marker_key(),
               slice_of(bytes, family_meta_encode(&marker.marker, bytes)),
               &a.e);
    final = sent;
    host_init(&b, true);
    b.log = a.log;
    b.log.log_start = 1;
    open_host(&b);
    assert_null(row_of(&b, 3, &size));
    row = row_of(&a, 3, &size);
    assert_non_null(row);
    free(row);
    host_fini(&a);
    host_fini(&b);
}

/* Rows that expire are null in the changelog with the next commit, and a host
 * that takes it has none of them. */
static void test_expired_rows_go(void **state)
{
    const struct admit admit = {.ttl_ms = 1000000};
    struct host a, b;
    size_t size;
    uint32_t gone = 0;
    (void)state;
    host_init(&a, true);
    a.options.admit = &admit;
    open_host(&a);
    run(&a, 304, 1);
    a.p->stream_ms = a.p->committed_stream_ms = 1000000000; /* time goes on */
    apply(&a, 1);
    commit(&a, true, true); /* looks for rows that expired */
    apply(&a, 1);
    commit(&a, true, true); /* sends what became of them */
    host_init(&b, true);
    b.log = a.log;
    b.log.log_start = 1;
    open_host(&b);
    for (uint32_t user = 0; user < USERS; user++) {
        uint8_t *row = row_of(&b, user, &size);
        gone += !row;
        free(row);
    }
    assert_int_equal(state_stats(a.st).rows_expired_total, USERS);
    assert_int_equal(gone, USERS - 1); /* the last event's user is back */
    host_fini(&a);
    host_fini(&b);
}

/* --- on assignment ----------------------------------------------------- */

static void test_log_shorter_than_the_distance(void **state)
{
    struct host a, b;
    (void)state;
    host_init(&a, true);
    host_init(&b, true);
    open_host(&a);
    run(&a, 200, 1);
    leave(&a);
    b.log = a.log;
    open_host(&b);
    run(&b, 500, 1);
    /* a's own rows need the log from 200, which has gone: the changelog's. */
    a.log = b.log;
    a.log.log_start = 450;
    crash(&a);
    open_host(&a);
    assert_in_range(a.p->next, 450, 500);
    run(&a, 500, 0);
    expect_folded(&a, 500);
    /* And where the changelog is too old as well, nobody guesses. */
    a.log.log_start = 501;
    a.log.committed = 600;
    expect_refused(&a, "retention was faster");
    host_fini(&a);
    host_fini(&b);
}

static void test_what_does_not_fit_is_refused(void **state)
{
    static int other_log;
    struct host a, b;
    (void)state;
    host_init(&a, true);
    host_init(&b, true);
    open_host(&a);
    run(&a, 300, 1);
    for (int local = 0; local < 2; local++) {
        struct host *h = local ? &a : &b; /* with rows of its own or without */
        h->log = a.log;
        h->log.user = &other_log;
        expect_refused(h, "made anew"); /* a recreated topic */
        h->log.user = NULL;
        h->log.partitions = 9;
        expect_refused(h, "now it has 9");
        h->log.partitions = 8;
        h->log.committed = 250; /* an operator's reset */
        expect_refused(h, "committed only up to 250");
        h->log.committed = -1;
        expect_refused(h, "no committed offset");
        h->log.committed = 300;
        h->log.cluster_id = "cluster-2";
        expect_refused(h, "cluster-2");
        h->log.cluster_id = "cluster-1";
        h->log.log_end = 299;
        expect_refused(h, "made anew");
        h->log.log_end = 1000000;
    }
    b.options.history.events_max = 17;
    expect_refused(&b, "history.events=17");
    host_fini(&a);
    host_fini(&b);
}

/* Rows of another cluster on this host's disk: the changelog's are taken and
 * nothing of the others stays. */
static void test_rows_of_another_cluster_are_replaced(void **state)
{
    struct host a, b;
    (void)state;
    host_init(&b, true);
    b.log.cluster_id = "cluster-0";
    b.options.changelog = false;
    open_host(&b);
    run(&b, 333, 1);
    crash(&b);
    host_init(&a, true);
    open_host(&a);
    run(&a, 100, 1);
    b.options.changelog = true;
    b.log = a.log;
    open_host(&b);
    expect_folded(&b, 100);
    host_fini(&a);
    host_fini(&b);
}

int main(void)
{
#define WITH_CHANGELOG(test) cmocka_unit_test_teardown(test, forget_all)
    const struct CMUnitTest tests[] = {
        WITH_CHANGELOG(test_another_host_has_the_same_bytes),
        WITH_CHANGELOG(test_to_and_fro),
        WITH_CHANGELOG(test_aborted_slices_leave_nothing),
        WITH_CHANGELOG(test_an_interrupted_copy_goes_on),
        WITH_CHANGELOG(test_a_changelog_that_is_switched_on),
        WITH_CHANGELOG(test_a_row_too_large),
        WITH_CHANGELOG(test_a_row_that_is_gone),
        WITH_CHANGELOG(test_expired_rows_go),
        WITH_CHANGELOG(test_log_shorter_than_the_distance),
        WITH_CHANGELOG(test_what_does_not_fit_is_refused),
        WITH_CHANGELOG(test_rows_of_another_cluster_are_replaced),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
