/* writers.h - decoders of the writers' schemas that messages name.
 *
 * A key is asked of the registry (which has schemas.dir behind it) when a
 * message first has it; its decoder is kept for good. A key without a usable
 * schema is remembered too, in a table of its own that forgets, so that a
 * flood of made-up keys never grows; it is asked for again after
 * schemas.retry.
 *
 * Threads  One worker thread. */
#ifndef MILLRACE_WRITERS_H
#define MILLRACE_WRITERS_H

#include "registry.h"

enum { WRITERS_MAX = 1024, WRITERS_UNKNOWN_MAX = 256 };

enum writers_state {
    WRITERS_FOUND,
    WRITERS_WAIT,   /* the registry has not answered yet: ask again */
    WRITERS_ABSENT, /* there is no such schema; it was logged why */
    WRITERS_UNFIT,  /* there is, but the reader's schema cannot read it */
};

struct writers;
/* registry and reader are lent until writers_free. registry NULL: nothing is
 * ever found. */
enum rc writers_new(struct writers **out, struct registry *registry,
                    const struct schema *reader, struct err *e) MUST_USE;
void writers_free(struct writers *w);
/* FOUND: *out is lent until writers_free. */
enum writers_state writers_get(struct writers *w, struct schema_key key,
                               const struct decoder **out);

#endif
