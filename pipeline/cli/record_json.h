/* record_json.h - a topic's records as JSON lines, values decoded by the
 * schema that the configuration gives that topic: cat, dlq show.
 *
 * A value that cannot be decoded is shown in hexadecimal with the reason:
 * what is there must be seen.
 * Threads  One thread. */
#ifndef MILLRACE_RECORD_JSON_H
#define MILLRACE_RECORD_JSON_H

#include "batch.h"
#include "codec.h"
#include "config.h"

struct record_json;
struct record_json_options {
    const struct config *config;
    const char *topic;
    const char *as; /* a schema: a file, or a built-in name; NULL: by topic */
    enum json_style style;
};
/* RC_STOP where nothing says which schema the topic has. Dead letters have
 * that of their source. */
enum rc record_json_open(struct record_json **out,
                         const struct record_json_options *o,
                         struct err *e) MUST_USE;
void record_json_close(struct record_json *j);

/* NULL: values are shown as they are. */
const struct schema *record_json_schema(const struct record_json *j);
/* One line on stdout. */
enum rc record_json_print(struct record_json *j, const struct record *r,
                          struct err *e) MUST_USE;

#endif
