/* test_store.c - goal: what is stored is read back as it was, or not at all:
 * damage is found and made anew, other versions are told apart, forgotten
 * users leave the files.
 * Method: the rig's log and worker on a real RocksDB. Rows planted as only a
 * bug or a bad disk would; the database's files flipped, cut and removed, and
 * the state after a fold compared with one that was never touched. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "golden.h"
#include "hash.h"
#include "state_rig.h"
#include "user_row.h"

/* --- damage ------------------------------------------------------------ */

/* Puts a row into the store as only a bug or a bad disk would. */
static void plant(struct rig *r, const char *user, struct slice row)
{
    static struct family_meta before; /* of one that was dropped since */
    struct family *f;
    struct family_meta meta;
    struct store_writes *w = store_writes_new();
    bool found;
    rig_crash(r);
    assert_int_equal(rig_open_store(r), RC_OK);
    assert_int_equal(
        store_acquire(r->store, "users/events/3", &f, &meta, &found, &r->e),
        RC_OK);
    if (found)
        before = meta;
    else
        meta = before;
    store_writes_row(w, f, slice_str(user), row);
    assert_int_equal(store_write(r->store, w, f, &meta, &r->e), RC_OK);
    store_writes_free(w);
    store_release(r->store, f);
    assert_int_equal(rig_open_partition(r), RC_OK);
}

static enum rc peek(struct rig *r, const char *user)
{
    struct user_state *us;
    return state_peek(r->st, r->p, slice_str(user), &us, &r->e);
}

static void test_a_damaged_row_is_found(void **state)
{
    struct rig r;
    size_t size;
    uint8_t *row;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 300, false);
    rig_checkpoint_all(&r);
    row = rig_row(&r, 1, &size);
    assert_non_null(row);
    for (size_t i = 0; i < size; i += 13) {
        row[i] ^= 0x10;
        plant(&r, "user-1", slice_of(row, size));
        rig_stops(peek(&r, "user-1"), &r, "made anew");
        assert_null(strstr(r.e.text, "user-1")); /* it will be logged */
        row[i] ^= 0x10;
    }
    plant(&r, "user-1", slice_of(row, size - 1));
    rig_stops(peek(&r, "user-1"), &r, "checksum");
    plant(&r, "user-1", slice_of(row, 3));
    rig_stops(peek(&r, "user-1"), &r, "no row");
    plant(&r, "user-2", slice_of(row, size)); /* under another's key */
    rig_stops(peek(&r, "user-2"), &r, "checksum");
    rig_stops(peek(&r, "user-2"), &r, "checksum"); /* and it stays so */
    assert_int_equal(peek(&r, "user-0"), RC_OK);
    plant(&r, "user-1", slice_of(row, size));
    assert_int_equal(peek(&r, "user-1"), RC_OK);
    free(row);
    rig_fini(&r);
}

/* A row that holds an event which the store says is not in it. */
static void test_a_row_ahead_of_its_store_is_refused(void **state)
{
    struct rig r, ahead;
    size_t size;
    uint8_t *row;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 100, false);
    rig_checkpoint_all(&r);
    rig_init(&ahead, NULL);
    rig_open(&ahead);
    rig_run(&ahead, 500, false);
    row = rig_row(&ahead, 0, &size);
    plant(&r, "user-0", slice_of(row, size));
    rig_stops(peek(&r, "user-0"), &r, "ends before 100");
    free(row);
    rig_fini(&ahead);
    rig_fini(&r);
}

