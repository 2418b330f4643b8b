/* group_offsets.h - a consumer group's offsets in one topic, read and changed
 * from outside the group: what reset works on.
 *
 * Only while the group has no members: Kafka refuses to change offsets under
 * a group at work, and so does this, with a message that says so.
 * Threads  Any; each call waits for the cluster's answer.
 * Errors   RC_AGAIN where no broker answers, else RC_STOP. */
#ifndef MILLRACE_GROUP_OFFSETS_H
#define MILLRACE_GROUP_OFFSETS_H

#include <librdkafka/rdkafka.h>

#include "err.h"

struct group_offset {
    int64_t committed; /* next to read; -1: never committed */
    int64_t log_start, log_end;
};

/* out: (count), by partition. */
enum rc group_offsets_read(rd_kafka_t *rk, const char *group, const char *topic,
                           struct group_offset *out, uint32_t count,
                           struct err *e) MUST_USE;
/* Afterwards the group has never committed here. One that is not there, or
 * has no offsets, is left as it is. */
enum rc group_offsets_delete(rd_kafka_t *rk, const char *group,
                             const char *topic, uint32_t count,
                             struct err *e) MUST_USE;
/* to: (count), by partition; below 0: that one is left as it is. */
enum rc group_offsets_set(rd_kafka_t *rk, const char *group, const char *topic,
                          const int64_t *to, uint32_t count,
                          struct err *e) MUST_USE;

#endif
