/* registry_answer.h - what a schema registry's JSON says.
 *
 * A registry is behind a network, proxies and somebody's configuration, so a
 * body that is not what the interface promises is RC_AGAIN: nothing was
 * learned about the schema, and a message must not be lost over it. Only
 * RC_SKIP is definite.
 *
 * Threads  Pure. */
#ifndef MILLRACE_REGISTRY_ANSWER_H
#define MILLRACE_REGISTRY_ANSWER_H

#include <jansson.h>

#include "err.h"
#include "slice.h"

enum {
    ANSWER_BYTES_MAX = 4 << 20, /* a schema of SCHEMA_BYTES_MAX, escaped */
    ANSWER_REFERENCES_MAX = 64, /* of one schema, directly or not */
    ANSWER_TEXT_BYTES = 256,
};

/* The registry's codes for what it does not have. */
enum {
    ANSWER_NO_SUBJECT = 40401,
    ANSWER_NO_VERSION = 40402,
    ANSWER_NO_SCHEMA = 40403,
};

/* {"schema": "...", "schemaType": "AVRO", "references": [...]}. */
struct answer_schema {
    json_t *tree; /* owns what the others lend */
    struct slice text;
    uint32_t reference_count;
};
struct answer_reference {
    const char *subject; /* lent by the answer */
    int32_t version;
};

/* RC_SKIP: a schema that is not Avro. Then, and with RC_AGAIN, nothing is
 * to be freed. */
enum rc answer_schema_read(struct answer_schema *out, struct slice body,
                           struct err *e) MUST_USE;
void answer_schema_free(struct answer_schema *a);
struct answer_reference answer_reference_at(const struct answer_schema *a,
                                            uint32_t i);

/* {"id": 17} */
enum rc answer_id_read(uint32_t *out, struct slice body,
                       struct err *e) MUST_USE;

/* {"error_code": 40403, "message": "..."}: the code, or 0; text without
 * control characters, cut. */
int32_t answer_error_read(struct slice body, char text[ANSWER_TEXT_BYTES]);

#endif
