/* budget.h - the most memory that a configuration may ask for, added up.
 *
 * Everything that grows with the input is bounded by an option; this is the
 * sum of the bounds, so it is more than a run takes on most days. What does
 * not grow (the program, its threads, tables of libraries) is one line,
 * measured and rounded up.
 *
 * Disk     RocksDB's log is not memory. It stays below log_bytes.
 * Threads  No shared state. */
#ifndef MILLRACE_BUDGET_H
#define MILLRACE_BUDGET_H

#include "config.h"

enum { BUDGET_LINES = 16 };

struct budget {
    struct budget_line {
        const char *what;    /* "users' rows" */
        const char *options; /* those that bound it, for people */
        uint64_t bytes;
    } lines[BUDGET_LINES];
    uint32_t count;
    uint64_t total;     /* of the lines */
    uint64_t row_bytes; /* the largest stored row of a user */
    uint64_t log_bytes; /* on disk */
    uint64_t group;     /* what the control group allows; 0: no limit */
};

void budget_add_up(struct budget *b, const struct config *c);
/* RC_STOP, with the sum, where it is more than memory.max. */
enum rc budget_check(const struct budget *b, const struct config *c,
                     struct err *e) MUST_USE;
/* One line of text for each of them. */
void budget_print(const struct budget *b, FILE *to);

#endif
