/* flow.h - what the flow tests share: a cluster of two brokers, a
 * configuration that points at it, numbered records. */
#ifndef MILLRACE_FLOW_H
#define MILLRACE_FLOW_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mock_cluster.h"
#include "producer.h"
#include "sink_kafka.h"
#include "source_kafka.h"

enum { FLOW_PARTITIONS = 4, FLOW_BATCH = 64, FLOW_RECORDS_MAX = 20000 };

struct flow {
    struct mock_cluster *cluster;
    struct config *config;
};

/* Topics "in" and "out", FLOW_PARTITIONS each. */
void flow_start(struct flow *f);
void flow_stop(struct flow *f);

/* Fails the test with the text of e unless rc is RC_OK. */
void flow_ok(enum rc rc, const struct err *e);

/* Records first .. first + count - 1 to topic "in": the key is the number
 * modulo 100, the value the number, both as text. */
void flow_produce(struct flow *f, uint32_t first, uint32_t count);

struct source *flow_source(struct flow *f, const char *instance);
struct sink *flow_sink(struct flow *f, struct source *s);

/* A reader that does what a worker does with assignments. */
struct reader {
    struct source *source;
    struct sink *sink;
    struct batch batch;
    struct source_position owned[FLOW_PARTITIONS]; /* offset: the next */
    bool owns[FLOW_PARTITIONS];
    uint32_t changes, revoked; /* revoked: partitions, in all */
    uint32_t discards; /* commits refused when partitions were revoked: the
                          in-process cluster takes none during a rebalance */
};
void reader_init(struct reader *r, struct source *s, struct sink *k);
void reader_fini(struct reader *r);

/* Answers what the source asks for; commits before it gives back. */
void reader_change(struct reader *r);
/* One poll; counts each record in seen[number] and forwards it to "out". */
uint32_t reader_step(struct reader *r, uint32_t wait_ms, uint8_t *seen);
enum rc reader_commit(struct reader *r, struct err *e);

/* `millrace run` on topic "in", at least once, in this process and with a
 * state of its own, until it ends: its exit status. */
int flow_run(struct flow *f, uint32_t workers);

/* How often each number stands in topic, read to its end. */
void flow_read_all(struct flow *f, const char *topic, uint8_t *seen);
#endif
