/* test_snapshot.c - goal: a snapshot is read back as it was written or not at
 * all; from one a state goes on as if it had never been away; and a forgotten
 * user leaves it.
 * Method: the rig's log. Snapshots of a store at work and of rows in memory at
 * the same offset must hold the same rows; a store and a fold in memory that
 * begin with one must end as a fold of the whole log does. Every file is cut
 * and flipped. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hash.h"
#include "snapshot_call.h"
#include "state_rig.h"
#include "user_row.h"

static const struct snapshot_info ABOUT = {.stage = "users",
                                           .topic = "events",
                                           .made_ms = 1700000000000,
                                           .schema_hash = "00ff",
                                           .model_hash = "m",
                                           .policy_hash = "p"};

static void path_in(void **state, const char *name, char out[400])
{
    (void)snprintf(out, 400, "%s/%s", (char *)*state, name);
}

static void add_view(void *user, struct store_view *v)
{
    struct store_view **to = user;
    *to = v;
}

struct putting {
    struct snapshot_writer *writer;
    int32_t partition;
};

static enum rc put_row(void *user, struct slice key, struct slice row,
                       struct err *e)
{
    const struct putting *p = user;
    return snapshot_put(p->writer, p->partition, key, row, e);
}

static struct snapshot_part part_of(const struct rig *r)
{
    const struct family_meta *m = state_meta(r->p);
    return (struct snapshot_part){.partition = PARTITION,
                                  .offset = r->p->next,
                                  .stream_ms = r->p->stream_ms,
                                  .seen_offset = m->seen_offset,
                                  .seen_hash = m->seen_hash};
}

static void finish(struct rig *r, struct snapshot_writer *w)
{
    struct snapshot_info info = ABOUT;
    const struct family_meta *m = state_meta(r->p);
    (void)snprintf(info.cluster_id, sizeof info.cluster_id, "%s",
                   m->cluster_id);
    (void)snprintf(info.shape, sizeof info.shape, "%s", m->shape);
    info.partitions = m->partitions;
    if (snapshot_finish(w, &info, &r->e) != RC_OK) fail_msg("%s", r->e.text);
}

/* Of the store, through a view. */
static void snapshot_of_store(struct rig *r, const char *dir)
{
    struct snapshot_part part = part_of(r);
    struct putting p = {.partition = PARTITION};
    struct store_view *v = NULL;
    rig_apply(r, 10); /* rows that are ahead of what is stored */
    assert_int_equal(state_views(r->st, add_view, &v, &r->e), RC_AGAIN);
    state_rewind(r->st);
    rig_run(r, part.offset, false);
    rig_checkpoint_all(r);
    assert_int_equal(state_views(r->st, add_view, &v, &r->e), RC_OK);
    assert_int_equal(store_view_meta(v)->applied, r->p->next);
    rig_run(r, r->p->next + 100, true); /* the view stays as it was */
    assert_int_equal(snapshot_create(&p.writer, dir, &r->e), RC_OK);
    assert_int_equal(snapshot_begin(p.writer, &part, &r->e), RC_OK);
    assert_int_equal(store_view_each(v, put_row, &p, &r->e), RC_OK);
    store_view_free(v);
    finish(r, p.writer);
}

/* Of rows in memory. */
static void snapshot_of_memory(struct rig *r, const char *dir, bool anew)
{
    struct snapshot_part part = part_of(r);
    struct putting p = {.partition = PARTITION};
    struct state_export x = {.row = put_row, .user = &p, .anew = anew};
    if (anew) part.offset = 0;
    assert_int_equal(snapshot_create(&p.writer, dir, &r->e), RC_OK);
    assert_int_equal(snapshot_begin(p.writer, &part, &r->e), RC_OK);
    assert_int_equal(state_export(r->st, r->p, &x, &r->e), RC_OK);
    finish(r, p.writer);
}

static struct snapshot *open_at(struct rig *r, const char *dir)
{
    struct snapshot *s;
    if (snapshot_open(&s, dir, &r->e) != RC_OK) fail_msg("%s", r->e.text);
    return s;
}

/* --- the same rows, wherever they come from ----------------------------- */

