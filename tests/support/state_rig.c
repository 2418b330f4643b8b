/* state_rig.c - see state_rig.h. */
#include "state_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "hash.h"
#include "train.h"
#include "user_row.h"

void rig_event(struct rig *r, int64_t offset, uint32_t slot, struct event *ev)
{
    uint64_t user = draw(11, (uint64_t)offset, 0) % r->users;
    user =
        user * (draw(11, (uint64_t)offset, 1) % 1000) / 1000; /* some often */
    (void)snprintf(r->names[slot], sizeof r->names[slot], "user-%llu",
                   (unsigned long long)user);
    *ev = (struct event){.user = slice_str(r->names[slot])};
    if (draw(11, (uint64_t)offset, 2) % 23 == 0) ev->bad = BAD_BYTES;
    ev->forget = r->forgets && draw(11, (uint64_t)offset, 6) % 29 == 0;
    ev->past = (struct past_event){
        .time_ms =
            offset * 1000 - (int64_t)(draw(11, (uint64_t)offset, 3) % 4000),
        .amount = (int64_t)(draw(11, (uint64_t)offset, 4) % 9999),
        .item = draw(11, (uint64_t)offset, 5)};
    ev->time_ms = ev->past.time_ms;
}

static struct state_options rig_options(size_t cache_bytes)
{
    return (struct state_options){
        .history = {.events_max = 16,
                    .fields = TRAIN_ITEM | TRAIN_AMOUNT | TRAIN_TIME,
                    .amount_scale = 100},
        .windows = {.count = 2,
                    .length_ms = {60000, 400000},
                    .events_max = 32,
                    .amount_scale = 100,
                    .has_amount = true,
                    .has_time = true,
                    .has_other = true,
                    .values_max = 32},
        .cache_bytes = cache_bytes,
        .checkpoint_rows = 4,
        .checkpoint_age_ms = 100,
        .user_bytes_max = 64,
        .stage = "users",
        .topic = "events"};
}

void rig_init(struct rig *r, const char *dir)
{
    *r = (struct rig){.users = USERS};
    r->options = rig_options(1 << 20);
    r->log = (struct partition_log){.cluster_id = "cluster-1",
                                    .partitions = 8,
                                    .log_end = 1000000,
                                    .committed = -1};
    if (dir) (void)snprintf(r->dir, sizeof r->dir, "%s", dir);
    assert_int_equal(batch_init(&r->b, BATCH, &r->e), RC_OK);
}

enum rc rig_open_store(struct rig *r)
{
    struct store_options o = {.dir = r->dir, .memory_bytes = 8 << 20};
    return store_open(&r->store, &o, &r->e);
}

enum rc rig_open_partition(struct rig *r)
{
    assert_int_equal(state_new(&r->st, r->store, &r->options, &r->e), RC_OK);
    return state_open_partition(r->st, 0, PARTITION, &r->log, &r->p, &r->e);
}

void rig_open(struct rig *r)
{
    if (r->dir[0] && rig_open_store(r) != RC_OK) fail_msg("%s", r->e.text);
    if (rig_open_partition(r) != RC_OK) fail_msg("%s", r->e.text);
}

/* Nothing is written: what a process that dies leaves behind. */
void rig_crash(struct rig *r)
{
    state_free(r->st);
    store_close(r->store);
    r->st = NULL;
    r->store = NULL;
}

void rig_fini(struct rig *r)
{
    rig_crash(r);
    batch_fini(&r->b);
}

void rig_forget(struct rig *r, uint32_t i)
{
    struct user_state *old = r->b.users[i];
    struct user_state *fresh = state_forget(r->st, old, &r->b.events[i].place);
    for (uint32_t k = i; k < r->b.count; k++)
        if (r->b.users[k] == old) r->b.users[k] = fresh;
}

/* The newest time of good events before an offset. Every event is at most
 * four seconds late and one comes a second, so the last few tell. */
static int64_t rig_newest_before(struct rig *r, int64_t offset)
{
    int64_t newest_ms = INT64_MIN;
    for (int64_t o = offset > 40 ? offset - 40 : 0; o < offset; o++) {
        struct event ev;
        rig_event(r, o, 0, &ev);
        if (ev.bad == BAD_NONE && !ev.forget && ev.time_ms > newest_ms)
            newest_ms = ev.time_ms;
    }
    return newest_ms;
}

/* Wherever the partition stands, and however it came there. The event that
 * is read next may be counted already: it changes nothing a second time. */
void rig_assert_stream(struct rig *r)
{
    assert_true(r->p->stream_ms >= rig_newest_before(r, r->p->next));
    assert_true(r->p->stream_ms <= rig_newest_before(r, r->p->next + 1));
}

