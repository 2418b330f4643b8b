/* inspect_log.h - a log folded by the worker that run and replay use, with
 * its outputs going nowhere.
 *
 * Memory   inspect_log_open takes all; close it also after a failure. */
#ifndef MILLRACE_INSPECT_LOG_H
#define MILLRACE_INSPECT_LOG_H

#include "inspect.h"
#include "log_input.h"
#include "worker.h"

struct inspect_log {
    struct metrics *metrics;
    struct labels *labels; /* NULL: none given */
    struct log_input input;
    struct sink *sink;
    struct worker *worker;
};

/* o: what is special about this worker; the rest is filled in here. */
enum rc inspect_log_open(struct inspect_log *l, const struct inspect *in,
                         struct worker_options o, struct err *e) MUST_USE;
/* To the end of the log, or until *stop. */
enum rc inspect_log_fold(struct inspect_log *l, const bool *stop,
                         struct err *e) MUST_USE;
void inspect_log_close(struct inspect_log *l);

#endif
