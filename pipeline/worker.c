/* The spine. Begin at worker_step, at the end of this file.
 *
 *     poll -> decode -> recall -> append -> forward -> decide
 *          -> encode -> produce -> commit -> checkpoint
 *
 * I1  A consumed offset is committed only with every output made from it: in
 *     the same Kafka transaction (exactly once) or after their
 *     acknowledgement (at least once).
 * I2  RocksDB holds states only as of a commit. A row carries the offset of
 *     the last event applied to it. It may lag Kafka; it never leads it.
 * I3  State is a fold over the log. Recovery applies the events between
 *     checkpoint and committed offset without output, at start, after a
 *     rebalance and after a failed batch alike. Applying an event twice does
 *     nothing. A crash never wipes a store.
 * I4  Events of one user are applied in offset order, and every score is
 *     what it would be if events came in batches of one.
 * I5  What depends on a model is never stored: it is rebuilt from the
 *     history. A score is the same bits whether cached or recomputed, in a
 *     batch of 1 or 1,000, with one worker or eight, live or replayed.
 * I6  A bad event is marked in its batch and goes to the dead letters with
 *     its reason; it never stops its neighbours.
 * I7  A rebalance callback only records. Gathering stops, the worker
 *     finishes the batch, commits and hands over (revoked) or aborts and
 *     discards (lost), and only then assigns or unassigns. It may come in
 *     the middle of gathering a batch, never while a step runs.
 * I8  Time is event time. The wall clock decides only when to commit and
 *     when to give up waiting. */
#include "worker.h"

#include <time.h>

#include "hash.h"
#include "log.h"
#include "outputs.h"
#include "restore.h"
#include "serving.h"
#include "shapes.h"
#include "tally.h"

enum {
    PARTITIONS_MAX = 4096,     /* of one worker */
    TAKE_OVER_WAIT_MS = 30000, /* for another worker to let a partition go */
    TAKE_OVER_PAUSE_MS = 10,
    RESTORE_WAIT_MS = 5,          /* for rows, when there are no events */
    COMMIT_EXACTLY_ONCE_MS = 100, /* unless commit.interval is set */
    COMMIT_AT_LEAST_ONCE_MS = 1000,
};

struct worker {
    struct worker_options o;
    struct serving *serving; /* model and policy */
    struct admit admit;      /* the rows'; no reload changes it */
    struct state *state;
    struct outputs *outputs;
    struct restore *restore; /* NULL: there is no changelog */
    struct batch batch;

    struct partition *partitions[PARTITIONS_MAX]; /* owned */
    struct source_position positions[PARTITIONS_MAX];
    uint32_t partition_count;
    bool folding;     /* some partition is below its committed offset */
    uint32_t held;    /* partitions that wait for a schema */
    uint32_t answers; /* as mapping_answers said before the batch */

    uint64_t since_commit; /* records gone through since the last commit */
    int64_t committed_at_ms;
    uint32_t failures; /* rewinds since a commit went well */
    uint64_t batch_from_ns, step_from_ns;
};

/* --- clocks ------------------------------------------------------------- */

static int64_t now_ms(void)
{
    return (int64_t)(metrics_now_ns() / 1000000);
}

static void pause_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

/* Runs a step of steps.def and notes its time; leaves the function if the
 * step did not go well. */
