/* dir_files.h - the files of a model directory, read whole and replaced whole.
 *
 * Writing  Into a new directory beside its place (dir_begin), then exchanged
 *          by one rename (dir_finish): a reader finds the old model or the
 *          new one, never half of either.
 * Memory   What a reader fills is the caller's to free.
 * Threads  Any thread; two writers of one directory are the caller's fault.
 * Errors   RC_STOP with the path and what is wrong. */
#ifndef MILLRACE_DIR_FILES_H
#define MILLRACE_DIR_FILES_H

#include <jansson.h>

#include "err.h"
#include "slice.h"

enum { PATH_BYTES = 4096 };

/* "dir/name" and suffix. */
enum rc dir_path(char path[PATH_BYTES], const char *dir, const char *name,
                 const char *suffix, struct err *e) MUST_USE;

/* A whole file on the heap, at most bytes_max. */
enum rc dir_read_file(const char *path, size_t bytes_max, uint8_t **out,
                      size_t *size, struct err *e) MUST_USE;
/* A JSON file whose keys are each there once. hash: of its bytes; may be
 * NULL. */
enum rc dir_read_json(const char *path, size_t bytes_max, json_t **out,
                      uint64_t *hash, struct err *e) MUST_USE;
/* XXH3 of a file's bytes. */
enum rc dir_hash_file(const char *path, uint64_t *hash, struct err *e) MUST_USE;

/* Write and sync. */
enum rc dir_write_bytes(const char *path, struct slice bytes,
                        struct err *e) MUST_USE;
enum rc dir_write_text(const char *path, const char *text,
                       struct err *e) MUST_USE;

/* Creates the directory to be filled; made receives its name. What stands at
 * dir may only be replaced if it has a config.json or is empty. */
enum rc dir_begin(char made[PATH_BYTES], const char *dir,
                  struct err *e) MUST_USE;
/* rc: of the filling. If it is RC_OK, puts made in the place of dir, else
 * removes it; returns rc, or RC_STOP if that fails. */
enum rc dir_finish(const char *made, const char *dir, enum rc rc,
                   struct err *e) MUST_USE;

#endif
