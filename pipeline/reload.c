#include "reload.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "admit.h"
#include "log.h"
#include "mapping.h"
#include "model.h"
#include "serving.h"

enum {
    PAUSE_NS = 1000000,
    NICENESS = 10, /* events first */
    SLOW_MS = 10000,
};

struct reload {
    struct reload_options o;
    const struct config *config; /* in force */
    struct config *own_config;   /* the same, or NULL: that of the start */
    struct model *model;         /* in force */
    struct handover *handovers;  /* (workers) */
    pthread_mutex_t one;         /* held by the reload that runs; no worker
                                    ever takes it */
    pthread_t thread;            /* of reload_begin */
    bool begun;
    atomic_bool running; /* that thread */
    _Atomic int64_t drain_ms;
};

/* One reload under way. */
struct change {
    struct config *config;
    struct model *model; /* to serve with: a new one, or that in force */
    bool keeps_model;
    uint32_t fields;
    struct serving **next; /* (workers) */
    uint64_t warmed;
    json_t *changed; /* keys */
};

/* --- new, free --------------------------------------------------------- */

enum rc reload_new(struct reload **out, const struct reload_options *o,
                   struct err *e)
{
    struct reload *r = calloc(1, sizeof *r);
    *out = NULL;
    if (r) r->handovers = calloc(o->workers, sizeof *r->handovers);
    if (!r || !r->handovers) {
        free(r);
        return ERR(e, RC_STOP, "reload: no memory");
    }
    r->o = *o;
    r->config = o->config;
    r->model = o->model;
    for (uint32_t i = 0; i < o->workers; i++)
        handover_end(&r->handovers[i]); /* until it begins */
    atomic_store(&r->drain_ms, o->config->drain_timeout);
    (void)pthread_mutex_init(&r->one, NULL);
    *out = r;
    return RC_OK;
}

void reload_free(struct reload *r)
{
    if (!r) return;
    if (r->begun) (void)pthread_join(r->thread, NULL);
    (void)pthread_mutex_destroy(&r->one);
    if (r->model) model_free(r->model);
    config_free(r->own_config);
    free(r->handovers);
    free(r);
}

void reload_look(struct reload *r, reload_look_fn *fn, void *user)
{
    (void)pthread_mutex_lock(&r->one);
    fn(user, r->config, r->model);
    (void)pthread_mutex_unlock(&r->one);
}

struct handover *reload_join(struct reload *r, uint32_t worker,
                             const struct config **config, struct model **model)
{
    struct handover *h = &r->handovers[worker];
    assert(worker < r->o.workers);
    (void)pthread_mutex_lock(&r->one);
    handover_begin(h);
    *config = r->config;
    *model = r->model;
    (void)pthread_mutex_unlock(&r->one);
    return h;
}

int64_t reload_drain_ms(const struct reload *r)
{
    return atomic_load(&r->drain_ms);
}

/* --- what changed ------------------------------------------------------ */

static void add_name(char *text, size_t size, const char *prefix,
                     const char *key)
{
    size_t used = strlen(text);
    (void)snprintf(text + used, size - used, "%s%s%s", used ? ", " : "", prefix,
                   key);
}

static const struct property *kafka_of(const struct config *c, const char *key)
{
    for (uint32_t i = 0; i < c->kafka_count; i++)
        if (strcmp(c->kafka[i].key, key) == 0) return &c->kafka[i];
    return NULL;
}

/* Properties of a that b lacks or has another value of. */
static void differ_kafka(const struct config *a, const struct config *b,
                         bool values, char *names, size_t size)
{
    for (uint32_t i = 0; i < a->kafka_count; i++) {
        const struct property *p = kafka_of(b, a->kafka[i].key);
        if (!p || (values && strcmp(p->value, a->kafka[i].value) != 0))
            add_name(names, size, "kafka.", a->kafka[i].key);
    }
}

/* Names alone: values may be secret. */
static enum rc compare(const struct reload *r, struct change *c, struct err *e)
{
    const struct config *now = r->config, *next = c->config;
    char names[ERR_TEXT_BYTES / 2] = "";
    for (uint32_t i = 0; i < OPTION_COUNT; i++) {
        const char *key = CONFIG_OPTIONS[i].key;
        if (strcmp(now->origins[i].value, next->origins[i].value) == 0)
            continue;
        if (CONFIG_OPTIONS[i].live)
            (void)json_array_append_new(c->changed, json_string(key));
        else
            add_name(names, sizeof names, "", key);
    }
    differ_kafka(now, next, true, names, sizeof names);
    differ_kafka(next, now, false, names, sizeof names);
    if (!*names) return RC_OK;
    return ERR(e, RC_SKIP,
               "changed, but read at start alone: %s; set back what shall "
               "wait, or restart",
               names);
}

