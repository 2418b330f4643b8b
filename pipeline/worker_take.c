/* worker_take.c - what a worker of each stage is made of. See worker.h; the
 * spine is in worker.c. */
#include "worker_inside.h"

#include "mapping.h"
#include "shapes.h"

/* --- rows --------------------------------------------------------------- */

/* Rows that live in memory only are sent nowhere. */
static bool has_changelog(const struct worker *w)
{
    return w->o.store && *stages_changelog(w->o.config, w->o.stage) &&
           !(w->o.sink->ignores & (1u << OUTPUT_CHANGELOG));
}

/* Of a row. */
static uint32_t key_bytes_max(const struct worker *w)
{
    return w->o.stage == STAGE_ITEMS ? MAPPING_ID_BYTES_MAX
                                     : w->o.config->user_bytes_max;
}

static enum rc take_restore(struct worker *w, struct err *e)
{
    const struct restore_options o = {
        .config = w->o.config,
        .changelog = stages_changelog(w->o.config, w->o.stage),
        .topic = w->o.topic,
        .key_bytes_max = key_bytes_max(w),
        .metrics = w->o.metrics,
    };
    return has_changelog(w) ? restore_new(&w->restore, &o, e) : RC_OK;
}

static struct slice no_key(const struct event *ev)
{
    (void)ev;
    return slice_of(NULL, 0);
}

/* What the rows of the stage are. */
static void shape_rows(const struct worker *w, struct state_options *o)
{
    const struct config *c = w->o.config;
    uint32_t fields = mapping_fields(w->o.mapping);
    struct feature_shape features;
    shapes_init(&o->history, &features, c, fields);
    o->windows = features.user;
    if (w->o.stage == STAGE_USERS) return;
    o->key = no_key;
    o->keeps_none = w->o.stage == STAGE_ROUTE;
    if (o->keeps_none) return;
    o->key = stage_items_key;
    o->windows = features.item;
    stage_items_shape(&o->history, c, fields);
}

static enum rc take_state(struct worker *w, struct err *e)
{
    const struct config *c = w->o.config;
    struct state_options o = {
        .cache_bytes = w->o.cache_bytes,
        .checkpoint_rows = c->state_checkpoint_rows,
        .checkpoint_age_ms = (uint32_t)c->state_checkpoint_age,
        .user_bytes_max = key_bytes_max(w),
        .forget = scorer_forget,
        .admit = &w->admit,
        .changelog = has_changelog(w),
        .row_bytes_max = (uint32_t)c->changelog_row_bytes_max,
        .base = w->o.base,
        .from_start = w->o.chained || w->o.merged,
        .stage = stages_name(w->o.stage),
        .topic = w->o.topic,
    };
    shape_rows(w, &o);
    return state_new(&w->state, w->o.store, &o, e);
}

/* --- the stage ---------------------------------------------------------- */

static enum rc take_users(struct worker *w, struct err *e)
{
    const struct serving_options o = {
        .config = w->o.config,
        .model = w->o.model,
        .context_bytes_max = w->o.context_bytes_max,
        .fields = mapping_fields(w->o.mapping),
        .explain_id = w->o.explain_id,
        .lists = w->o.observe ||
                 !(w->o.sink->ignores & (1u << OUTPUT_RECOMMENDATIONS)),
        .profiles = !(w->o.sink->ignores & (1u << OUTPUT_PROFILES)),
        .catalogue = w->o.catalogue,
    };
    TRY(serving_new(&w->serving, &o, e));
    serving_attach(w->serving, w->state, NULL);
    w->stage = &w->serving->base;
    return RC_OK;
}

static enum rc take_items(struct worker *w, struct err *e)
{
    const struct stage_items_options o = {
        .admit = &w->admit,
        .history = state_history_shape(w->state),
        .windows = state_windows_shape(w->state),
        .own_labels = w->o.config->labels_role,
        .events_max = w->o.config->batch_events_max,
    };
    return stage_items_new(&w->stage, &o, e);
}

static enum rc take_route(struct worker *w, struct err *e)
{
    (void)e;
    w->stage = &STAGE_OF_ROUTE;
    return RC_OK;
}

/* Behind an items stage: what it says comes from a chain, or with the event. */
static enum rc take_enrichment(struct worker *w, struct err *e)
{
    const struct config *c = w->o.config;
    uint32_t fields = mapping_fields(w->o.mapping);
    struct history_shape history;
    struct feature_shape features;
    if (w->o.stage != STAGE_USERS || !stages_has(c, STAGE_ITEMS)) return RC_OK;
    if (w->o.chained) return chain_new(&w->chain, c, fields, e);
    shapes_init(&history, &features, c, fields);
    return enrichment_reader_new(&w->enrichment, &features.item,
                                 c->batch_events_max, e);
}

static enum rc take_stage(struct worker *w, struct err *e)
{
    enum rc (*const TAKE[STAGES])(struct worker *, struct err *) = {
        [STAGE_USERS] = take_users,
        [STAGE_ITEMS] = take_items,
        [STAGE_ROUTE] = take_route,
    };
    TRY(TAKE[w->o.stage](w, e));
    return take_enrichment(w, e);
}

static enum rc take_outputs(struct worker *w, struct err *e)
{
    const struct outputs_options o = {
        .config = w->o.config,
        .stage = w->o.stage,
        .topic = w->o.topic,
        .ignores = w->o.sink->ignores,
        .schema_ids = w->o.schema_ids,
        .windows = state_windows_shape(w->state),
    };
    TRY(outputs_new(&w->outputs, &o, e));
    if (w->serving)
        outputs_set_serving(w->outputs, w->o.model, &w->serving->policy);
    return RC_OK;
}

/* --- new, free ---------------------------------------------------------- */

enum rc worker_new(struct worker **out, const struct worker_options *o,
                   struct err *e)
{
    struct worker *w = calloc(1, sizeof *w);
    const struct config *c = o->config;
    enum rc rc;
    if (!w) return ERR(e, RC_STOP, "worker: no memory");
    w->o = *o;
    w->committed_at_ms = now_ms();
    rc = batch_init(&w->batch, c->batch_events_max, e);
    if (rc == RC_OK)
        rc = admit_init(&w->admit, c, mapping_fields(o->mapping), e);
    if (rc == RC_OK) rc = take_state(w, e);
    if (rc == RC_OK) rc = take_restore(w, e);
    if (rc == RC_OK) rc = take_stage(w, e);
    if (rc == RC_OK) rc = take_outputs(w, e);
    if (rc != RC_OK) {
        worker_free(w);
        return rc;
    }
    *out = w;
    return RC_OK;
}

void worker_free(struct worker *w)
{
    if (!w) return;
    outputs_free(w->outputs);
    restore_free(w->restore);
    chain_free(w->chain);
    enrichment_reader_free(w->enrichment);
    if (w->state) state_free(w->state); /* tells the scorer: before it */
    serving_free(w->serving);
    if (w->o.stage == STAGE_ITEMS) stage_items_free(w->stage);
    batch_fini(&w->batch);
    free(w);
}

struct state *worker_state(const struct worker *w)
{
    return w->state;
}

const struct scorer *worker_scorer(const struct worker *w)
{
    return w->serving ? w->serving->scorer : NULL;
}