#define STEP(name, call)                                                       \
    do {                                                                       \
        enum rc step_rc_ = (call);                                             \
        metrics_step(w->o.metrics, STEP_##name, &w->step_from_ns);             \
        if (step_rc_ != RC_OK) return step_rc_;                                \
    } while (0)

/* --- partitions --------------------------------------------------------- */

static bool folding(const struct partition *p)
{
    return p->next < p->committed;
}

static enum worker_phase phase(const struct worker *w)
{
    if (w->partition_count == 0) return PHASE_STARTING;
    if (w->restore && restore_count(w->restore) > 0) return PHASE_RESTORING;
    return w->folding ? PHASE_FOLDING : PHASE_SCORING;
}

static void look_at_partitions(struct worker *w)
{
    uint32_t count = state_partitions(w->state, w->partitions, PARTITIONS_MAX);
    uint32_t below = 0, held = 0;
    for (uint32_t i = 0; i < count; i++) {
        below += folding(w->partitions[i]);
        held += w->partitions[i]->held;
    }
    w->partition_count = count;
    w->folding = below > 0;
    w->held = held;
    metrics_phase(w->o.metrics, phase(w)); /* before somebody sees them */
    metrics_gauge(w->o.metrics, GAUGE_partitions, count);
    metrics_gauge(w->o.metrics, GAUGE_partitions_folding, below);
    metrics_gauge(w->o.metrics, GAUGE_partitions_held, held);
}

/* Partitions that are read again without output, counted when that begins. */
static void count_folds(struct worker *w)
{
    for (uint32_t i = 0; i < w->partition_count; i++)
        if (folding(w->partitions[i]))
            metrics_add(w->o.metrics, COUNT_folds, 1);
}

static uint32_t put_position(struct worker *w, uint32_t n,
                             const struct partition *p)
{
    w->positions[n] = (struct source_position){
        .input = p->input, .partition = p->id, .offset = p->next};
    return n + 1;
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
        if (!p->restoring && !among(p, last, count)) n = put_position(w, n, p);
    }
    for (uint32_t i = 0; i < count; i++)
        n = put_position(w, n, last[i]);
    return n;
}

/* What a commit adds: nothing of a partition that is below its committed
 * offset, nothing of one that stands where it stood, unless its rows go with
 * the commit: the group's offset fences them too. */
static uint32_t commit_positions(struct worker *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->partition_count; i++) {
        const struct partition *p = w->partitions[i];
        if (p->next < p->committed) continue;
        if (p->next > p->committed || p->sending) n = put_position(w, n, p);
    }
    return n;
}

/* --- commit ------------------------------------------------------------- */

static bool commits_when_idle(const struct worker *w)
{
    /* Exactly once: readers see outputs with the commit, so do not let them
     * wait. At least once: they have them already. */
    return w->o.finite || w->o.config->delivery == EXACTLY_ONCE;
}

static int64_t commit_interval_ms(const struct config *c)
{
    if (c->commit_interval > 0) return c->commit_interval;
    return c->delivery == EXACTLY_ONCE ? COMMIT_EXACTLY_ONCE_MS
                                       : COMMIT_AT_LEAST_ONCE_MS;
}

static int64_t commit_in_ms(const struct worker *w)
{
    int64_t left =
        w->committed_at_ms + commit_interval_ms(w->o.config) - now_ms();
    return left > 0 ? left : 0;
}

/* Somebody waits for a snapshot, and it can be made. */
static bool snapshot_due(const struct worker *w)
{
    return w->o.snapshots && !w->folding &&
           snapshot_call_waits(w->o.snapshots, w->o.snapshot_index);
}

static bool commit_due(const struct worker *w)
{
    if (snapshot_due(w)) return true;
    if (w->since_commit == 0) return state_due(w->state);
    if (w->batch.count == 0 && commits_when_idle(w)) return true;
    return commit_in_ms(w) == 0 || state_full(w->state);
}

static enum rc send_record(void *user, int32_t partition, struct slice key,
                           struct slice value, struct err *e)
{
    struct worker *w = user;
    const struct message m = {.output = OUTPUT_CHANGELOG,
                              .key = key,
                              .value = value,
                              .placed = true,
                              .partition = partition};
    return sink_send(w->o.sink, &m, 1, e);
}

/* Rows are as of this commit, so they belong into its transaction; without
 * one they must not be seen before it. */
static enum rc commit_with_rows(struct worker *w, uint32_t n, struct err *e)
{
    bool within = w->o.config->delivery == EXACTLY_ONCE;
    if (within) TRY(state_send(w->state, send_record, w, e));
    TRY(sink_commit(w->o.sink, w->positions, n, e));
    metrics_add(w->o.metrics, COUNT_commits, 1);
    state_committed(w->state);
    if (within || !w->restore) return RC_OK;
    TRY(state_send(w->state, send_record, w, e));
    return sink_commit(w->o.sink, NULL, 0, e);
}

/* Outputs and the offsets of their inputs become final together (I1); what
 * is in memory is then as of a commit, and may be stored (I2). */
