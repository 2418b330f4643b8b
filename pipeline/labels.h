/* labels.h - late truths, joined to events by their id.
 *
 * Labels stand in container files or in labels.topic, as Label records
 * (schemas/label.avsc) or records that resolve to them. Of several labels of
 * one event the one that became known last counts: that is what training and
 * metrics ask for. In the order in which they became known they are a log of
 * their own, which rows of users and items take (source_merge.h).
 *
 * Memory   Texts of labels are kept.
 * Threads  Immutable once read. */
#ifndef MILLRACE_LABELS_H
#define MILLRACE_LABELS_H

#include "config.h"
#include "label.h"

struct labels;
enum rc labels_read(struct labels **out, const char *const *paths,
                    uint32_t count, struct err *e) MUST_USE;
/* A topic of labels as it is now, from its start to its end. A message that is
 * no label is logged and left out. */
enum rc labels_read_topic(struct labels **out, const struct config *c,
                          const char *topic, struct err *e) MUST_USE;
void labels_free(struct labels *l);
size_t labels_count(const struct labels *l); /* events that have one */

/* Every label that was read, those that became known first first; of equals
 * those read first. */
size_t labels_read_count(const struct labels *l);
const struct label *labels_in_order(const struct labels *l, size_t index);
/* Where it stood in its topic; 0 and how many were read before it: of files. */
void labels_place(const struct labels *l, size_t index, int32_t *partition,
                  int64_t *offset);

/* What is known of an event (hash64 of its id) by known_ms: enum train_label.
 * Silence is good once delay_ms have passed since the event, by known_ms or
 * by the newest label, whichever comes first: frauds are reported, good
 * events hardly ever. l NULL: LABEL_UNKNOWN. */
int8_t labels_find(const struct labels *l, uint64_t event_id, int64_t time_ms,
                   int64_t known_ms, int64_t delay_ms);

#endif