/* --- what is to serve -------------------------------------------------- */

static enum rc open_model(struct reload *r, struct change *c, struct err *e)
{
    if (!*c->config->model_dir) {
        c->keeps_model = !r->model;
        return RC_OK;
    }
    if (model_open(&c->model, c->config->model_dir, e) != RC_OK)
        return e->rc = RC_SKIP;
    if (!r->model ||
        strcmp(model_info(c->model)->hash, model_info(r->model)->hash) != 0)
        return RC_OK;
    model_free(c->model);
    c->model = r->model;
    c->keeps_model = true;
    return RC_OK;
}

static enum rc map_fields(const struct reload *r, struct change *c,
                          struct err *e)
{
    struct mapping *m;
    if (mapping_new(&m, c->config, r->o.reader, NULL, e) != RC_OK)
        return e->rc = RC_SKIP;
    c->fields = mapping_fields(m);
    mapping_free(m);
    return RC_OK;
}

/* Live options must still go with those that were read at start. */
static enum rc check_admission(const struct change *c, struct err *e)
{
    struct admit a;
    if (admit_init(&a, c->config, c->fields, e) == RC_OK) return RC_OK;
    return e->rc = RC_SKIP;
}

static enum rc make_servings(const struct reload *r, struct change *c,
                             struct err *e)
{
    const struct serving_options o = {
        .config = c->config,
        .model = c->model,
        .keep_scorer = c->keeps_model,
        .context_bytes_max = c->config->model_cache / r->o.workers,
        .fields = c->fields,
        .lists = *c->config->output_recommendations_topic,
        .profiles = *c->config->output_profile_topic,
        .catalogue = r->o.catalogue,
    };
    c->next = calloc(r->o.workers, sizeof *c->next);
    if (!c->next) return ERR(e, RC_AGAIN, "no memory");
    for (uint32_t i = 0; i < r->o.workers; i++)
        if (serving_new(&c->next[i], &o, e) != RC_OK) return e->rc = RC_SKIP;
    return RC_OK;
}

static enum rc prepare(struct reload *r, struct change *c, struct err *e)
{
    if (r->o.read(r->o.user, &c->config, e) != RC_OK) return e->rc = RC_SKIP;
    TRY(compare(r, c, e));
    TRY(open_model(r, c, e));
    TRY(map_fields(r, c, e));
    TRY(check_admission(c, e));
    return make_servings(r, c, e);
}

static void drop(const struct reload *r, struct change *c)
{
    for (uint32_t i = 0; c->next && i < r->o.workers; i++)
        serving_free(c->next[i]);
    if (c->model && !c->keeps_model) model_free(c->model);
    config_free(c->config);
}

/* --- warming ----------------------------------------------------------- */

static int64_t now_ms(void)
{
    return (int64_t)(metrics_now_ns() / 1000000);
}

static void pause_shortly(void)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    (void)nanosleep(&pause, NULL);
}

/* Takes what worker i filled; false once it has no more, or no room. */
static bool warm_turn(struct reload *r, struct change *c, uint32_t i,
                      bool *idle)
{
    struct hot_page *page = handover_filled(&r->handovers[i]);
    if (!page) return true;
    *idle = false;
    if (serving_warm(c->next[i], page) && !page->last) {
        handover_ask(&r->handovers[i], page);
        return true;
    }
    hot_page_free(page);
    return false;
}

/* All workers in turn, until each is through or time is over. */
static void warm_all(struct reload *r, struct change *c, bool *open)
{
    int64_t until_ms = now_ms() + c->config->reload_warm;
    uint32_t left = r->o.workers;
    while (left > 0 && now_ms() < until_ms && !atomic_load(r->o.stop)) {
        bool idle = true;
        for (uint32_t i = 0; i < r->o.workers; i++) {
            if (!open[i] || warm_turn(r, c, i, &idle)) continue;
            open[i] = false;
            left--;
        }
        if (idle) pause_shortly();
    }
}

static enum rc warm(struct reload *r, struct change *c, struct err *e)
{
    uint32_t window = c->model ? model_info(c->model)->window : 0;
    bool *open = calloc(r->o.workers, sizeof *open);
    enum rc rc = RC_OK;

    if (!open) return ERR(e, RC_AGAIN, "no memory");
    for (uint32_t i = 0; i < r->o.workers && rc == RC_OK; i++) {
        struct hot_page *page = hot_page_new(window, c->config->user_bytes_max);
        if (page)
            handover_ask(&r->handovers[i], page);
        else
            rc = ERR(e, RC_AGAIN, "no memory for users' histories");
        open[i] = page;
    }
    if (rc == RC_OK) warm_all(r, c, open);
    for (uint32_t i = 0; i < r->o.workers; i++) {
        if (open[i]) hot_page_free(handover_reclaim(&r->handovers[i]));
        handover_asked(&r->handovers[i]);
        c->warmed += c->next[i]->warmed_count;
    }
    free(open);
    return rc;
}

