/* train_team.h - the threads of a training run.
 *
 * Use      team_run gives out tasks 0 .. count - 1, each to one thread, and
 *          returns when all are done. What a task computes may depend on its
 *          number, never on its thread, which only says whose scratch it is.
 * Threads  The caller is thread 0. One team belongs to one thread. */
#ifndef MILLRACE_TRAIN_TEAM_H
#define MILLRACE_TRAIN_TEAM_H

#include "err.h"

#include <stdint.h>

struct team;
typedef void team_task_fn(void *user, uint32_t task, uint32_t thread);

enum rc team_new(struct team **out, uint32_t threads, struct err *e) MUST_USE;
void team_free(struct team *t);
void team_run(struct team *t, uint32_t count, team_task_fn *task, void *user);
uint32_t team_threads(const struct team *t);

#endif
