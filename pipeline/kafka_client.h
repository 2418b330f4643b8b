/* kafka_client.h - what every use of librdkafka shares: properties, logging,
 * and what its errors mean for us.
 *
 * Order    A client's properties are the bounds of its queue (input.queue,
 *          output.queue), our defaults, then kafka.* of the
 *          configuration, then kafka.consumer.* or kafka.producer.*, then
 *          those that the invariants need and nobody may change.
 * Log      librdkafka's lines come out as ours, code KAFKA. They name hosts
 *          and topics, never a secret: it masks those itself.
 * Threads  Any thread. No fork after a client was made. */
#ifndef MILLRACE_KAFKA_CLIENT_H
#define MILLRACE_KAFKA_CLIENT_H

#include <librdkafka/rdkafka.h>

#include "config.h"
#include "err.h"

enum { KAFKA_METADATA_WAIT_MS = 10000, KAFKA_ERROR_BYTES = 512 };

enum kafka_role { KAFKA_CONSUMER, KAFKA_PRODUCER, KAFKA_ADMIN };

struct kafka_setting {
    const char *key, *value; /* a list ends with key NULL */
};

/* The properties of a client; the caller adds callbacks. RC_STOP names the
 * property that librdkafka refuses and where it was set. */
enum rc kafka_conf_new(rd_kafka_conf_t **out, const struct config *c,
                       enum kafka_role role,
                       const struct kafka_setting *defaults,
                       const struct kafka_setting *forced,
                       struct err *e) MUST_USE;

/* The bytes that may wait in a client's queue: input.queue or output.queue,
 * or what kafka.* has in their place. */
uint64_t kafka_queue_bytes(const struct config *c, enum kafka_role role);

/* Takes conf, also when it fails. */
enum rc kafka_client_new(rd_kafka_t **out, rd_kafka_conf_t *conf,
                         enum kafka_role role, struct err *e) MUST_USE;

/* A kafka.* value of the configuration as this role sees it, or NULL. */
const char *kafka_property(const struct config *c, enum kafka_role role,
                           const char *key);

/* Partitions of a topic, fetched from the cluster, so that the first message
 * does not wait for it. RC_STOP where there is no such topic (the text names
 * millrace topics --create), RC_AGAIN where no broker answers. */
enum rc kafka_topic_partitions(rd_kafka_t *rk, const char *topic,
                               uint32_t *partitions, struct err *e) MUST_USE;

/* Where a partition starts and ends, asked one by one:
 * rd_kafka_query_watermark_offsets (2.0.2) takes the end for the start where
 * the question for the start met an error on its way. */
enum rc kafka_partition_ends(rd_kafka_t *rk, const char *topic,
                             int32_t partition, int64_t *start, int64_t *end,
                             int wait_ms, struct err *e) MUST_USE;

/* The group has another member with this client's instance id, or takes this
 * one for another: it can do no more. */
bool kafka_is_fenced(rd_kafka_t *rk);

/* A right is missing (an ACL). */
bool kafka_is_forbidden(rd_kafka_resp_err_t error);

/* RC_STOP for what no retry mends (rights, unknown topics, sizes, fencing),
 * RC_AGAIN for the rest. */
enum rc kafka_error_rc(rd_kafka_resp_err_t error);

#endif
