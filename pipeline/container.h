/* container.h - Avro object container files, read and written.
 *
 * Codecs   null, deflate, zstandard. Blocks up to CONTAINER_BLOCK_MAX bytes
 *          once inflated; a larger or damaged one is RC_STOP with its place.
 * Threads  One reader or writer belongs to one thread. */
#ifndef MILLRACE_CONTAINER_H
#define MILLRACE_CONTAINER_H

#include "codec.h"

enum { CONTAINER_BLOCK_MAX = 16 << 20 };

struct container_reader;
enum rc container_open(struct container_reader **out, const char *path,
                       struct err *e) MUST_USE;
const struct schema *container_schema(const struct container_reader *r);
/* The bytes of the next value, lent until the next call of container_next;
 * *ended at a clean end. Values of one block stay valid until the reader
 * moves to a later block: container_block counts them. */
enum rc container_next(struct container_reader *r, struct slice *value,
                       bool *ended, struct err *e) MUST_USE;
uint64_t container_block(const struct container_reader *r);
/* For progress: bytes read so far, and of the whole file. */
void container_progress(const struct container_reader *r, uint64_t *done,
                        uint64_t *total);
void container_close(struct container_reader *r);

struct container_writer;
/* codec: "null", "deflate" or "zstandard". path "-" is stdout. Written to
 * path.part and renamed by finish, so a file is whole or absent. */
enum rc container_create(struct container_writer **out, const char *path,
                         const struct schema *s, const char *codec,
                         struct err *e) MUST_USE;
enum rc container_append(struct container_writer *w, struct slice value,
                         struct err *e) MUST_USE;
enum rc container_finish(struct container_writer *w, struct err *e) MUST_USE;
void container_abandon(struct container_writer *w); /* closes, removes .part */

#endif