static enum rc commit(struct worker *w, struct err *e)
{
    uint32_t n;
    state_choose(w->state, snapshot_due(w));
    n = commit_positions(w);
    if (n > 0) TRY(commit_with_rows(w, n, e));
    state_committed(w->state);
    w->since_commit = 0;
    w->failures = 0;
    w->committed_at_ms = now_ms();
    tally_rows(w->o.metrics, w->state, serving_stats(w->serving));
    return RC_OK;
}

/* All rows have been stored as of the commit. Where that could not be just
 * now, the next one is asked. */
static enum rc answer_snapshot(struct worker *w, struct err *e)
{
    enum rc rc;
    if (!snapshot_due(w)) return RC_OK;
    rc = state_views(w->state, snapshot_call_add, w->o.snapshots, e);
    if (rc == RC_OK) snapshot_call_answer(w->o.snapshots, w->o.snapshot_index);
    return rc == RC_AGAIN ? RC_OK : rc;
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

/* Another worker of this process may not have let go yet. */
static enum rc open_partition(struct worker *w, const struct source_change *c,
                              struct source_position *at, struct err *e)
{
    struct partition_log log = {
        .cluster_id = c->cluster_id,
        .partitions = c->partitions,
        .log_start = at->log_start,
        .log_end = at->log_end,
        .committed = at->committed,
        .begin = at->offset,
        .hash_at = hash_at,
        .user = w,
    };
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
    metrics_add(w->o.metrics, COUNT_folds, folding(p));
    return RC_OK;
}

/* Those that can be read: others wait for their rows. */
static enum rc read_partitions(struct worker *w, const struct source_change *c,
                               struct err *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        const struct partition *p = state_partition(
            w->state, c->positions[i].input, c->positions[i].partition);
        if (!p->restoring) n = put_position(w, n, p);
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
        TRY(open_partition(w, c, &c->positions[i], e));
    TRY(read_partitions(w, c, e));
    if (w->restore) restore_rest(w->restore);
    look_at_partitions(w);
    metrics_add(w->o.metrics, COUNT_rebalances, 1);
    if (w->o.finite) return RC_OK;
    LOG(INFO, "ASSIGNED", "topic=%s partitions=%u", w->o.topic, c->count);
    return RC_OK;
}

/* Rows that have come from the changelog: their partitions are read from
 * where those stand, beside the others. */
static enum rc restore(struct worker *w, struct err *e)
{
    struct partition *const *done;
    uint32_t count, n;
    if (!w->restore || restore_count(w->restore) == 0) return RC_OK;
    TRY(restore_step(w->restore, w->batch.count == 0 ? RESTORE_WAIT_MS : 0,
                     &done, &count, e));
    if (count == 0) return RC_OK;
    for (uint32_t i = 0; i < count; i++)
        state_restored(done[i]);
    look_at_partitions(w);
    for (uint32_t i = 0; i < count; i++)
        metrics_add(w->o.metrics, COUNT_folds, folding(done[i]));
    n = next_positions(w, done, count);
    return source_add(w->o.source, w->positions, n, count, e);
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
    look_at_partitions(w);
    return source_unassign(w->o.source, e);
}

/* What was sent is taken back, rows ahead of the commit are forgotten, and
 * the log is read again from where they stand (I3). */
static enum rc rewind_partitions(struct worker *w, struct err *e)
{
    uint32_t n;
    state_rewind(w->state);
    for (uint32_t i = 0; i < w->partition_count; i++)
        w->partitions[i]->held = false;
    w->since_commit = 0;
    look_at_partitions(w);
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
    return rewind_partitions(w, e);
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
static enum rc hand_over(struct worker *w, const struct source_change *c,
                         struct err *e)
{
    enum rc rc;
    mark_leaving(w, c);
    rc = commit(w, e);
    if (rc == RC_AGAIN) {
        LOG(WARN, "HANDOVER", "commit failed, work is discarded: %s", e->text);
        return discard(w, c, e);
    }
    if (rc != RC_OK) return rc;
    TRY(state_checkpoint(w->state, false, e));
    return close_partitions(w, c, true, e);
}

static enum rc take_changes(struct worker *w, struct err *e)
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
            TRY(hand_over(w, &c, e));
            break;
        case SOURCE_LOST:
            TRY(discard(w, &c, e));
            break;
        }
    }
}

