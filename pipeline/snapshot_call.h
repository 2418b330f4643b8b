/* snapshot_call.h - a snapshot of a process at work: one thread asks, every
 * worker answers at its next commit with views of its partitions, and the
 * asking thread writes them out while the workers go on.
 *
 * Commit   Each partition is as of a commit of its worker; two partitions may
 *          stand at different times, as they always do.
 * Threads  snapshot_call_make: any thread, one at a time. waits, add, answer:
 *          the worker's; they take a lock only while somebody asks. */
#ifndef MILLRACE_SNAPSHOT_CALL_H
#define MILLRACE_SNAPSHOT_CALL_H

#include <stdatomic.h>

#include <jansson.h>

#include "config.h"
#include "model.h"
#include "schema_type.h"
#include "snapshot.h"
#include "store.h"

struct snapshot_call;
/* stop: once it is true nothing is waited for and nothing more is written. */
struct snapshot_call *snapshot_call_new(uint32_t workers,
                                        const atomic_bool *stop);
void snapshot_call_free(struct snapshot_call *c);

/* A worker has not answered yet. */
bool snapshot_call_waits(const struct snapshot_call *c, uint32_t worker);
/* user: the call. Takes the view. */
void snapshot_call_add(void *user, struct store_view *v);
void snapshot_call_answer(struct snapshot_call *c, uint32_t worker);

/* Asks, waits for all and writes. RC_AGAIN: a worker did not answer in time,
 * since it folds or waits for the cluster, or the process stops; nothing is
 * left. */
enum rc snapshot_call_make(struct snapshot_call *c, const char *dir,
                           const struct snapshot_info *about, int64_t wait_ms,
                           struct err *e) MUST_USE;

/* What an info says beside the rows' own facts. model NULL: none. */
void snapshot_about(struct snapshot_info *out, const struct config *c,
                    const struct schema *reader, const struct model *model);
/* A snapshot that is there, as JSON for people's tools; opening it has looked
 * at every checksum. */
enum rc snapshot_describe(const char *dir, json_t **out,
                          struct err *e) MUST_USE;

/* Families of the store that have no record of their own take that of the
 * snapshot; taken counts them. The topic and the shape must fit. */
enum rc snapshot_seed(struct store *s, const char *dir, const char *topic,
                      const char *shape, uint32_t *taken,
                      struct err *e) MUST_USE;

#endif
