/* worker_assign.c - which partitions a worker has and from where it reads
 * them: at their assignment, after a restore, after a failure, when they go.
 * See worker_inside.h; the spine is in worker.c. */
#include "worker_inside.h"

#include "log.h"

enum {
    TAKE_OVER_WAIT_MS = 30000, /* for another worker to let a partition go */
    TAKE_OVER_PAUSE_MS = 10,
    RESTORE_WAIT_MS = 5, /* for rows, when there are no events */
};

/* --- partitions --------------------------------------------------------- */

enum worker_phase worker_phase(const struct worker *w)
{
    if (w->partition_count == 0) return PHASE_STARTING;
    if (w->restore && restore_count(w->restore) > 0) return PHASE_RESTORING;
    return w->folding ? PHASE_FOLDING : PHASE_SCORING;
}

void worker_look(struct worker *w)
{
    uint32_t count = state_partitions(w->state, w->partitions, PARTITIONS_MAX);
    uint32_t below = 0, held = 0;
    for (uint32_t i = 0; i < count; i++) {
        below += state_folds(w->partitions[i]);
        held += w->partitions[i]->held + w->partitions[i]->labels.held;
    }
    w->partition_count = count;
    w->folding = below > 0;
    w->held = held;
    metrics_phase(w->o.metrics,
                  worker_phase(w)); /* before somebody sees them */
    metrics_gauge(w->o.metrics, GAUGE_partitions, count);
    metrics_gauge(w->o.metrics, GAUGE_partitions_folding, below);
    metrics_gauge(w->o.metrics, GAUGE_partitions_held, held);
}

/* Partitions that are read again without output, counted when that begins. */
static void count_folds(struct worker *w)
{
    for (uint32_t i = 0; i < w->partition_count; i++)
        if (state_folds(w->partitions[i]))
            metrics_add(w->o.metrics, COUNT_folds, 1);
}

uint32_t worker_put_position(struct worker *w, uint32_t n,
                             const struct partition *p, uint32_t input)
{
    w->positions[n] = (struct source_position){
        .input = input,
        .partition = p->id,
        .offset = input == INPUT_LABELS ? p->labels.next : p->next};
    return n + 1;
}

static uint32_t put_positions(struct worker *w, uint32_t n,
                              const struct partition *p)
{
    n = worker_put_position(w, n, p, INPUT_EVENTS);
    return p->labels.open ? worker_put_position(w, n, p, INPUT_LABELS) : n;
}

static bool among(const struct partition *p, struct partition *const *list,
                  uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == p) return true;
    return false;
}

/* Where every partition is read from next; last those of a list. */
static uint32_t next_positions(struct worker *w, struct partition *const *last,
                               uint32_t count)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->partition_count; i++) {
        const struct partition *p = w->partitions[i];
        if (!p->restoring && !among(p, last, count)) n = put_positions(w, n, p);
    }
    for (uint32_t i = 0; i < count; i++)
        n = put_positions(w, n, last[i]);
    return n;
}

/* --- assignment (I7): only between batches ------------------------------ */

static enum rc hash_at(void *user, uint32_t input, int32_t partition,
                       int64_t offset, uint64_t *hash, struct err *e)
{
    struct worker *w = user;
    return source_hash_at(w->o.source, input, partition, offset, hash, e);
}

static enum rc look_at_changelog(struct worker *w,
                                 const struct source_change *c,
                                 int32_t partition, struct partition_log *log,
                                 struct changelog_end *end, struct err *e)
{
    int64_t until = now_ms() + TAKE_OVER_WAIT_MS;
    enum rc rc;
    if (!w->restore) return RC_OK;
    do /* half of a change cannot be taken back */
        rc = restore_look(w->restore, partition, c->partitions, end, e);
    while (rc == RC_AGAIN && now_ms() < until);
    if (rc != RC_OK) return e->rc = RC_STOP;
    log->changelog_start = end->start;
    log->changelog_end = end->end;
    log->marker = end->marked ? &end->marker : NULL;
    return RC_OK;
}

