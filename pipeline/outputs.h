/* outputs.h - outcomes as messages: fraud scores, recommendations, dead
 * letters; and what route and items pass on. The schemas are
 * schemas/fraud_score.avsc and schemas/recommendations.avsc.
 *
 * A message carries its input's headers, but for those that name the input's
 * schemas (framing.h); its key is the user, its timestamp that of its input
 * in the log, which a topic took already: what an event says of its time,
 * brokers may refuse. (Files have none: there it is the event's.) A dead letter
 * is the original key and value under the headers of DEAD LETTERS below and
 * the original ones.
 *
 * Passed   A message goes on with its key changed, to that of the rows of the
 *          stage it goes to; value, headers and timestamp stay. Items add a
 *          header (enrichment.h). One without an item goes by its user.
 * Memory   Encoded bytes live in an arena of this module until the next call
 *          of outputs_encode; a batch that does not fit is encoded in parts.
 * Threads  One worker thread. */
#ifndef MILLRACE_OUTPUTS_H
#define MILLRACE_OUTPUTS_H

#include "codec.h"
#include "config.h"
#include "decide.h"
#include "sink.h"
#include "stages.h"
#include "windows.h"

/* DEAD LETTERS: headers added to a message that could not be used. */
#define DEAD_LETTER_REASON    "millrace.reason"
#define DEAD_LETTER_DETAIL    "millrace.detail"
#define DEAD_LETTER_TOPIC     "millrace.source.topic"
#define DEAD_LETTER_PARTITION "millrace.source.partition"
#define DEAD_LETTER_OFFSET    "millrace.source.offset"
#define DEAD_LETTER_TIMESTAMP "millrace.source.timestamp" /* ms; -1: none */
enum { DEAD_LETTER_HEADERS = 6 };                         /* they come first */
/* "omitted": it was larger than the topic takes. Key and input's headers go
 * together. */
#define DEAD_LETTER_VALUE "millrace.value"
#define DEAD_LETTER_KEY   "millrace.key"

/* Added to the score of an event whose id came before (repeat.policy =
 * reemit). */
#define REPEATED_HEADER "millrace.repeated"

struct outputs;
struct outputs_options {
    const struct config *config; /* lent, as all here */
    enum stage_id stage;
    const char *topic;          /* of the events */
    uint32_t ignores;           /* as in struct sink */
    const uint32_t *schema_ids; /* of each output; NULL: as configured */
    const struct windows_shape *windows; /* of the stage's rows */
};
/* Users: only dead letters until outputs_set_serving. */
enum rc outputs_new(struct outputs **out, const struct outputs_options *o,
                    struct err *e) MUST_USE;
void outputs_free(struct outputs *o);

/* What scores and lists are made of from now on; lent. model NULL: there are
 * none. */
void outputs_set_serving(struct outputs *o, const struct model *model,
                         const struct policy *policy);

/* The schema of each output, NULL for dead letters, which have none. The
 * caller frees them, also after a failure. */
enum rc outputs_parse_schemas(struct schema *out[OUTPUTS],
                              struct err *e) MUST_USE;

/* Most values that one record of either holds, decoded (codec.h). */
uint32_t outputs_datums_max(const struct config *c);

/* Encodes events from *next on, moves *next past those done, and lends their
 * messages. Call it until *next is b->count. */
enum rc outputs_encode(struct outputs *o, const struct batch *b, uint32_t *next,
                       const struct message **messages, uint32_t *count,
                       struct err *e) MUST_USE;

#endif
