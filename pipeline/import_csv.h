/* import_csv.h - one CSV record at a time, as RFC 4180 has them.
 *
 * A cell may be quoted; then it may hold delimiters, line ends and doubled
 * quotes. Lines end in LF or CRLF. A quote inside an unquoted cell is taken
 * as it stands, as most writers mean it; text after a closing quote is not.
 *
 * Memory   Cells point into the input, or into a buffer of the parser's for
 *          cells with doubled quotes; they are lent until the next call.
 * Threads  One parser belongs to one thread. */
#ifndef MILLRACE_IMPORT_CSV_H
#define MILLRACE_IMPORT_CSV_H

#include "slice.h"

enum { CSV_CELLS_MAX = 1024 };

enum csv_result {
    CSV_RECORD,  /* cells, count and used are set */
    CSV_MORE,    /* the record does not end within the input */
    CSV_FAULT,   /* fault says why; used bytes are to be left out */
    CSV_RUNAWAY, /* the input ended within quotes */
};

struct csv {
    uint8_t delimiter;
    uint8_t *unquoted; /* as large as the longest input */
    struct slice cells[CSV_CELLS_MAX];
    uint32_t count;
    size_t used;
    uint32_t lines; /* line ends within used */
    const char *fault;
};

/* Reads the record at the beginning of in; last: no bytes come after in. */
enum csv_result csv_parse(struct csv *c, struct slice in, bool last);

#endif
