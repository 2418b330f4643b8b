/* source_file.h - Avro container files, one after the other, as a source.
 *
 * Order    The files are one log in the order given: input 0, partition 0,
 *          the offset is the position of the record counted over all files,
 *          so a user's events may span files (days, months).
 * Finite   It ends after the last record. Seeking back reopens the files and
 *          reads up to the place.
 * Memory   Values are copied out of the container's block into an arena that
 *          lives until release; a batch ends early where that is full.
 * Threads  One worker thread. Progress may be read by any. */
#ifndef MILLRACE_SOURCE_FILE_H
#define MILLRACE_SOURCE_FILE_H

#include <stdatomic.h>

#include "codec.h"
#include "source.h"

/* paths are lent until source_close. Every file must be written with the
 * same schema as the first: RC_STOP, with the file's name, otherwise. */
enum rc source_file_open(struct source **out, const char *const *paths,
                         uint32_t count, struct err *e) MUST_USE;
const struct schema *source_file_schema(const struct source *s);

/* Bytes read so far and of all files. */
void source_file_progress(const struct source *s, uint64_t *done,
                          uint64_t *total);

#endif
