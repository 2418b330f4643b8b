#include "service.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "admin.h"
#include "budget.h"
#include "catalogue_read.h"
#include "framing.h"
#include "label.h"
#include "log.h"
#include "model.h"
#include "registry_outputs.h"
#include "reload.h"
#include "shapes.h"
#include "sink_kafka.h"
#include "snapshot_call.h"
#include "source_kafka.h"
#include "standby.h"
#include "store.h"
#include "worker.h"

enum {
    ID_BYTES = 512,
    JOIN_STEP_MS = 5,
    SNAPSHOT_WAIT_MS = 20000, /* for every worker's next commit */
    REBUILDS_MAX = 8, /* of one worker: a disk that goes on lying is no use */
    FENCED_AGAIN_MS = 60000, /* then it is no accident of the brokers' */
    QUIET_S_MAX = 90, /* longer than any wait of a worker for the cluster */
};

/* One worker of a stage: its thread, and what that thread opened. */
struct seat {
    struct service *service;
    enum stage_id stage;
    uint32_t index; /* among the workers of its stage */
    uint32_t place; /* among all */
    pthread_t thread;
    bool started;
    const struct config *config; /* in force when it began, and the model */
    struct model *model;
    struct handover *handover;
    int rebuilds;      /* how often it began again for damage */
    int64_t fenced_ms; /* when it was thrown out of the group last; 0: never */
    struct mapping *mapping;
    struct source *source;
    struct sink *sink;
    struct worker *worker;
    atomic_bool ended;
    enum rc rc;
    struct err e;
};

struct service {
    const struct config *config; /* of the start */
    struct service_reread reread;
    struct schema *reader;
    struct schema *label_reader;
    struct registry *registry, *label_registry; /* NULL: records name no
                                                   schema, or no labels come */
    uint32_t schema_ids[OUTPUTS];
    struct model *model; /* of the start, reload's; NULL: state and dead
                            letters only */
    struct reload *reload;
    struct store *store;
    struct metrics *metrics;
    struct catalogue *catalogue; /* NULL: all items are available */
    struct catalogue_follow *catalogue_follow;
    struct snapshot_call *snapshots;
    struct admin *admin;     /* NULL: admin.listen is empty */
    struct seat *seats;      /* (seat_count) */
    struct standby *standby; /* NULL: none */
    uint32_t workers;        /* of each stage */
    uint32_t seat_count;
    uint64_t budget_bytes;
    atomic_bool stop;
    struct histogram latency_before;
};

/* ---- a worker's thread ------------------------------------------------ */

/* "GROUP.users.INSTANCE.WORKER" */
static void make_id(const struct seat *at, char *out, size_t size)
{
    const struct service *s = at->service;
    (void)snprintf(out, size, "%s.%s.%s.%u", s->config->group_id,
                   stages_name(at->stage), store_instance(s->store), at->index);
}

static struct worker_metrics *metrics_of(const struct seat *at)
{
    return metrics_worker(at->service->metrics, at->place);
}

static bool has_labels(const struct config *c, enum stage_id stage)
{
    return *stages_topic(c, stage, INPUT_LABELS) != '\0';
}

static enum rc open_mapping(struct seat *at, struct err *e)
{
    const struct service *s = at->service;
    TRY(mapping_new(&at->mapping, s->config, s->reader, s->registry, e));
    if (!has_labels(s->config, at->stage)) return RC_OK;
    return mapping_read_labels(at->mapping, false, s->label_registry, e);
}

static enum rc open_source(struct seat *at, const char *id, struct err *e)
{
    const struct config *c = at->service->config;
    char group[STAGES_GROUP_BYTES];
    const char *topics[STAGE_INPUTS] = {
        [INPUT_EVENTS] = stages_topic(c, at->stage, INPUT_EVENTS),
        [INPUT_LABELS] = stages_topic(c, at->stage, INPUT_LABELS),
    };
    const struct source_kafka_options o = {
        .config = c,
        .topics = topics,
        .topic_count = has_labels(c, at->stage) ? STAGE_INPUTS : 1,
        .group = stages_group(c, at->stage, group),
        .instance = c->group_static ? id : NULL,
        .client = id,
        .events_max = c->batch_events_max,
        .metrics = metrics_of(at),
    };
    return source_kafka_open(&at->source, &o, e);
}

