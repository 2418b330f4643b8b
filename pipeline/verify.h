/* verify.h - does a replay make, byte for byte, what a recorded run made?
 *
 * The recorded outputs are read first: container files or topics, each value
 * under its output, source partition and offset, as 64 bits of its bytes. A
 * sink around the replay's own then looks up what is made.
 *
 * Refused  Outputs of another model or kernel family: they differ in the
 *          last bits and nothing is wrong (I5). A replay that begins neither
 *          at offset 0 nor with a snapshot: its rows lack the events before.
 * Range    What was recorded of events that the replay does not read (before
 *          its snapshot, of other partitions, past its end) is not compared.
 * Memory   About 48 bytes a recorded output; its bytes are read again for
 *          the first that differs.
 * Threads  Reading: one. Sinks: one a worker, each with its own users, so no
 *          two look for the same output. The result: when they have ended. */
#ifndef MILLRACE_VERIFY_H
#define MILLRACE_VERIFY_H

#include "codec.h"
#include "config.h"
#include "model.h"
#include "sink.h"
#include "source_kafka.h"

struct verify;
/* model and c are lent. */
enum rc verify_new(struct verify **out, const struct config *c,
                   const struct model *model, struct err *e) MUST_USE;
void verify_free(struct verify *v);

/* Adds a file of fraud scores or of recommendations; path is lent. */
enum rc verify_read_file(struct verify *v, const char *path,
                         struct err *e) MUST_USE;
/* Adds the output topics of the configuration, from start to end. */
enum rc verify_read_topics(struct verify *v, struct err *e) MUST_USE;
uint64_t verify_recorded(const struct verify *v);
/* A catalogue_plan_fn; user is a struct verify: as of which offset of the
 * catalogue the recorded list of an event was made. */
int64_t verify_catalogue_offset(void *user, const struct record *r);
/* A source_merge_known_fn; user is a struct verify: up to which label the
 * recorded score of an event knew. */
int64_t verify_label_offset(void *user, const struct record *r);

/* Where the replay begins, before it does. range NULL: files; snapshot NULL:
 * empty rows. RC_SKIP: from there it cannot equal the run. */
enum rc verify_begin(struct verify *v, const struct topic_range *range,
                     const char *snapshot, struct err *e) MUST_USE;

/* A sink that looks at what passes to inner, which it closes with itself. It
 * asks for the outputs that were recorded, also if inner ignores them. */
enum rc verify_sink(struct sink **out, struct verify *v, struct sink *inner,
                    struct err *e) MUST_USE;

struct verify_result {
    uint64_t equal, differ;
    uint64_t missing;  /* recorded, but not made */
    uint64_t extra;    /* made, but not recorded */
    uint64_t repeated; /* recorded more than once, each time the same */
    uint64_t outside;  /* recorded of events that were not replayed */
    /* The first that is not equal, by partition, offset and output;
     * partition -1: there is none. */
    int32_t partition;
    int64_t offset;
    enum output output;
};
void verify_result(const struct verify *v, struct verify_result *out);

/* The bytes of that first one, lent until verify_free; ptr NULL where it was
 * not recorded, or not made. RC_STOP: the record cannot be read again. */
enum rc verify_first(struct verify *v, struct slice *recorded,
                     struct slice *made, struct err *e) MUST_USE;
/* What they are bytes of. */
const struct schema *verify_schema(const struct verify *v, enum output output);

#endif
