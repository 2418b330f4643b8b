/* demo_quality.h - how good the demo's scores were, and whether a replay of
 * the same log gives them again.
 *
 * Frauds   of the live part, by the generator's own truth: a real log would
 *          have to wait for its labels.
 * Items    measured by the replay, as `millrace replay` does.
 * Threads  One thread. */
#ifndef MILLRACE_DEMO_QUALITY_H
#define MILLRACE_DEMO_QUALITY_H

#include "config.h"
#include "demo_stream.h"
#include "model.h"
#include "watch.h"

struct demo_quality {
    struct evaluate_result fraud, anomaly;
    struct watch_ranking next;
    double replay_seconds;
    uint64_t compared, equal_scores, equal_lists;
};

struct demo_quality_options {
    const struct demo_stream *stream;
    const struct config *config;
    const char *events_path;
    const char *scores_path, *lists_path; /* the replay writes them */
};

enum rc demo_quality_measure(struct demo_quality *q,
                             const struct demo_quality_options *o,
                             struct err *e) MUST_USE;

#endif
