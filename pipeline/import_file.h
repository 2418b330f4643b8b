/* import_file.h - mapping files: what `millrace import --mapping` reads.
 *
 * Lines of "key = value", # begins a comment:
 *   schema = FILE.avsc     (relative to the mapping file) or a built-in name
 *   format = csv | jsonl | sequence | pairs | lists
 *   delimiter = ;          (or tab)
 *   columns = a,b,c        (a CSV without a header)
 *   map.FIELD = COLUMN[:OPTION,...]   (import_map.h)
 *
 * Memory   Texts belong to the file until import_file_free.
 * Threads  Immutable once read. */
#ifndef MILLRACE_IMPORT_FILE_H
#define MILLRACE_IMPORT_FILE_H

#include "err.h"
#include "row.h"

struct import_file {
    char *schema, *format, *delimiter, *columns; /* NULL: not given */
    char *rules[ROW_FIELDS_MAX];                 /* "FIELD=COLUMN..." */
    uint32_t rule_count;
};

/* RC_STOP with path and line. */
enum rc import_file_read(struct import_file *f, const char *path,
                         struct err *e) MUST_USE;
void import_file_free(struct import_file *f);

#endif
