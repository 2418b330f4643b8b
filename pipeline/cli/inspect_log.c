#include "inspect_log.h"

#include "progress.h"
#include "sink_null.h"

enum rc inspect_log_open(struct inspect_log *l, const struct inspect *in,
                         struct worker_options o, struct err *e)
{
    const struct config *c = in->config;
    *l = (struct inspect_log){.worker = NULL};
    TRY(metrics_new(&l->metrics, 1, e));
    if (in->labels.count > 0)
        TRY(labels_read(&l->labels, in->labels.at, in->labels.count, e));
    TRY(log_input_open(&l->input, c, in->logs.at, in->logs.count, NULL,
                       &(struct log_labels){.labels = l->labels}, e));
    TRY(sink_null_new(&l->sink, e));
    o.config = c;
    o.cache_bytes = c->state_cache;
    o.context_bytes_max = c->model_cache;
    o.finite = true;
    o.share_count = 1;
    o.metrics = metrics_worker(l->metrics, 0);
    o.source = l->input.source;
    o.mapping = l->input.mapping;
    o.topic = l->input.topic;
    o.chained = l->input.chained;
    o.merged = l->input.merged;
    o.sink = l->sink;
    return worker_new(&l->worker, &o, e);
}

enum rc inspect_log_fold(struct inspect_log *l, const bool *stop, struct err *e)
{
    struct progress p;
    uint64_t total = log_input_total(&l->input);
    enum rc rc = RC_OK;
    progress_start(&p, "folding", "bytes", (double)total);
    while (rc == RC_OK && !*stop && !source_ended(l->input.source)) {
        rc = worker_step(l->worker, e);
        progress_update(&p, (double)log_input_done(&l->input), NULL);
    }
    progress_end(&p);
    return rc;
}

void inspect_log_close(struct inspect_log *l)
{
    worker_free(l->worker);
    if (l->sink) sink_close(l->sink);
    log_input_close(&l->input);
    labels_free(l->labels);
    metrics_free(l->metrics);
}
