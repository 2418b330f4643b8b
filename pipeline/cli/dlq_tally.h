/* dlq_tally.h - dead letters, counted: by reason, by where they came from.
 *
 * Memory   A row for each reason and for each partition of a source; past
 *          DLQ_ROWS_MAX of either the rest is counted in the last row.
 * Threads  One thread. */
#ifndef MILLRACE_DLQ_TALLY_H
#define MILLRACE_DLQ_TALLY_H

#include <jansson.h>

#include "dead_letter.h"

enum { DLQ_ROWS_MAX = 256, DLQ_NAME_BYTES = 256 };

struct dlq_row {
    char name[DLQ_NAME_BYTES]; /* reason, or topic */
    int32_t partition;         /* -1: of a reason */
    uint64_t waiting, redriven;
    int64_t first_offset, last_offset; /* of a source */
};

struct dlq_rows {
    struct dlq_row *at;
    uint32_t count;
};

struct dlq_tally {
    struct dlq_rows reasons, sources;
    uint64_t waiting, redriven, omitted, foreign;
    int64_t first_ms, last_ms; /* of their times in the source */
};

enum rc dlq_tally_add(struct dlq_tally *t, const struct dead_letter *d,
                      bool redriven, struct err *e) MUST_USE;
void dlq_tally_fini(struct dlq_tally *t);

json_t *dlq_tally_json(const struct dlq_tally *t, const char *topic);
void dlq_tally_print(const struct dlq_tally *t, const char *topic);

#endif
