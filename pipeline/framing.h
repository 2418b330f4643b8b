/* framing.h - which schema a message was written in, and where its Avro
 * bytes begin.
 *
 * Header  __value_schema_id: magic byte 0 and an id (u32be), or 1 and a GUID
 *         (16 bytes); the value is plain Avro.
 * Prefix  The same in front of the value: Confluent's framing.
 * Single  C3 01, fingerprint (u64le) of the schema, Avro: the
 *         specification's single-object encoding.
 * Plain   Avro in the reader's own schema.
 *
 * input.format says which may come: confluent (header or prefix),
 * single_object, plain; auto takes what each message has of the first three
 * if there is a schemas.dir, and is plain without.
 * Threads  One worker thread. */
#ifndef MILLRACE_FRAMING_H
#define MILLRACE_FRAMING_H

#include "batch.h"
#include "writers.h"

#define FRAMING_VALUE_HEADER "__value_schema_id"
#define FRAMING_KEY_HEADER   "__key_schema_id"

struct framing;
/* True if messages name their schema, so that a registry is needed. */
bool framing_names_schemas(const struct config *c);

/* c, registry and reader are lent until framing_free. registry NULL: no
 * schema that a message names is ever found. */
enum rc framing_new(struct framing **out, const struct config *c,
                    struct registry *registry, const struct schema *reader,
                    struct err *e) MUST_USE;
/* From now on values are plain Avro of the writer's schema, whatever
 * input.format says: container files. */
enum rc framing_read_plain(struct framing *f, const struct schema *writer,
                           const struct schema *reader, struct err *e) MUST_USE;
void framing_free(struct framing *f);

struct framed {
    const struct decoder *decoder; /* lent until framing_free */
    struct slice avro;
    bool waits;        /* the schema is still to come: ask again */
    const char *fault; /* why there is no decoder; lent for good */
};
struct framed framing_look(struct framing *f, const struct record *r);

/* The same for who has nothing better to do than wait: RC_SKIP with the
 * fault; RC_AGAIN after FRAMING_WAIT_MS_MAX without an answer. */
enum { FRAMING_WAIT_MS_MAX = 30000 };
enum rc framing_require(struct framing *f, const struct record *r,
                        struct framed *out, struct err *e) MUST_USE;

/* Until every schema asked for is there, wait_ms at most. False: some are
 * still to come. */
bool framing_await(struct framing *f, uint32_t wait_ms);
/* Moves whenever a schema has come, or is known not to. */
uint32_t framing_answers(const struct framing *f);

#endif