/* --- the batch ---------------------------------------------------------- */

/* A poll that has outputs to commit behind it must not sleep over them. */
static uint32_t poll_wait_ms(const struct worker *w)
{
    int64_t wait_ms = w->o.config->poll_wait_ms;
    if (w->o.handover && handover_busy(w->o.handover)) return 1;
    if (w->restore && restore_count(w->restore) > 0) return 0;
    if (w->since_commit == 0)
        return state_due(w->state) ? 0 : (uint32_t)wait_ms;
    if (commits_when_idle(w)) return 0;
    return (uint32_t)(commit_in_ms(w) < wait_ms ? commit_in_ms(w) : wait_ms);
}

uint32_t worker_share(struct slice user, uint32_t count)
{
    return (uint32_t)(hash_mix(hash64(user)) % count);
}

/* True if event i is for this worker. Records of a partition that has been
 * handed over may still come out of a queue. */
static bool is_ours(const struct worker *w, const struct event *ev,
                    const struct partition *p)
{
    if (!p) return false;
    if (w->o.share_count <= 1) return true;
    if (ev->bad != BAD_NONE) return w->o.share_index == 0;
    return worker_share(ev->user, w->o.share_count) == w->o.share_index;
}

/* --- schemas still to come ---------------------------------------------- */

/* A record whose schema the registry has not given yet stops its partition,
 * since order must be kept (I4); the others go on. Nothing of it is lost:
 * the partition stays where it is until there is an answer. */
static void hold(struct worker *w, struct partition *p, const struct record *r)
{
    p->held = true;
    metrics_add(w->o.metrics, COUNT_holds, 1);
    LOG(WARN, "HELD",
        "topic=%s partition=%d offset=%lld waits for the schema of its next "
        "record",
        w->o.topic, p->id, (long long)r->offset);
}

static uint32_t held_positions(struct worker *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->partition_count; i++) {
        const struct partition *p = w->partitions[i];
        if (!p->held) continue;
        w->positions[n++] = (struct source_position){
            .input = p->input, .partition = p->id, .offset = p->next};
    }
    return n;
}

/* Those held since this batch get no more records. */
static enum rc hold_partitions(struct worker *w, struct err *e)
{
    uint32_t n = held_positions(w);
    if (n == w->held) return RC_OK;
    look_at_partitions(w);
    return source_hold(w->o.source, w->positions, n, e);
}

/* Once a schema has come, the held partitions try again. */
static enum rc release_partitions(struct worker *w, struct err *e)
{
    uint32_t answers = mapping_answers(w->o.mapping), n;
    bool news = answers != w->answers;
    w->answers = answers;
    if (w->held == 0 || !news) return RC_OK;
    n = held_positions(w);
    for (uint32_t i = 0; i < w->partition_count; i++)
        w->partitions[i]->held = false;
    look_at_partitions(w);
    return source_seek(w->o.source, w->positions, n, e);
}

/* --- whose records they are --------------------------------------------- */

/* Finds the owner of every record, moves its partition on, and closes the
 * gaps that others' records leave. */
static void keep_ours(struct worker *w)
{
    struct batch *b = &w->batch;
    uint32_t kept = 0, all = b->count;
    for (uint32_t i = 0; i < all; i++) {
        const struct record *r = &b->records[i];
        struct event *ev = &b->events[i];
        struct partition *p = state_partition(w->state, r->input, r->partition);
        if (p && p->restoring) continue;
        if (p && (p->held || ev->waits)) { /* this one and all behind it */
            if (!p->held) hold(w, p, r);
            continue;
        }
        if (p) state_pass(p, r, ev);
        if (!is_ours(w, ev, p)) continue;
        b->partitions[kept] = p;
        if (kept != i) {
            b->records[kept] = *r;
            b->events[kept] = *ev;
        }
        kept++;
    }
    memset(&b->events[kept], 0, (all - kept) * sizeof *b->events);
    b->count = kept;
    w->since_commit += all;
}

static enum rc send_outputs(struct worker *w, struct err *e)
{
    const struct message *messages;
    uint32_t n, next = 0;
    while (next < w->batch.count) {
        STEP(encode,
             outputs_encode(w->outputs, &w->batch, &next, &messages, &n, e));
        STEP(produce, n == 0 ? RC_OK : sink_send(w->o.sink, messages, n, e));
    }
    return RC_OK;
}