/* One bad row costs its family: the next owner folds the whole log. */
static void test_a_damaged_row_is_made_anew(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 300, false);
    rig_checkpoint_all(&r);
    plant(&r, "user-1", slice_str("no row of anybody, by no means"));
    rig_stops(peek(&r, "user-1"), &r, "checksum");
    assert_int_equal(store_rebuilds(r.store), 1);
    assert_int_equal(state_close_partition(r.st, r.p, false, &r.e), RC_OK);
    r.log.log_start = 1; /* where it cannot be made anew, it says so */
    rig_stops(state_open_partition(r.st, 0, PARTITION, &r.log, &r.p, &r.e), &r,
              "millrace reset");
    r.log.log_start = 0;
    assert_int_equal(
        state_open_partition(r.st, 0, PARTITION, &r.log, &r.p, &r.e), RC_OK);
    assert_int_equal(r.p->next, 0);
    assert_int_equal(r.p->committed, 300);
    rig_run(&r, 400, true);
    rig_folded(&r, 400);
    assert_int_equal(store_rebuilds(r.store), 1);
    rig_fini(&r);
}

/* The whole log is there, so whatever was damaged the end is the same. Every
 * damage that is met ends the owner once, as it ends a worker. */
static void fold_through_damage(struct rig *r)
{
    for (int starts = 0; starts < 5; starts++) {
        enum rc rc = rig_open_store(r);
        if (rc != RC_OK) fail_msg("%s", r->e.text);
        rc = rig_open_partition(r);
        if (rc == RC_OK) rc = rig_try_run(r, 700, true);
        if (rc == RC_OK) rc = state_checkpoint(r->st, true, &r->e);
        for (uint32_t user = 0; rc == RC_OK && user < USERS; user++) {
            char name[32];
            (void)snprintf(name, sizeof name, "user-%u", user);
            rc = peek(r, name);
        }
        if (rc == RC_OK) return;
        assert_int_equal(rc, RC_STOP);
        rig_crash(r);
    }
    fail_msg("still damaged: %s", r->e.text);
}

enum harm { FLIP, CUT, REMOVE };

static void do_harm(const char *path, enum harm harm, long at)
{
    FILE *file;
    int byte;
    if (harm == REMOVE) {
        assert_int_equal(unlink(path), 0);
        return;
    }
    if (harm == CUT) {
        assert_int_equal(truncate(path, at), 0);
        return;
    }
    file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    byte = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_true(fputc(byte ^ (1 << at % 8), file) != EOF);
    assert_int_equal(fclose(file), 0);
}

/* Harms one file of a copy, as the fold goes on. */
static void harm_copy(const char *dir, const char *copy, const char *file,
                      enum harm harm, long at, const struct rig *before)
{
    char path[600];
    struct rig r;
    rig_copy(dir, copy);
    (void)snprintf(path, sizeof path, "%s/rocksdb/%s", copy, file);
    do_harm(path, harm, at);
    rig_init(&r, copy);
    r.log = before->log;
    r.jumps = true;
    fold_through_damage(&r);
    rig_folded(&r, 700);
    rig_fini(&r);
}

/* Bits flipped, files cut and removed: found, or harmless. */
static void test_damaged_files(void **state)
{
    char copy[300];
    struct rig r;
    DIR *dir;
    const struct dirent *at;
    (void)snprintf(copy, sizeof copy, "%s-copy", (char *)*state);
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 300, true);
    rig_checkpoint_all(&r);
    rig_crash(&r); /* from the log to a table */
    rig_open(&r);
    rig_run(&r, 500, true);
    rig_checkpoint_all(&r);
    rig_crash(&r);
    (void)snprintf(r.dir, sizeof r.dir, "%s/rocksdb", (char *)*state);
    dir = opendir(r.dir);
    assert_non_null(dir);
    while ((at = readdir(dir)) != NULL) {
        char path[600];
        struct stat about;
        (void)snprintf(path, sizeof path, "%s/%s", r.dir, at->d_name);
        assert_int_equal(stat(path, &about), 0);
        if (!S_ISREG(about.st_mode) || about.st_size == 0 ||
            strncmp(at->d_name, "LOG", 3) == 0 ||
            strncmp(at->d_name, "OPTIONS", 7) == 0)
            continue;
        harm_copy(*state, copy, at->d_name, REMOVE, 0, &r);
        for (int i = 0; i < 5; i++) {
            long place =
                (long)(draw(3, hash64(slice_str(at->d_name)), (uint64_t)i) %
                       (uint64_t)about.st_size);
            harm_copy(*state, copy, at->d_name, FLIP, place, &r);
            if (i < 2) harm_copy(*state, copy, at->d_name, CUT, place, &r);
        }
    }
    (void)closedir(dir);
    rig_fini(&r);
}

