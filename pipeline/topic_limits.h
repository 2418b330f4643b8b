/* topic_limits.h - what a topic's settings forbid, asked before anything is
 * sent to it, so that no message is refused when it is too late to shorten
 * it.
 *
 * Rights   Asking needs DESCRIBE_CONFIGS on the topic. Without it, and with
 *          brokers that do not answer such questions, nothing is known: the
 *          limits are those of the client.
 * Threads  Any thread; rk may be any client of the cluster. */
#ifndef MILLRACE_TOPIC_LIMITS_H
#define MILLRACE_TOPIC_LIMITS_H

#include "kafka_client.h"

struct topic_limits {
    bool known;
    uint64_t message_bytes_max; /* of a batch of messages, compressed */
    bool compacted;             /* refuses messages without a key */
};

/* topics: NULL and "" are passed over, and unknown. RC_AGAIN where no broker
 * answers in time. */
enum rc topic_limits_ask(rd_kafka_t *rk, const char *const *topics,
                         uint32_t count, struct topic_limits *out,
                         struct err *e) MUST_USE;

/* The least of message_bytes_max less what surrounds a message in a batch;
 * UINT64_MAX where none is known. */
uint64_t topic_limits_message_bytes(const struct topic_limits *limits,
                                    uint32_t count);

#endif
