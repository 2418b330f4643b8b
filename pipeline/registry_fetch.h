/* registry_fetch.h - one schema out of a registry, its references with it.
 *
 * Threads  Those of the registry_http that it is given. */
#ifndef MILLRACE_REGISTRY_FETCH_H
#define MILLRACE_REGISTRY_FETCH_H

#include "registry_http.h"
#include "schema_key.h"

/* *text: self-contained, free() it. RC_SKIP: it is certain that there is no
 * such Avro schema. RC_AGAIN: nothing is certain; *retry_ms as in
 * registry_http_request. */
enum rc registry_fetch(struct registry_http *h, struct schema_key key,
                       char **text, size_t *len, int64_t *retry_ms,
                       struct err *e) MUST_USE;

/* The id of a schema, registered under subject if it was not. RC_STOP: the
 * registry refuses it; RC_AGAIN as above. */
enum rc registry_put(struct registry_http *h, const char *subject,
                     struct slice schema, uint32_t *id, struct err *e) MUST_USE;

#endif
