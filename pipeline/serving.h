/* serving.h - a model and a policy as one worker uses them.
 *
 * They are replaced as a whole, between two batches (reload.h): everything
 * is taken and warmed beforehand on another thread, so that the worker only
 * changes a pointer and the owners of contexts.
 *
 * Memory   serving_new takes all. serving_free may be called by another
 *          thread, once the worker no longer has it.
 * Threads  One at a time: whoever makes it, then its worker. */
#ifndef MILLRACE_SERVING_H
#define MILLRACE_SERVING_H

#include "decide.h"
#include "feature_row.h"
#include "handover.h"
#include "stage.h"
#include "stage_users.h"

struct serving {
    struct stage base; /* first: the users stage as the worker knows it */
    const struct config *config; /* lent */
    const struct model *model;   /* lent; NULL: score nothing */
    struct policy policy;
    struct admit admit;
    struct history_shape history; /* those of the rows */
    struct feature_shape features;
    struct scorer *scorer; /* NULL: no model; before serving_attach also:
                              that of the serving before it */
    struct stage_users *stage;
    struct scorer_stats before; /* totals of the scorers before this one */
    struct warmed *warmed;      /* who has a context already; its maker's, also
                                   while the worker serves */
    uint64_t warmed_count;
};

struct serving_options {
    const struct config *config;
    const struct model *model;
    bool keep_scorer;            /* the model is that of the serving before */
    size_t context_bytes_max;    /* this worker's share of model.cache */
    uint32_t fields;             /* mapping_fields */
    bool lists;                  /* somebody wants recommendations */
    bool profiles;               /* and users' profiles */
    struct catalogue *catalogue; /* lent; NULL: none */
    uint64_t explain_id;         /* as in struct policy */
};
enum rc serving_new(struct serving **out, const struct serving_options *o,
                    struct err *e) MUST_USE;
void serving_free(struct serving *s);

/* Makes the contexts of a page's users, until the cache is full: false. */
bool serving_warm(struct serving *s, const struct hot_page *page);
/* Once it is attached: who was warmed is of no more use. */
void serving_forget_warmed(struct serving *s);

/* The rows of st are served with s from now on, and no longer with before
 * (NULL: none), whose scorer s takes over or whose contexts are dropped.
 * Warmed contexts go to their users. No malloc. */
void serving_attach(struct serving *s, struct state *st,
                    struct serving *before);

/* Totals over all scorers so far. */
struct scorer_stats serving_stats(const struct serving *s);

#endif
