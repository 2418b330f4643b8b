/* snapshot_call.c - see snapshot_call.h. */
#include "snapshot_call.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "decide.h"
#include "hash.h"
#include "log.h"
#include "stages.h"

enum { VIEWS_MAX = 4096, WAIT_STEP_MS = 50 };

struct snapshot_call {
    pthread_mutex_t mutex;
    pthread_cond_t answered;
    _Atomic uint32_t asked; /* number of the call at hand; 0: none yet */
    bool open;              /* views are still taken */
    struct store_view *views[VIEWS_MAX];
    uint32_t view_count;
    uint32_t workers;
    const atomic_bool *stop;
    _Atomic uint32_t *answers; /* (workers) the last call answered */
};

struct snapshot_call *snapshot_call_new(uint32_t workers,
                                        const atomic_bool *stop)
{
    struct snapshot_call *c = calloc(1, sizeof *c);
    assert(c);
    c->workers = workers;
    c->stop = stop;
    c->answers = calloc(workers, sizeof *c->answers);
    assert(c->answers);
    (void)pthread_mutex_init(&c->mutex, NULL);
    (void)pthread_cond_init(&c->answered, NULL);
    return c;
}

void snapshot_call_free(struct snapshot_call *c)
{
    if (!c) return;
    assert(c->view_count == 0);
    (void)pthread_cond_destroy(&c->answered);
    (void)pthread_mutex_destroy(&c->mutex);
    free(c->answers);
    free(c);
}

/* --- the worker's side ------------------------------------------------- */

bool snapshot_call_waits(const struct snapshot_call *c, uint32_t worker)
{
    return atomic_load_explicit(&c->answers[worker], memory_order_relaxed) !=
           atomic_load_explicit(&c->asked, memory_order_relaxed);
}

/* A partition that came from another worker since: the newer view counts. */
void snapshot_call_add(void *user, struct store_view *v)
{
    struct snapshot_call *c = user;
    struct store_view *drop = v;
    uint32_t i = 0;
    (void)pthread_mutex_lock(&c->mutex);
    while (i < c->view_count &&
           strcmp(store_view_name(c->views[i]), store_view_name(v)) != 0)
        i++;
    if (c->open && i < VIEWS_MAX) {
        drop = i < c->view_count ? c->views[i] : NULL;
        c->views[i] = v;
        if (i == c->view_count) c->view_count++;
    }
    (void)pthread_mutex_unlock(&c->mutex);
    if (drop) store_view_free(drop);
}

void snapshot_call_answer(struct snapshot_call *c, uint32_t worker)
{
    (void)pthread_mutex_lock(&c->mutex);
    atomic_store(&c->answers[worker], atomic_load(&c->asked));
    (void)pthread_cond_signal(&c->answered);
    (void)pthread_mutex_unlock(&c->mutex);
}

/* --- asking ------------------------------------------------------------ */

static bool all_answered(const struct snapshot_call *c)
{
    for (uint32_t i = 0; i < c->workers; i++)
        if (snapshot_call_waits(c, i)) return false;
    return true;
}

static enum rc stopping(struct err *e)
{
    return ERR(e, RC_AGAIN,
               "snapshot: the process stops; take it from there "
               "once it has");
}

/* With the mutex held. */
static void wait_step(struct snapshot_call *c)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_STEP_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&c->answered, &c->mutex, &until);
}

static enum rc gather(struct snapshot_call *c, int64_t wait_ms, struct err *e)
{
    int64_t until_ms = store_now_ms() + wait_ms;
    bool all;
    (void)pthread_mutex_lock(&c->mutex);
    c->open = true;
    (void)atomic_fetch_add(&c->asked, 1);
    while (!(all = all_answered(c)) && !atomic_load(c->stop) &&
           store_now_ms() < until_ms)
        wait_step(c);
    c->open = false;
    for (uint32_t i = 0; i < c->workers; i++) /* those need not any more */
        atomic_store(&c->answers[i], atomic_load(&c->asked));
    (void)pthread_mutex_unlock(&c->mutex);
    if (all) return RC_OK;
    if (atomic_load(c->stop)) return stopping(e);
    return ERR(e, RC_AGAIN,
               "snapshot: a worker did not come to a commit in %lld ms: it "
               "folds, or waits for the cluster (see /readyz); try later",
               (long long)wait_ms);
}

struct putting {
    const struct snapshot_call *call;
    struct snapshot_writer *writer;
    int32_t partition;
};

static enum rc put_row(void *user, struct slice key, struct slice row,
                       struct err *e)
{
    const struct putting *p = user;
    if (atomic_load(p->call->stop)) return stopping(e);
    return snapshot_put(p->writer, p->partition, key, row, e);
}

static enum rc write_view(const struct snapshot_call *c,
                          struct snapshot_writer *w, const struct store_view *v,
                          struct err *e)
{
    const struct family_meta *m = store_view_meta(v);
    const char *number = strrchr(store_view_name(v), '/');
    const struct snapshot_part part = {
        .partition = (int32_t)atoi(number + 1),
        .offset = m->applied,
        .stream_ms = m->stream_ms,
        .seen_offset = m->seen_offset,
        .seen_hash = m->seen_hash,
    };
    struct putting p = {.call = c, .writer = w, .partition = part.partition};
    TRY(snapshot_begin(w, &part, e));
    return store_view_each(v, put_row, &p, e);
}

