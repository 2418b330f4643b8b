/* sink_topic.h - outputs to topics without a group's offsets: a replay.
 *
 * Commit   waits until every message is acknowledged. Nothing can be taken
 *          back, so abort is RC_STOP once something was sent.
 * Threads  One worker thread. */
#ifndef MILLRACE_SINK_TOPIC_H
#define MILLRACE_SINK_TOPIC_H

#include "config.h"
#include "sink.h"

/* The topics that the configuration names; those left empty are let go. */
enum rc sink_topic_open(struct sink **out, const struct config *c,
                        struct err *e) MUST_USE;

#endif