static uint32_t count_logs(const char *dir)
{
    char command[400];
    uint32_t count = 0;
    FILE *out;
    (void)snprintf(command, sizeof command,
                   "find '%s/rocksdb' -name '*.log' -size +0 | wc -l", dir);
    out = popen(command, "r");
    assert_non_null(out);
    assert_int_equal(fscanf(out, "%u", &count), 1);
    (void)pclose(out);
    return count;
}

/* The child's part: writes until it is killed. Small buffers and a family
 * that is seldom written keep several logs. */
static int write_for_ever(const char *dir)
{
    struct store_options o = {.dir = dir, .memory_bytes = 4 << 20};
    struct family *quiet;
    struct family_meta meta;
    bool found;
    struct rig r;
    rig_init(&r, dir);
    r.users = 4000;
    r.jumps = true;
    r.log.committed = r.log.log_end;
    if (store_open(&r.store, &o, &r.e) != RC_OK ||
        rig_open_partition(&r) != RC_OK)
        return 1;
    if (store_acquire(r.store, "users/events/7", &quiet, &meta, &found, &r.e) !=
        RC_OK)
        return 1;
    for (meta.applied = 1; r.p->next < r.log.log_end - BATCH; meta.applied++) {
        if (store_put_meta(r.store, quiet, &meta, &r.e) != RC_OK) return 1;
        for (int i = 0; i < 100; i++)
            rig_apply(&r, BATCH);
        rig_checkpoint_all(&r);
    }
    return 1; /* it is killed long before */
}

static pid_t start_writing(const char *dir)
{
    pid_t child = fork();
    if (child == 0) {
        (void)execl("/proc/self/exe", "test_store", "write", dir, NULL);
        _exit(127);
    }
    assert_true(child > 0);
    return child;
}

/* What a killed process leaves is no damage, however many logs there are. */
static void test_a_killed_process_leaves_no_damage(void **state)
{
    uint32_t most = 0;
    struct rig r;
    rig_init(&r, *state);
    for (unsigned i = 0; i < 3; i++) {
        pid_t child = start_writing(*state);
        uint32_t logs;
        int status;
        for (int waits = 0; waits < 500 && count_logs(*state) < 2; waits++)
            (void)usleep(10000);
        (void)usleep((unsigned)(draw(7, i, 0) % 50000));
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        logs = count_logs(*state);
        if (logs > most) most = logs;
        if (rig_open_store(&r) != RC_OK) fail_msg("%s", r.e.text);
        assert_int_equal(store_rebuilds(r.store), 0);
        rig_crash(&r);
    }
    assert_true(most > 1);
    rig_fini(&r);
}

/* One database put aside is kept, for who wants to know; never two. */
static void test_put_aside(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    for (int i = 0; i < 3; i++) {
        rig_open(&r);
        assert_int_equal(r.p->next, 0);
        assert_int_equal(store_rebuilds(r.store), i > 0);
        rig_run(&r, 200, true);
        rig_crash(&r);
        rig_shell("echo x > '%s/rocksdb/CURRENT'%.0s", *state, "");
    }
    rig_shell("test -f '%s/rocksdb.damaged/CURRENT'%.0s", *state, "");
    rig_shell("test $(ls '%s' | wc -l) = 4%.0s", *state, "");
    rig_fini(&r);
}

