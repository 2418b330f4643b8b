#include "collect_log.h"

#include <stdlib.h>

#include "metrics.h"
#include "shapes.h"
#include "sink_null.h"
#include "worker.h"

struct collect_log {
    const struct collect_log_options *o; /* while reading */
    struct metrics *metrics;
    struct log_input input;
    struct sink *sink;
    struct worker *worker;
    struct history_shape history;
    struct feature_shape features;
    struct collect *collect;
    struct train_log rows;
};

static enum rc open_collect(struct collect_log *l, struct err *e)
{
    const struct collect_options o = {
        .features = &l->features,
        .labels = l->o->labels,
        .until_ms = l->o->until_ms,
        .known_ms = l->o->known_ms,
        .label_delay_ms = l->o->label_delay_ms,
        .names_max = l->o->names_max,
        .bytes_max = l->o->bytes_max,
    };
    shapes_init(&l->history, &l->features, l->o->config,
                mapping_fields(l->input.mapping));
    return collect_new(&l->collect, &o, e);
}

static enum rc open_worker(struct collect_log *l, struct err *e)
{
    struct worker_options o = {
        .config = l->o->config,
        .cache_bytes = l->o->config->state_cache,
        .finite = true,
        .share_count = 1,
        .observe = collect_batch,
    };
    const struct log_labels labels = {.labels = l->o->labels};
    TRY(metrics_new(&l->metrics, 1, e));
    TRY(log_input_open(&l->input, l->o->config, l->o->paths, l->o->path_count,
                       l->o->range, &labels, e));
    TRY(sink_null_new(&l->sink, e));
    TRY(open_collect(l, e));
    o.observer = l->collect;
    o.metrics = metrics_worker(l->metrics, 0);
    o.source = l->input.source;
    o.mapping = l->input.mapping;
    o.topic = l->input.topic;
    o.chained = l->input.chained;
    o.merged = l->input.merged;
    o.sink = l->sink;
    return worker_new(&l->worker, &o, e);
}

static enum rc fold(struct collect_log *l, struct err *e)
{
    const atomic_bool stop = false;
    uint64_t total = log_input_total(&l->input);
    while (!source_ended(l->input.source)) {
        uint64_t done;
        TRY(worker_step(l->worker, e));
        done = l->input.files ? log_input_done(&l->input)
                              : collect_rows(l->collect);
        if (l->o->progress)
            l->o->progress(l->o->user, (double)done, (double)total);
    }
    return worker_run(l->worker, &stop, e); /* hands the rest over */
}

/* All but the rows: the worker's memory is as large as the log, and training
 * needs the room. */
static void close_reading(struct collect_log *l)
{
    worker_free(l->worker);
    l->worker = NULL;
    if (l->sink) sink_close(l->sink);
    l->sink = NULL;
    log_input_close(&l->input);
    l->input = (struct log_input){0};
    metrics_free(l->metrics);
    l->metrics = NULL;
}

static enum rc read_rows(struct collect_log *l, struct err *e)
{
    TRY(open_worker(l, e));
    TRY(fold(l, e));
    l->rows = (struct train_log){
        .fields = mapping_fields(l->input.mapping),
        .numbers = l->o->config->feature_numbers.count,
        .categoricals = l->o->config->feature_categories.count,
        .amount_scale = l->o->config->role_amount_scale,
    };
    close_reading(l);
    return collect_finish(l->collect, &l->rows, e);
}

enum rc collect_log_read(struct collect_log **out,
                         const struct collect_log_options *o, struct err *e)
{
    struct collect_log *l = calloc(1, sizeof *l);
    enum rc rc;
    if (!l) return ERR(e, RC_STOP, "train: no memory");
    l->o = o;
    rc = read_rows(l, e);
    l->o = NULL;
    if (rc != RC_OK) {
        collect_log_free(l);
        return rc;
    }
    *out = l;
    return RC_OK;
}

void collect_log_free(struct collect_log *l)
{
    if (!l) return;
    close_reading(l);
    collect_free(l->collect);
    free(l);
}

const struct train_log *collect_log_rows(const struct collect_log *l)
{
    return &l->rows;
}

const struct collect *collect_log_collect(const struct collect_log *l)
{
    return l->collect;
}
