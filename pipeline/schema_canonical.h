/* schema_canonical.h - what of a schema decides how its bytes are read.
 *
 * The Parsing Canonical Form of the Avro specification: full names, the
 * attributes name, type, fields, symbols, items, values and size in that
 * order, nothing else, no blanks. Its CRC-64-AVRO is the fingerprint by
 * which single-object encoding names a schema.
 *
 * Threads  Pure. */
#ifndef MILLRACE_SCHEMA_CANONICAL_H
#define MILLRACE_SCHEMA_CANONICAL_H

#include "codec.h"

/* *out: the canonical form, len bytes; free() it. */
enum rc schema_canonical(const struct schema *s, char **out, size_t *len,
                         struct err *e) MUST_USE;

enum rc schema_fingerprint(const struct schema *s, uint64_t *out,
                           struct err *e) MUST_USE;

#endif
