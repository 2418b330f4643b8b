/* faults.c - see faults.h: what is asked for, and what happens then. */
#include "faults.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { COMMIT_US_MAX = 4000 }; /* about what a commit takes */

enum action { ACTION_NONE, ACTION_KILL, ACTION_STOP, ACTION_ERROR };

#define NAME(name) #name,
static const char *const POINT_NAMES[] = {FAULT_POINTS(NAME)};
static const char *const SABOTAGE_NAMES[] = {SABOTAGES(NAME)};

static struct {
    enum action action;
    uint64_t nth;
    atomic_uint_fast64_t passed;
} points[FAULT_COUNT];
static int sabotage = -1;
static pthread_once_t asked = PTHREAD_ONCE_INIT;

static int find(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return i;
    (void)fprintf(stderr, "millrace_faults: nothing is named %s\n", name);
    exit(2);
}

static enum action action_of(const char *name)
{
    static const char *const ACTIONS[] = {"none", "kill", "stop", "error"};
    return (enum action)find(ACTIONS, 4, name);
}

static void ask(void)
{
    const char *faults = getenv("MILLRACE_FAULT");
    const char *broken = getenv("MILLRACE_SABOTAGE");
    char *text = strdup(faults ? faults : ""), *rest = text, *one;
    while (text && (one = strsep(&rest, ",")) && *one) {
        const char *point = strsep(&one, ":");
        const char *nth = strsep(&one, ":");
        int i = find(POINT_NAMES, FAULT_COUNT, point);
        points[i].nth = strtoull(nth ? nth : "1", NULL, 10);
        points[i].action = action_of(one ? one : "kill");
    }
    free(text);
    if (broken && *broken)
        sabotage = find(SABOTAGE_NAMES, SABOTAGE_COUNT, broken);
}

/* While the commit is on its way: the caller goes on into it. */
static void *kill_soon(void *unused)
{
    struct timespec now, rest;
    (void)unused;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    rest = (struct timespec){.tv_nsec = now.tv_nsec % (COMMIT_US_MAX * 1000L)};
    (void)nanosleep(&rest, NULL);
    (void)kill(getpid(), SIGKILL);
    return NULL;
}

static void do_kill(enum fault_point point)
{
    pthread_t thread;
    if (point == FAULT_committing &&
        pthread_create(&thread, NULL, kill_soon, NULL) == 0)
        return;
    (void)kill(getpid(), SIGKILL);
}

bool fault_at(enum fault_point point)
{
    uint64_t n;
    (void)pthread_once(&asked, ask);
    n = atomic_fetch_add(&points[point].passed, 1) + 1;
    if (points[point].action == ACTION_NONE || n != points[point].nth)
        return false;
    (void)fprintf(stderr, "FAULT point=%s n=%llu\n", POINT_NAMES[point],
                  (unsigned long long)n);
    if (points[point].action == ACTION_KILL) do_kill(point);
    if (points[point].action == ACTION_STOP) (void)kill(getpid(), SIGSTOP);
    return points[point].action == ACTION_ERROR;
}

bool sabotaged(enum sabotage what)
{
    (void)pthread_once(&asked, ask);
    return sabotage == (int)what;
}