static void test_store_and_memory_agree(void **state)
{
    char stored[400], folded[400];
    struct rig r, whole;
    struct snapshot *a, *b;
    const struct snapshot_part *x, *y;
    path_in(state, "stored", stored);
    path_in(state, "folded", folded);
    rig_init(&r, *state);
    r.forgets = true;
    rig_open(&r);
    rig_run(&r, 700, true);
    snapshot_of_store(&r, stored);
    rig_init(&whole, NULL);
    whole.forgets = true;
    rig_open(&whole);
    rig_run(&whole, 700, false);
    snapshot_of_memory(&whole, folded, false);
    a = open_at(&r, stored);
    b = open_at(&r, folded);
    x = snapshot_find_part(a, PARTITION);
    y = snapshot_find_part(b, PARTITION);
    assert_non_null(x);
    assert_int_equal(x->offset, 700);
    assert_int_equal(y->offset, 700);
    assert_true(x->rows > USERS / 2);
    assert_int_equal(x->rows, y->rows);
    assert_true(x->rows_hash == y->rows_hash);
    assert_int_equal(x->stream_ms, y->stream_ms);
    assert_null(snapshot_find_part(a, PARTITION + 1));
    assert_null(snapshot_find(a, PARTITION, slice_str("nobody")).ptr);
    snapshot_close(a);
    snapshot_close(b);
    rig_fini(&whole);
    rig_fini(&r);
}

/* What is committed but folding is not as of one commit. */
static void test_a_folding_partition_waits(void **state)
{
    struct store_view *v = NULL;
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 300, true);
    rig_crash(&r);
    rig_open(&r);
    assert_true(r.p->next < r.p->committed);
    assert_int_equal(state_views(r.st, add_view, &v, &r.e), RC_AGAIN);
    assert_null(v);
    rig_fini(&r);
}

/* --- of a process at work ---------------------------------------------- */

struct asking {
    struct snapshot_call *call;
    const char *dir;
    int64_t wait_ms;
    enum rc rc;
    struct err e;
};

static void *ask(void *user)
{
    struct asking *a = user;
    a->rc = snapshot_call_make(a->call, a->dir, &ABOUT, a->wait_ms, &a->e);
    return NULL;
}

/* As worker 0 of the call does at a commit. */
static void answer(struct rig *r, struct snapshot_call *call)
{
    rig_checkpoint_all(r);
    assert_int_equal(state_views(r->st, snapshot_call_add, call, &r->e), RC_OK);
    snapshot_call_answer(call, 0);
}

static void test_a_call(void **state)
{
    char dir[400];
    atomic_bool stop = false;
    struct asking a = {.dir = dir, .wait_ms = 20000};
    struct snapshot *s;
    struct stat about;
    struct rig r;
    pthread_t thread;
    path_in(state, "snapshot", dir);
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 300, true);
    a.call = snapshot_call_new(1, &stop);
    assert_false(snapshot_call_waits(a.call, 0));
    assert_int_equal(pthread_create(&thread, NULL, ask, &a), 0);
    while (!snapshot_call_waits(a.call, 0))
        (void)usleep(1000);
    answer(&r, a.call);
    assert_false(snapshot_call_waits(a.call, 0));
    rig_run(&r, 600, true); /* events go on while it is written */
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (a.rc != RC_OK) fail_msg("%s", a.e.text);
    s = open_at(&r, dir);
    assert_int_equal(snapshot_find_part(s, PARTITION)->offset, 300);
    assert_string_equal(snapshot_info(s)->cluster_id, "cluster-1");
    snapshot_close(s);
    /* One that nobody answers leaves nothing, and a late answer neither. */
    path_in(state, "late", dir);
    a.wait_ms = 60;
    (void)ask(&a);
    assert_int_equal(a.rc, RC_AGAIN);
    assert_non_null(strstr(a.e.text, "did not come to a commit"));
    answer(&r, a.call);
    assert_int_equal(stat(dir, &about), -1);
    /* A process that is to end does not wait. */
    a.wait_ms = 20000;
    stop = true;
    (void)ask(&a);
    assert_int_equal(a.rc, RC_AGAIN);
    assert_non_null(strstr(a.e.text, "stops"));
    snapshot_call_free(a.call);
    rig_fini(&r);
}

/* --- going on from one ------------------------------------------------- */

