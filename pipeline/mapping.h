/* mapping.h - from a user's own schema to the roles of struct event.
 *
 * Compiled from the configuration (role.*, feature.*) and the reader's
 * schema; checks types and names at start, so a message can only fail on
 * its bytes. framing.h says which framings of a message are understood.
 *
 * Forget   A record without a value (Kafka's null, not an empty one) has no
 *          event: it says that the user who is its key shall be forgotten.
 * Labels   Records of the input of labels (stages.h) become labels, once there
 *          is a schema to read them in.
 * Ids      Numbers become their decimal text, so that "42" and 42 agree; a
 *          fixed becomes hexadecimal; other bytes must be UTF-8.
 * Memory   Slices of an event point into its message, or into the mapping,
 *          until the next event_decode.
 * Threads  One mapping per worker. */
#ifndef MILLRACE_MAPPING_H
#define MILLRACE_MAPPING_H

#include "batch.h"
#include "codec.h"
#include "config.h"
#include "registry.h"

/* Of item and event id; user.bytes.max has the user's. */
enum { MAPPING_ID_BYTES_MAX = 1024 };

struct mapping;
/* c, reader and registry are lent until mapping_free. registry NULL: no
 * schema that a message names is ever found. */
enum rc mapping_new(struct mapping **out, const struct config *c,
                    const struct schema *reader, struct registry *registry,
                    struct err *e) MUST_USE;
/* From now on values are plain Avro of the writer's schema, whatever
 * input.format says: container files. reader is that of mapping_new. */
enum rc mapping_read_plain(struct mapping *m, const struct schema *writer,
                           const struct schema *reader, struct err *e) MUST_USE;
/* Labels come too. plain: as container files hold them, or labels_in_order
 * has them; else framed as input.format says, and registry, lent, is that of
 * their schema. */
enum rc mapping_read_labels(struct mapping *m, bool plain,
                            struct registry *registry, struct err *e) MUST_USE;
void mapping_free(struct mapping *m);

/* c differs from that of mapping_new in LIVE options alone, and is lent
 * instead from now on; what was lent before stays lent. */
void mapping_set_config(struct mapping *m, const struct config *c);

/* Decodes b->records[i] into b->events[i] for all i; bad ones are marked
 * (I6), and those whose schema is still to come. position_ms counts events
 * of inputs without a time. */
void event_decode(struct mapping *m, struct batch *b);
/* Moves whenever events that waited for a schema may be decoded again. */
uint32_t mapping_answers(const struct mapping *m);

/* The tape of the last event decoded, for inspect; NULL if it was bad. */
const struct tape *mapping_tape(const struct mapping *m);
uint32_t mapping_fields(const struct mapping *m); /* enum train_field bits */

#endif
