/* Goal: a worker for which the system has no thread ends the run with a
 * reason and status 1, and those that run already drain first.
 * Method: the command itself, with pthread_create wrapped by the linker to
 * fail when told so. */
#include "flow.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

static int threads_left, threads_made;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *arg)
{
    if (threads_left-- <= 0) return EAGAIN;
    threads_made++;
    return __real_pthread_create(thread, attributes, run, arg);
}

/* run with two workers, where so many threads of ours are to be had. */
static int run_with(int threads)
{
    struct flow f;
    int status;

    flow_start(&f);
    threads_left = threads;
    threads_made = 0;
    status = flow_run(&f, 2);
    flow_stop(&f);
    return status;
}

/* A process that sends this one SIGTERM in a while. It waits until `run`
 * asks for it, however slow its start is. */
static pid_t stop_soon(void)
{
    const struct timespec soon = {.tv_sec = 1};
    pid_t parent = getpid(), child;
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    child = fork();
    assert_true(child >= 0);
    if (child > 0) return child;
    (void)nanosleep(&soon, NULL);
    (void)kill(parent, SIGTERM);
    _exit(0);
}

/* Workers are the last to get a thread. */
static void test_no_thread(void **state)
{
    pid_t child = stop_soon();
    int all;
    (void)state;

    assert_int_equal(run_with(INT_MAX), EXIT_OK);
    assert_int_equal(waitpid(child, NULL, 0), child);
    all = threads_made;
    assert_true(all >= 2);
    for (int left = all - 1; left >= 0; left--)
        assert_int_equal(run_with(left),
                         left >= all - 2 ? EXIT_FAILED : EXIT_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_thread)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