static void test_memory_goes_on(void **state)
{
    char dir[400];
    struct rig r, after;
    struct snapshot *s;
    path_in(state, "snapshot", dir);
    rig_init(&r, *state);
    r.forgets = true;
    rig_open(&r);
    rig_run(&r, 500, true);
    snapshot_of_store(&r, dir);
    s = open_at(&r, dir);
    rig_init(&after, NULL);
    after.forgets = true;
    after.options.base = s;
    after.options.cache_bytes = 1 << 14; /* its clean rows come and go */
    rig_open(&after);
    assert_int_equal(after.p->next, 500);
    assert_int_equal(after.p->committed, 500);
    rig_run(&after, 600, false);
    rig_apply(&after, 20);
    state_rewind(after.st); /* back to what the snapshot has */
    assert_true(after.p->next >= 500);
    rig_run(&after, 900, false);
    rig_folded(&after, 900);
    rig_fini(&after);
    snapshot_close(s);
    rig_fini(&r);
}

/* A snapshot of a state that itself began with one. */
static void test_a_snapshot_of_a_continuation(void **state)
{
    char first[400], second[400], whole_dir[400];
    struct rig r, after, whole;
    struct snapshot *s, *t, *u;
    path_in(state, "first", first);
    path_in(state, "second", second);
    path_in(state, "whole", whole_dir);
    rig_init(&r, NULL);
    r.forgets = true;
    rig_open(&r);
    rig_run(&r, 400, false);
    snapshot_of_memory(&r, first, false);
    s = open_at(&r, first);
    rig_init(&after, NULL);
    after.forgets = true;
    after.options.base = s;
    rig_open(&after);
    rig_run(&after, 800, false);
    snapshot_of_memory(&after, second, false);
    rig_init(&whole, NULL);
    whole.forgets = true;
    rig_open(&whole);
    rig_run(&whole, 800, false);
    snapshot_of_memory(&whole, whole_dir, false);
    t = open_at(&r, second);
    u = open_at(&r, whole_dir);
    assert_int_equal(snapshot_parts(t, &(uint32_t){0})->rows,
                     snapshot_parts(u, &(uint32_t){0})->rows);
    assert_true(snapshot_parts(t, &(uint32_t){0})->rows_hash ==
                snapshot_parts(u, &(uint32_t){0})->rows_hash);
    snapshot_close(t);
    snapshot_close(u);
    rig_fini(&whole);
    rig_fini(&after);
    snapshot_close(s);
    rig_fini(&r);
}

static void seed(struct rig *r, const char *dir, uint32_t expected)
{
    struct snapshot *s = open_at(r, dir);
    uint32_t taken;
    if (snapshot_seed(r->store, dir, "events", snapshot_info(s)->shape, &taken,
                      &r->e) != RC_OK)
        fail_msg("%s", r->e.text);
    assert_int_equal(taken, expected);
    snapshot_close(s);
}

static void start_seeded(struct rig *r, const char *dir, uint32_t expected)
{
    assert_int_equal(rig_open_store(r), RC_OK);
    seed(r, dir, expected);
    if (rig_open_partition(r) != RC_OK) fail_msg("%s", r->e.text);
}

static void test_a_store_goes_on(void **state)
{
    char dir[400], other[400];
    struct rig r, after;
    path_in(state, "snapshot", dir);
    path_in(state, "other", other);
    rig_init(&r, NULL);
    rig_open(&r);
    rig_run(&r, 500, false);
    snapshot_of_memory(&r, dir, false);
    rig_init(&after, other);
    start_seeded(&after, dir, 1); /* a group that never committed */
    assert_int_equal(after.p->next, 500);
    assert_int_equal(after.p->committed, 500);
    rig_run(&after, 800, true);
    rig_folded(&after, 800);
    rig_checkpoint_all(&after);
    rig_crash(&after);
    start_seeded(&after, dir, 0); /* it has its own now */
    assert_int_equal(after.p->next, 800);
    rig_crash(&after);
    /* From then on a group without offsets is what it was before: refused. */
    after.log.committed = -1;
    rig_refused(&after, "no committed offset");
    rig_fini(&after);
    rig_fini(&r);
}

/* A group that is further on folds from there; one behind it is refused, and
 * so is a log that does not reach so far. */
