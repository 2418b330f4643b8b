/* producer.h - messages to topics: idempotent, acknowledged by all replicas,
 * keyed as Java's producer keys them.
 *
 * Import and generate use it as it is; sink_kafka adds transactions.
 *
 * Memory   Messages are lent for the call; librdkafka copies them. When its
 *          queue is full send waits, so a fast caller is slowed down. A key
 *          or value whose ptr is NULL is Kafka's null.
 * Threads  One thread.
 * Errors   A message that cannot be delivered fails the next producer_flush.
 *          RC_AGAIN: sending all since the last flush again may work.
 *          RC_STOP: it will not. */
#ifndef MILLRACE_PRODUCER_H
#define MILLRACE_PRODUCER_H

#include "kafka_client.h"
#include "sink.h"

enum { PRODUCER_TOPICS_MAX = 8, PRODUCER_FLUSH_MS = 30000 };

struct producer;

struct producer_options {
    const struct config *config;
    const char *const *topics; /* NULL or "" entries: nowhere */
    uint32_t topic_count;
    const char *transactional_id; /* NULL: none */
    bool bulk; /* throughput matters, latency does not: import, generate */
    /* Larger messages are refused by producer_send: what the topics take, if
     * that is less than kafka.producer.message.max.bytes. 0: not known. */
    uint64_t message_bytes_max;
};

/* Fetches the metadata of every topic. RC_STOP where one does not exist. */
enum rc producer_open(struct producer **out, const struct producer_options *o,
                      struct err *e) MUST_USE;

/* Puts m under way to o.topics[topic]; m->output is not looked at. */
enum rc producer_send(struct producer *p, uint32_t topic,
                      const struct message *m, struct err *e) MUST_USE;
/* The same, to this partition, whatever its key says. */
enum rc producer_send_to(struct producer *p, uint32_t topic, int32_t partition,
                         const struct message *m, struct err *e) MUST_USE;
/* Sends m to this partition and waits for its acknowledgement: where it
 * stands in the log. */
enum rc producer_put(struct producer *p, uint32_t topic, int32_t partition,
                     const struct message *m, int64_t *offset,
                     struct err *e) MUST_USE;
bool producer_has_topic(const struct producer *p, uint32_t topic);

/* Waits until all sent messages are acknowledged, wait_ms at most. */
enum rc producer_flush(struct producer *p, int wait_ms, struct err *e) MUST_USE;

/* Forgets messages that are not acknowledged yet, and their failures. */
void producer_purge(struct producer *p);

rd_kafka_t *producer_handle(struct producer *p);

/* Drops what is not flushed. Bounded in time. */
void producer_close(struct producer *p);

#endif
