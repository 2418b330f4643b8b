/* topic_scan.h - a topic from its start to its end as it is now, outside of
 * any group: outputs of a run that are read again.
 *
 * Threads  The caller's. Errors  RC_STOP, naming the topic. */
#ifndef MILLRACE_TOPIC_SCAN_H
#define MILLRACE_TOPIC_SCAN_H

#include "batch.h"
#include "config.h"

/* A record is lent for the call. */
typedef enum rc topic_scan_fn(void *user, const struct record *r,
                              struct err *e);
enum rc topic_scan(const struct config *c, const char *topic, topic_scan_fn *fn,
                   void *user, struct err *e) MUST_USE;

/* The same for one of our outputs: what is behind the header that the
 * configuration's output.format puts before its values. */
typedef enum rc topic_value_fn(void *user, struct slice value, struct err *e);
enum rc topic_scan_output(const struct config *c, const char *topic,
                          topic_value_fn *fn, void *user,
                          struct err *e) MUST_USE;

#endif
