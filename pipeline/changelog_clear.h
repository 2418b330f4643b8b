/* changelog_clear.h - a changelog that says nothing any more: what reset does
 * to it.
 *
 * Order    First a marker that nobody takes, so that a changelog cleared by
 *          half is refused; then every row's key with null; last the marker
 *          with null. The topic and its settings stay; compaction takes the
 *          rest away.
 * Threads  One; no process of the group is at work. */
#ifndef MILLRACE_CHANGELOG_CLEAR_H
#define MILLRACE_CHANGELOG_CLEAR_H

#include "config.h"
#include "err.h"

/* rows: how many records it took out. RC_STOP where the topic is missing. */
enum rc changelog_clear(const struct config *c, const char *topic,
                        uint64_t *rows, struct err *e) MUST_USE;

#endif
