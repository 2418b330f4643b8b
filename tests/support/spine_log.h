/* spine_log.h - a log in memory, a model of random weights, and runs of the
 * spine over them: what the tests of the worker share. */
#ifndef MILLRACE_TESTS_SPINE_LOG_H
#define MILLRACE_TESTS_SPINE_LOG_H

#include "metrics.h"
#include "sink_memory.h"
#include "worker.h"

enum { SPINE_PARTITIONS = 2, SPINE_WINDOW = 8, SPINE_ITEMS = 40 };

struct spine_log {
    struct schema *schema;
    struct record *records; /* offsets count up in each partition */
    uint32_t count;
    struct arena bytes;
    struct model *model;
    struct committed committed[SPINE_PARTITIONS]; /* -1 each */
    int64_t next[SPINE_PARTITIONS];               /* offsets */
};

/* An event by hand. Its partition is user modulo SPINE_PARTITIONS. */
struct spine_event {
    uint32_t user, item, id;
    const char *type;
    int64_t time_ms, cents;
    int64_t logged_ms; /* the record's timestamp; 0: by its number */
};
void spine_log_begin(struct spine_log *log, uint32_t events_max);
void spine_log_add(struct spine_log *log, const struct spine_event *ev);

/* events of users in two partitions, the same for the same seed. A user's
 * events are in one partition; some are late. */
void spine_log_make(struct spine_log *log, uint32_t events, uint32_t users,
                    uint64_t seed);
void spine_log_free(struct spine_log *log);

/* Random weights that fit the log; items 0: a model without them. */
enum { SPINE_MODEL_SEED = 7 }; /* of spine_log_make's */
struct model *spine_model(uint32_t items, uint64_t seed);
/* With the features of a configuration with these texts. */
struct model *spine_model_of(const char *const *sets, uint32_t items,
                             uint64_t seed);

/* The configuration of all runs, with further "key=value" texts (NULL ends
 * them). config_free. */
struct config *spine_config(const char *const *sets);

/* One run: a worker and what it needs. The worker's own options may be
 * changed between spine_run_open and spine_run_start. */
struct spine_run {
    struct config *config;
    struct metrics *metrics;
    struct registry *registry; /* NULL: records name no schema */
    struct mapping *mapping;
    struct source *source;
    struct sink *sink;
    struct worker_options options;
    struct worker *worker;
    struct committed committed[SPINE_PARTITIONS];
};
void spine_run_open(struct spine_run *r, const struct spine_log *log,
                    const char *const *sets);
void spine_run_start(struct spine_run *r);
void spine_run_to_end(struct spine_run *r); /* worker_run; must go well */
/* As a crash: nothing is committed or written; what the sink has not
 * committed is gone. The sink and the committed offsets stay. */
void spine_run_crash(struct spine_run *r);
/* After spine_run_crash: source, mapping and worker as a new process makes
 * them, reading on from the committed offsets. */
void spine_run_again(struct spine_run *r, const struct spine_log *log);
void spine_run_close(struct spine_run *r);
uint64_t spine_run_count(const struct spine_run *r, enum metrics_counter c);

/* Committed outputs of some runs, in the order of the log. Lent by sinks. */
struct spine_output {
    int64_t partition, offset;
    const struct message *message;
};
struct spine_outputs {
    struct spine_output *at;
    uint32_t count;
};
struct spine_outputs spine_outputs_of(const struct spine_run *runs,
                                      uint32_t count);
void spine_outputs_free(struct spine_outputs *o);
/* Fails the test at the first byte that differs. */
void spine_outputs_same(const struct spine_outputs *a,
                        const struct spine_outputs *b);

#endif