static enum rc open_sink(struct seat *at, const char *id, struct err *e)
{
    const struct config *c = at->service->config;
    struct sink_kafka_options o = {
        .config = c,
        .source = at->source,
        .transactional_id = c->delivery == EXACTLY_ONCE ? id : NULL,
        .metrics = metrics_of(at),
    };
    stages_outputs(c, at->stage, o.topics);
    return sink_kafka_open(&at->sink, &o, e);
}

static enum rc open_worker(struct seat *at, struct err *e)
{
    const struct service *s = at->service;
    const struct config *c = at->config;
    const struct worker_options o = {
        .config = c,
        .model = at->model,
        .store = at->stage == STAGE_ROUTE ? NULL : s->store,
        .source = at->source,
        .sink = at->sink,
        .mapping = at->mapping,
        .stage = at->stage,
        .topic = stages_topic(c, at->stage, INPUT_EVENTS),
        .schema_ids = s->schema_ids,
        .context_bytes_max = c->model_cache / s->workers,
        .cache_bytes = c->state_cache / s->seat_count,
        .share_count = 1,
        .handover = at->handover,
        .metrics = metrics_of(at),
        .catalogue = s->catalogue,
        .snapshots = at->stage == STAGE_USERS ? s->snapshots : NULL,
        .snapshot_index = at->index,
    };
    return worker_new(&at->worker, &o, e);
}

static enum rc seat_run(struct seat *at, struct err *e)
{
    char id[ID_BYTES];

    make_id(at, id, sizeof id);
    TRY(open_mapping(at, e));
    TRY(open_source(at, id, e));
    TRY(open_sink(at, id, e));
    TRY(open_worker(at, e));
    return worker_run(at->worker, &at->service->stop, e);
}

/* The sink first: it commits through the source's consumer. */
static void seat_close(struct seat *at)
{
    worker_free(at->worker);
    if (at->sink) sink_close(at->sink);
    if (at->source) source_close(at->source);
    if (at->mapping) mapping_free(at->mapping);
    at->worker = NULL;
    at->sink = NULL;
    at->source = NULL;
    at->mapping = NULL;
}

/* Every worker may say it: a total that only grows. */
static void count_rebuilds(struct service *s)
{
    metrics_total(metrics_worker(s->metrics, 0), COUNT_state_rebuilds,
                  store_rebuilds(s->store));
}

/* It found its state damaged, and takes it anew from the changelog or log. */
static bool was_damaged(struct seat *at, uint64_t rebuilds_before)
{
    struct service *s = at->service;
    if (store_rebuilds(s->store) == rebuilds_before) return false;
    count_rebuilds(s);
    return ++at->rebuilds <= REBUILDS_MAX;
}

/* After an outage brokers may take a member that comes back for another one
 * with its id, and fence it. Where there is another one, who came first is
 * fenced a second time soon after, and stays out. */
static bool was_fenced(struct seat *at)
{
    int64_t now_ms = (int64_t)(metrics_now_ns() / 1000000);
    bool again = at->fenced_ms > 0 && now_ms - at->fenced_ms < FENCED_AGAIN_MS;
    if (!at->source || !kafka_is_fenced(source_kafka_handle(at->source)))
        return false;
    at->fenced_ms = now_ms;
    return !again;
}

/* Users alone serve with a model, and with what a reload changes. */
static void join_reload(struct seat *at)
{
    struct service *s = at->service;
    at->config = s->config;
    if (at->stage != STAGE_USERS) return;
    at->handover = reload_join(s->reload, at->index, &at->config, &at->model);
}

/* What a restart of the process would mend the worker mends alone: it comes
 * back the same way, with what is in force by now. */
static enum rc seat_run_through(struct seat *at, struct err *e)
{
    struct service *s = at->service;
    for (;;) {
        uint64_t rebuilds = store_rebuilds(s->store);
        enum rc rc;
        join_reload(at);
        rc = seat_run(at, e);
        if (rc != RC_STOP || atomic_load(&s->stop) ||
            !(was_damaged(at, rebuilds) || was_fenced(at)))
            return rc;
        LOG(WARN, "WORKER", "worker=%u begins again: %s", at->place, e->text);
        seat_close(at);
        if (at->handover) handover_end(at->handover);
    }
}

