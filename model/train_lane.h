/* train_lane.h - one thread's scratch, and what it does with a shard: forward,
 * losses, backward.
 *
 * Targets  Event i of a piece is predicted from the hidden state of i - 1,
 *          or from the learned start for a user's first; its fraud is read
 *          off its own hidden state. Those whose item is in the vocabulary
 *          stand first, since only they have an item loss.
 * Scale    Gradients are divided by the batch's totals, so that those of the
 *          shards add up.
 * Memory   lane_new takes all.
 * Threads  One lane belongs to one thread. */
#ifndef MILLRACE_TRAIN_LANE_H
#define MILLRACE_TRAIN_LANE_H

#include "train_shared.h"

enum { HIDDEN_START = UINT32_MAX, TILE_ROWS_MAX = 256 };

/* Sums over a batch, by which its losses are divided. */
struct batch_total {
    uint64_t targets, item_targets, frauds;
    double fraud_weight;
};

struct target {
    uint32_t hidden; /* row of the hidden states before it, or HIDDEN_START */
    uint64_t row;    /* in the log */
};

struct lane {
    const struct train_shared *shared;
    uint32_t tokens_max, targets_max, tile_rows;
    struct trainer *trainer;
    struct sequence *sequences;
    struct target *targets; /* item targets first */
    uint32_t target_count, item_count;
    struct target *frauds; /* hidden: after the event */
    uint32_t fraud_count;
    uint32_t hidden_count;
    const real *hidden;     /* (hidden_count, D) of the last forward */
    real *before, *dbefore; /* (targets_max, D) */
    real *dhidden;          /* (tokens_max, D) */
    real *logits;           /* (logits_size) */
    size_t logits_size;     /* >= tile_rows times the most columns, and >= N */
    real *sample_gradient;  /* (S, D) */
    real *target_gradient;  /* (tile_rows, D) */
    uint32_t *rows;         /* (targets_max) */
    real *fraud_x;          /* (tokens_max, I) and so on */
    real *fraud_mask, *fraud_before, *fraud_after, *fraud_dafter;
    real *fraud_logits, *fraud_dlogits, *fraud_dx, *fraud_weights;
    uint8_t *fraud_labels;
    void *memory;
};

/* Most tokens of one call of lane_forward. */
enum rc lane_new(struct lane **out, const struct train_shared *shared,
                 uint32_t tokens_max, struct err *e) MUST_USE;
void lane_free(struct lane *l);

void lane_count(const struct train_shared *s, const struct piece *const *pieces,
                uint32_t count, enum role role, struct batch_total *total);

/* Gathers targets of this role and makes the hidden states. */
void lane_forward(struct lane *l, const struct piece *const *pieces,
                  uint32_t count, enum role role, struct dropout dropout);
/* Copies the hidden state before each target into l->before. */
void lane_gather_before(struct lane *l);
/* Mean fraud logit of each of l->frauds. */
void lane_fraud_logits(struct lane *l, float *out);

struct lane_loss {
    double item, fields, fraud; /* sums of -ln p, fields' by their shares; of
                                   weighted cross-entropy */
};
/* Losses and, added to gradients, everything's gradient. Keys of dropout are
 * those of the forward call. */
struct lane_loss lane_backward(struct lane *l, const struct batch_total *total,
                               struct dropout dropout, real *gradients);

#endif