/* A reader says what is wrong and changes nothing. */
static void test_a_reader_leaves_damage_alone(void **state)
{
    struct store_options o = {
        .dir = *state, .memory_bytes = 4 << 20, .read_only = true};
    struct store *reader;
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 200, true);
    rig_crash(&r);
    rig_shell("rm '%s/rocksdb/CURRENT'%.0s", *state, "");
    rig_stops(store_open(&reader, &o, &r.e), &r, "CURRENT is gone");
    rig_shell("test ! -e '%s/rocksdb.damaged'%.0s", *state, "");
    rig_fini(&r);
}

/* A newer program's files are refused, and stay; an older one's, and a file
 * that says nothing, are taken on. */
static void test_versions_of_the_folder(void **state)
{
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 200, true);
    rig_checkpoint_all(&r);
    rig_crash(&r);
    rig_shell("echo 'millrace state 3' > '%s/format'%.0s", *state, "");
    rig_shell("cp '%s/rocksdb/CURRENT' '%s/kept'", *state, *state);
    rig_shell("echo x > '%s/rocksdb/CURRENT'%.0s", *state, "");
    rig_stops(rig_open_store(&r), &r, "newer millrace");
    rig_shell("test ! -e '%s/rocksdb.damaged'%.0s", *state, "");
    rig_shell("rm '%s/format'%.0s", *state, "");
    rig_shell("mv '%s/kept' '%s/rocksdb/CURRENT'", *state, *state);
    rig_open(&r);
    assert_int_equal(r.p->next, 200);
    rig_crash(&r);
    rig_shell("grep -qx 'millrace state 2' '%s/format'%.0s", *state, "");
    rig_shell("echo rubbish > '%s/format'%.0s", *state, "");
    rig_open(&r);
    assert_int_equal(r.p->next, 200);
    rig_shell("grep -qx 'millrace state 2' '%s/format'%.0s", *state, "");
    rig_fini(&r);
}

/* Rows that an earlier build stored are read for ever. */
static void test_golden_bytes(void **state)
{
    struct slice golden, older;
    struct rig r;
    size_t size;
    uint8_t *row;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 700, false);
    rig_checkpoint_all(&r);
    row = rig_row(&r, 1, &size);
    golden = golden_bytes("user_row_v2.bin", slice_of(row, size));
    assert_true(slice_equal(golden, slice_of(row, size)));
    plant(&r, "user-1", golden);
    assert_int_equal(peek(&r, "user-1"), RC_OK);
    /* The row that the version before made of this log. */
    older = golden_bytes("user_row_v1.bin", slice_of(NULL, 0));
    plant(&r, "user-1", older);
    assert_int_equal(peek(&r, "user-1"), RC_OK);
    free((void *)(uintptr_t)golden.ptr);
    free((void *)(uintptr_t)older.ptr);
    free(row);
    rig_fini(&r);
}

/* --- the store --------------------------------------------------------- */

static void test_one_process_per_folder(void **state)
{
    struct rig r, other;
    rig_init(&r, *state);
    rig_init(&other, *state);
    rig_open(&r);
    rig_stops(rig_open_store(&other), &other, "another process uses it");
    assert_non_null(strstr(other.e.text, "own state.dir"));
    rig_fini(&other);
    rig_fini(&r);
}

static void test_the_instance_id_stays(void **state)
{
    struct rig r;
    char id[64];
    rig_init(&r, *state);
    rig_open(&r);
    (void)snprintf(id, sizeof id, "%s", store_instance(r.store));
    assert_int_equal(strlen(id), 12);
    rig_crash(&r);
    rig_open(&r);
    assert_string_equal(store_instance(r.store), id);
    rig_crash(&r);
    rig_shell("printf abc > '%s/instance'%.0s", *state, "");
    rig_stops(rig_open_store(&r), &r, "cut short");
    rig_fini(&r);
}

struct seen {
    uint32_t families, rows;
};

static enum rc see_family(void *user, const char *name,
                          const struct family_meta *meta, bool found,
                          struct err *e)
{
    struct seen *s = user;
    (void)e;
    assert_string_equal(name, "users/events/3");
    assert_true(found);
    assert_string_equal(meta->cluster_id, "cluster-1");
    s->families++;
    return RC_OK;
}

