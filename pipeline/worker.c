/* The spine. Begin at worker_step, at the end of this file.
 *
 *     poll -> decode -> recall -> append -> forward -> decide
 *          -> explain -> encode -> produce -> commit -> checkpoint
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
#include "worker_inside.h"

#include "hash.h"
#include "log.h"
#include "partition.h"
#include "shapes.h"
#include "tally.h"

enum {
    COMMIT_EXACTLY_ONCE_MS = 100, /* unless commit.interval is set */
    COMMIT_AT_LEAST_ONCE_MS = 1000,
};

/* Runs a step of steps.def and notes its time; leaves the function if the
 * step did not go well. */
#define STEP(name, call)                                                       \
    do {                                                                       \
        enum rc step_rc_ = (call);                                             \
        metrics_step(w->o.metrics, STEP_##name, &w->step_from_ns);             \
        if (step_rc_ != RC_OK) return step_rc_;                                \
    } while (0)

/* --- commit ------------------------------------------------------------- */

/* What a commit adds: nothing of a partition that is below its committed
 * offset, nothing of one that stands where it stood, unless its rows go with
 * the commit: the group's offset fences them too. */
static uint32_t commit_positions(struct worker *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->partition_count; i++) {
        const struct partition *p = w->partitions[i];
        if (state_folds(p)) continue;
        if (p->next > p->committed || p->sending)
            n = worker_put_position(w, n, p, INPUT_EVENTS);
        if (p->labels.open && p->labels.next > p->labels.committed)
            n = worker_put_position(w, n, p, INPUT_LABELS);
    }
    return n;
}

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
enum rc worker_commit(struct worker *w, struct err *e)
{
    uint32_t n;
    state_choose(w->state, snapshot_due(w));
    n = commit_positions(w);
    if (n > 0) TRY(commit_with_rows(w, n, e));
    state_committed(w->state);
    w->since_commit = 0;
    w->failures = 0;
    w->committed_at_ms = now_ms();
    tally_rows(w->o.metrics, w->state,
               w->serving ? serving_stats(w->serving)
                          : (struct scorer_stats){0});
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

uint32_t worker_share(const struct config *c, struct slice user, uint32_t count)
{
    return reason_lane(user, reason_lanes(c->reasons_per_second)) % count;
}

/* True if event i is for this worker. Records of a partition that has been
 * handed over may still come out of a queue. */
static bool is_ours(const struct worker *w, const struct event *ev,
                    const struct partition *p)
{
    if (!p) return false;
    if (w->o.share_count <= 1) return true;
    if (ev->bad != BAD_NONE) return w->o.share_index == 0;
    return worker_share(w->o.config, ev->user, w->o.share_count) ==
           w->o.share_index;
}

/* --- schemas still to come ---------------------------------------------- */

/* A record whose schema the registry has not given yet stops its partition,
 * since order must be kept (I4); the others go on. Nothing of it is lost:
 * the partition stays where it is until there is an answer. */
static void hold(struct worker *w, struct partition *p, const struct record *r)
{
    *(r->input == INPUT_LABELS ? &p->labels.held : &p->held) = true;
    metrics_add(w->o.metrics, COUNT_holds, 1);
    LOG(WARN, "HELD",
        "topic=%s input=%u partition=%d offset=%lld waits for the schema of "
        "its next record",
        w->o.topic, r->input, p->id, (long long)r->offset);
}

/* An event that nobody has scored waits until every label is folded that was
 * committed: it must not know fewer than its score says. */
static bool waits_for_labels(const struct partition *p, const struct record *r)
{
    return r->input == INPUT_EVENTS && r->offset >= p->committed &&
           p->labels.next < p->labels.committed;
}

/* This record, and all behind it of its input and partition, must wait. */
static bool must_wait(struct worker *w, struct partition *p,
                      const struct record *r, const struct event *ev)
{
    if (r->input == INPUT_LABELS ? p->labels.held : p->held) return true;
    if (ev->waits) hold(w, p, r);
    if (ev->waits || !waits_for_labels(p, r)) return ev->waits;
    p->held = p->behind = true;
    return true;
}

static uint32_t held_positions(struct worker *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->partition_count; i++) {
        const struct partition *p = w->partitions[i];
        if (p->held) n = worker_put_position(w, n, p, INPUT_EVENTS);
        if (p->labels.held) n = worker_put_position(w, n, p, INPUT_LABELS);
    }
    return n;
}

