/* verify.h - does a replay make, byte for byte, what a recorded run made?
 *
 * The recorded outputs are read first: container files or topics, each value
 * under its output, source partition and offset, as 64 bits of its bytes. A
 * sink around the replay's own then looks up what is made.
 *
 * Refused  Outputs of another model or kernel family: they differ in the
 *          last bits and nothing is wrong (I5).
 * Memory   About 40 bytes a recorded output.
 * Threads  Reading: one. Sinks: one a worker, each with its own users, so no
 *          two look for the same output. The result: when they have ended. */
#ifndef MILLRACE_VERIFY_H
#define MILLRACE_VERIFY_H

#include "config.h"
#include "model.h"
#include "sink.h"

struct verify;
/* model and c are lent. */
enum rc verify_new(struct verify **out, const struct config *c,
                   const struct model *model, struct err *e) MUST_USE;
void verify_free(struct verify *v);

/* Adds a file of fraud scores or of recommendations. */
enum rc verify_read_file(struct verify *v, const char *path,
                         struct err *e) MUST_USE;
/* Adds the output topics of the configuration, from start to end. */
enum rc verify_read_topics(struct verify *v, struct err *e) MUST_USE;
uint64_t verify_recorded(const struct verify *v);

/* A sink that looks at what passes to inner, which it closes with itself. It
 * asks for the outputs that were recorded, also if inner ignores them. */
enum rc verify_sink(struct sink **out, struct verify *v, struct sink *inner,
                    struct err *e) MUST_USE;

struct verify_result {
    uint64_t equal, differ;
    uint64_t missing;  /* recorded, but not made */
    uint64_t extra;    /* made, but not recorded */
    uint64_t repeated; /* recorded more than once, each time the same */
    /* Of the first that differs or is missing in the order of the record;
     * partition -1: there is none. */
    int32_t partition;
    int64_t offset;
};
void verify_result(const struct verify *v, struct verify_result *out);

#endif