static void *seat_main(void *arg)
{
    struct seat *at = arg;

    at->rc = seat_run_through(at, &at->e);
    if (at->rc != RC_OK)
        LOG(ERROR, "WORKER", "worker=%u stopped: %s", at->place, at->e.text);
    /* All stop together, the others by draining. */
    atomic_store(&at->service->stop, true);
    seat_close(at);
    if (at->handover) handover_end(at->handover);
    atomic_store(&at->ended, true);
    return NULL;
}

/* ---- open and close --------------------------------------------------- */

static enum rc need(const char *value, const char *key, struct err *e)
{
    if (*value) return RC_OK;
    return ERR(e, RC_STOP,
               "run: %s is not set; `millrace config explain %s` "
               "says what it is",
               key, key);
}

static enum rc check_config(const struct config *c, struct err *e)
{
    TRY(need(c->input_topic, "input.topic", e));
    TRY(need(c->input_schema, "input.schema", e));
    TRY(need(c->state_dir, "state.dir", e));
    TRY(stages_check_live(c, e));
    if (stages_runs(c, STAGE_USERS) &&
        (*c->output_fraud_topic || *c->output_recommendations_topic ||
         *c->output_profile_topic))
        TRY(need(c->model_dir, "model.dir", e));
    if (c->recommend_category_max > 0 && *c->output_recommendations_topic)
        TRY(need(c->catalogue_topic, "catalogue.topic", e));
    if (c->standby_replicas > 0)
        TRY(need(c->changelog_topic, "changelog.topic", e));
    return RC_OK;
}

/* As the start did, and with what only `run` asks of it. */
static enum rc read_again(void *user, struct config **out, struct err *e)
{
    const struct service_reread *reread = user;
    TRY(reread->read(reread->user, out, e));
    return check_config(*out, e);
}

/* Lists alone need it. */
static enum rc open_catalogue(struct service *s, struct err *e)
{
    const struct config *c = s->config;
    if (!*c->catalogue_topic || !*c->output_recommendations_topic ||
        !stages_runs(c, STAGE_USERS))
        return RC_OK;
    TRY(catalogue_new(&s->catalogue, c->catalogue_items_max, NULL, NULL, e));
    return catalogue_follow(&s->catalogue_follow, s->catalogue, c, s->metrics,
                            e);
}

static enum rc open_reload(struct service *s, struct err *e)
{
    const struct reload_options o = {
        .config = s->config,
        .model = s->model,
        .reader = s->reader,
        .catalogue = s->catalogue,
        .metrics = s->metrics,
        .stop = &s->stop,
        .workers = s->workers,
        .read = read_again,
        .user = &s->reread,
    };
    return reload_new(&s->reload, &o, e);
}

static enum rc act_reload(void *user, struct slice body, json_t **result,
                          struct err *e)
{
    struct service *s = user;
    (void)body;
    return reload_run(s->reload, result, e);
}

/* Before anything is taken: what may be asked for, against what there is. */
static enum rc check_memory(struct service *s, struct err *e)
{
    struct budget b;
    budget_add_up(&b, s->config);
    s->budget_bytes = b.total;
    LOG(INFO, "MEMORY", "at_most_bytes=%llu memory.max=%llu row_bytes_max=%llu",
        (unsigned long long)b.total, (unsigned long long)s->config->memory_max,
        (unsigned long long)b.row_bytes);
    if (s->config->memory_max == 0 && b.group && b.total > b.group)
        LOG(WARN, "MEMORY",
            "the options ask for more than the control group has: %llu "
            "bytes; `millrace config explain memory.max` shows the sum",
            (unsigned long long)b.group);
    return budget_check(&b, s->config, e);
}

/* Partitions without a state of their own begin with the snapshot's. */
static enum rc seed(struct service *s, struct err *e)
{
    const struct config *c = s->config;
    struct history_shape history;
    struct feature_shape features;
    struct mapping *m;
    char shape[STORE_TEXT_MAX];
    uint32_t taken;
    if (!*c->state_snapshot) return RC_OK;
    TRY(mapping_new(&m, c, s->reader, s->registry, e));
    shapes_init(&history, &features, c, mapping_fields(m));
    history_shape_init(&history);
    shapes_describe(&history, &features.user, shape, sizeof shape);
    mapping_free(m);
    return snapshot_seed(s->store, c->state_snapshot,
                         stages_topic(c, STAGE_USERS, INPUT_EVENTS), shape,
                         &taken, e);
}

struct about {
    const struct service *service;
    struct snapshot_info info;
};