static enum rc observe(struct worker *w, struct err *e)
{
    const struct batch *b = &w->batch;
    tally_batch(w->o.metrics, w->o.topic, b, w->o.finite);
    if (w->folding) look_at_partitions(w);
    if (b->count == 0) return RC_OK;
    metrics_time(w->o.metrics, TIME_batch, w->step_from_ns - w->batch_from_ns);
    if (!w->o.observe) return RC_OK;
    return w->o.observe(w->o.observer, b, e);
}

/* Counts a failure and waits, longer each time. */
static enum rc note_failure(struct worker *w, struct err *e)
{
    int64_t wait_ms = 0, most_ms = w->o.pause_ms_max;
    if (most_ms == 0) most_ms = WORKER_PAUSE_MS_MAX;
    metrics_add(w->o.metrics, COUNT_rewinds, 1);
    LOG(WARN, "REWIND", "topic=%s failures=%u: %s", w->o.topic, w->failures + 1,
        e->text);
    if (++w->failures >= WORKER_FAILURES_MAX) {
        (void)err_context(e, "worker: %d failures without a commit between",
                          WORKER_FAILURES_MAX);
        return e->rc = RC_STOP;
    }
    if (w->failures > 1) wait_ms = INT64_C(25) << (w->failures - 1);
    pause_ms(wait_ms < most_ms ? wait_ms : most_ms);
    return RC_OK;
}

static enum rc take_back(struct worker *w, struct err *e)
{
    TRY(sink_abort(w->o.sink, e));
    return rewind_partitions(w, e);
}

/* After a failure: the path that a restart takes. It may fail too, while the
 * brokers are away. */
static enum rc rewind_to_commit(struct worker *w, struct err *e)
{
    enum rc rc;
    source_release(w->o.source);
    batch_reset(&w->batch);
    do {
        TRY(note_failure(w, e));
        rc = take_back(w, e);
    } while (rc == RC_AGAIN);
    return rc;
}

/* Model and policy may change between two batches: all that goes out is of
 * one or of the other, and says of which. */
static void take_serving(struct worker *w)
{
    struct serving *before = w->serving, *next;
    const struct config *c;
    if (!w->o.handover) return;
    handover_turn(w->o.handover, w->state);
    next = handover_take(w->o.handover);
    if (!next) return;
    serving_attach(next, w->state, before);
    w->serving = next;
    c = w->o.config = next->config;
    state_set_checkpoint(w->state, c->state_checkpoint_rows,
                         (uint32_t)c->state_checkpoint_age);
    mapping_set_config(w->o.mapping, c);
    outputs_set_serving(w->outputs, next->model, &next->policy);
    handover_give_back(w->o.handover, before);
}

/* --- the spine ---------------------------------------------------------- */

/* The right margin is the diagram. */
/* clang-format off */
static enum rc spine(struct worker *w, struct err *e)
{
    struct batch *b = &w->batch;
    TRY(take_changes(w, e));                                /* assignments      (I7) */
    TRY(release_partitions(w, e));                          /* schemas that came     */
    take_serving(w);                                        /* a reload         (I5) */
    TRY(restore(w, e));                                     /* changelog -> rows (I3) */
    metrics_phase(w->o.metrics, phase(w));
    batch_reset(b);                                         /* frees the last batch  */
    w->step_from_ns = metrics_now_ns();
    STEP(poll, source_poll(w->o.source, b, poll_wait_ms(w), e)); /* log -> records   */
    STEP(decode, (event_decode(w->o.mapping, b), RC_OK));   /* records -> events (I6) */
    keep_ours(w);                                           /* whose they are   (I3) */
    TRY(hold_partitions(w, e));                             /* schemas to come  (I4) */
    STEP(recall, state_recall(w->state, b, e));             /* events -> users' rows */
    STEP(append, (stage_users_apply(w->serving->stage, w->state, b), RC_OK)); /* -> rows (I4) */
    STEP(forward, stage_users_forward(w->serving->stage, b, e));     /* rows -> scores   (I5) */
    STEP(decide, (decide(&w->serving->policy, b), RC_OK));           /* scores -> flags       */
    TRY(send_outputs(w, e));                                /* encode, produce       */
    TRY(observe(w, e));                                     /* metrics; replay       */
    source_release(w->o.source);
    if (!commit_due(w)) return RC_OK;
    w->step_from_ns = metrics_now_ns();
    STEP(commit, commit(w, e));                             /* outputs, offsets (I1) */
    STEP(checkpoint, state_checkpoint(w->state, snapshot_due(w), e)); /* rows   (I2) */
    return answer_snapshot(w, e);                           /* all, where asked      */
}
/* clang-format on */

