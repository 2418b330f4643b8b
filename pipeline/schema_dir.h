/* schema_dir.h - schemas.dir: writers' schemas as files, NAME.avsc.
 *
 * A file is written whole or not at all (another name, fsync, rename), so
 * that a crash leaves none cut short, and processes may share the folder.
 * Threads  Pure but for the disk. */
#ifndef MILLRACE_SCHEMA_DIR_H
#define MILLRACE_SCHEMA_DIR_H

#include "codec.h"
#include "schema_key.h"

enum { SCHEMA_DIR_FILES_MAX = 4096 }; /* searched for a fingerprint */

/* *out NULL: there is no such file. RC_STOP: there is, but it cannot be
 * read as a schema. */
enum rc schema_dir_read(struct schema **out, const char *dir,
                        struct schema_key key, struct err *e) MUST_USE;
/* The first file, by any name, with this fingerprint; NULL: none. Files that
 * are no schema are passed over. */
struct schema *schema_dir_search(const char *dir, uint64_t fingerprint);
/* The id of the file ID.avsc that holds exactly text; 0: none. */
uint32_t schema_dir_find_text(const char *dir, struct slice text);
/* Makes the folder if need be. RC_AGAIN where the disk refuses. */
enum rc schema_dir_write(const char *dir, struct schema_key key,
                         struct slice text, struct err *e) MUST_USE;

#endif