static void test_seeds_and_offsets(void **state)
{
    char dir[400], other[400];
    struct rig r, after;
    path_in(state, "snapshot", dir);
    path_in(state, "other", other);
    rig_init(&r, NULL);
    rig_open(&r);
    rig_run(&r, 500, false);
    snapshot_of_memory(&r, dir, false);
    rig_init(&after, other);
    after.log.committed = 700;
    after.log.log_start = 450; /* without it the state could not be had */
    start_seeded(&after, dir, 1);
    assert_int_equal(after.p->next, 500);
    assert_int_equal(after.p->committed, 700);
    rig_run(&after, 750, true);
    rig_folded(&after, 750);
    rig_crash(&after);
    rig_shell("rm -rf '%s'%.0s", other, "");
    after.log.committed = 499;
    assert_int_equal(rig_open_store(&after), RC_OK);
    seed(&after, dir, 1);
    rig_stops(rig_open_partition(&after), &after, "leads the log");
    rig_crash(&after);
    rig_shell("rm -rf '%s'%.0s", other, "");
    after.log.committed = -1;
    after.log.log_end = 499;
    assert_int_equal(rig_open_store(&after), RC_OK);
    seed(&after, dir, 1);
    rig_stops(rig_open_partition(&after), &after, "another topic");
    rig_fini(&after);
    rig_fini(&r);
}

/* For a new topic: the first record there is the next event of all. */
static void test_a_warm_start_of_another_topic(void **state)
{
    char dir[400], other[400];
    struct rig r, after;
    uint8_t *row;
    struct user_state *us;
    size_t size;
    path_in(state, "snapshot", dir);
    path_in(state, "other", other);
    rig_init(&r, NULL);
    rig_open(&r);
    rig_run(&r, 500, false);
    snapshot_of_memory(&r, dir, true);
    rig_init(&after, other);
    after.jumps = true;
    start_seeded(&after, dir, 1);
    assert_int_equal(after.p->next, 0);
    assert_int_equal(state_peek(r.st, r.p, slice_str("user-0"), &us, &r.e),
                     RC_OK);
    size = us->history.events_total;
    assert_int_equal(
        state_peek(after.st, after.p, slice_str("user-0"), &us, &r.e), RC_OK);
    assert_int_equal(us->history.events_total, size);
    assert_int_equal(us->history.applied_offset, -1);
    rig_run(&after, 100, true); /* none of its first events is a redelivery */
    rig_checkpoint_all(&after);
    row = rig_row(&after, 0, &size);
    free(row);
    assert_int_equal(
        state_peek(after.st, after.p, slice_str("user-0"), &us, &r.e), RC_OK);
    assert_true(us->history.applied_offset >= 0);
    rig_fini(&after);
    rig_fini(&r);
}

/* Killed while rows were put in: nobody finds them. */
static void test_a_seed_is_whole_or_absent(void **state)
{
    struct store_seed *d;
    struct rig r;
    rig_init(&r, *state);
    assert_int_equal(rig_open_store(&r), RC_OK);
    assert_int_equal(store_seed_begin(&d, r.store, "users/events/3", &r.e),
                     RC_OK);
    for (int i = 0; i < 1000; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "user-%d", i);
        assert_int_equal(
            store_seed_row(d, slice_str(name), slice_str("rubbish"), &r.e),
            RC_OK);
    }
    store_seed_abandon(d);
    rig_crash(&r);
    rig_open(&r);
    rig_run(&r, 200, true);
    rig_folded(&r, 200);
    rig_fini(&r);
}

/* --- what does not fit ------------------------------------------------- */

static void test_refused(void **state)
{
    char dir[400];
    struct snapshot *s;
    struct rig r, after;
    path_in(state, "snapshot", dir);
    rig_init(&r, NULL);
    rig_open(&r);
    rig_run(&r, 200, false);
    snapshot_of_memory(&r, dir, false);
    s = open_at(&r, dir);
    rig_stops(snapshot_check(s, "others", snapshot_info(s)->shape, &r.e), &r,
              "of topic events");
    rig_stops(snapshot_check(s, "events", "history.events=17", &r.e), &r,
              "history.events=16");
    rig_init(&after, NULL);
    after.options.base = s;
    after.log.partitions = 9;
    rig_stops(rig_open_partition(&after), &after, "now it has 9");
    state_free(after.st);
    after.st = NULL;
    after.log.partitions = 8;
    after.log.cluster_id = "cluster-2";
    rig_stops(rig_open_partition(&after), &after, "cluster-2");
    rig_fini(&after);
    snapshot_close(s);
    rig_stops(snapshot_create(&(struct snapshot_writer *){NULL}, dir, &r.e), &r,
              "there already");
    rig_fini(&r);
}

