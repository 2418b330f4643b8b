/* row.h - a flat record of a given schema, filled field by field.
 *
 * What import and generate write: records of booleans, numbers, texts,
 * bytes and enums, each perhaps in a union with null. Where a field stands
 * on the tape (codec.h) does not depend on its value, so filling one is one
 * store, and encoding allocates nothing.
 *
 * Memory   Texts put into a row are lent until row_encode has returned; its
 *          bytes are lent until the next row_encode.
 * Threads  A row belongs to one thread. The schema is lent for its life. */
#ifndef MILLRACE_ROW_H
#define MILLRACE_ROW_H

#include "codec.h"

enum { ROW_FIELDS_MAX = 128, ROW_BYTES_MAX = 4 << 20 };

struct row_field {
    const char *name;
    enum datum_kind kind;     /* of the value, the null branch put aside */
    const char *logical_type; /* "" if none */
    bool nullable;
    bool has_default;
};

struct row;
/* RC_STOP for a schema that is not a flat record. */
enum rc row_new(struct row **out, const struct schema *s,
                struct err *e) MUST_USE;
void row_free(struct row *r);

uint32_t row_field_count(const struct row *r);
const struct row_field *row_field(const struct row *r, uint32_t index);
/* Index of a field by name; -1 if there is none. */
int32_t row_find(const struct row *r, const char *name);

/* Every field to its default, or null where it may be, or to "no value". */
void row_clear(struct row *r);

/* False, and nothing changes, where the value does not fit the field: out of
 * range, not a symbol of the enum, null where null may not be. */
bool row_put_null(struct row *r, uint32_t field);
bool row_put_long(struct row *r, uint32_t field, int64_t value);
bool row_put_double(struct row *r, uint32_t field, double value);
bool row_put_text(struct row *r, uint32_t field, struct slice value);

/* What a field holds: false if it is null, missing or of another kind. */
bool row_get_text(const struct row *r, uint32_t field, struct slice *out);
bool row_get_long(const struct row *r, uint32_t field, int64_t *out);

/* RC_SKIP, naming the field, if one has no value. */
enum rc row_encode(struct row *r, struct slice *out, struct err *e) MUST_USE;

#endif
