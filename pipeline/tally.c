#include "tally.h"

#include "log.h"
#include "partition.h"

enum { TALLY_PARTITIONS_MAX = 4096 };

static void tally_bad(struct worker_metrics *m, const char *topic,
                      const struct record *r, const struct event *ev)
{
    metrics_dead_letter(m, ev->bad);
    LOG(WARN, "BADEVENT",
        "topic=%s partition=%d offset=%lld reason=%s detail=\"%s\"", topic,
        r->partition, (long long)r->offset, bad_reason_name(ev->bad),
        ev->detail);
}

static void tally_latency(struct worker_metrics *m, const struct batch *b)
{
    struct timespec t;
    int64_t now_ms, newest_ms = -1;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    now_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    for (uint32_t i = 0; i < b->count; i++) {
        int64_t at_ms = b->records[i].timestamp_ms;
        if (at_ms < 0 || !b->outcomes[i].scored) continue;
        if (at_ms > newest_ms) newest_ms = at_ms;
        if (at_ms <= now_ms)
            metrics_time(m, TIME_event_latency,
                         (uint64_t)(now_ms - at_ms) * 1000000);
    }
    /* Nothing came: nothing waits. */
    if (b->count == 0)
        metrics_gauge(m, GAUGE_lag_seconds, 0);
    else if (newest_ms >= 0)
        metrics_gauge(m, GAUGE_lag_seconds,
                      newest_ms < now_ms ? (double)(now_ms - newest_ms) / 1e3
                                         : 0);
}

/* What is rare is counted one by one; folded ones were when they came first. */
static void tally_admission(struct worker_metrics *m, const struct outcome *o,
                            bool fold)
{
    if (fold) return;
    if (o->expired) metrics_add(m, COUNT_users_expired, 1);
    if (o->too_late) metrics_add(m, COUNT_events_too_late, 1);
    if (!o->repeated) return;
    if (o->scored)
        metrics_add(m, COUNT_ids_repeated, 1);
    else if (o->no_context)
        metrics_add(m, COUNT_ids_repeated_no_context, 1);
    else
        metrics_add(m, COUNT_ids_repeated_skipped, 1);
}

/* Its user's other events may be in another partition, in another row. */
static void tally_place(struct worker_metrics *m, const char *topic,
                        const struct batch *b, uint32_t i)
{
    const struct record *r = &b->records[i];
    const struct user_state *us = b->users[i];
    uint32_t partitions = b->partitions[i]->partitions;
    int32_t place;
    if (!us) return;
    place = partition_of(slice_of(us->key, us->key_len), partitions);
    if (place == r->partition) return;
    metrics_add(m, COUNT_events_misplaced, 1);
    LOG_RARE(WARN, "MISPLACED",
             "topic=%s partition=%d offset=%lld: its user (or item) hashes to "
             "partition %d of %u; key the topic by it, partitioned by murmur2",
             topic, r->partition, (long long)r->offset, place, partitions);
}