static enum rc write_views(struct snapshot_call *c, const char *dir,
                           const struct snapshot_info *about, struct err *e)
{
    struct snapshot_info info = *about;
    struct snapshot_writer *w;
    enum rc rc = RC_OK;
    if (c->view_count == 0)
        return ERR(e, RC_AGAIN,
                   "snapshot: no partition is assigned to this "
                   "process");
    TRY(snapshot_create(&w, dir, e));
    for (uint32_t i = 0; rc == RC_OK && i < c->view_count; i++) {
        const struct family_meta *m = store_view_meta(c->views[i]);
        (void)snprintf(info.cluster_id, sizeof info.cluster_id, "%s",
                       m->cluster_id);
        (void)snprintf(info.shape, sizeof info.shape, "%s", m->shape);
        info.partitions = m->partitions;
        rc = write_view(c, w, c->views[i], e);
    }
    if (rc == RC_OK) return snapshot_finish(w, &info, e);
    snapshot_abandon(w);
    return rc;
}

enum rc snapshot_call_make(struct snapshot_call *c, const char *dir,
                           const struct snapshot_info *about, int64_t wait_ms,
                           struct err *e)
{
    enum rc rc = gather(c, wait_ms, e);
    if (rc == RC_OK) rc = write_views(c, dir, about, e);
    while (c->view_count > 0)
        store_view_free(c->views[--c->view_count]);
    return rc;
}

/* --- what it is of ----------------------------------------------------- */

static void put_hash(char *out, uint64_t hash)
{
    (void)snprintf(out, SNAPSHOT_TEXT_MAX, "%016llx", (unsigned long long)hash);
}

void snapshot_about(struct snapshot_info *out, const struct config *c,
                    const struct schema *reader, const struct model *model)
{
    struct policy policy;
    *out = (struct snapshot_info){.stage = "users", .made_ms = store_now_ms()};
    (void)snprintf(out->topic, sizeof out->topic, "%s",
                   stages_topic(c, STAGE_USERS, INPUT_EVENTS));
    if (reader) put_hash(out->schema_hash, hash64(schema_json(reader)));
    if (model)
        (void)snprintf(out->model_hash, sizeof out->model_hash, "%s",
                       model_info(model)->hash);
    policy_init(&policy, c);
    (void)snprintf(out->policy_hash, sizeof out->policy_hash, "%s",
                   policy.hash);
}

static json_t *describe_parts(const struct snapshot *s)
{
    uint32_t count;
    const struct snapshot_part *p = snapshot_parts(s, &count);
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++) {
        char hash[SNAPSHOT_TEXT_MAX];
        put_hash(hash, p[i].rows_hash);
        (void)json_array_append_new(
            list,
            json_pack("{s:i, s:I, s:I, s:I, s:s}", "partition",
                      (int)p[i].partition, "offset", (json_int_t)p[i].offset,
                      "rows", (json_int_t)p[i].rows, "bytes",
                      (json_int_t)p[i].bytes, "rows_hash", hash));
    }
    return list;
}

enum rc snapshot_describe(const char *dir, json_t **out, struct err *e)
{
    const struct snapshot_info *info;
    struct snapshot *s;
    TRY(snapshot_open(&s, dir, e));
    info = snapshot_info(s);
    *out = json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:I, s:s, s:s, s:s, s:o}", "directory", dir,
        "topic", info->topic, "cluster_id", info->cluster_id,
        "topic_partitions", (int)info->partitions, "shape", info->shape,
        "made_ms", (json_int_t)info->made_ms, "schema_hash", info->schema_hash,
        "model_hash", info->model_hash, "policy_hash", info->policy_hash,
        "partitions", describe_parts(s));
    snapshot_close(s);
    return RC_OK;
}

/* --- into a store ------------------------------------------------------ */

static enum rc seed_row(void *user, struct slice key, struct slice row,
                        struct err *e)
{
    return store_seed_row(user, key, row, e);
}

static enum rc seed_part(struct store *s, const struct snapshot *from,
                         const struct snapshot_part *part, uint32_t *taken,
                         struct err *e)
{
    const struct snapshot_info *info = snapshot_info(from);
    char name[STORE_NAME_MAX];
    struct family_meta meta;
    struct store_seed *d;
    enum rc rc;
    TRY(store_family_name(name, info->stage, info->topic, part->partition, e));
    TRY(store_seed_begin(&d, s, name, e));
    if (!d) return RC_OK; /* it has its own */
    snapshot_meta(info, part, &meta);
    meta.released_ms = store_now_ms();
    rc = snapshot_each(from, part->partition, seed_row, d, e);
    if (rc != RC_OK) {
        store_seed_abandon(d);
        return rc;
    }
    TRY(store_seed_finish(d, &meta, e));
    LOG(INFO, "SEEDED", "family=%s offset=%lld rows=%llu", name,
        (long long)part->offset, (unsigned long long)part->rows);
    ++*taken;
    return RC_OK;
}

enum rc snapshot_seed(struct store *s, const char *dir, const char *topic,
                      const char *shape, uint32_t *taken, struct err *e)
{
    const struct snapshot_part *parts;
    struct snapshot *from;
    uint32_t count;
    enum rc rc;
    *taken = 0;
    TRY(snapshot_open(&from, dir, e));
    parts = snapshot_parts(from, &count);
    rc = snapshot_check(from, topic, shape, e);
    for (uint32_t i = 0; rc == RC_OK && i < count; i++)
        rc = seed_part(s, from, &parts[i], taken, e);
    snapshot_close(from);
    return rc;
}
