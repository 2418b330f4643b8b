/* outputs.h - outcomes as messages: fraud scores, recommendations, dead
 * letters. The schemas are schemas/fraud_score.avsc and
 * schemas/recommendations.avsc.
 *
 * A message carries its input's headers; its key is the user, its timestamp
 * the event's time (the log's own time where events have none). A dead
 * letter is the original key and value under the original headers and those
 * of DEAD LETTERS below.
 *
 * Memory   Encoded bytes live in an arena of this module until the next call
 *          of outputs_encode; a batch that does not fit is encoded in parts.
 * Threads  One worker thread. */
#ifndef MILLRACE_OUTPUTS_H
#define MILLRACE_OUTPUTS_H

#include "codec.h"
#include "config.h"
#include "sink.h"

/* DEAD LETTERS: headers added to a message that could not be used. */
#define DEAD_LETTER_REASON    "millrace.reason"
#define DEAD_LETTER_DETAIL    "millrace.detail"
#define DEAD_LETTER_TOPIC     "millrace.source.topic"
#define DEAD_LETTER_PARTITION "millrace.source.partition"
#define DEAD_LETTER_OFFSET    "millrace.source.offset"

struct outputs;
/* model NULL: only dead letters. topic is lent. ignores: as in struct sink. */
enum rc outputs_new(struct outputs **out, const struct config *c,
                    const struct model *model, const char *topic,
                    uint32_t ignores, struct err *e) MUST_USE;
void outputs_free(struct outputs *o);

/* The schema of each output, NULL for dead letters, which have none. The
 * caller frees them, also after a failure. */
enum rc outputs_parse_schemas(struct schema *out[OUTPUTS],
                              struct err *e) MUST_USE;

/* Encodes events from *next on, moves *next past those done, and lends their
 * messages. Call it until *next is b->count. */
enum rc outputs_encode(struct outputs *o, const struct batch *b, uint32_t *next,
                       const struct message **messages, uint32_t *count,
                       struct err *e) MUST_USE;

#endif
