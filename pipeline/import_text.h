/* import_text.h - the bytes of a text file, plain or compressed.
 *
 * gzip (any number of members) and xz are known by their first bytes, never
 * by the file's name. "-" is standard input.
 * Threads  One reader belongs to one thread.
 * Errors   RC_STOP where the file cannot be read, or ends or breaks in the
 *          middle of compressed data. */
#ifndef MILLRACE_IMPORT_TEXT_H
#define MILLRACE_IMPORT_TEXT_H

#include "err.h"
#include "slice.h"

struct import_text;
enum rc import_text_open(struct import_text **out, const char *path,
                         struct err *e) MUST_USE;
/* Up to size bytes; *got is 0 only at the end. */
enum rc import_text_read(struct import_text *t, uint8_t *to, size_t size,
                         size_t *got, struct err *e) MUST_USE;
/* Bytes of the file, as stored, read so far, and in all (0: not known). */
void import_text_progress(const struct import_text *t, uint64_t *done,
                          uint64_t *total);
void import_text_close(struct import_text *t);

#endif