enum rc worker_step(struct worker *w, struct err *e)
{
    enum rc rc = spine(w, e);
    return rc == RC_AGAIN ? rewind_to_commit(w, e) : rc;
}

static enum rc end_finite(struct worker *w, struct err *e)
{
    enum rc rc = commit(w, e);
    if (rc == RC_OK) rc = w->o.at_end(w->o.end_user, w->state, e);
    return rc == RC_AGAIN ? RC_STOP : rc;
}

enum rc worker_run(struct worker *w, const atomic_bool *stop, struct err *e)
{
    while (!atomic_load(stop) &&
           (!source_ended(w->o.source) || w->since_commit > 0))
        TRY(worker_step(w, e));
    metrics_phase(w->o.metrics, PHASE_DRAINING);
    if (w->o.at_end) TRY(end_finite(w, e));
    return hand_over(w, NULL, e);
}

/* --- taking and giving back --------------------------------------------- */

/* Rows that live in memory only are sent nowhere. */
static bool has_changelog(const struct worker *w)
{
    return w->o.store && *w->o.config->changelog_topic &&
           !(w->o.sink->ignores & (1u << OUTPUT_CHANGELOG));
}

static enum rc take_restore(struct worker *w, struct err *e)
{
    if (!has_changelog(w)) return RC_OK;
    return restore_new(&w->restore, w->o.config, w->o.metrics, e);
}

static enum rc take_state(struct worker *w, struct err *e)
{
    const struct config *c = w->o.config;
    struct feature_shape features;
    struct state_options o = {
        .cache_bytes = w->o.cache_bytes,
        .checkpoint_rows = c->state_checkpoint_rows,
        .checkpoint_age_ms = (uint32_t)c->state_checkpoint_age,
        .user_bytes_max = c->user_bytes_max,
        .forget = scorer_forget,
        .admit = &w->admit,
        .changelog = has_changelog(w),
        .row_bytes_max = (uint32_t)c->changelog_row_bytes_max,
        .base = w->o.base,
        .stage = "users",
        .topic = w->o.topic,
    };
    shapes_init(&o.history, &features, c, mapping_fields(w->o.mapping));
    o.windows = features.user;
    return state_new(&w->state, w->o.store, &o, e);
}

static enum rc serve(struct worker *w, struct err *e)
{
    const struct serving_options o = {
        .config = w->o.config,
        .model = w->o.model,
        .context_bytes_max = w->o.context_bytes_max,
        .fields = mapping_fields(w->o.mapping),
        .lists = w->o.observe ||
                 !(w->o.sink->ignores & (1u << OUTPUT_RECOMMENDATIONS)),
        .catalogue = w->o.catalogue,
    };
    TRY(serving_new(&w->serving, &o, e));
    serving_attach(w->serving, w->state, NULL);
    return RC_OK;
}

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
    if (rc == RC_OK) rc = serve(w, e);
    if (rc == RC_OK)
        rc = outputs_new(&w->outputs, c, o->topic, o->sink->ignores,
                         o->schema_ids, e);
    if (rc != RC_OK) {
        worker_free(w);
        return rc;
    }
    outputs_set_serving(w->outputs, o->model, &w->serving->policy);
    *out = w;
    return RC_OK;
}

void worker_free(struct worker *w)
{
    if (!w) return;
    outputs_free(w->outputs);
    restore_free(w->restore);
    if (w->state) state_free(w->state); /* tells the scorer: before it */
    serving_free(w->serving);
    batch_fini(&w->batch);
    free(w);
}

struct state *worker_state(const struct worker *w)
{
    return w->state;
}

const struct scorer *worker_scorer(const struct worker *w)
{
    return w->serving->scorer;
}
