/* feed.h - where import and generate write: a container file or a topic.
 *
 * Memory   Keys and values are lent for the call.
 * Threads  One thread.
 * Errors   As container.h and producer.h have them. A file is whole or
 *          absent; what was sent to a topic stays there. */
#ifndef MILLRACE_FEED_H
#define MILLRACE_FEED_H

#include "codec.h"
#include "config.h"

enum { FEED_PLAIN = 0 };

struct feed_target {
    const char *path;  /* of a container file; or */
    const char *topic; /* of the cluster that config names */
    const char *codec; /* of the file */
    const struct config *config;
    uint32_t schema_id; /* in a Confluent header; FEED_PLAIN: without one */
};

struct feed;
enum rc feed_open(struct feed **out, const struct feed_target *t,
                  const struct schema *s, struct err *e) MUST_USE;
enum rc feed_put(struct feed *f, struct slice key, struct slice value,
                 int64_t timestamp_ms, struct err *e) MUST_USE;
/* Closes the file under its name, or waits until the topic has it all.
 * Frees f, also when it fails. */
enum rc feed_finish(struct feed *f, struct err *e) MUST_USE;
/* Removes the file; lets go of the topic. f may be NULL. */
void feed_abandon(struct feed *f);

uint64_t feed_count(const struct feed *f);
uint64_t feed_bytes(const struct feed *f); /* of values, uncompressed */

#endif
