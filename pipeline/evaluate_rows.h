/* evaluate_rows.h - the rows that a measure is taken on, shared by
 * evaluate.c and evaluate_detail.c. */
#ifndef MILLRACE_EVALUATE_ROWS_H
#define MILLRACE_EVALUATE_ROWS_H

#include "evaluate.h"

enum { EVALUATE_DAY_MS = 86400000 };

struct scored {
    uint64_t user;
    uint64_t row; /* as it was added */
    int64_t day;  /* whole days since 1970 */
    float score;
    int8_t label; /* LABEL_GOOD or LABEL_FRAUD */
};

/* The rows that o takes, labelled and scored, highest score first and of
 * equal ones the good first; counts and base rate in *out, the rest of it
 * NaN. The caller frees *rows. */
enum rc evaluate_select(const struct evaluate *ev, uint32_t column,
                        const struct evaluate_options *o, struct scored **rows,
                        struct evaluate_result *out, struct err *e) MUST_USE;
/* AUC, average precision and losses of such rows, into *out. */
void evaluate_sorted(const struct scored *rows, struct evaluate_result *out);
/* Card precision, into *out and for each day, in order, into by_day (NULL:
 * not wanted). Reorders rows. False: no memory. */
bool evaluate_cards(struct scored *rows, uint32_t k,
                    struct evaluate_result *out, double *by_day);
float evaluate_score(const struct evaluate *ev, uint64_t row, uint32_t column);
int64_t evaluate_time(const struct evaluate *ev, uint64_t row);

#endif
