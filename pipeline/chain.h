/* chain.h - the items stage in front of the users stage, in memory: what
 * replay and train put there in place of a live items stage and its topics.
 *
 * Log      Every worker of a replay has a chain of its own, and its items see
 *          all events, also those of other workers' users: the log must come
 *          in one order (source_merge.h), whose numbers are the offsets that
 *          items' rows know.
 * Equal    To the live stages exactly where enriched.topic has each user's
 *          events in the order of time; live, the others are counted
 *          (millrace_events_reordered_total).
 * Memory   Rows of all items, as long as the log is read; a batch's features
 *          until the next one.
 * Threads  One worker thread. */
#ifndef MILLRACE_CHAIN_H
#define MILLRACE_CHAIN_H

#include "batch.h"
#include "config.h"

struct chain;
/* fields: mapping_fields. c is lent. */
enum rc chain_new(struct chain **out, const struct config *c, uint32_t fields,
                  struct err *e) MUST_USE;
void chain_free(struct chain *h);

/* Events and labels -> their items' rows -> item_features and
 * item_label_offset of the events. RC_AGAIN where a schema is still to come:
 * begin anew. */
enum rc chain_apply(struct chain *h, struct batch *b, struct err *e) MUST_USE;

/* The log is read again from its start. */
enum rc chain_begin_anew(struct chain *h, struct err *e) MUST_USE;

#endif