static enum rc see_row(void *user, struct slice key, struct slice row,
                       struct err *e)
{
    struct seen *s = user;
    s->rows++;
    return user_row_verify(key, row, e);
}

/* A reader beside the running process sees what has been written. */
static void test_read_only_beside_a_writer(void **state)
{
    struct store_options o = {
        .dir = *state, .memory_bytes = 4 << 20, .read_only = true};
    struct store *reader;
    struct seen s = {0};
    struct rig r;
    uint8_t *row;
    size_t size;
    rig_init(&r, *state);
    rig_stops(store_open(&reader, &o, &r.e), &r, "no store");
    rig_open(&r);
    rig_run(&r, 300, false);
    rig_checkpoint_all(&r);
    assert_int_equal(store_open(&reader, &o, &r.e), RC_OK);
    assert_string_equal(store_instance(reader), store_instance(r.store));
    assert_int_equal(store_each_family(reader, see_family, &s, &r.e), RC_OK);
    assert_int_equal(s.families, 1);
    assert_int_equal(
        store_each_row(reader, "users/events/3", see_row, &s, &r.e), RC_OK);
    assert_int_equal(s.rows, state_stats(r.st).rows);
    assert_int_equal(store_find_row(reader, "users/events/3",
                                    slice_str("user-0"), &row, &size, &r.e),
                     RC_OK);
    assert_int_equal(
        user_row_verify(slice_str("user-0"), slice_of(row, size), &r.e), RC_OK);
    free(row);
    assert_int_equal(store_find_row(reader, "users/events/3", slice_str("none"),
                                    &row, &size, &r.e),
                     RC_OK);
    assert_null(row);
    store_close(reader);
    rig_fini(&r);
}

/* state.keep: what nobody has owned for that long is dropped, and only that. */
static void test_unowned_families_are_dropped(void **state)
{
    struct store_options o = {
        .dir = *state, .memory_bytes = 4 << 20, .keep_ms = 1};
    struct rig r;
    rig_init(&r, *state);
    rig_open(&r);
    rig_run(&r, 100, false);
    assert_int_equal(state_close_partition(r.st, r.p, true, &r.e), RC_OK);
    rig_crash(&r);
    (void)usleep(5000);
    rig_open(&r); /* keep is 0: for ever */
    assert_int_equal(r.p->next, 100);
    rig_crash(&r); /* died as the owner: counts from the next start */
    (void)usleep(5000);
    assert_int_equal(store_open(&r.store, &o, &r.e), RC_OK);
    assert_int_equal(rig_open_partition(&r), RC_OK);
    assert_int_equal(r.p->next, 100);
    assert_int_equal(state_close_partition(r.st, r.p, true, &r.e), RC_OK);
    rig_crash(&r);
    (void)usleep(5000);
    assert_int_equal(store_open(&r.store, &o, &r.e), RC_OK);
    assert_int_equal(rig_open_partition(&r), RC_OK);
    assert_int_equal(r.p->next, 0); /* folds the whole log again */
    rig_fini(&r);
}

int main(int argc, char **argv)
{
#define TEST(function)                                                         \
    cmocka_unit_test_setup_teardown(function, rig_make_dir, rig_remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(test_a_damaged_row_is_found),
        TEST(test_a_damaged_row_is_made_anew),
        TEST(test_damaged_files),
        TEST(test_a_killed_process_leaves_no_damage),
        TEST(test_put_aside),
        TEST(test_a_reader_leaves_damage_alone),
        TEST(test_versions_of_the_folder),
        TEST(test_a_row_ahead_of_its_store_is_refused),
        TEST(test_golden_bytes),
        TEST(test_one_process_per_folder),
        TEST(test_the_instance_id_stays),
        TEST(test_read_only_beside_a_writer),
        TEST(test_unowned_families_are_dropped),
    };
    if (argc == 3 && strcmp(argv[1], "write") == 0)
        return write_for_ever(argv[2]);
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