static enum rc begin_restore(struct worker *w, struct partition *p,
                             struct err *e)
{
    int64_t until = now_ms() + TAKE_OVER_WAIT_MS;
    enum rc rc;
    do
        rc = restore_begin(w->restore, p, e);
    while (rc == RC_AGAIN && now_ms() < until);
    return rc == RC_OK ? RC_OK : (e->rc = RC_STOP);
}

static struct partition_log log_of(struct worker *w,
                                   const struct source_change *c,
                                   const struct source_position *at)
{
    return (struct partition_log){
        .cluster_id = c->cluster_id,
        .partitions = c->partitions,
        .log_start = at->log_start,
        .log_end = at->log_end,
        .committed = at->committed,
        .begin = at->offset,
        .hash_at = hash_at,
        .user = w,
    };
}

/* Both inputs of a partition come to one member: they have as many partitions
 * each, which the assignor shares out alike (source_kafka.c). */
static enum rc open_labels(struct worker *w, const struct source_change *c,
                           const struct source_position *at, struct err *e)
{
    const struct partition_log log = log_of(w, c, at);
    struct partition *p =
        state_partition(w->state, INPUT_EVENTS, at->partition);
    if (p) return state_open_labels(w->state, p, &log, e);
    return ERR(e, RC_STOP,
               "worker: labels of partition %d were assigned without its "
               "events; set group.assignment = eager for all members",
               at->partition);
}

/* Another worker of this process may not have let go yet. */
static enum rc open_partition(struct worker *w, const struct source_change *c,
                              struct source_position *at, struct err *e)
{
    struct partition_log log = log_of(w, c, at);
    int64_t until = now_ms() + TAKE_OVER_WAIT_MS;
    struct partition *p = state_partition(w->state, at->input, at->partition);
    struct changelog_end end;
    enum rc rc = RC_OK;
    if (!p) TRY(look_at_changelog(w, c, at->partition, &log, &end, e));
    while (!p) {
        rc = state_open_partition(w->state, at->input, at->partition, &log, &p,
                                  e);
        if (rc != RC_AGAIN || now_ms() >= until) break;
        pause_ms(TAKE_OVER_PAUSE_MS);
    }
    if (!p) return rc == RC_AGAIN ? RC_STOP : rc;
    if (p->restoring) return begin_restore(w, p, e);
    metrics_add(w->o.metrics, COUNT_folds, state_folds(p));
    return RC_OK;
}

/* Those that can be read: others wait for their rows. */
static enum rc read_partitions(struct worker *w, const struct source_change *c,
                               struct err *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        const struct source_position *at = &c->positions[i];
        const struct partition *p =
            state_partition(w->state, INPUT_EVENTS, at->partition);
        if (!p->restoring) n = worker_put_position(w, n, p, at->input);
    }
    return source_assign(w->o.source, w->positions, n, e);
}

static enum rc take_over(struct worker *w, struct source_change *c,
                         struct err *e)
{
    if (w->partition_count + c->count > PARTITIONS_MAX)
        return ERR(e, RC_STOP,
                   "worker: %u partitions, one worker takes at most %d; raise "
                   "`workers` or add hosts",
                   w->partition_count + c->count, PARTITIONS_MAX);
    for (uint32_t i = 0; i < c->count; i++)
        if (c->positions[i].input == INPUT_EVENTS)
            TRY(open_partition(w, c, &c->positions[i], e));
    for (uint32_t i = 0; i < c->count; i++)
        if (c->positions[i].input == INPUT_LABELS)
            TRY(open_labels(w, c, &c->positions[i], e));
    TRY(read_partitions(w, c, e));
    if (w->restore) restore_rest(w->restore);
    worker_look(w);
    metrics_add(w->o.metrics, COUNT_rebalances, 1);
    if (w->o.finite) return RC_OK;
    LOG(INFO, "ASSIGNED", "topic=%s partitions=%u", w->o.topic, c->count);
    return RC_OK;
}

/* Rows that have come from the changelog: their partitions are read from
 * where those stand, beside the others. */
