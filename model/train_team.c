#include "train_team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "matrix.h"

struct helper {
    struct team *team;
    uint32_t index;
    pthread_t thread;
};

struct team {
    uint32_t threads;
    uint32_t started;       /* helpers with a thread */
    struct helper *helpers; /* (threads), the first one not used */
    pthread_mutex_t lock;   /* guards the rest but next */
    pthread_cond_t begin, end;
    uint64_t round;
    uint32_t busy;
    bool stop;
    team_task_fn *task;
    void *user;
    uint32_t count;
    _Atomic uint32_t next;
};

static void work(struct team *t, uint32_t thread)
{
    uint32_t task;
    while ((task = atomic_fetch_add(&t->next, 1)) < t->count)
        t->task(t->user, task, thread);
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct team *t = h->team;
    uint64_t seen = 0;
    matrix_thread_init();
    (void)pthread_mutex_lock(&t->lock);
    for (;;) {
        while (!t->stop && t->round == seen)
            (void)pthread_cond_wait(&t->begin, &t->lock);
        if (t->stop) break;
        seen = t->round;
        (void)pthread_mutex_unlock(&t->lock);
        work(t, h->index);
        (void)pthread_mutex_lock(&t->lock);
        if (--t->busy == 0) (void)pthread_cond_signal(&t->end);
    }
    (void)pthread_mutex_unlock(&t->lock);
    return NULL;
}

enum rc team_new(struct team **out, uint32_t threads, struct err *e)
{
    struct team *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return ERR(e, RC_STOP, "training: no memory");
    t->threads = threads;
    t->helpers = calloc(threads, sizeof *t->helpers);
    (void)pthread_mutex_init(&t->lock, NULL);
    (void)pthread_cond_init(&t->begin, NULL);
    (void)pthread_cond_init(&t->end, NULL);
    matrix_thread_init();
    for (uint32_t i = 1; t->helpers && i < threads; i++) {
        struct helper *h = &t->helpers[i];
        int fault;
        *h = (struct helper){.team = t, .index = i};
        fault = pthread_create(&h->thread, NULL, helper_main, h);
        if (fault) {
            team_free(t);
            return ERR(e, RC_STOP, "training: cannot start thread %u of %u: %s",
                       i + 1, threads, strerror(fault));
        }
        t->started++;
    }
    if (!t->helpers) {
        team_free(t);
        return ERR(e, RC_STOP, "training: no memory");
    }
    *out = t;
    return RC_OK;
}

void team_free(struct team *t)
{
    if (!t) return;
    (void)pthread_mutex_lock(&t->lock);
    t->stop = true;
    (void)pthread_cond_broadcast(&t->begin);
    (void)pthread_mutex_unlock(&t->lock);
    for (uint32_t i = 1; i <= t->started; i++)
        (void)pthread_join(t->helpers[i].thread, NULL);
    (void)pthread_cond_destroy(&t->begin);
    (void)pthread_cond_destroy(&t->end);
    (void)pthread_mutex_destroy(&t->lock);
    free(t->helpers);
    free(t);
}

void team_run(struct team *t, uint32_t count, team_task_fn *task, void *user)
{
    (void)pthread_mutex_lock(&t->lock);
    t->task = task;
    t->user = user;
    t->count = count;
    atomic_store(&t->next, 0);
    t->busy = t->started;
    t->round++;
    (void)pthread_cond_broadcast(&t->begin);
    (void)pthread_mutex_unlock(&t->lock);
    work(t, 0);
    (void)pthread_mutex_lock(&t->lock);
    while (t->busy)
        (void)pthread_cond_wait(&t->end, &t->lock);
    (void)pthread_mutex_unlock(&t->lock);
}

uint32_t team_threads(const struct team *t)
{
    return t->threads;
}
