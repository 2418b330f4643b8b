/* schema_inline.h - one self-contained schema out of a schema and those that
 * it refers to.
 *
 * A registry keeps a schema that uses types of other schemas as several
 * texts. Here every named type is written out where it is first used, so
 * that a file in schemas.dir, and everything that reads one, needs no other.
 *
 * Bounds   Texts as schema_type.h bounds them, nesting CODEC_DEPTH_MAX at
 *          each step, the result SCHEMA_BYTES_MAX.
 * Threads  Pure. */
#ifndef MILLRACE_SCHEMA_INLINE_H
#define MILLRACE_SCHEMA_INLINE_H

#include "err.h"
#include "slice.h"

/* *out: the text, *len bytes; free() it. A type that nobody defines stays a
 * name: schema_parse says which. RC_SKIP: a text is no schema. */
enum rc schema_inline(struct slice text, const struct slice *references,
                      uint32_t reference_count, char **out, size_t *len,
                      struct err *e) MUST_USE;

#endif