enum rc worker_restore(struct worker *w, struct err *e)
{
    struct partition *const *done;
    uint32_t count, added = 0, n;
    if (!w->restore || restore_count(w->restore) == 0) return RC_OK;
    TRY(restore_step(w->restore, w->batch.count == 0 ? RESTORE_WAIT_MS : 0,
                     &done, &count, e));
    if (count == 0) return RC_OK;
    for (uint32_t i = 0; i < count; i++)
        state_restored(done[i]);
    worker_look(w);
    for (uint32_t i = 0; i < count; i++)
        metrics_add(w->o.metrics, COUNT_folds, state_folds(done[i]));
    for (uint32_t i = 0; i < count; i++)
        added += done[i]->labels.open ? STAGE_INPUTS : 1;
    n = next_positions(w, done, count);
    return source_add(w->o.source, w->positions, n, added, e);
}

static enum rc close_partition(struct worker *w, struct partition *p, bool keep,
                               struct err *e)
{
    if (w->restore) restore_cancel(w->restore, p);
    return state_close_partition(w->state, p, keep, e);
}

/* c NULL: all of them. */
static enum rc close_partitions(struct worker *w, const struct source_change *c,
                                bool keep, struct err *e)
{
    for (uint32_t i = 0; !c && i < w->partition_count; i++)
        TRY(close_partition(w, w->partitions[i], keep, e));
    for (uint32_t i = 0; c && i < c->count; i++) {
        struct partition *p = state_partition(w->state, c->positions[i].input,
                                              c->positions[i].partition);
        if (p) TRY(close_partition(w, p, keep, e));
    }
    worker_look(w);
    return source_unassign(w->o.source, e);
}

/* What was sent is taken back, rows ahead of the commit are forgotten, and
 * the log is read again from where they stand (I3). */
enum rc worker_rewind(struct worker *w, struct err *e)
{
    uint32_t n;
    state_rewind(w->state);
    if (w->chain) TRY(chain_begin_anew(w->chain, e));
    for (uint32_t i = 0; i < w->partition_count; i++) {
        struct partition *p = w->partitions[i];
        p->held = p->behind = p->labels.held = false;
    }
    w->since_commit = 0;
    worker_look(w);
    count_folds(w);
    n = next_positions(w, NULL, 0);
    return n == 0 ? RC_OK : source_seek(w->o.source, w->positions, n, e);
}

/* Lost: others may have these partitions already. What was sent for the
 * partitions that stay is taken back with the rest, so they start again. */
static enum rc discard(struct worker *w, const struct source_change *c,
                       struct err *e)
{
    LOG(WARN, "LOST", "topic=%s partitions=%u", w->o.topic, w->partition_count);
    TRY(sink_abort(w->o.sink, e));
    TRY(close_partitions(w, c, false, e));
    return worker_rewind(w, e);
}

static void mark_leaving(struct worker *w, const struct source_change *c)
{
    for (uint32_t i = 0; !c && i < w->partition_count; i++)
        w->partitions[i]->leaving = true;
    for (uint32_t i = 0; c && i < c->count; i++) {
        struct partition *p = state_partition(w->state, c->positions[i].input,
                                              c->positions[i].partition);
        if (p) p->leaving = true;
    }
}

/* Revoked, or the end of the run: commit, write, let go. */
enum rc worker_hand_over(struct worker *w, const struct source_change *c,
                         struct err *e)
{
    enum rc rc;
    mark_leaving(w, c);
    rc = worker_commit(w, e);
    if (rc == RC_AGAIN) {
        LOG(WARN, "HANDOVER", "commit failed, work is discarded: %s", e->text);
        return discard(w, c, e);
    }
    if (rc != RC_OK) return rc;
    TRY(state_checkpoint(w->state, false, e));
    return close_partitions(w, c, true, e);
}

enum rc worker_take_changes(struct worker *w, struct err *e)
{
    for (;;) {
        struct source_change c;
        TRY(source_change(w->o.source, &c, e));
        switch (c.kind) {
        case SOURCE_NO_CHANGE:
            return RC_OK;
        case SOURCE_ASSIGNED:
            TRY(take_over(w, &c, e));
            break;
        case SOURCE_REVOKED:
            TRY(worker_hand_over(w, &c, e));
            break;
        case SOURCE_LOST:
            TRY(discard(w, &c, e));
            break;
        }
    }
}