static void look_about(void *user, const struct config *c,
                       const struct model *model)
{
    struct about *a = user;
    snapshot_about(&a->info, c, a->service->reader, model);
}

/* POST /snapshot, {"directory": an absolute path}. */
static enum rc act_snapshot(void *user, struct slice body, json_t **result,
                            struct err *e)
{
    struct service *s = user;
    struct about about = {.service = s};
    json_t *json = json_loadb((const char *)body.ptr, body.len, 0, NULL);
    const char *dir = json_string_value(json_object_get(json, "directory"));
    enum rc rc;
    if (!dir || dir[0] != '/') {
        json_decref(json);
        return ERR(e, RC_SKIP,
                   "snapshot: send {\"directory\": \"/an/absolute/path\"}");
    }
    reload_look(s->reload, look_about, &about);
    rc =
        snapshot_call_make(s->snapshots, dir, &about.info, SNAPSHOT_WAIT_MS, e);
    if (rc == RC_OK) rc = snapshot_describe(dir, result, e);
    json_decref(json);
    return rc;
}

static enum rc open_admin(struct service *s, struct err *e)
{
    const struct admin_options o = {
        .listen = s->config->admin_listen,
        .token = s->config->admin_token,
        .metrics = s->metrics,
        .quiet_s_max = QUIET_S_MAX,
        .actions = {{"/reload", act_reload, s}, {"/snapshot", act_snapshot, s}},
    };
    return admin_start(&s->admin, &o, e);
}

/* Labels are in a schema of their own. */
static enum rc open_label_registry(struct service *s, struct err *e)
{
    bool come = false;
    for (enum stage_id k = 0; k < STAGES; k++)
        come = come || (stages_runs(s->config, k) && has_labels(s->config, k));
    if (!come || !framing_names_schemas(s->config)) return RC_OK;
    TRY(label_schema(&s->label_reader, e));
    return registry_open(&s->label_registry, s->config, s->label_reader, e);
}

/* Users first: a snapshot, a reload and the bench know them by their number. */
static enum rc take_seats(struct service *s, struct err *e)
{
    s->seats = calloc(s->seat_count, sizeof *s->seats);
    if (!s->seats)
        return ERR(e, RC_STOP, "run: no memory for %u workers", s->seat_count);
    for (uint32_t k = 0, n = 0; k < STAGES; k++)
        for (uint32_t i = 0; i < s->workers; i++) {
            if (!stages_runs(s->config, (enum stage_id)k)) break;
            if (s->seat_count > s->workers || k != STAGE_USERS)
                metrics_set_stage(s->metrics, n, stages_name((enum stage_id)k));
            s->seats[n] = (struct seat){.service = s,
                                        .stage = (enum stage_id)k,
                                        .index = i,
                                        .place = n};
            n++;
        }
    return RC_OK;
}

static enum rc open_parts(struct service *s, struct err *e)
{
    const struct config *c = s->config;
    const struct store_options store = {
        .dir = c->state_dir,
        .memory_bytes = c->state_store_memory,
        .keep_ms = (uint64_t)c->state_keep,
    };

    TRY(check_memory(s, e));
    TRY(schema_read(&s->reader, c->input_schema, e));
    if (framing_names_schemas(c))
        TRY(registry_open(&s->registry, c, s->reader, e));
    TRY(open_label_registry(s, e));
    TRY(registry_output_ids(c, s->schema_ids, e));
    if (*c->model_dir && stages_runs(c, STAGE_USERS))
        TRY(model_open(&s->model, c->model_dir, e));
    TRY(store_open(&s->store, &store, e));
    TRY(seed(s, e));
    s->snapshots = snapshot_call_new(s->workers, &s->stop);
    TRY(metrics_new(&s->metrics, s->seat_count, e));
    count_rebuilds(s);
    metrics_set_budget(s->metrics, s->budget_bytes);
    metrics_set_model(s->metrics, s->model ? model_info(s->model) : NULL);
    TRY(open_catalogue(s, e));
    TRY(open_reload(s, e));
    if (*c->admin_listen) TRY(open_admin(s, e));
    return take_seats(s, e);
}

enum rc service_open(struct service **out, const struct config *c,
                     struct service_reread reread, struct err *e)
{
    struct service *s;
    enum rc rc;

