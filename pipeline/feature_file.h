/* feature_file.h - what the heads saw, as a table for other tools: one Avro
 * record an event, in the order of the log.
 *
 * Columns  event_id, user_id, partition, offset, time (ms), label (null: not
 *          known yet, so not mature), probability and anomaly (null: not
 *          scored), then every window feature under its name (null: missing).
 *          Characters that Avro does not take in names become underscores.
 * Memory   The row is built in place; events' texts are copied by the codec.
 * Threads  One. */
#ifndef MILLRACE_FEATURE_FILE_H
#define MILLRACE_FEATURE_FILE_H

#include "batch.h"
#include "feature_row.h"

struct feature_file;
/* features is lent. path "-" is stdout. */
enum rc feature_file_create(struct feature_file **out, const char *path,
                            const char *codec,
                            const struct feature_shape *features,
                            struct err *e) MUST_USE;
enum rc feature_file_add(struct feature_file *f, const struct record *r,
                         const struct event *ev, const struct outcome *o,
                         int8_t label, struct err *e) MUST_USE;
enum rc feature_file_finish(struct feature_file *f, struct err *e) MUST_USE;
void feature_file_close(struct feature_file *f); /* unfinished: removed */

#endif
