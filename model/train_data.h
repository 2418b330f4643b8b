/* train_data.h - a log, cut into what training reads.
 *
 * Roles    Every row is a target of training, of validation, or of neither
 *          (train.h: by time, or leave one out). What is after a row in its
 *          user's order is never in its context.
 * Pieces   A piece is one context [jW, (j+2)W) of a user, cut after its last
 *          target. Its targets are the events whose context begins there in
 *          serving: [0, 2W) for j = 0, else [(j+1)W, (j+2)W). So each target
 *          is taken once, in the context in which it would be scored.
 * Labels   A row without a label counts as good once the label delay has
 *          passed before the cut; younger ones are left out.
 * Memory   The log is lent; data owns the rest.
 * Threads  Immutable once made. */
#ifndef MILLRACE_TRAIN_DATA_H
#define MILLRACE_TRAIN_DATA_H

#include "behaviour.h"
#include "tokenise.h"
#include "train.h"

enum role { ROLE_NONE, ROLE_TRAIN, ROLE_VALIDATE };

struct piece {
    uint64_t row;                       /* of its first token */
    uint32_t count;                     /* tokens, 1 .. 2 W */
    uint32_t target_from, target_until; /* events, from row; the last one's
                                           token may be outside of count */
    uint32_t user;
};

struct piece_list {
    struct piece *at;
    uint32_t count;
    uint64_t tokens, targets;
};

struct train_data {
    const struct train_log *log;
    struct token *tokens; /* (rows) */
    uint8_t *role;        /* (rows) enum role */
    int8_t *label;        /* (rows) 1 fraud, 0 good, -1 not in the loss */
    /* (rows of the field) -ln of each one's share of the training targets, for
       predicted fields but the item: what a prediction has to beat. */
    float *marginal[FIELDS_MAX];
    struct piece_list train, validate;
    struct piece_list labelled; /* those of train with a row in the fraud loss;
                                   only where the options pre-train */
    uint64_t positives, negatives; /* labelled rows in the training loss */
    uint64_t validate_positives, validate_negatives;
};

/* Fields of the model and their vocabularies, from the rows before the
 * validation. Fills tokeniser and shape->field. base: of the model that
 * training goes on from, or NULL; its ids keep their rows, its borders stay. */
enum rc data_vocabularies(const struct train_log *log,
                          const struct train_options *o,
                          const struct tokeniser *base,
                          struct behaviour_config *shape, struct tokeniser *t,
                          struct err *e) MUST_USE;

enum rc data_new(struct train_data **out, const struct train_log *log,
                 const struct train_options *o, const struct tokeniser *t,
                 struct err *e) MUST_USE;
void data_free(struct train_data *d);

/* The role of every row: out (rows). */
void data_roles(const struct train_log *log, const struct train_options *o,
                uint8_t *out);

/* Whether event i of the piece is a target of that role. */
static inline bool piece_wants(const struct train_data *d,
                               const struct piece *p, uint32_t i,
                               enum role role)
{
    return d->role[p->row + i] == role;
}

#endif
