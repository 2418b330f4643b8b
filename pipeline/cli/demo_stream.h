/* demo_stream.h - the stream of `millrace demo`: generated, written to files
 * for training and replay, and kept for the live part with what came of it.
 *
 * Threads  One thread. */
#ifndef MILLRACE_DEMO_STREAM_H
#define MILLRACE_DEMO_STREAM_H

#include "generate_row.h"
#include "map64.h"

struct demo_event {
    struct generated made;
    double sent_s;    /* monotonic; 0: not yet */
    float latency_ms; /* from there to the receipt of its score */
    float fraud, anomaly;
    uint64_t list_hash; /* of the recommended items, in order */
    bool scored, listed;
};

struct demo_stream {
    struct generate_options o;
    struct generate_rows *rows;
    struct demo_event *events; /* (count) */
    struct map64 numbers;      /* hash64 of an event's id -> its number */
    uint64_t count;
    uint64_t split;   /* events before it are history: training sees them */
    int64_t split_ms; /* the time of the first that is not */
    uint64_t frauds, labels;
};

/* Generates events and labels to two container files. split_share: how much
 * of the time is history. */
enum rc demo_stream_make(struct demo_stream *s, const char *events_path,
                         const char *labels_path, double split_share,
                         struct err *e) MUST_USE;
void demo_stream_fini(struct demo_stream *s);

/* The event of an id, or NULL. */
struct demo_event *demo_stream_find(const struct demo_stream *s,
                                    struct slice id);

#endif
