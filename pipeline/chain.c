#include "chain.h"

#include <stdlib.h>

#include "admit.h"
#include "feature_row.h"
#include "mapping.h"
#include "shapes.h"
#include "stage_items.h"
#include "stages.h"

struct chain {
    const struct config *config;
    struct history_shape history;
    struct windows_shape windows;
    struct admit admit;
    struct state *state;
    struct partition *partition; /* the one that the whole log is here */
    struct stage *stage;
    struct batch seen; /* the batch as items see it: events are shared, all
                          else is its own */
    struct event *events;
    int64_t next; /* number of the next record */
};

/* --- new, free ---------------------------------------------------------- */

static enum rc take_state(struct chain *h, struct err *e)
{
    const struct config *c = h->config;
    const struct partition_log log = {.cluster_id = "",
                                      .partitions = 1,
                                      .committed = -1,
                                      .log_end = INT64_MAX};
    const struct state_options o = {
        .history = h->history,
        .windows = h->windows,
        .cache_bytes = c->state_cache,
        .user_bytes_max = MAPPING_ID_BYTES_MAX,
        .key = stage_items_key,
        .admit = &h->admit,
        .stage = stages_name(STAGE_ITEMS),
        .topic = "log",
    };
    TRY(state_new(&h->state, NULL, &o, e));
    h->next = 0;
    return state_open_partition(h->state, INPUT_EVENTS, 0, &log, &h->partition,
                                e);
}

static enum rc take_stage(struct chain *h, struct err *e)
{
    const struct stage_items_options o = {
        .admit = &h->admit,
        .history = &h->history,
        .windows = &h->windows,
        .own_labels = h->config->labels_role,
        .events_max = h->config->batch_events_max,
    };
    TRY(batch_init(&h->seen, o.events_max, e));
    h->events = h->seen.events;
    return stage_items_new(&h->stage, &o, e);
}

enum rc chain_new(struct chain **out, const struct config *c, uint32_t fields,
                  struct err *e)
{
    struct chain *h = calloc(1, sizeof *h);
    struct history_shape user;
    struct feature_shape features;
    enum rc rc;
    if (!h) return ERR(e, RC_STOP, "items stage: no memory");
    h->config = c;
    shapes_init(&user, &features, c, fields);
    h->windows = features.item;
    stage_items_shape(&h->history, c, fields);
    rc = admit_init(&h->admit, c, fields, e);
    if (rc == RC_OK) rc = take_state(h, e);
    if (rc == RC_OK) rc = take_stage(h, e);
    if (rc != RC_OK) {
        chain_free(h);
        return rc;
    }
    *out = h;
    return RC_OK;
}

void chain_free(struct chain *h)
{
    if (!h) return;
    h->seen.events = h->events;
    batch_fini(&h->seen);
    stage_items_free(h->stage);
    state_free(h->state);
    free(h);
}

enum rc chain_begin_anew(struct chain *h, struct err *e)
{
    state_free(h->state);
    h->state = NULL;
    return take_state(h, e);
}

/* --- a batch ------------------------------------------------------------ */

/* The records as one partition of one log, numbered through. Labels are
 * numbered already. */
static enum rc look(struct chain *h, struct batch *b, struct err *e)
{
    struct batch *seen = &h->seen;
    h->seen.events = h->events;
    batch_reset(seen);
    seen->events = b->events;
    seen->count = b->count;
    for (uint32_t i = 0; i < b->count; i++) {
        struct record *r = &seen->records[i];
        if (b->events[i].waits)
            return ERR(e, RC_AGAIN,
                       "partition %d, offset %lld: its schema is still to come",
                       b->records[i].partition,
                       (long long)b->records[i].offset);
        *r = b->records[i];
        r->partition = 0;
        if (r->input == INPUT_EVENTS) r->offset = h->next++;
        seen->partitions[i] = h->partition;
        state_pass(h->partition, r, &b->events[i]);
    }
    return RC_OK;
}

enum rc chain_apply(struct chain *h, struct batch *b, struct err *e)
{
    TRY(look(h, b, e));
    TRY(state_recall(h->state, &h->seen, e));
    stage_apply(h->stage, h->state, &h->seen);
    for (uint32_t i = 0; i < b->count; i++) {
        b->events[i].item_features = h->seen.outcomes[i].features;
        b->events[i].item_label_offset = h->seen.outcomes[i].label_offset;
    }
    return RC_OK;
}
