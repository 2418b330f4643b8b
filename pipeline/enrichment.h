/* enrichment.h - what the items stage says of an event, in the header
 * ENRICHMENT_HEADER of the message that goes on to the users stage. Key, value
 * and the other headers go on as they are: nothing is decoded and encoded
 * again, and no schema of the user's changes.
 *
 * Bytes, little-endian:
 *
 *   version u8 | 0 u8 x 3 | count u32 | label_offset i64 |
 *   names u64: hash of the features' names | count x f32, NaN: missing
 *
 * Threads  A reader belongs to one thread. */
#ifndef MILLRACE_ENRICHMENT_H
#define MILLRACE_ENRICHMENT_H

#include "batch.h"
#include "windows.h"

#define ENRICHMENT_HEADER "millrace.item"

/* Of a header's value. */
size_t enrichment_bytes(uint32_t count);
/* Which features: both stages must mean the same. */
uint64_t enrichment_names(const struct windows_shape *item);
/* out: enrichment_bytes(count). */
void enrichment_encode(const float *features, uint32_t count, uint64_t names,
                       int64_t label_offset, uint8_t *out);

struct enrichment_reader;
enum rc enrichment_reader_new(struct enrichment_reader **out,
                              const struct windows_shape *item,
                              uint32_t events_max, struct err *e) MUST_USE;
void enrichment_reader_free(struct enrichment_reader *r);
/* Gives every good event of the batch its item's features; one without them,
 * or with others, is bad (I6). Lent until the next call. */
void enrichment_read(struct enrichment_reader *r, struct batch *b);

#endif
