/* tokenise.h - from an event as the history keeps it to a model's token.
 *
 * Rows     item: vocabulary, then hashed buckets, then "none". type,
 *          category, channel and extra categoricals: the same with
 *          TOKEN_BUCKETS buckets. amount: none, zero, then quarters of an
 *          octave of positive and octaves of negative amounts. ratio: none,
 *          then eighths of ln. gap: first or none, zero, then halves of an
 *          octave of ms. hour, weekday: UTC, then none. late: no, yes.
 *          number: missing, then bins between the training log's quantiles.
 * Amounts  Beside their rows, as they are: a row of an eighth of ln is too
 *          wide to rank the oddest few.
 * Bits     Integers decide, or one comparison of floats: the same rows on
 *          every machine.
 * Memory   A tokeniser owns its vocabularies; tokeniser_fini.
 * Threads  Immutable once made. */
#ifndef MILLRACE_TOKENISE_H
#define MILLRACE_TOKENISE_H

#include "behaviour.h"
#include "vocabulary.h"

enum {
    TOKEN_BUCKETS = 16, /* of ids outside a small vocabulary */
    AMOUNT_OCTAVES = 40,
    AMOUNT_ROWS = 2 + 4 * AMOUNT_OCTAVES + AMOUNT_OCTAVES,
    RATIO_ROWS = 1 + 64,
    GAP_OCTAVES = 40,
    GAP_ROWS = 2 + 2 * GAP_OCTAVES,
    HOUR_ROWS = 24 + 1,
    WEEKDAY_ROWS = 7 + 1,
    LATE_ROWS = 2,
    NUMBER_BINS = 16,
    NUMBER_ROWS = 1 + NUMBER_BINS,
};

/* Of a token without an amount, or without a mean to hold it against: below
 * any other. */
#define TOKEN_NO_AMOUNT (-100.0f)

struct tokeniser {
    uint32_t field_count;
    struct behaviour_field field[FIELDS_MAX];
    uint32_t item_buckets;
    /* Of each field of ids; empty for the others. */
    struct vocabulary vocabulary[FIELDS_MAX];
    /* Ascending inner borders of each number's bins. */
    float border[FIELDS_MAX][NUMBER_BINS - 1];
};

void tokeniser_fini(struct tokeniser *t);

/* Whether rows of this kind of field come from a vocabulary. */
bool field_has_vocabulary(enum field_kind kind);

/* Rows that a field needs, given its vocabulary's size. */
uint32_t field_rows(enum field_kind kind, uint32_t ids, uint32_t item_buckets);

void tokenise(const struct tokeniser *t, const struct past_event *ev,
              struct token *out);

#endif
