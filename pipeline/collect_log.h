/* collect_log.h - a whole log read for training: folded by a worker as live
 * events are, its rows collected. What `train` and `demo` learn from.
 *
 * Memory   Grows with the log, up to bytes_max. The worker and its rows are
 *          gone when reading has ended.
 * Threads  One thread. */
#ifndef MILLRACE_COLLECT_LOG_H
#define MILLRACE_COLLECT_LOG_H

#include "collect.h"
#include "log_input.h"

/* How far it has come: bytes of files, or records of a range. */
typedef void collect_log_fn(void *user, double done, double total);

struct collect_log_options {
    const struct config *config; /* lent, as all here, until read returns */
    const char *const *paths;    /* container files, or none and range */
    uint32_t path_count;
    const struct topic_range *range;
    const struct labels *labels; /* NULL: none but the events' own */
    int64_t until_ms, known_ms, label_delay_ms; /* as collect.h has them */
    uint32_t names_max;
    size_t bytes_max;
    collect_log_fn *progress; /* NULL: nobody looks */
    void *user;
};

struct collect_log;
enum rc collect_log_read(struct collect_log **out,
                         const struct collect_log_options *o,
                         struct err *e) MUST_USE;
void collect_log_free(struct collect_log *l);

/* Lent until collect_log_free. */
const struct train_log *collect_log_rows(const struct collect_log *l);
const struct collect *collect_log_collect(const struct collect_log *l);

#endif
