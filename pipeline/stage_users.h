/* stage_users.h - the users stage: events into their users' rows, rows into
 * scores and lists.
 *
 * Order    Events are applied in batch order, which is offset order for each
 *          user (I4). What an event needs of its user's history is copied at
 *          that moment, so a later event of the same batch cannot be seen by
 *          an earlier one.
 * Admitted First it is decided what becomes of each event (admit.h). One that
 *          repeats another is scored in that one's place, in a context of its
 *          own, so that nothing that is kept changes.
 * Memory   Taken at stage_users_new, for the largest batch. What outcomes
 *          point to lives until the next call of stage_users_apply.
 * Threads  One worker thread. */
#ifndef MILLRACE_STAGE_USERS_H
#define MILLRACE_STAGE_USERS_H

#include "admit.h"
#include "decide.h"
#include "feature_row.h"
#include "state.h"

struct stage_users_options {
    const struct policy *policy;         /* lent */
    const struct admit *admit;           /* lent */
    const struct history_shape *history; /* lent: those of the state */
    const struct feature_shape *features;
    const struct model *model;   /* NULL: rows only, no scores */
    struct catalogue *catalogue; /* lent; NULL: none */
    uint32_t events_max;
    bool lists;      /* somebody wants recommendations */
    bool profiles;   /* and users' profiles */
    bool own_labels; /* labels.role */
};

struct stage_users;
enum rc stage_users_new(struct stage_users **out,
                        const struct stage_users_options *o,
                        struct err *e) MUST_USE;
void stage_users_free(struct stage_users *s);

/* Before the first stage_users_apply: scorer is whose contexts the rows have,
 * NULL without a model; before is the stage that worked on them until now,
 * NULL: none. */
void stage_users_attach(struct stage_users *s, struct scorer *scorer,
                        const struct stage_users *before);

/* Events -> rows: histories, windows, feature rows; who gets a list. */
void stage_users_apply(struct stage_users *s, struct state *st,
                       struct batch *b);

/* Rows -> scores and lists. RC_STOP for a score that is not finite: the
 * model is broken, and nothing it says may go out. */
enum rc stage_users_forward(struct stage_users *s, struct batch *b,
                            struct err *e) MUST_USE;

/* Scores that decide() chose -> their reasons. Where the scores' numbers are
 * too large to be told apart they become unavailable. */
void stage_users_explain(struct stage_users *s, struct batch *b);

#endif
