/* sink_file.h - outputs as Avro container files.
 *
 * Each output has a file or none; what has none is counted and let go.
 * Values come framed (Confluent) or plain, as output.format says; a file
 * holds the plain datum. A file is whole or absent: it appears under its
 * name when sink_file_finish has succeeded.
 *
 * Commit   There is nothing to take back from a file, so abort is RC_STOP
 *          once something was written after the last commit.
 * Threads  One worker thread. */
#ifndef MILLRACE_SINK_FILE_H
#define MILLRACE_SINK_FILE_H

#include "codec.h"
#include "sink.h"

struct sink_file_output {
    const char *path; /* NULL: this output is not written */
    const struct schema *schema;
};

/* framed: values carry the five bytes of a Confluent header. */
enum rc sink_file_create(struct sink **out,
                         const struct sink_file_output outputs[OUTPUTS],
                         const char *codec, bool framed,
                         struct err *e) MUST_USE;
enum rc sink_file_finish(struct sink *k, struct err *e) MUST_USE;

#endif
