/* import_reader.h - records of cells from text: CSV, JSON lines, sequences.
 *
 * CSV        RFC 4180; column names from the first record, or given.
 * JSON lines One object a line; a column is a key, or a dotted path.
 * Sequences  Lines `user item` (pairs) or `user item item ...` (lists); one
 *            record for each item, with the columns user, item, position
 *            (of the item in its line, from 0).
 *
 * Bad lines  come out as records with a fault and no cells. A quote that
 *            never closes costs its own line only.
 * Bounds     A record is at most IMPORT_RECORD_MAX bytes; longer ones are
 *            faults, read past without being kept.
 * Memory     Cells are lent until the next call.
 * Threads    One reader belongs to one thread.
 * Errors     RC_STOP from the bytes' source, or a CSV header that is bad. */
#ifndef MILLRACE_IMPORT_READER_H
#define MILLRACE_IMPORT_READER_H

#include "err.h"
#include "slice.h"

enum { IMPORT_RECORD_MAX = 1 << 20, IMPORT_COLUMNS_MAX = 1024 };

enum import_format {
    IMPORT_CSV,
    IMPORT_JSON,
    IMPORT_SEQUENCE, /* pairs or lists, whatever the first lines are */
    IMPORT_PAIRS,
    IMPORT_LISTS,
};

enum cell_kind {
    CELL_NONE, /* no such column here, or JSON's null */
    CELL_TEXT,
    CELL_LONG,
    CELL_DOUBLE,
    CELL_BOOLEAN, /* i */
    CELL_OTHER,   /* a JSON array or object */
};
struct cell {
    enum cell_kind kind;
    struct slice text; /* of TEXT */
    int64_t i;
    double d;
};

struct import_record {
    uint64_t line;            /* where it begins, from 1 */
    const struct cell *cells; /* by import_reader_column */
    uint32_t count;
    const char *fault; /* NULL: a good record; "has ..." */
    struct slice raw;  /* its text, or the beginning of it */
};

/* Where the bytes come from; as import_text_read. */
typedef enum rc import_read_fn(void *user, uint8_t *to, size_t size,
                               size_t *got, struct err *e);

struct import_reader_options {
    enum import_format format;
    uint8_t delimiter;   /* of CSV */
    const char *columns; /* of CSV, comma separated; NULL: first record */
    import_read_fn *read;
    void *user;
};

struct import_reader;
enum rc import_reader_new(struct import_reader **out,
                          const struct import_reader_options *o,
                          struct err *e) MUST_USE;
void import_reader_free(struct import_reader *r);

/* Index of a column's cell; -1 if there is none. Of JSON lines every column
 * may exist: the reader begins to look for it. */
int32_t import_reader_column(struct import_reader *r, const char *name);
/* "a, b, c": for messages. */
void import_reader_columns(const struct import_reader *r, char *out,
                           size_t size);

enum rc import_reader_next(struct import_reader *r, struct import_record *out,
                           bool *ended, struct err *e) MUST_USE;

#endif
