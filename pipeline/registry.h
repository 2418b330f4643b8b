/* registry.h - writers' schemas by the keys that messages carry: from
 * schemas.dir, and from a schema registry where registry.url names one.
 *
 * Waiting  Asking never waits for a disk or a network: a thread of this
 *          module looks a key up, in schemas.dir first. Until there is an
 *          answer the key's state is REGISTRY_WAIT, and the caller holds the
 *          message back. A registry that is down, slow, overloaded (429, 5xx;
 *          Retry-After counts), that refuses us or talks nonsense is asked
 *          again until it answers; it never makes a key absent.
 * Absent   Only a registry's own "no such schema" (40403), a schema that is
 *          not Avro or cannot be parsed, and, without a registry, a file that
 *          is not there. Forgotten after schemas.retry, then looked up again.
 * Disk     What a registry gave is kept in schemas.dir, references written
 *          into it, so that a restart needs no registry.
 * Memory   REGISTRY_KEYS_MAX keys and REGISTRY_BYTES_MAX of schemas, which
 *          stay until registry_close; one beyond it is absent. Absent keys
 *          make room. A flood of made-up keys costs its own messages time,
 *          and nothing else.
 * Threads  registry_get, _answers, _await: any thread. One mutex guards the
 *          table of keys: workers come here only for a key that they have no
 *          decoder for, so on the way of other events there is no lock. */
#ifndef MILLRACE_REGISTRY_H
#define MILLRACE_REGISTRY_H

#include "codec.h"
#include "config.h"
#include "schema_key.h"

enum {
    REGISTRY_KEYS_MAX = 2048,
    REGISTRY_BYTES_MAX = 8 << 20, /* of texts; parsed, some ten times that */
    REGISTRY_REFERENCE_DEPTH_MAX = 16,
};

struct registry;
enum registry_state { REGISTRY_FOUND, REGISTRY_WAIT, REGISTRY_ABSENT };

/* Starts the thread. c is lent until registry_close; reader, whose own
 * fingerprint is known from the start, for the call. */
enum rc registry_open(struct registry **out, const struct config *c,
                      const struct schema *reader, struct err *e) MUST_USE;
void registry_close(struct registry *r);

/* FOUND: *schema is lent until registry_close. ABSENT: *why says why, and
 * *until_ms when to ask again, in the clock of registry_now_ms. */
enum registry_state registry_get(struct registry *r, struct schema_key key,
                                 const struct schema **schema,
                                 int64_t *until_ms, struct err *why);
int64_t registry_now_ms(void);

/* How many keys have been answered: has it moved, then a key that waited may
 * wait no longer. */
uint32_t registry_answers(const struct registry *r);
/* Until no key waits, wait_ms at most. False: some still do. */
bool registry_await(struct registry *r, uint32_t wait_ms);

#endif
