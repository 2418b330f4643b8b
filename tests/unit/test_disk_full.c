/* test_disk_full.c - goal: a full disk stops no score while memory lasts, is
 * told in a metric, ends in a clean stop when it does not, and costs nothing.
 * Method: a store on a small file system of its own (tmpfs, mounted in a
 * namespace of the test; where that is not permitted the tests are skipped)
 * that a file fills. Outputs and rows in the end are those of a calm run. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "hash.h"
#include "spine_log.h"

enum {
    EVENTS = 3000,
    USERS = 400,
    DISK_MIB = 64,
    LEFT_KIB = 100,
    ROOM_WAIT_S = 30, /* RocksDB looks every five seconds */
};

static char dir[] = "/tmp/millrace-full-XXXXXX";
static char ballast[64];
static bool mounted;
static struct spine_log the_log;
static struct spine_run calm;
static struct spine_outputs expected;

static const char *const OFTEN[] = {"commit.interval=1ms",
                                    "state.checkpoint.age=100ms", NULL};

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, text, strlen(text)) < 0) {
        /* Then the mount fails, and says so. */
    }
    (void)close(fd);
}

/* Root in a namespace of our own may mount where root may not. */
static void enter_namespace(void)
{
    char map[64];
    unsigned uid = getuid();
    if (unshare(CLONE_NEWNS) == 0) return;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return;
    (void)snprintf(map, sizeof map, "0 %u 1", uid);
    write_text("/proc/self/setgroups", "deny");
    write_text("/proc/self/uid_map", map);
}