/* Those held since this batch get no more records. */
static enum rc hold_partitions(struct worker *w, struct err *e)
{
    uint32_t n = held_positions(w);
    if (n == w->held) return RC_OK;
    worker_look(w);
    return source_hold(w->o.source, w->positions, n, e);
}

/* Once a schema has come, the held partitions try again; once labels are
 * folded, the events that waited for them. */
static enum rc release_partitions(struct worker *w, struct err *e)
{
    uint32_t answers = mapping_answers(w->o.mapping), n = 0;
    bool news = answers != w->answers;
    w->answers = answers;
    for (uint32_t i = 0; w->held > 0 && i < w->partition_count; i++) {
        struct partition *p = w->partitions[i];
        bool go = p->behind ? p->labels.next >= p->labels.committed : news;
        if (p->held && go) n = worker_put_position(w, n, p, INPUT_EVENTS);
        if (p->labels.held && news)
            n = worker_put_position(w, n, p, INPUT_LABELS);
        if (go) p->held = p->behind = false;
        if (news) p->labels.held = false;
    }
    if (n == 0) return RC_OK;
    worker_look(w);
    return source_seek(w->o.source, w->positions, n, e);
}

/* --- whose records they are --------------------------------------------- */

/* Labels of a merged log are in no partition: theirs is that of their users. */
static struct partition *owner(const struct worker *w, const struct record *r,
                               const struct event *ev)
{
    int32_t id = r->partition;
    if (w->o.merged && ev->is_label && w->partition_count > 0)
        id = partition_of(ev->user, w->partitions[0]->partitions);
    return state_partition(w->state, INPUT_EVENTS, id);
}

/* Finds the owner of every record, moves its partition on, and closes the
 * gaps that others' records leave. */
static void keep_ours(struct worker *w)
{
    struct batch *b = &w->batch;
    uint32_t kept = 0, all = b->count;
    for (uint32_t i = 0; i < all; i++) {
        const struct record *r = &b->records[i];
        struct event *ev = &b->events[i];
        struct partition *p = owner(w, r, ev);
        if (p && p->restoring) continue;
        if (p && must_wait(w, p, r, ev)) continue;
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

/* What the items stage says: in memory, of all events, whosoever they are; or
 * in the header with which each has come. */
static enum rc enrich(struct worker *w, struct err *e)
{
    if (w->enrichment) enrichment_read(w->enrichment, &w->batch);
    return w->chain ? chain_apply(w->chain, &w->batch, e) : RC_OK;
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
    if (w->enrichment) tally_reordered(w->o.metrics, b);
    if (w->folding) worker_look(w);
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
    return worker_rewind(w, e);
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
    w->stage = &next->base;
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
    TRY(worker_take_changes(w, e));                         /* assignments      (I7) */
    TRY(release_partitions(w, e));                          /* schemas that came     */
    take_serving(w);                                        /* a reload         (I5) */
    TRY(worker_restore(w, e));                              /* changelog -> rows (I3) */
    metrics_phase(w->o.metrics, worker_phase(w));
    batch_reset(b);                                         /* frees the last batch  */
    w->step_from_ns = metrics_now_ns();
    STEP(poll, source_poll(w->o.source, b, poll_wait_ms(w), e)); /* log -> records   */
    STEP(decode, (event_decode(w->o.mapping, b), RC_OK));   /* records -> events (I6) */
    TRY(enrich(w, e));                                      /* items -> events       */
    keep_ours(w);                                           /* whose they are   (I3) */
    TRY(hold_partitions(w, e));                             /* schemas to come  (I4) */
    STEP(recall, state_recall(w->state, b, e));             /* events -> users' rows */
    STEP(append, (stage_apply(w->stage, w->state, b), RC_OK)); /* events -> rows (I4) */
    STEP(forward, stage_forward(w->stage, b, e));           /* rows -> scores   (I5) */
    STEP(decide, (stage_decide(w->stage, b), RC_OK));       /* scores -> flags       */
    STEP(explain, (stage_explain(w->stage, b), RC_OK));     /* scores -> reasons (I5) */
    TRY(send_outputs(w, e));                                /* encode, produce       */
    TRY(observe(w, e));                                     /* metrics; replay       */
    source_release(w->o.source);
    if (!commit_due(w)) return RC_OK;
    w->step_from_ns = metrics_now_ns();
    STEP(commit, worker_commit(w, e));                      /* outputs, offsets (I1) */
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
    enum rc rc = worker_commit(w, e);
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
    return worker_hand_over(w, NULL, e);
}
