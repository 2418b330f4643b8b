/* mock_cluster.h - librdkafka's in-process cluster: the demo and the flow
 * tests run on it, any client of this machine can connect to it.
 *
 * Limits   It keeps about 5 MB a partition and drops older messages without
 *          a word. Offsets sent to a transaction are lost and aborted
 *          records stay visible: exactly once needs a real broker.
 * Threads  start and stop from one thread; the rest from any. */
#ifndef MILLRACE_MOCK_CLUSTER_H
#define MILLRACE_MOCK_CLUSTER_H

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "err.h"

struct mock_cluster;

enum rc mock_cluster_start(struct mock_cluster **out, uint32_t brokers,
                           struct err *e) MUST_USE;
/* host:port,... for kafka.bootstrap.servers. */
const char *mock_cluster_servers(const struct mock_cluster *m);
enum rc mock_cluster_topic(struct mock_cluster *m, const char *topic,
                           uint32_t partitions, struct err *e) MUST_USE;
/* For injected errors. */
rd_kafka_mock_cluster_t *mock_cluster_handle(struct mock_cluster *m);
void mock_cluster_stop(struct mock_cluster *m);

#endif