static int start(void **state)
{
    char size[32];
    (void)state;
    enter_namespace();
    assert_non_null(mkdtemp(dir));
    (void)snprintf(size, sizeof size, "size=%dm", DISK_MIB);
    (void)mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    mounted = mount("tmpfs", dir, "tmpfs", 0, size) == 0;
    (void)snprintf(ballast, sizeof ballast, "%s/ballast", dir);
    spine_log_make(&the_log, EVENTS, USERS, 17);
    spine_run_open(&calm, &the_log, NULL);
    spine_run_start(&calm);
    spine_run_to_end(&calm);
    expected = spine_outputs_of(&calm, 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (mounted) assert_int_equal(umount(dir), 0);
    (void)rmdir(dir);
    spine_outputs_free(&expected);
    spine_run_close(&calm);
    spine_log_free(&the_log);
    return 0;
}

/* --- the disk ------------------------------------------------------------ */

/* All but LEFT_KIB of the disk. */
static void fill_disk(void)
{
    static char block[1 << 10];
    int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    off_t size = 0;
    assert_true(fd >= 0);
    while (write(fd, block, sizeof block) == (ssize_t)sizeof block)
        size += (off_t)sizeof block;
    assert_true(size > LEFT_KIB << 10);
    assert_int_equal(ftruncate(fd, size - (LEFT_KIB << 10)), 0);
    assert_int_equal(close(fd), 0);
}

static void make_room(void)
{
    assert_int_equal(unlink(ballast), 0);
}

static struct store *open_store(void)
{
    char at[64];
    const struct store_options o = {.dir = at, .memory_bytes = 4 << 20};
    struct store *s;
    struct err e;
    (void)snprintf(at, sizeof at, "%s/state", dir);
    if (store_open(&s, &o, &e) != RC_OK) fail_msg("%s", e.text);
    return s;
}

static void drop_state(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s/state'", dir);
    assert_int_equal(system(command), 0);
}

/* --- runs ---------------------------------------------------------------- */

static uint64_t failures(struct spine_run *r)
{
    return state_stats(worker_state(r->worker)).write_failures_total;
}

static uint64_t written(struct spine_run *r)
{
    return state_stats(worker_state(r->worker)).rows_written_total;
}

static void run_begin(struct spine_run *r)
{
    drop_state();
    spine_run_open(r, &the_log, OFTEN);
    r->options.store = open_store();
    spine_run_start(r);
}

static void run_end(struct spine_run *r)
{
    struct spine_outputs got;
    spine_run_to_end(r);
    got = spine_outputs_of(r, 1);
    spine_outputs_same(&expected, &got);
    spine_outputs_free(&got);
    worker_free(r->worker);
    r->worker = NULL;
    source_close(r->source);
    mapping_free(r->mapping);
    store_close(r->options.store);
    spine_run_close(r);
}

static enum rc step_until_full(struct spine_run *r, struct err *e)
{
    enum rc rc = RC_OK;
    const struct timespec pause = {.tv_nsec = 2000000};
    while (rc == RC_OK && failures(r) < 3 &&
           source_memory_given(r->source) < EVENTS) {
        rc = worker_step(r->worker, e);
        (void)nanosleep(&pause, NULL); /* rows are written as time goes on */
    }
    return rc;
}

/* It goes on scoring; once there is room rows are written again. */
static void test_goes_on(void **state)
{
    const struct timespec pause = {.tv_nsec = 100000000};
    struct spine_run r;
    struct err e;
    uint64_t before, scored;
    (void)state;
    if (!mounted) skip();
    run_begin(&r);
    fill_disk();
    assert_int_equal(step_until_full(&r, &e), RC_OK);
    assert_true(failures(&r) >= 3);
    scored = spine_run_count(&r, COUNT_events_scored);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(worker_step(r.worker, &e), RC_OK);
    assert_true(spine_run_count(&r, COUNT_events_scored) > scored);
    assert_true(spine_run_count(&r, COUNT_state_write_failures) > 0);
    make_room();
    before = written(&r);
    for (uint32_t i = 0; written(&r) == before; i++) {
        assert_true(i < ROOM_WAIT_S * 10);
        assert_int_equal(worker_step(r.worker, &e), RC_OK);
        (void)nanosleep(&pause, NULL);
    }
    spine_run_crash(&r); /* what was written since is read again */
    store_close(r.options.store);
    r.options.store = open_store();
    spine_run_again(&r, &the_log);
    run_end(&r);
}

/* It dies while the disk is full, and comes back when it is not. */
static void test_crash_while_full(void **state)
{
    struct spine_run r;
    struct err e;
    (void)state;
    if (!mounted) skip();
    run_begin(&r);
    fill_disk();
    assert_int_equal(step_until_full(&r, &e), RC_OK);
    spine_run_crash(&r);
    store_close(r.options.store);
    make_room();
    r.options.store = open_store();
    spine_run_again(&r, &the_log);
    run_end(&r);
}

/* Memory for rows is used up: a stop that says why. What was committed stays,
 * and a start with room ends as if nothing had been. */
static void test_stops_when_memory_is_full(void **state)
{
    struct spine_run r;
    struct err e;
    enum rc rc = RC_OK;
    (void)state;
    if (!mounted) skip();
    drop_state();
    spine_run_open(&r, &the_log, OFTEN);
    r.options.cache_bytes = 256 << 10;
    r.options.store = open_store();
    spine_run_start(&r);
    fill_disk();
    while (rc == RC_OK && source_memory_given(r.source) < EVENTS)
        rc = worker_step(r.worker, &e);
    assert_int_equal(rc, RC_STOP);
    assert_non_null(strstr(e.text, "state.cache"));
    assert_non_null(strstr(e.text, "No space left"));
    spine_run_crash(&r);
    store_close(r.options.store);
    make_room();
    r.options.store = open_store();
    spine_run_again(&r, &the_log);
    run_end(&r);
}

/* Handing over does not need the disk. */
static void test_hands_over_while_full(void **state)
{
    const atomic_bool stop_now = true;
    struct spine_run r;
    struct err e;
    (void)state;
    if (!mounted) skip();
    run_begin(&r);
    fill_disk();
    assert_int_equal(step_until_full(&r, &e), RC_OK);
    assert_int_equal(worker_run(r.worker, &stop_now, &e), RC_OK);
    spine_run_crash(&r);
    store_close(r.options.store);
    make_room();
    r.options.store = open_store();
    spine_run_again(&r, &the_log);
    run_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_crash_while_full),
        cmocka_unit_test(test_stops_when_memory_is_full),
        cmocka_unit_test(test_hands_over_while_full),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
