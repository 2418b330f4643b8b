/* logged_lists.h - recommendations that a run wrote, by the event after which
 * they were made: what off-policy estimates read.
 *
 * Input    A container file of Recommendations, or records that resolve to
 *          them; or the topic that a run writes them to. Of several lists of
 *          one event the last counts.
 * Memory   About 16 bytes a place. Threads  Immutable once read. */
#ifndef MILLRACE_LOGGED_LISTS_H
#define MILLRACE_LOGGED_LISTS_H

#include "err.h"

#include <stdint.h>

struct logged_place {
    uint64_t item; /* hash64 of its id */
    double propensity;
};

struct config;
struct logged_lists;
/* output.recommendations.topic, from its start to its end. */
enum rc logged_lists_read_topic(struct logged_lists **out,
                                const struct config *c, struct err *e) MUST_USE;
enum rc logged_lists_read(struct logged_lists **out, const char *path,
                          struct err *e) MUST_USE;
void logged_lists_free(struct logged_lists *l); /* l may be NULL */
uint64_t logged_lists_count(const struct logged_lists *l);
/* NULL: none was made after that event. */
const struct logged_place *logged_lists_find(const struct logged_lists *l,
                                             int32_t partition, int64_t offset,
                                             uint32_t *count);

#endif
