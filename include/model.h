/* model.h - a trained behaviour model, and scoring with it.
 *
 * Context  Event n of a user (n = 0, 1, ...) is read in the context
 *          [a(n), n] with a(n) = W max(0, floor(n/W) - 1), so between W and
 *          2W events once the user has W. The anchor moves before event n
 *          is appended.
 * Bits     A score is the same bits whether its context was cached or
 *          computed again, alone or among a thousand (I5).
 * Memory   A model is immutable and shared by all threads. A scorer takes
 *          everything at scorer_new and calls no malloc afterwards.
 * Threads  model_*: any thread. A scorer belongs to one worker thread.
 * Errors   Only open and new can fail; misuse asserts. */
#ifndef MILLRACE_MODEL_H
#define MILLRACE_MODEL_H

#include "err.h"
#include "past_event.h"
#include "slice.h"

struct model;   /* weights, vocabularies, constants; read-only */
struct scorer;  /* one worker's scratch memory and context cache */
struct context; /* one user's cached keys and values, owned by a scorer */

struct model_info {
    char hash[17];      /* of model.safetensors and config.json, hex */
    const char *family; /* kernel family: equal names, equal bits */
    uint32_t window;    /* W */
    uint32_t width;     /* D */
    uint32_t layers;
    uint32_t items;        /* vocabulary size N, hashed buckets excluded */
    uint32_t features;     /* F, window features that the fraud head reads */
    uint64_t feature_hash; /* of their names, in order */
    uint32_t amount_scale;
    bool has_fraud;     /* trained with labels */
    uint32_t segments;  /* k; 0: none */
    char reference[32]; /* names what fraud scores are explained against
                           (reasons.h); empty: there is none */
};

/* Reads and checks a model directory. RC_STOP, with what is wrong and what
 * to do, for anything truncated, misshapen, not finite, or too new. */
enum rc model_open(struct model **out, const char *dir, struct err *e) MUST_USE;
void model_free(struct model *m);
const struct model_info *model_info(const struct model *m);

/* Items: index in the vocabulary, or -1; the id as it stood in the log. */
int32_t model_item_index(const struct model *m, uint64_t item_hash);
struct slice model_item_name(const struct model *m, uint32_t index);
/* Of feature f < info->features. */
const char *model_feature_name(const struct model *m, uint32_t f);

/* How often training saw an item, 0 where the model does not say; and the
 * items in that order, most often first, equal ones by index. */
float model_item_count(const struct model *m, uint32_t index);
uint32_t model_item_rank(const struct model *m, uint32_t rank);

/* A neighbour of an item by the cosine of their embeddings. */
struct neighbour {
    uint32_t item;
    float cosine;
};
/* The nearest to an item, best first, itself left out; equal ones by index.
 * out: (k). Returns how many: min(k, N - 1). Goes over all items. */
uint32_t model_item_nearest(const struct model *m, uint32_t index, uint32_t k,
                            struct neighbour *out);

/* The segment of a user, by the hidden state after the newest event, or -1:
 * the model has none. */
int32_t model_segment(const struct model *m, const float *hidden);

/* What a fraud score is held against in reports; all of it comes from the
 * rows that the fraud head learned from. The logistic regression of the label
 * on features (F) alone: a probability, NaN where the model has none. */
float model_regression(const struct model *m, const float *features);
/* Of those rows the share in each bin of a feature, missing ones in the last
 * bin; NULL: the model has none. And the bin of a value. */
enum { MODEL_FEATURE_BINS = 13 };
const float *model_feature_shares(const struct model *m, uint32_t feature);
uint32_t model_feature_bin(const struct model *m, uint32_t feature, float x);

/* context_bytes_max bounds cached keys and values; events_max is the most
 * requests in one call, k_max the longest list of scorer_top_k. */
struct scorer_limits {
    size_t context_bytes_max;
    uint32_t events_max;
    uint32_t k_max;
};
enum rc scorer_new(struct scorer **out, const struct model *m,
                   struct scorer_limits limits, struct err *e) MUST_USE;
void scorer_free(struct scorer *s);

/* How many of a user's newest events, event n included, scorer_score must be
 * given for event n: n - e when cached is a context that ends at event e < n
 * and its anchor stands (1 where nothing is missing between), W + 1 when the
 * anchor moves at n, else n - a(n) + 1. cached may be NULL. */
uint32_t scorer_events_needed(const struct scorer *s,
                              const struct context *cached, uint64_t n);

/* True when event n starts a new context: n >= 2 W, a multiple of W. */
bool scorer_anchor_moves(const struct scorer *s, uint64_t n);

/* One event to score. Requests of one user come in the order of n, and
 * those of one call with the same context slot are consecutive events. */
struct score_request {
    struct context **context; /* caller's slot; the scorer fills it, and sets
                                 it to NULL when it evicts; never freed by
                                 the caller but through scorer_forget */
    uint64_t n;               /* which event of the user this is, from 0 */
    const struct past_event *events; /* event_count newest, oldest first,
                                        event n last */
    uint32_t event_count;            /* >= scorer_events_needed */
    const float *features;           /* (F): raw values, NaN is missing */
};

struct score {
    const float *hidden; /* (D) after event n; lent until the next call */
    float fraud;         /* probability; NaN if the model has no such head */
    float anomaly;       /* quantile in [0, 1] among normal traffic */
};

/* Appends and scores count requests (<= events_max). Among several events of
 * one user in a call, the first, and any at which the anchor moves
 * (scorer_anchor_moves), must reach back as scorer_events_needed says; the
 * others need only their own event. */
void scorer_score(struct scorer *s, const struct score_request *in,
                  struct score *out, uint32_t count);

/* What the fraud head says of features (F) when it knows nothing of what the
 * user did: with the mean hidden state of good events. NaN: it has none. */
float scorer_fraud_alone(struct scorer *s, const float *features);

/* Drops a user's context: its slot becomes NULL. */
void scorer_forget(struct scorer *s, struct context **slot);
/* Drops all: every slot becomes NULL. */
void scorer_forget_all(struct scorer *s);
/* From one slot, which becomes NULL, to another, which was. */
void scorer_move(struct context **from, struct context **to);

/* The k best items for each of count hidden states, best first; equal
 * scores by lower index. Exact, also with what narrows them down: items that
 * are excluded (indexes in ascending order), those that are not allowed, and
 * categories of which only so many may be among the k. With caps the list is
 * what taking the best item again and again gives, where an item of a
 * category that is full is passed over. */
struct ranked {
    uint32_t item;
    float score; /* logit */
};
struct top_k_request {
    const float *hidden; /* (D) */
    const uint32_t *excluded;
    uint32_t excluded_count;
    const uint64_t *allowed;  /* bit i: item i may be listed; NULL: all may */
    const uint64_t *category; /* (N) of each item, 0: none, which has no cap */
    uint32_t category_max;    /* most of one category; 0: no caps */
    struct ranked *out;       /* (k) */
    uint32_t found;           /* set: all that there are, k at most */
};
void scorer_top_k(struct scorer *s, struct top_k_request *in, uint32_t count,
                  uint32_t k);

/* All logits: out is (count, N). For evaluation by full ranking. */
void scorer_item_logits(struct scorer *s, const float *const *hidden,
                        uint32_t count, float *out);

struct scorer_stats {
    uint64_t tokens_total; /* token-forwards, refills included */
    uint64_t hits_total;   /* requests whose context was cached */
    uint64_t misses_total;
    uint64_t evictions_total;
    size_t context_bytes; /* in use now */
    uint32_t contexts;
};
struct scorer_stats scorer_stats(const struct scorer *s);

#endif
