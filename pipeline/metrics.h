/* metrics.h - what the workers count, and the text that Prometheus reads.
 *
 * config/metrics.def is the list; pipeline/steps.def the steps. Each worker
 * has one struct worker_metrics and is its only writer: a load, an addition
 * and a store, no lock and no malloc. The reader (admin.c) adds up.
 *
 * Memory   All taken at metrics_new; metrics_write allocates in the reader.
 * Threads  metrics_add to metrics_phase: the worker's thread.
 *          metrics_new: before the reader starts. metrics_set_model: any.
 *          metrics_count: any thread, where no event passes.
 *          metrics_write, metrics_health: any thread. */
#ifndef MILLRACE_METRICS_H
#define MILLRACE_METRICS_H

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "batch.h"
#include "histogram.h"

enum step {
#define STEP(name) STEP_##name,
#include "steps.def"
#undef STEP
    STEPS_COUNT
};
const char *step_name(enum step s);

/* Which kinds of rows a list of metrics.def wants; the others are empty. */
#define COUNTER(field, name, labels, help)
#define GAUGE(field, name, labels, help)
#define STEPS(name, help)
#define HISTOGRAM(field, name, help)
#define REASONS(name, help)
#define TOTAL(field, name, labels, help)

enum metrics_counter {
#undef COUNTER
#define COUNTER(field, name, labels, help) COUNT_##field,
#include "../config/metrics.def"
#undef COUNTER
#define COUNTER(field, name, labels, help)
    COUNTERS
};
enum metrics_gauge {
#undef GAUGE
#define GAUGE(field, name, labels, help) GAUGE_##field,
#include "../config/metrics.def"
#undef GAUGE
#define GAUGE(field, name, labels, help)
    GAUGES
};
enum metrics_histogram {
#undef HISTOGRAM
#define HISTOGRAM(field, name, help) TIME_##field,
#include "../config/metrics.def"
#undef HISTOGRAM
#define HISTOGRAM(field, name, help)
    HISTOGRAMS
};
enum metrics_process_total {
#undef TOTAL
#define TOTAL(field, name, labels, help) TOTAL_##field,
#include "../config/metrics.def"
    TOTALS
};
#undef COUNTER
#undef GAUGE
#undef STEPS
#undef HISTOGRAM
#undef REASONS
#undef TOTAL

/* What a worker is doing, for /readyz. */
enum worker_phase {
    PHASE_STARTING,  /* opening, or waiting for its first assignment */
    PHASE_RESTORING, /* some partition's rows come from the changelog */
    PHASE_FOLDING,   /* some partition is below its committed offset */
    PHASE_SCORING,   /* assigned and up to date with its commits */
    PHASE_DRAINING,  /* stopping */
    PHASES
};
const char *worker_phase_name(enum worker_phase p);

struct worker_metrics {
    _Alignas(64) _Atomic uint64_t counters[COUNTERS];
    _Atomic double gauges[GAUGES];
    _Atomic uint64_t dead_letters[BAD_REASONS];
    _Atomic uint64_t turned_ns; /* when the loop last turned; monotonic */
    _Atomic uint32_t phase;     /* enum worker_phase */
    struct histogram steps[STEPS_COUNT];
    struct histogram times[HISTOGRAMS];
};

struct metrics;
enum rc metrics_new(struct metrics **out, uint32_t workers,
                    struct err *e) MUST_USE;
void metrics_free(struct metrics *m);
struct worker_metrics *metrics_worker(struct metrics *m, uint32_t worker);
/* What the options may ask for (budget.h); 0: nobody added it up. */
void metrics_set_budget(struct metrics *m, uint64_t bytes);
/* A further label of what worker counts; lent; before the reader starts. */
void metrics_set_stage(struct metrics *m, uint32_t worker, const char *stage);
/* For the info metric; NULL: no model. Copied. */
void metrics_set_model(struct metrics *m, const struct model_info *info);

/* Nanoseconds of the monotonic clock. */
static inline uint64_t metrics_now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void metrics_add(struct worker_metrics *m, enum metrics_counter c,
                               uint64_t n)
{
    uint64_t now = atomic_load_explicit(&m->counters[c], memory_order_relaxed);
    atomic_store_explicit(&m->counters[c], now + n, memory_order_relaxed);
}

/* A counter that another module keeps: its total so far. */
static inline void metrics_total(struct worker_metrics *m,
                                 enum metrics_counter c, uint64_t total)
{
    atomic_store_explicit(&m->counters[c], total, memory_order_relaxed);
}

static inline void metrics_gauge(struct worker_metrics *m, enum metrics_gauge g,
                                 double value)
{
    atomic_store_explicit(&m->gauges[g], value, memory_order_relaxed);
}

/* Of the whole process; may be called by several threads at once. */
void metrics_count(struct metrics *m, enum metrics_process_total t);

void metrics_dead_letter(struct worker_metrics *m, enum bad_reason reason);

/* A step is over: adds the time since *since_ns, which moves to now. */
static inline void metrics_step(struct worker_metrics *m, enum step s,
                                uint64_t *since_ns)
{
    uint64_t now = metrics_now_ns();
    histogram_add(&m->steps[s], now - *since_ns);
    *since_ns = now;
}

static inline void metrics_time(struct worker_metrics *m,
                                enum metrics_histogram h, uint64_t ns)
{
    histogram_add(&m->times[h], ns);
}

/* Once a turn of the worker's loop: it is alive, and this is what it does. */
static inline void metrics_phase(struct worker_metrics *m, enum worker_phase p)
{
    atomic_store_explicit(&m->turned_ns, metrics_now_ns(),
                          memory_order_relaxed);
    atomic_store_explicit(&m->phase, (uint32_t)p, memory_order_relaxed);
}

/* The Prometheus text (version 0.0.4), aggregated. The caller frees *out.
 * RC_AGAIN when there is no memory. */
enum rc metrics_write(const struct metrics *m, char **out, size_t *len,
                      struct err *e) MUST_USE;

/* One worker's health as of now. */
struct worker_health {
    enum worker_phase phase;
    double quiet_seconds; /* since the loop last turned */
    uint64_t partitions, partitions_folding, partitions_held,
        partitions_restoring;
    double restored; /* of 1 */
};
uint32_t metrics_workers(const struct metrics *m);
struct worker_health metrics_health(const struct metrics *m, uint32_t worker);

/* The sum over workers, for reports. */
uint64_t metrics_sum(const struct metrics *m, enum metrics_counter c);
void metrics_steps(const struct metrics *m, enum step s, struct histogram *out);

#endif
