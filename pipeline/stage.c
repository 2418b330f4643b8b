#include "stage.h"

enum rc stage_forward_nothing(struct stage *s, struct batch *b, struct err *e)
{
    (void)s;
    (void)b;
    (void)e;
    return RC_OK;
}

void stage_decide_nothing(struct stage *s, struct batch *b)
{
    (void)s;
    (void)b;
}

void stage_explain_nothing(struct stage *s, struct batch *b)
{
    (void)s;
    (void)b;
}

static void route_apply(struct stage *s, struct state *st, struct batch *b)
{
    (void)s;
    (void)st;
    (void)b;
}

static const struct stage_ops ROUTE = {
    .apply = route_apply,
    .forward = stage_forward_nothing,
    .decide = stage_decide_nothing,
    .explain = stage_explain_nothing,
};

struct stage STAGE_OF_ROUTE = {.ops = &ROUTE};
