#include "stage_items.h"

#include <math.h>
#include <stdlib.h>

#include "hash.h"
#include "train.h"

struct stage_items {
    struct stage base; /* first: the worker holds a pointer to it */
    struct stage_items_options o;
    uint32_t features;
    float *rows; /* (events_max, features) */
};

void stage_items_shape(struct history_shape *out, const struct config *c,
                       uint32_t fields)
{
    *out = (struct history_shape){
        .events_max = STAGE_ITEMS_HISTORY,
        .fields = TRAIN_ITEM | (fields & TRAIN_AMOUNT),
        .amount_scale = c->role_amount_scale,
    };
    history_shape_init(out);
}

struct slice stage_items_key(const struct event *ev)
{
    return ev->item;
}

/* The event as its item sees it. */
static struct past_event turned(const struct event *ev)
{
    struct past_event seen = ev->past;
    seen.item = hash64(ev->user);
    return seen;
}

static void replace_row(struct batch *b, uint32_t from, struct user_state *us)
{
    struct user_state *before = b->users[from];
    for (uint32_t i = from; before != us && i < b->count; i++)
        if (b->users[i] == before) b->users[i] = us;
}

static void recall_first(struct stage_items *s, const struct user_state *us,
                         uint32_t after, float *row)
{
    struct past_event first;
    history_copy(s->o.history, &us->history, 1, after, &first);
    windows_recall(s->o.windows, us->windows, &first,
                   us->history.events_total - after, row);
}

static void apply_event(struct stage_items *s, struct state *st,
                        struct batch *b, uint32_t i, float *row)
{
    const struct event *ev = &b->events[i];
    struct user_state *us = b->users[i];
    struct past_event seen = turned(ev);
    struct outcome *o = &b->outcomes[i];
    int64_t offset = b->records[i].offset;
    if (!history_apply(s->o.history, &us->history, offset, &seen)) return;
    o->applied = true;
    o->tiled = windows_apply(s->o.windows, us->windows, &seen, row);
    state_touched(st, us, &ev->place);
    if (s->o.own_labels && ev->label != LABEL_UNKNOWN)
        state_label(st, us, ev, offset);
}

/* The row of event or label i, a new one where it has expired. */
static struct user_state *living_row(struct stage_items *s, struct state *st,
                                     struct batch *b, uint32_t i)
{
    struct user_state *us = b->users[i];
    if (!admit_expired(s->o.admit, us->history.newest_time_ms,
                       b->events[i].place.stream_ms))
        return us;
    us = state_begin_anew(st, us);
    replace_row(b, i, us);
    return us;
}

static void admit_event(struct stage_items *s, struct state *st,
                        struct batch *b, uint32_t i)
{
    const struct event *ev = &b->events[i];
    struct user_state *us = b->users[i];
    struct outcome *o = &b->outcomes[i];
    float *row = &s->rows[(size_t)i * s->features];
    uint32_t after;
    o->features = row;
    if (b->records[i].offset > us->history.applied_offset)
        us = living_row(s, st, b, i);
    if (history_find(s->o.history, &us->history, ev->past.event_id, &after)) {
        o->repeated = true;
        recall_first(s, us, after, row);
    } else {
        apply_event(s, st, b, i, row);
    }
}

static void items_apply(struct stage *stage, struct state *st, struct batch *b)
{
    struct stage_items *s = (struct stage_items *)stage;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct event *ev = &b->events[i];
        float *row = &s->rows[(size_t)i * s->features];
        b->outcomes[i].label_offset = ev->place.labels - 1;
        if (ev->bad != BAD_NONE || ev->forget) continue;
        if (ev->is_label && b->users[i])
            state_label(st, living_row(s, st, b, i), ev, b->records[i].offset);
        else if (!ev->is_label && b->users[i])
            admit_event(s, st, b, i);
        if (ev->is_label || b->users[i]) continue;
        for (uint32_t f = 0; f < s->features; f++)
            row[f] = NAN;
        b->outcomes[i].features = row;
    }
}

static const struct stage_ops ITEMS = {
    .apply = items_apply,
    .forward = stage_forward_nothing,
    .decide = stage_decide_nothing,
    .explain = stage_explain_nothing,
};

enum rc stage_items_new(struct stage **out, const struct stage_items_options *o,
                        struct err *e)
{
    struct stage_items *s = calloc(1, sizeof *s);
    if (!s) return ERR(e, RC_STOP, "items stage: no memory");
    s->base.ops = &ITEMS;
    s->o = *o;
    s->features = windows_features(o->windows);
    s->rows = calloc((size_t)o->events_max * s->features, sizeof(float));
    if (!s->rows) {
        stage_items_free(&s->base);
        return ERR(e, RC_STOP,
                   "items stage: no memory for batches of %u events",
                   o->events_max);
    }
    *out = &s->base;
    return RC_OK;
}

void stage_items_free(struct stage *stage)
{
    struct stage_items *s = (struct stage_items *)stage;
    if (!s) return;
    free(s->rows);
    free(s);
}
