/* writers.h - decoders of the writers' schemas that messages name by id.
 *
 * An id is looked up in schemas.dir/ID.avsc when a message first has it, and
 * kept for good. An id without a usable schema is remembered too, in a table
 * of its own that forgets, so that a flood of made-up ids costs one look at
 * the folder each and never grows. A schema that comes later than its first
 * message is seen after a restart.
 *
 * Threads  One worker thread. */
#ifndef MILLRACE_WRITERS_H
#define MILLRACE_WRITERS_H

#include "codec.h"

enum { WRITERS_MAX = 1024, WRITERS_UNKNOWN_MAX = 256 };

struct writers;
/* dir and reader are lent until writers_free. */
enum rc writers_new(struct writers **out, const char *dir,
                    const struct schema *reader, struct err *e) MUST_USE;
void writers_free(struct writers *w);
/* NULL: no usable schema; the reason was logged when it was first seen. */
const struct decoder *writers_get(struct writers *w, uint32_t id);

#endif
