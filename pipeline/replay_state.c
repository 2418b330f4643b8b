/* replay_state.c - see replay_state.h. */
#include "replay_state.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "hash.h"
#include "partition.h"
#include "shapes.h"
#include "snapshot_call.h"
#include "train.h"
#include "worker.h"

struct replay_state {
    struct replay_state_options o;
    struct snapshot *base; /* NULL: empty */
    struct snapshot_writer *writer;
    struct snapshot_info info;
    pthread_mutex_t mutex; /* the first worker at its end begins parts */
    bool begun;
};

static enum rc open_base(struct replay_state *r, struct err *e)
{
    if (!r->o.snapshot) return RC_OK;
    TRY(snapshot_open(&r->base, r->o.snapshot, e));
    return snapshot_check(r->base, r->o.topic, r->info.shape, e);
}

enum rc replay_state_open(struct replay_state **out,
                          const struct replay_state_options *o, uint32_t fields,
                          struct err *e)
{
    struct replay_state *r = calloc(1, sizeof *r);
    struct history_shape history;
    struct feature_shape features;
    enum rc rc = RC_OK;
    *out = NULL;
    if (!r) return ERR(e, RC_STOP, "replay: no memory");
    r->o = *o;
    (void)pthread_mutex_init(&r->mutex, NULL);
    snapshot_about(&r->info, o->config, o->reader, o->model);
    (void)snprintf(r->info.topic, sizeof r->info.topic, "%s", o->topic);
    shapes_init(&history, &features, o->config, fields);
    history_shape_init(&history);
    shapes_describe(&history, &features.user, r->info.shape,
                    sizeof r->info.shape);
    if (o->partitions > 0 && !(fields & TRAIN_TIME))
        rc = ERR(e, RC_STOP,
                 "state for another topic: events without a time (role.time) "
                 "are timed by their offset, which begins anew there");
    if (rc == RC_OK) rc = open_base(r, e);
    if (rc == RC_OK && o->out) rc = snapshot_create(&r->writer, o->out, e);
    if (rc != RC_OK) {
        replay_state_close(r);
        return rc;
    }
    *out = r;
    return RC_OK;
}

const struct snapshot *replay_state_base(const struct replay_state *r)
{
    return r->base;
}

/* --- at the end of a worker -------------------------------------------- */

struct exporting {
    struct replay_share *share;
    int32_t partition; /* of the log */
};

static bool is_ours(void *user, struct slice key)
{
    const struct exporting *x = user;
    const struct replay_state_options *o = &x->share->state->o;
    return worker_share(o->config, key, o->workers) == x->share->index;
}

static enum rc put_row(void *user, struct slice key, struct slice row,
                       struct err *e)
{
    const struct exporting *x = user;
    struct replay_state *r = x->share->state;
    int32_t partition =
        r->o.partitions > 0 ? partition_of(key, r->o.partitions) : x->partition;
    return snapshot_put(r->writer, partition, key, row, e);
}

/* Every worker has seen all partitions to the same end. */
static enum rc begin_parts(struct replay_state *r, struct partition **parts,
                           uint32_t count, struct err *e)
{
    int64_t stream_ms = INT64_MIN;
    r->info.partitions = r->o.partitions;
    for (uint32_t i = 0; i < count; i++) {
        const struct partition *p = parts[i];
        struct snapshot_part part = {
            .partition = p->id,
            .offset = p->next,
            .stream_ms = p->stream_ms,
            .seen_offset = r->o.files ? -1 : p->seen_offset,
            .seen_hash = r->o.files ? 0 : p->seen_hash};
        if (p->stream_ms > stream_ms) stream_ms = p->stream_ms;
        if (r->o.partitions > 0) continue;
        r->info.partitions = p->partitions;
        (void)snprintf(r->info.cluster_id, sizeof r->info.cluster_id, "%s",
                       state_meta(p)->cluster_id);
        TRY(snapshot_begin(r->writer, &part, e));
    }
    for (uint32_t i = 0; i < r->o.partitions; i++) {
        const struct snapshot_part part = {
            .partition = (int32_t)i, .stream_ms = stream_ms, .seen_offset = -1};
        TRY(snapshot_begin(r->writer, &part, e));
    }
    return RC_OK;
}

static enum rc begin_once(struct replay_state *r, struct partition **parts,
                          uint32_t count, struct err *e)
{
    enum rc rc = RC_OK;
    (void)pthread_mutex_lock(&r->mutex);
    if (!r->begun) rc = begin_parts(r, parts, count, e);
    r->begun = true;
    (void)pthread_mutex_unlock(&r->mutex);
    return rc;
}

enum rc replay_state_end(void *user, struct state *st, struct err *e)
{
    struct replay_share *share = user;
    uint32_t count = state_partitions(st, NULL, 0);
    struct partition **parts = calloc(count + 1, sizeof(struct partition *));
    enum rc rc;
    assert(parts);
    (void)state_partitions(st, parts, count);
    rc = begin_once(share->state, parts, count, e);
    for (uint32_t i = 0; rc == RC_OK && i < count; i++) {
        struct exporting x = {.share = share, .partition = parts[i]->id};
        const struct state_export to = {.share = is_ours,
                                        .row = put_row,
                                        .user = &x,
                                        .anew = share->state->o.partitions > 0};
        rc = state_export(st, parts[i], &to, e);
    }
    free((void *)parts);
    return rc;
}

/* --- all ---------------------------------------------------------------- */

enum rc replay_state_finish(struct replay_state *r, struct err *e)
{
    struct snapshot_writer *w = r->writer;
    if (!w) return RC_OK;
    if (!r->begun || r->info.partitions == 0)
        return ERR(e, RC_STOP,
                   "replay: the log has no partition, so there is "
                   "no state of it");
    r->writer = NULL;
    return snapshot_finish(w, &r->info, e);
}

void replay_state_close(struct replay_state *r)
{
    if (!r) return;
    snapshot_abandon(r->writer);
    snapshot_close(r->base);
    (void)pthread_mutex_destroy(&r->mutex);
    free(r);
}
