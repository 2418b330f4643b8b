/* container_codec.h - packs and unpacks the blocks of container files.
 *
 * Codecs   null, deflate (raw, RFC 1951), zstandard.
 * Threads  One codec belongs to one reader or writer. */
#ifndef MILLRACE_CONTAINER_CODEC_H
#define MILLRACE_CONTAINER_CODEC_H

#include "err.h"
#include "slice.h"

/* Bytes that grow, by doubling, and never shrink. */
struct buffer {
    uint8_t *at;
    size_t len, max;
};
enum rc buffer_reserve(struct buffer *b, size_t max, struct err *e) MUST_USE;
void buffer_fini(struct buffer *b);
static inline struct slice buffer_slice(const struct buffer *b)
{
    return slice_of(b->at, b->len);
}

struct block_codec;
/* An empty name is null, as the specification says. */
enum rc block_codec_new(struct block_codec **out, struct slice name,
                        struct err *e) MUST_USE;
void block_codec_free(struct block_codec *c);

/* Replace out's bytes. More than max plain bytes are RC_STOP. */
enum rc block_unpack(struct block_codec *c, struct slice stored,
                     struct buffer *out, size_t max, struct err *e) MUST_USE;
enum rc block_pack(struct block_codec *c, struct slice plain,
                   struct buffer *out, struct err *e) MUST_USE;

#endif
