/* train_card.h - model_card.md: what a model was trained on, how it scored.
 *
 * Nothing in it depends on the clock or the number of threads. */
#ifndef MILLRACE_TRAIN_CARD_H
#define MILLRACE_TRAIN_CARD_H

#include "train_measure.h"

struct card_facts {
    uint32_t epochs, best_epoch;
    double train_loss;
    struct measured best; /* on validation */
    char base_hash[17];   /* of the model it went on from, or "" */
};

/* On the heap; NULL when there is no memory. */
char *card_text(const struct train_shared *s, const struct card_facts *facts);

#endif
