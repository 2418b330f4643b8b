#include "replay.h"

#include <pthread.h>
#include <unistd.h>

#include "container.h"
#include "feature_file.h"
#include "outputs.h"
#include "registry_outputs.h"
#include "replay_state.h"
#include "shapes.h"
#include "sink_file.h"
#include "sink_topic.h"
#include "worker.h"

enum { PART_PATH_BYTES = 4096 };

/* One worker and what is its own. */
struct runner {
    struct replay *replay;
    struct log_input input;
    struct sink *outputs; /* files or topics */
    struct sink *sink;    /* the worker's: outputs, or what is around it */
    struct worker *worker;
    struct watch *watch;
    struct replay_share share;
    char paths[OUTPUTS][PART_PATH_BYTES]; /* "": not written */
    pthread_t thread;
    bool started;
    enum rc rc;
    struct err e;
};

struct replay {
    struct replay_options o;
    struct replay_state *state; /* NULL: from nothing, to nothing */
    struct schema *schemas[OUTPUTS];
    struct feature_file *features;
    uint32_t schema_ids[OUTPUTS]; /* those of the run, for --verify */
    struct runner *runners;       /* (o.workers) */
    struct watch *watches[REPLAY_WORKERS_MAX];
    const char *paths[OUTPUTS]; /* whole files; NULL: not written */
    uint64_t input_total;
    atomic_bool stop;
    _Atomic uint32_t running;
};

/* --- files of one worker, and of all ------------------------------------ */

static void name_parts(struct replay *r)
{
    for (uint32_t i = 0; i < r->o.workers; i++)
        for (uint32_t k = 0; k < OUTPUTS; k++) {
            char *to = r->runners[i].paths[k];
            if (!r->paths[k]) continue;
            if (r->o.workers == 1)
                (void)snprintf(to, PART_PATH_BYTES, "%s", r->paths[k]);
            else
                (void)snprintf(to, PART_PATH_BYTES, "%s.%u", r->paths[k], i);
        }
}

/* One part being merged: its next value and that value's place. */
struct part {
    struct container_reader *reader;
    struct slice value;
    int64_t partition, offset;
    bool ended;
};

/* All records end with source_partition and source_offset. */
static enum rc next_value(struct part *p, const struct decoder *d,
                          struct tape *t, struct err *e)
{
    TRY(container_next(p->reader, &p->value, &p->ended, e));
    if (p->ended) return RC_OK;
    if (decoder_decode(d, p->value, t, e) != RC_OK) {
        (void)err_context(e, "putting scores in order");
        return RC_STOP;
    }
    p->partition = t->at[t->count - 2].i;
    p->offset = t->at[t->count - 1].i;
    return RC_OK;
}

static struct part *first_part(struct part *parts, uint32_t count)
{
    struct part *first = NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct part *p = &parts[i];
        if (p->ended) continue;
        if (!first || p->partition < first->partition ||
            (p->partition == first->partition && p->offset < first->offset))
            first = p;
    }
    return first;
}

static enum rc merge_values(struct part *parts, uint32_t count,
                            const struct decoder *d, struct tape *t,
                            struct container_writer *out, struct err *e)
{
    struct part *p;
    for (uint32_t i = 0; i < count; i++)
        TRY(next_value(&parts[i], d, t, e));
    while ((p = first_part(parts, count)) != NULL) {
        TRY(container_append(out, p->value, e));
        TRY(next_value(p, d, t, e));
    }
    return RC_OK;
}

static enum rc merge_parts(struct replay *r, enum output output, struct err *e)
{
    struct part parts[REPLAY_WORKERS_MAX] = {{0}};
    struct tape tape = {.max = outputs_datums_max(r->o.config)};
    struct container_writer *out = NULL;
    struct decoder *d = NULL;
    const struct schema *s = r->schemas[output];
    enum rc rc = decoder_compile(&d, s, s, e);
    tape.at = calloc(tape.max, sizeof *tape.at);
    if (rc == RC_OK && !tape.at) rc = ERR(e, RC_STOP, "replay: no memory");
    for (uint32_t i = 0; rc == RC_OK && i < r->o.workers; i++)
        rc = container_open(&parts[i].reader, r->runners[i].paths[output], e);
    if (rc == RC_OK)
        rc = container_create(&out, r->paths[output], s, r->o.codec, e);
    if (rc == RC_OK) rc = merge_values(parts, r->o.workers, d, &tape, out, e);
    if (rc == RC_OK)
        rc = container_finish(out, e);
    else if (out)
        container_abandon(out);
    for (uint32_t i = 0; i < r->o.workers; i++) {
        if (parts[i].reader) container_close(parts[i].reader);
        (void)unlink(r->runners[i].paths[output]);
    }
    free(tape.at);
    decoder_free(d);
    return rc;
}

