/* demo_live.h - the live part of `millrace demo`: a cluster in this process,
 * the service of `millrace run` on it, a producer and a reader of outputs.
 *
 * The reader stands for what is behind the output topics: it measures from
 * the producer's call to its own receipt.
 *
 * Limits   The cluster keeps about 5 MB of a partition, so at most
 *          DEMO_UNDER_WAY events are between producer and reader.
 * Threads  One thread; the workers have their own. */
#ifndef MILLRACE_DEMO_LIVE_H
#define MILLRACE_DEMO_LIVE_H

#include "codec.h"
#include "config.h"
#include "demo_stream.h"

enum { DEMO_UNDER_WAY = 4096, DEMO_LIST_MAX = 10, DEMO_WHY_BYTES = 160 };

/* Where fields stand on the tape of a decoded output (codec.h), by the order
 * of schemas/fraud_score.avsc and schemas/recommendations.avsc. */
enum {
    DEMO_SCORE_EVENT_ID = 1,
    DEMO_SCORE_PROBABILITY = 6,
    DEMO_SCORE_ANOMALY = 7,
    DEMO_SCORE_REASONS = 18,
    DEMO_REASON_TEXT = 21, /* of the first; the next is a stride on */
    DEMO_REASON_CONTRIBUTION = 25,
    DEMO_REASON_STRIDE = 7,
};
enum {
    DEMO_LIST_EVENT_ID = 2,
    DEMO_LIST_ITEMS = 4,
    DEMO_LIST_FIRST = 6, /* the first item's id; the next is a stride on */
    DEMO_LIST_STRIDE = 4,
};

struct demo_live;

/* Of the recommended items of a decoded list, in their order. */
uint64_t demo_list_hash(const struct tape *tape);

/* What came out for one event, as the reader got it. */
struct demo_result {
    struct demo_event *event;
    char list[DEMO_LIST_MAX][GENERATE_ID_BYTES];
    uint32_t list_count;
    char why[DEMO_WHY_BYTES]; /* what speaks most for fraud; "": no reasons */
};
/* Called for each event whose outputs are both there. */
typedef void demo_result_fn(void *user, const struct demo_result *r);
/* Called some times a second. */
typedef void demo_tick_fn(void *user, uint64_t sent, uint64_t received);

struct demo_live_options {
    struct demo_stream *stream;
    struct mock_cluster *cluster;
    const struct config *config; /* its kafka.bootstrap.servers is there */
    demo_result_fn *result;
    demo_tick_fn *tick;
    void *user;
    const volatile int *stopped; /* nonzero: give up */
};

enum rc demo_live_open(struct demo_live **out,
                       const struct demo_live_options *o,
                       struct err *e) MUST_USE;

/* Puts the history into the topic, commits the group past it, and starts
 * the workers: they fold it without output, as after a restart. */
enum rc demo_live_fold(struct demo_live *l, struct err *e) MUST_USE;

/* Sends events [from, until) and waits for what comes out of them. rate in
 * events/s; 0: as fast as it goes. *seconds from first send to last
 * receipt. */
enum rc demo_live_run(struct demo_live *l, uint64_t from, uint64_t until,
                      double rate, double *seconds, struct err *e) MUST_USE;

/* Drains the workers, as SIGTERM does. */
enum rc demo_live_stop(struct demo_live *l, struct err *e) MUST_USE;
void demo_live_close(struct demo_live *l);

#endif