void tally_batch(struct worker_metrics *m, const char *topic,
                 const struct batch *b, bool finite)
{
    uint64_t folded = 0, scored = 0, repeated = 0, lists = 0, profiles = 0,
             flagged = 0, late = 0, tiled = 0, forgotten = 0, labels = 0,
             cut = 0, bytes = 0;
    uint64_t reasons[REASONS_UNAVAILABLE + 1] = {0};
    for (uint32_t i = 0; i < b->count; i++) {
        const struct event *ev = &b->events[i];
        const struct outcome *o = &b->outcomes[i];
        bytes += b->records[i].value.len;
        if (ev->bad != BAD_NONE) {
            if (!ev->fold) tally_bad(m, topic, &b->records[i], ev);
            tally_admission(m, o, ev->fold);
            continue;
        }
        labels += ev->is_label;
        forgotten += ev->forget && !ev->fold;
        if (ev->is_label || ev->forget) continue;
        folded += o->applied && ev->fold;
        scored += o->scored;
        repeated += b->users[i] && !o->applied && !o->repeated && !o->too_late;
        tally_admission(m, o, ev->fold);
        if (!ev->fold) tally_place(m, topic, b, i);
        lists += o->list_count > 0;
        profiles += o->scored && ev->profile;
        flagged += o->flagged;
        reasons[o->reasons_state]++;
        tiled += o->tiled;
        cut += ev->text_cut && !ev->fold;
        late += o->applied && (ev->past.flags & PAST_LATE);
    }
    metrics_add(m, COUNT_events, b->count - labels);
    metrics_add(m, COUNT_labels, labels);
    metrics_add(m, COUNT_bytes_in, bytes);
    metrics_add(m, COUNT_events_folded, folded);
    metrics_add(m, COUNT_events_scored, scored);
    metrics_add(m, COUNT_events_repeated, repeated);
    metrics_add(m, COUNT_events_late, late);
    metrics_add(m, COUNT_users_tiled, tiled);
    metrics_add(m, COUNT_texts_cut, cut);
    metrics_add(m, COUNT_users_forgotten, forgotten);
    metrics_add(m, COUNT_outputs_fraud, scored);
    metrics_add(m, COUNT_outputs_recommendations, lists);
    metrics_add(m, COUNT_outputs_profiles, profiles);
    metrics_add(m, COUNT_outputs_flagged, flagged);
    metrics_add(m, COUNT_reasons_given, reasons[REASONS_GIVEN]);
    metrics_add(m, COUNT_reasons_past_bound, reasons[REASONS_PAST_BOUND]);
    metrics_add(m, COUNT_reasons_unavailable, reasons[REASONS_UNAVAILABLE]);
    if (!finite) tally_latency(m, b);
}

void tally_reordered(struct worker_metrics *m, const struct batch *b)
{
    uint64_t reordered = 0;
    for (uint32_t i = 0; i < b->count; i++)
        reordered += b->outcomes[i].applied && !b->events[i].fold &&
                     (b->events[i].past.flags & PAST_LATE);
    metrics_add(m, COUNT_events_reordered, reordered);
}

static void tally_partitions(struct worker_metrics *m, const struct state *st)
{
    struct partition *at[TALLY_PARTITIONS_MAX];
    uint32_t count = state_partitions(st, at, TALLY_PARTITIONS_MAX);
    int64_t behind = 0;
    for (uint32_t i = 0; i < count; i++)
        if (at[i]->next > at[i]->checkpoint)
            behind += at[i]->next - at[i]->checkpoint;
    metrics_gauge(m, GAUGE_checkpoint_lag_events, (double)behind);
}

void tally_rows(struct worker_metrics *m, struct state *st,
                struct scorer_stats c)
{
    struct state_stats s = state_stats(st);
    tally_partitions(m, st);
    metrics_total(m, COUNT_state_hits, s.hits_total);
    metrics_total(m, COUNT_state_misses, s.misses_total);
    metrics_total(m, COUNT_state_evictions, s.evictions_total);
    metrics_total(m, COUNT_state_write_failures, s.write_failures_total);
    metrics_total(m, COUNT_rows_expired, s.rows_expired_total);
    metrics_total(m, COUNT_state_rows_written, s.rows_written_total);
    metrics_total(m, COUNT_changelog_rows, s.rows_sent_total);
    metrics_total(m, COUNT_changelog_kept_out, s.rows_kept_out_total);
    metrics_gauge(m, GAUGE_state_cache_bytes, (double)s.cache_bytes);
    metrics_gauge(m, GAUGE_state_rows, (double)(s.rows - s.dirty_rows));
    metrics_gauge(m, GAUGE_state_rows_dirty, (double)s.dirty_rows);
    metrics_total(m, COUNT_context_hits, c.hits_total);
    metrics_total(m, COUNT_context_misses, c.misses_total);
    metrics_total(m, COUNT_context_evictions, c.evictions_total);
    metrics_total(m, COUNT_model_tokens, c.tokens_total);
    metrics_gauge(m, GAUGE_context_bytes, (double)c.context_bytes);
    metrics_gauge(m, GAUGE_contexts, c.contexts);
}