static enum rc finish_files(struct replay *r, struct err *e)
{
    if (r->o.to_topics) return RC_OK;
    for (uint32_t i = 0; i < r->o.workers; i++)
        TRY(sink_file_finish(r->runners[i].outputs, e));
    for (uint32_t k = 0; r->o.workers > 1 && k < OUTPUTS; k++)
        if (r->paths[k]) TRY(merge_parts(r, (enum output)k, e));
    return RC_OK;
}

/* --- one worker --------------------------------------------------------- */

static void *run(void *user)
{
    struct runner *n = user;
    n->rc = worker_run(n->worker, &n->replay->stop, &n->e);
    if (n->rc != RC_OK) atomic_store(&n->replay->stop, true);
    atomic_fetch_sub(&n->replay->running, 1);
    return NULL;
}

static enum rc open_outputs(struct replay *r, struct runner *n, struct err *e)
{
    const struct config *c = r->o.config;
    struct sink_file_output outputs[OUTPUTS] = {{0}};
    if (r->o.to_topics) return sink_topic_open(&n->outputs, c, e);
    for (uint32_t k = 0; k < OUTPUTS; k++)
        outputs[k] = (struct sink_file_output){
            .path = n->paths[k][0] ? n->paths[k] : NULL,
            .schema = r->schemas[k],
        };
    return sink_file_create(&n->outputs, outputs, r->o.codec,
                            c->output_format == OUTPUT_CONFLUENT, e);
}

/* The outputs, or what looks at them on their way. */
static enum rc open_sink(struct replay *r, struct runner *n, struct err *e)
{
    TRY(open_outputs(r, n, e));
    n->sink = n->outputs;
    if (!r->o.verify) return RC_OK;
    return verify_sink(&n->sink, r->o.verify, n->outputs, e);
}

static enum rc open_features(struct replay *r, struct runner *n, struct err *e)
{
    struct history_shape history;
    struct feature_shape features;
    if (!r->o.features_path) return RC_OK;
    assert(r->o.workers == 1 && n->watch);
    shapes_init(&history, &features, r->o.config,
                mapping_fields(n->input.mapping));
    TRY(feature_file_create(&r->features, r->o.features_path, r->o.codec,
                            &features, e));
    watch_features(n->watch, r->features);
    return RC_OK;
}

/* The first worker's input says what the log is. */
static enum rc open_state(struct replay *r, const struct runner *n,
                          struct err *e)
{
    const struct replay_state_options o = {
        .config = r->o.config,
        .reader = n->input.reader,
        .model = r->o.model,
        .topic = n->input.topic,
        .snapshot = r->o.snapshot,
        .out = r->o.state_out,
        .partitions = r->o.state_partitions,
        .workers = r->o.workers,
        .files = n->input.files,
    };
    if (r->state || (!o.snapshot && !o.out)) return RC_OK;
    if (n->input.chained || n->input.merged)
        return ERR(e, RC_STOP,
                   "replay: snapshots hold rows of the users stage alone; "
                   "replay the topic that it reads (--topic %s), without "
                   "labels",
                   *r->o.config->enriched_topic ? r->o.config->enriched_topic
                                                : "NAME");
    return replay_state_open(&r->state, &o, mapping_fields(n->input.mapping),
                             e);
}

static enum rc open_runner(struct replay *r, uint32_t index, struct err *e)
{
    struct runner *n = &r->runners[index];
    const struct config *c = r->o.config;
    struct worker_options o = {
        .config = c,
        .model = r->o.model,
        .schema_ids = r->schema_ids,
        .context_bytes_max = c->model_cache / r->o.workers,
        .cache_bytes = c->state_cache / r->o.workers,
        .finite = true,
        .share_index = index,
        .share_count = r->o.workers,
        .metrics = metrics_worker(r->o.metrics, index),
        .catalogue = r->o.catalogue,
    };
    n->replay = r;
    TRY(log_input_open(&n->input, c, r->o.paths, r->o.path_count, &r->o.range,
                       &r->o.labels, e));
    TRY(open_sink(r, n, e));
    if (r->o.watch) {
        TRY(watch_new(&n->watch, r->o.watch, e));
        r->watches[index] = n->watch;
        o.observe = watch_batch;
        o.observer = n->watch;
    }
    o.source = n->input.source;
    o.mapping = n->input.mapping;
    o.topic = n->input.topic;
    o.chained = n->input.chained;
    o.merged = n->input.merged;
    o.sink = n->sink;
    TRY(open_state(r, n, e));
    if (r->state) o.base = replay_state_base(r->state);
    if (r->o.state_out) {
        n->share = (struct replay_share){r->state, index};
        o.at_end = replay_state_end;
        o.end_user = &n->share;
    }
    TRY(worker_new(&n->worker, &o, e));
    return open_features(r, n, e);
}

