/* behaviour.h - the behaviour transformer: tokens in, hidden states out.
 *
 * Model    x = sum of field embeddings (the item's times sqrt D) + position;
 *          per layer x += Attention(Norm(x)), x += FFN(Norm(x)); the final
 *          norm gives the hidden state. README.md has the formulas.
 * Context  Tokens of one user from the anchor on; position 0 is the anchor.
 * Bits     The hidden state of a token depends on its context alone: cached
 *          or recomputed, alone or among others, live or in training (I5).
 * Memory   Everything is taken by the *_new calls.
 * Threads  struct behaviour is read-only but for behaviour_refresh. One
 *          struct trainer belongs to one thread. */
#ifndef MILLRACE_BEHAVIOUR_H
#define MILLRACE_BEHAVIOUR_H

#include "matrix.h"
#include "params.h"

#define NORM_EPSILON ((real)1e-5)

struct token {
    uint32_t row[FIELDS_MAX]; /* into the embedding of each field */
    int64_t time_ms;          /* read only with has_time */
    /* Read by anomaly alone: ln(1 + |amount|), and the ln of the amount
       against the user's mean before it. */
    float amount, amount_ratio;
};

struct behaviour;

/* Keeps params and values (a block of params->size reals): both must outlive
 * it. NULL when there is no memory. */
struct behaviour *behaviour_new(const struct params *p, const real *values);
void behaviour_free(struct behaviour *b);
/* Packs the weights again after values changed; no other thread may be using
 * b. */
void behaviour_refresh(struct behaviour *b);

/* Training. A shard is a list of sequences; each is one user's context. */
struct sequence {
    const struct token *tokens; /* (count), the anchor first */
    uint32_t count;             /* 1 .. 2 W */
    uint32_t wanted_from;       /* hidden states are made for [wanted_from,
                                   count): those with a loss */
    uint64_t user;              /* dropout's key, with the position */
};

struct dropout {
    float rate; /* in steps of 1/256; 0: off */
    uint64_t seed, step;
};

struct trainer;
struct trainer *trainer_new(const struct behaviour *b, uint32_t tokens_max,
                            uint32_t sequences_max);
void trainer_free(struct trainer *t);

/* Hidden states (wanted, D) of the shard's wanted tokens, sequence by
 * sequence; lent until the next forward. */
const real *trainer_forward(struct trainer *t, const struct sequence *in,
                            uint32_t count, struct dropout dropout);
/* Adds the gradient of the last forward to gradients (a block of params),
 * given that of the hidden states (wanted, D). It may be called again for
 * another part of the loss. items false: nothing goes to the item table. */
void trainer_backward(struct trainer *t, const real *dhidden, bool items,
                      real *gradients);

#endif