/* Events [p->next, p->next + count) through recall and apply. */
enum rc rig_try_apply(struct rig *r, uint32_t count)
{
    float row[WINDOW_FEATURES_MAX];
    if (!r->jumps) rig_assert_stream(r);
    batch_reset(&r->b);
    r->b.count = count;
    for (uint32_t i = 0; i < count; i++) {
        r->b.partitions[i] = r->p;
        r->b.records[i].offset = r->p->next;
        rig_event(r, r->p->next, i, &r->b.events[i]);
        state_pass(r->p, &r->b.records[i], &r->b.events[i]);
    }
    TRY(state_recall(r->st, &r->b, &r->e));
    for (uint32_t i = 0; i < count; i++) {
        struct user_state *us = r->b.users[i];
        struct past_event *past = &r->b.events[i].past;
        int64_t offset = r->b.records[i].offset;
        if (!us) continue;
        if (r->b.events[i].forget) {
            rig_forget(r, i);
            continue;
        }
        if (!history_apply(state_history_shape(r->st), &us->history, offset,
                           past))
            continue;
        (void)windows_apply(state_windows_shape(r->st), us->windows, past, row);
        state_touched(r->st, us, &r->b.events[i].place);
    }
    return RC_OK;
}

void rig_apply(struct rig *r, uint32_t count)
{
    if (rig_try_apply(r, count) != RC_OK) fail_msg("%s", r->e.text);
}

static uint32_t rig_batch_to(const struct rig *r, int64_t end)
{
    int64_t left = end - r->p->next;
    return left < BATCH ? (uint32_t)left : BATCH;
}

void rig_commit(struct rig *r)
{
    state_committed(r->st);
    r->log.committed = r->p->committed;
}

/* Up to end, committing after every batch. */
enum rc rig_try_run(struct rig *r, int64_t end, bool checkpoints)
{
    while (r->p->next < end) {
        int64_t until = r->p->next < r->p->committed && r->p->committed < end
                            ? r->p->committed
                            : end;
        TRY(rig_try_apply(r, rig_batch_to(r, until)));
        rig_commit(r);
        if (checkpoints) TRY(state_checkpoint(r->st, false, &r->e));
    }
    return RC_OK;
}

void rig_run(struct rig *r, int64_t end, bool checkpoints)
{
    if (rig_try_run(r, end, checkpoints) != RC_OK) fail_msg("%s", r->e.text);
}

void rig_checkpoint_all(struct rig *r)
{
    assert_int_equal(state_checkpoint(r->st, true, &r->e), RC_OK);
}

uint8_t *rig_row(struct rig *r, uint32_t user, size_t *size)
{
    char name[32];
    struct user_state *us;
    uint8_t *bytes;
    const struct history_shape *hs = state_history_shape(r->st);
    const struct windows_shape *ws = state_windows_shape(r->st);
    (void)snprintf(name, sizeof name, "user-%u", user);
    if (state_peek(r->st, r->p, slice_str(name), &us, &r->e) != RC_OK)
        fail_msg("%s", r->e.text);
    *size = 0;
    if (!us) return NULL;
    *size = user_row_encoded_size(hs, ws, &us->history, us->windows);
    bytes = malloc(*size);
    assert_non_null(bytes);
    (void)user_row_encode(hs, ws, slice_str(name), &us->history, us->windows,
                          bytes);
    return bytes;
}

/* Every user's row is what one fold of the log [0, end) in memory makes. */
void rig_folded(struct rig *r, int64_t end)
{
    struct rig whole;
    rig_init(&whole, NULL);
    whole.users = r->users;
    whole.forgets = r->forgets;
    rig_open(&whole);
    rig_run(&whole, end, false);
    assert_int_equal(r->p->next, end);
    for (uint32_t user = 0; user < r->users; user++) {
        size_t size, expected_size;
        uint8_t *row = rig_row(r, user, &size);
        uint8_t *expected = rig_row(&whole, user, &expected_size);
        assert_int_equal(size, expected_size);
        if (size) assert_memory_equal(row, expected, size);
        free(row);
        free(expected);
    }
    rig_fini(&whole);
}

void rig_shell(const char *format, const char *a, const char *b)
{
    char command[800];
    (void)snprintf(command, sizeof command, format, a, b);
    assert_int_equal(system(command), 0);
}

/* RocksDB may delete a file while it is copied: then all of it again. */
void rig_copy(const char *from, const char *to)
{
    char command[800];
    int rc = -1;
    (void)snprintf(command, sizeof command,
                   "rm -rf '%s' && cp -r '%s' '%s' 2>/dev/null", to, from, to);
    for (int tries = 0; rc != 0 && tries < 20; tries++)
        rc = system(command);
    assert_int_equal(rc, 0);
}

int rig_make_dir(void **state)
{
    /* In memory where there is such a folder: syncing costs nothing there. */
    char *dir = strdup(access("/dev/shm", W_OK) == 0
                           ? "/dev/shm/millrace-test-state-XXXXXX"
                           : "/tmp/millrace-test-state-XXXXXX");
    *state = dir;
    return dir && mkdtemp(dir) ? 0 : -1;
}

int rig_remove_dir(void **state)
{
    rig_shell("rm -rf '%s' '%s-copy'", *state, *state);
    free(*state);
    return 0;
}

void rig_stops(enum rc rc, struct rig *r, const char *words)
{
    assert_int_equal(rc, RC_STOP);
    if (!strstr(r->e.text, words))
        fail_msg("'%s' is not in: %s", words, r->e.text);
}

void rig_refused(struct rig *r, const char *words)
{
    rig_crash(r);
    assert_int_equal(rig_open_store(r), RC_OK);
    rig_stops(rig_open_partition(r), r, words);
    assert_non_null(strstr(r->e.text, "millrace reset"));
}