/* --- all ---------------------------------------------------------------- */

static enum rc open_all(struct replay *r, struct err *e)
{
    r->runners = calloc(r->o.workers, sizeof *r->runners);
    if (!r->runners) return ERR(e, RC_STOP, "replay: no memory");
    r->paths[OUTPUT_FRAUD] = r->o.fraud_path;
    r->paths[OUTPUT_RECOMMENDATIONS] = r->o.recommendations_path;
    r->paths[OUTPUT_PROFILES] = r->o.profiles_path;
    TRY(outputs_parse_schemas(r->schemas, e));
    TRY(registry_output_ids(r->o.config, r->schema_ids, e));
    name_parts(r);
    for (uint32_t i = 0; i < r->o.workers; i++)
        TRY(open_runner(r, i, e));
    r->input_total = log_input_total(&r->runners[0].input);
    return RC_OK;
}

static enum rc start_all(struct replay *r, struct err *e)
{
    for (uint32_t i = 0; i < r->o.workers; i++) {
        struct runner *n = &r->runners[i];
        atomic_fetch_add(&r->running, 1);
        if (pthread_create(&n->thread, NULL, run, n) == 0) {
            n->started = true;
            continue;
        }
        atomic_fetch_sub(&r->running, 1);
        return ERR(e, RC_STOP,
                   "replay: the system gives no thread for "
                   "worker %u; lower --workers",
                   i);
    }
    return RC_OK;
}

enum rc replay_start(struct replay **out, const struct replay_options *o,
                     struct err *e)
{
    struct replay *r = calloc(1, sizeof *r);
    enum rc rc;
    if (!r) return ERR(e, RC_STOP, "replay: no memory");
    assert(o->workers > 0 && o->workers <= REPLAY_WORKERS_MAX);
    r->o = *o;
    rc = open_all(r, e);
    if (rc == RC_OK) rc = start_all(r, e);
    if (rc != RC_OK) {
        replay_free(r);
        return rc;
    }
    *out = r;
    return RC_OK;
}

static void join_threads(struct replay *r)
{
    for (uint32_t i = 0; r->runners && i < r->o.workers; i++) {
        if (!r->runners[i].started) continue;
        (void)pthread_join(r->runners[i].thread, NULL);
        r->runners[i].started = false;
    }
}

enum rc replay_join(struct replay *r, struct err *e)
{
    join_threads(r);
    for (uint32_t i = 0; i < r->o.workers; i++)
        if (r->runners[i].rc != RC_OK) {
            *e = r->runners[i].e;
            return r->runners[i].rc;
        }
    TRY(finish_files(r, e));
    if (r->features) TRY(feature_file_finish(r->features, e));
    return r->state ? replay_state_finish(r->state, e) : RC_OK;
}

void replay_free(struct replay *r)
{
    if (!r) return;
    atomic_store(&r->stop, true);
    join_threads(r);
    for (uint32_t i = 0; r->runners && i < r->o.workers; i++) {
        struct runner *n = &r->runners[i];
        worker_free(n->worker);
        if (n->sink) sink_close(n->sink);
        log_input_close(&n->input);
        watch_free(n->watch);
    }
    for (uint32_t k = 0; k < OUTPUTS; k++)
        schema_free(r->schemas[k]);
    feature_file_close(r->features);
    replay_state_close(r->state);
    free(r->runners);
    free(r);
}

bool replay_running(const struct replay *r)
{
    return atomic_load(&r->running) > 0;
}

void replay_progress(const struct replay *r, uint64_t *done, uint64_t *total)
{
    *done = 0;
    *total = r->input_total * r->o.workers;
    for (uint32_t i = 0; i < r->o.workers; i++) {
        const struct log_input *in = &r->runners[i].input;
        if (in->files) *done += log_input_done(in);
    }
    if (!r->runners[0].input.files) {
        *done = metrics_sum(r->o.metrics, COUNT_events);
        *total = r->input_total;
    }
}

struct watch *const *replay_watches(const struct replay *r)
{
    return r->o.watch ? r->watches : NULL;
}
