/* stage.h - what differs between the stages of stages.h: the steps of the
 * spine between recall and encode. All else is the worker's.
 *
 * Memory   What a stage leaves in outcomes lives until its next apply.
 * Threads  One worker thread. */
#ifndef MILLRACE_STAGE_H
#define MILLRACE_STAGE_H

#include "batch.h"

struct state;
struct stage;

struct stage_ops {
    /* append: events and labels -> the rows of the state */
    void (*apply)(struct stage *s, struct state *st, struct batch *b);
    /* rows -> what the stage makes of its events */
    enum rc (*forward)(struct stage *s, struct batch *b, struct err *e);
    /* and what the configuration makes of that */
    void (*decide)(struct stage *s, struct batch *b);
    /* why it is so, where that was decided */
    void (*explain)(struct stage *s, struct batch *b);
};

struct stage {
    const struct stage_ops *ops;
};

#define stage_apply(s, st, b)  ((s)->ops->apply((s), (st), (b)))
#define stage_forward(s, b, e) ((s)->ops->forward((s), (b), (e)))
#define stage_decide(s, b)     ((s)->ops->decide((s), (b)))
#define stage_explain(s, b)    ((s)->ops->explain((s), (b)))

/* Of stages that only pass on what they found. */
enum rc stage_forward_nothing(struct stage *s, struct batch *b, struct err *e);
void stage_decide_nothing(struct stage *s, struct batch *b);
void stage_explain_nothing(struct stage *s, struct batch *b);

/* The route stage, which has no rows: events and labels of any key go to the
 * partitions of their items and users. */
extern struct stage STAGE_OF_ROUTE;

#endif
