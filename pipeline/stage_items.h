/* stage_items.h - the items stage: events into the rows of their items, and
 * what those rows say of the item into the event.
 *
 * Row      A user's, seen from the item: the other end of an event is its
 *          user, gap and ratio are the item's own (windows.h). Of users it
 *          holds hashes alone.
 * Order    Events and labels of an item are applied in batch order (I4).
 * Repeated An event whose id is among the item's newest STAGE_ITEMS_HISTORY
 *          is not applied again: its features are those of the first, as the
 *          windows stand now.
 * Itemless An event without an item changes no row; its features are all
 *          missing.
 * Memory   Taken at stage_items_new, for the largest batch. What outcomes
 *          point to lives until the next call of stage_items_apply.
 * Threads  One worker thread. */
#ifndef MILLRACE_STAGE_ITEMS_H
#define MILLRACE_STAGE_ITEMS_H

#include "admit.h"
#include "stage.h"
#include "state.h"

enum { STAGE_ITEMS_HISTORY = 32 };

/* The history that an item's row keeps, beside the windows of shapes_init. */
void stage_items_shape(struct history_shape *out, const struct config *c,
                       uint32_t fields);
/* state_options.key */
struct slice stage_items_key(const struct event *ev);

struct stage_items_options {
    const struct admit *admit;           /* lent, as all here */
    const struct history_shape *history; /* those of the state */
    const struct windows_shape *windows;
    bool own_labels; /* labels.role */
    uint32_t events_max;
};

/* Its apply fills features and label_offset of every outcome; applied says
 * that the event changed its item's row. */
enum rc stage_items_new(struct stage **out, const struct stage_items_options *o,
                        struct err *e) MUST_USE;
void stage_items_free(struct stage *s);

#endif