    TRY(check_config(c, e));
    s = calloc(1, sizeof *s);
    if (!s) return ERR(e, RC_STOP, "run: no memory");
    s->config = c;
    s->reread = reread;
    s->workers = c->workers;
    s->seat_count = stages_running(c) * s->workers;
    rc = open_parts(s, e);
    if (rc != RC_OK) {
        service_close(s);
        return rc;
    }
    *out = s;
    return RC_OK;
}

static enum rc start_standby(struct service *s, struct err *e)
{
    const struct standby_options o = {
        .config = s->config, .store = s->store, .metrics = s->metrics};
    if (s->config->standby_replicas == 0 ||
        !stages_runs(s->config, STAGE_USERS))
        return RC_OK;
    return standby_start(&s->standby, &o, e);
}

enum rc service_start(struct service *s, struct err *e)
{
    TRY(start_standby(s, e));
    for (uint32_t i = 0; i < s->seat_count; i++) {
        struct seat *at = &s->seats[i];
        if (pthread_create(&at->thread, NULL, seat_main, at) != 0)
            return ERR(e, RC_STOP, "run: no thread for worker %u", i);
        at->started = true;
    }
    return RC_OK;
}

bool service_running(const struct service *s)
{
    return !atomic_load(&s->stop);
}

void service_stop(struct service *s)
{
    atomic_store(&s->stop, true);
}

void service_reload(struct service *s)
{
    reload_begin(s->reload);
}

int64_t service_drain_ms(const struct service *s)
{
    return reload_drain_ms(s->reload);
}

static bool all_ended(const struct service *s)
{
    for (uint32_t i = 0; i < s->seat_count; i++)
        if (s->seats[i].started && !atomic_load(&s->seats[i].ended))
            return false;
    return true;
}

enum rc service_join(struct service *s, int64_t wait_ms, struct err *e)
{
    const struct timespec step = {.tv_nsec = JOIN_STEP_MS * 1000000L};
    enum rc rc = RC_OK;

    for (; !all_ended(s) && wait_ms > 0; wait_ms -= JOIN_STEP_MS)
        (void)nanosleep(&step, NULL);
    if (!all_ended(s))
        return ERR(e, RC_AGAIN, "run: workers have not ended yet");
    for (uint32_t i = 0; i < s->seat_count; i++) {
        struct seat *at = &s->seats[i];
        if (!at->started) continue;
        (void)pthread_join(at->thread, NULL);
        at->started = false;
        if (rc == RC_OK && at->rc != RC_OK) {
            rc = RC_STOP; /* also of a cluster that did not answer */
            *e = at->e;
        }
    }
    return rc;
}

void service_close(struct service *s)
{
    if (!s) return;
    for (uint32_t i = 0; s->seats && i < s->seat_count; i++)
        assert(!s->seats[i].started);
    if (s->admin) admin_stop(s->admin); /* its actions use all the rest */
    standby_stop(s->standby);
    free(s->seats);
    reload_free(s->reload);
    if (!s->reload && s->model) model_free(s->model);
    catalogue_unfollow(s->catalogue_follow);
    catalogue_free(s->catalogue);
    snapshot_call_free(s->snapshots);
    if (s->metrics) metrics_free(s->metrics);
    if (s->store) store_close(s->store);
    registry_close(s->registry);
    registry_close(s->label_registry);
    schema_free(s->label_reader);
    if (s->reader) schema_free(s->reader);
    free(s);
}

/* ---- what it is doing ------------------------------------------------- */

const struct metrics *service_metrics(const struct service *s)
{
    return s->metrics;
}

uint64_t service_lag(const struct service *s)
{
    double lag = 0;
    for (uint32_t i = 0; i < s->seat_count; i++)
        lag += atomic_load_explicit(
            &metrics_worker(s->metrics, i)->gauges[GAUGE_lag_events],
            memory_order_relaxed);
    return (uint64_t)lag;
}

double service_latency_ms(struct service *s, double q)
{
    struct histogram now = {0}, since = {0};
    uint64_t ns;

    for (uint32_t i = 0; i < s->seat_count; i++)
        histogram_merge(
            &now, &metrics_worker(s->metrics, i)->times[TIME_event_latency]);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        since.counts[i] = now.counts[i] - s->latency_before.counts[i];
    s->latency_before = now;
    ns = histogram_quantile_ns(&since, q);
    return ns == UINT64_MAX ? INFINITY : (double)ns / 1e6;
}