/* --- the swap ---------------------------------------------------------- */

/* Until every worker has taken what it is given, or has ended. A worker that
 * waits for the cluster comes to it later: half of them on one model and half
 * on another is a state to pass through, not to give up in. */
static void swap(struct reload *r, struct change *c)
{
    int64_t slow_ms = now_ms() + SLOW_MS;
    for (uint32_t i = 0; i < r->o.workers; i++)
        handover_give(&r->handovers[i], c->next[i]);
    for (uint32_t i = 0; i < r->o.workers; i++) {
        struct serving *used;
        while (!(used = handover_used(&r->handovers[i]))) {
            pause_shortly();
            if (now_ms() < slow_ms) continue;
            LOG(WARN, "RELOADWAITS", "worker=%u is in a batch since %d s", i,
                SLOW_MS / 1000);
            slow_ms = INT64_MAX;
        }
        if (used != c->next[i]) serving_forget_warmed(c->next[i]);
        serving_free(used);
    }
}

/* Nothing uses what was in force before. */
static void put_in_force(struct reload *r, struct change *c)
{
    if (!c->keeps_model && r->model) model_free(r->model);
    config_free(r->own_config);
    r->model = c->model;
    r->config = r->own_config = c->config;
    atomic_store(&r->drain_ms, c->config->drain_timeout);
    log_set_level((enum log_level)c->config->log_level);
    metrics_set_model(r->o.metrics, c->model ? model_info(c->model) : NULL);
}

static json_t *describe(const struct change *c, int64_t from_ms)
{
    struct policy policy;
    policy_init(&policy, c->config);
    return json_pack(
        "{ss?sssOsIsf}", "model", c->model ? model_info(c->model)->hash : NULL,
        "policy", policy.hash, "changed", c->changed, "contexts_warmed",
        (json_int_t)c->warmed, "seconds", (double)(now_ms() - from_ms) / 1e3);
}

static enum rc run(struct reload *r, struct change *c, struct err *e)
{
    TRY(prepare(r, c, e));
    if (c->model && !c->keeps_model && c->config->reload_warm > 0)
        TRY(warm(r, c, e));
    if (atomic_load(r->o.stop))
        return ERR(e, RC_AGAIN, "the workers are about to end");
    swap(r, c);
    put_in_force(r, c);
    return RC_OK;
}

/* --- one reload -------------------------------------------------------- */

static enum rc run_one(struct reload *r, json_t **result, struct err *e)
{
    struct change c = {.changed = json_array()};
    int64_t from_ms = now_ms();
    enum rc rc;

    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
    rc = run(r, &c, e);
    metrics_count(r->o.metrics,
                  rc == RC_OK ? TOTAL_reloads : TOTAL_reload_failures);
    if (rc == RC_OK) {
        *result = describe(&c, from_ms);
        LOG(INFO, "RELOADED", "model=%s contexts_warmed=%llu ms=%lld",
            c.model ? model_info(c.model)->hash : "none",
            (unsigned long long)c.warmed, (long long)(now_ms() - from_ms));
        free(c.next);
    } else {
        drop(r, &c);
        free(c.next);
        (void)err_context(e, "reload");
        LOG(ERROR, "NORELOAD", "%s; what was in force goes on", e->text);
    }
    json_decref(c.changed);
    return rc;
}

enum rc reload_run(struct reload *r, json_t **result, struct err *e)
{
    enum rc rc;
    *result = NULL;
    if (pthread_mutex_trylock(&r->one) != 0)
        return ERR(e, RC_AGAIN, "reload: another one is under way");
    rc = run_one(r, result, e);
    (void)pthread_mutex_unlock(&r->one);
    return rc;
}

static void *reload_main(void *arg)
{
    struct reload *r = arg;
    json_t *result;
    struct err e;
    if (reload_run(r, &result, &e) == RC_OK) json_decref(result);
    atomic_store(&r->running, false);
    return NULL;
}

void reload_begin(struct reload *r)
{
    if (r->begun && atomic_load(&r->running)) {
        LOG(WARN, "NORELOAD", "another one is under way; send SIGHUP again");
        return;
    }
    if (r->begun) (void)pthread_join(r->thread, NULL);
    atomic_store(&r->running, true);
    r->begun = pthread_create(&r->thread, NULL, reload_main, r) == 0;
    if (!r->begun) LOG(ERROR, "NORELOAD", "no thread");
}