/* Half of one is none. */
static void test_abandoned(void **state)
{
    char dir[400];
    struct snapshot_writer *w;
    struct snapshot_part part = {.partition = 1};
    struct stat about;
    struct err e;
    path_in(state, "snapshot", dir);
    assert_int_equal(snapshot_create(&w, dir, &e), RC_OK);
    assert_int_equal(snapshot_begin(w, &part, &e), RC_OK);
    assert_int_equal(stat(dir, &about), -1);
    snapshot_abandon(w);
    assert_int_equal(stat(dir, &about), -1);
    (void)strcat(dir, ".part");
    assert_int_equal(stat(dir, &about), -1);
}

/* A byte of each file changed, or a file cut: never a snapshot. */
static void test_damage(void **state)
{
    char dir[400], path[500];
    const char *files[] = {"partition-3.0.rows", "manifest.json"};
    struct rig r;
    path_in(state, "snapshot", dir);
    rig_init(&r, NULL);
    rig_open(&r);
    rig_run(&r, 150, false);
    snapshot_of_memory(&r, dir, false);
    for (int f = 0; f < 2; f++) {
        struct stat about;
        struct snapshot *s;
        FILE *file;
        (void)snprintf(path, sizeof path, "%s/%s", dir, files[f]);
        assert_int_equal(stat(path, &about), 0);
        for (long at = 0; f == 0 && at < about.st_size; at += 97) {
            int byte;
            file = fopen(path, "r+");
            assert_non_null(file);
            assert_int_equal(fseek(file, at, SEEK_SET), 0);
            byte = fgetc(file);
            (void)fseek(file, at, SEEK_SET);
            (void)fputc(byte ^ 4, file);
            (void)fclose(file);
            assert_int_equal(snapshot_open(&s, dir, &r.e), RC_STOP);
            file = fopen(path, "r+");
            (void)fseek(file, at, SEEK_SET);
            (void)fputc(byte, file);
            (void)fclose(file);
        }
        snapshot_close(open_at(&r, dir));
        rig_shell("cp '%s' '%s/kept'", path, *state);
        assert_int_equal(truncate(path, about.st_size / 2), 0);
        rig_stops(snapshot_open(&s, dir, &r.e), &r, files[f]);
        assert_int_equal(truncate(path, 0), 0);
        rig_stops(snapshot_open(&s, dir, &r.e), &r, files[f]);
        rig_shell("mv '%s/kept' '%s'", *state, path);
    }
    rig_fini(&r);
}

/* --- forgetting -------------------------------------------------------- */

static void test_forget(void **state)
{
    char dir[400], command[600];
    struct rig r;
    struct snapshot *s;
    uint64_t rows;
    uint32_t removed;
    path_in(state, "snapshot", dir);
    rig_init(&r, NULL);
    rig_open(&r);
    rig_run(&r, 300, false);
    snapshot_of_memory(&r, dir, false);
    s = open_at(&r, dir);
    rows = snapshot_find_part(s, PARTITION)->rows;
    assert_non_null(snapshot_find(s, PARTITION, slice_str("user-17")).ptr);
    snapshot_close(s);
    assert_int_equal(snapshot_forget(dir, slice_str("user-17"), &removed, &r.e),
                     RC_OK);
    assert_int_equal(removed, 1);
    s = open_at(&r, dir);
    assert_int_equal(snapshot_find_part(s, PARTITION)->rows, rows - 1);
    assert_null(snapshot_find(s, PARTITION, slice_str("user-17")).ptr);
    assert_non_null(snapshot_find(s, PARTITION, slice_str("user-1")).ptr);
    snapshot_close(s);
    (void)snprintf(command, sizeof command, "grep -raqF user-17 '%s'", dir);
    assert_int_not_equal(system(command), 0);
    assert_int_equal(snapshot_forget(dir, slice_str("user-17"), &removed, &r.e),
                     RC_OK);
    assert_int_equal(removed, 0);
    rig_fini(&r);
}

int main(void)
{
#define TEST(function)                                                         \
    cmocka_unit_test_setup_teardown(function, rig_make_dir, rig_remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(test_store_and_memory_agree),
        TEST(test_a_folding_partition_waits),
        TEST(test_a_call),
        TEST(test_memory_goes_on),
        TEST(test_a_snapshot_of_a_continuation),
        TEST(test_a_store_goes_on),
        TEST(test_seeds_and_offsets),
        TEST(test_a_warm_start_of_another_topic),
        TEST(test_a_seed_is_whole_or_absent),
        TEST(test_refused),
        TEST(test_abandoned),
        TEST(test_damage),
        TEST(test_forget),
    };
    return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
