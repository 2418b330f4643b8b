/* mapping.h - from a user's own schema to the roles of struct event.
 *
 * Compiled from the configuration (role.*, feature.*) and the reader's
 * schema; checks types and names at start, so a message can only fail on
 * its bytes. Decodes plain Avro or Confluent-framed messages (magic byte 0,
 * schema id u32be, resolved by schemas.dir/ID.avsc).
 *
 * Threads  Immutable after compile but for its per-worker tape: one mapping
 *          per worker. */
#ifndef MILLRACE_MAPPING_H
#define MILLRACE_MAPPING_H

#include "batch.h"
#include "codec.h"
#include "config.h"

struct mapping;
enum rc mapping_new(struct mapping **out, const struct config *c,
                    const struct schema *reader, struct err *e) MUST_USE;
void mapping_free(struct mapping *m);

/* Decodes b->records[i] into b->events[i] for all i; bad ones are marked
 * (I6). position_ms counts events of inputs without a time. */
void event_decode(struct mapping *m, struct batch *b);

/* The tape of the last event decoded, for inspect; NULL if it was bad. */
const struct tape *mapping_tape(const struct mapping *m);
uint32_t mapping_fields(const struct mapping *m); /* enum train_field bits */

#endif
