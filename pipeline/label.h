/* label.h - what became known of an event later: one Label record
 * (schemas/label.avsc), or one that resolves to it.
 *
 * Threads  No shared state. */
#ifndef MILLRACE_LABEL_H
#define MILLRACE_LABEL_H

#include "codec.h"

enum { LABEL_DATUMS = 7 }; /* of the record and its fields */

struct label {
    struct slice event_id, user, item; /* lent by the bytes */
    int64_t time_ms;                   /* of the labelled event */
    int64_t labelled_at_ms;
    bool fraud; /* or confirmed as good */
};

/* The schema in which labels are read; schema_free. */
enum rc label_schema(struct schema **out, struct err *e) MUST_USE;

/* Plain Avro; d reads label_schema. RC_SKIP: it is no label, or has no
 * event_id. */
enum rc label_decode(const struct decoder *d, struct slice avro,
                     struct label *out, struct err *e) MUST_USE;

/* The bytes of a label: plain Avro in label_schema. RC_SKIP where out is too
 * short. */
enum rc label_encode(const struct schema *s, const struct label *l,
                     uint8_t *out, size_t size, size_t *used,
                     struct err *e) MUST_USE;
/* More than they can be. */
size_t label_bytes_max(const struct label *l);

#endif
