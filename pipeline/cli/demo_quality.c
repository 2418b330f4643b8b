#include "demo_quality.h"

#include <time.h>

#include "container.h"
#include "demo_live.h"
#include "replay.h"
#include "train.h"

enum { DATUMS_MAX = 512, COLUMNS = 2, LOOK_EVERY_MS = 20 };

static enum rc add_live_events(const struct demo_stream *s,
                               struct evaluate *all, struct err *e)
{
    for (uint64_t i = s->split; i < s->count; i++) {
        const struct demo_event *ev = &s->events[i];
        const float scores[COLUMNS] = {ev->fraud, ev->anomaly};
        int8_t label = ev->made.fraud != FRAUD_NONE ? LABEL_FRAUD : LABEL_GOOD;
        TRY(evaluate_add(all, scores, label, ev->made.user, ev->made.time_ms,
                         e));
    }
    return RC_OK;
}

static enum rc measure_scores(struct demo_quality *q,
                              const struct demo_stream *s, struct err *e)
{
    const struct evaluate_options o = evaluate_options_default();
    struct evaluate *all = evaluate_new(COLUMNS);
    enum rc rc = all ? add_live_events(s, all, e)
                     : ERR(e, RC_STOP, "no memory for measuring");
    if (rc == RC_OK) rc = evaluate_measure(all, 0, &o, &q->fraud, e);
    if (rc == RC_OK) rc = evaluate_measure(all, 1, &o, &q->anomaly, e);
    evaluate_free(all);
    return rc;
}

/* ---- the same log again ---- */

static enum rc run_replay(struct demo_quality *q,
                          const struct replay_options *o, struct err *e)
{
    const struct timespec pause = {.tv_nsec = LOOK_EVERY_MS * 1000000};
    uint64_t started_ns = metrics_now_ns();
    struct replay *r;
    enum rc rc;
    TRY(replay_start(&r, o, e));
    while (replay_running(r))
        (void)nanosleep(&pause, NULL);
    rc = replay_join(r, e);
    q->replay_seconds = (double)(metrics_now_ns() - started_ns) * 1e-9;
    if (rc == RC_OK) rc = watch_next(replay_watches(r), 1, &q->next, e);
    replay_free(r);
    return rc;
}

static enum rc replay_log(struct demo_quality *q,
                          const struct demo_quality_options *o,
                          const struct model *m, struct err *e)
{
    struct watch_options watch = {
        .model = m,
        .from_ms = o->stream->split_ms,
        .until_ms = INT64_MAX,
        .list_seen = o->config->recommend_seen,
        .popularity = true,
    };
    struct replay_options replay = {
        .config = o->config,
        .model = m,
        .paths = &o->events_path,
        .path_count = 1,
        .workers = 1,
        .fraud_path = o->scores_path,
        .recommendations_path = o->lists_path,
        .codec = "null",
        .watch = &watch,
    };
    enum rc rc;
    TRY(metrics_new(&replay.metrics, 1, e));
    rc = run_replay(q, &replay, e);
    metrics_free(replay.metrics);
    return rc;
}

/* ---- is it the same? ---- */

/* Counts the records of a file that equal what came out live. */
typedef void compare_fn(struct demo_quality *q, const struct demo_stream *s,
                        const struct tape *tape);

static const struct demo_event *live_event(const struct demo_stream *s,
                                           struct slice id)
{
    const struct demo_event *ev = demo_stream_find(s, id);
    return ev && ev->made.number >= s->split ? ev : NULL;
}

/* Bits, not values: a NaN equals itself, and 0 is not -0. */
static bool same_bits(float a, double b)
{
    float narrow = (float)b;
    return memcmp(&a, &narrow, sizeof a) == 0;
}

static void compare_score(struct demo_quality *q, const struct demo_stream *s,
                          const struct tape *tape)
{
    const struct demo_event *ev =
        live_event(s, tape->at[DEMO_SCORE_EVENT_ID].s);
    if (!ev) return;
    q->compared++;
    q->equal_scores +=
        same_bits(ev->fraud, tape->at[DEMO_SCORE_PROBABILITY].d) &&
        same_bits(ev->anomaly, tape->at[DEMO_SCORE_ANOMALY].d);
}

static void compare_list(struct demo_quality *q, const struct demo_stream *s,
                         const struct tape *tape)
{
    const struct demo_event *ev = live_event(s, tape->at[DEMO_LIST_EVENT_ID].s);
    q->equal_lists += ev && ev->list_hash == demo_list_hash(tape);
}

static enum rc read_file(struct demo_quality *q, const struct demo_stream *s,
                         struct container_reader *from, compare_fn *compare,
                         struct err *e)
{
    struct datum datums[DATUMS_MAX];
    struct decoder *d;
    struct slice value;
    bool ended = false;
    enum rc rc;
    TRY(decoder_compile(&d, container_schema(from), container_schema(from), e));
    for (;;) {
        struct tape tape = {.at = datums, .max = DATUMS_MAX};
        rc = container_next(from, &value, &ended, e);
        if (rc != RC_OK || ended) break;
        rc = decoder_decode(d, value, &tape, e);
        if (rc != RC_OK) break;
        compare(q, s, &tape);
    }
    decoder_free(d);
    return rc;
}

static enum rc compare_file(struct demo_quality *q, const struct demo_stream *s,
                            const char *path, compare_fn *compare,
                            struct err *e)
{
    struct container_reader *from;
    enum rc rc;
    TRY(container_open(&from, path, e));
    rc = read_file(q, s, from, compare, e);
    container_close(from);
    return rc;
}

enum rc demo_quality_measure(struct demo_quality *q,
                             const struct demo_quality_options *o,
                             struct err *e)
{
    struct model *m;
    enum rc rc;
    *q = (struct demo_quality){0};
    TRY(measure_scores(q, o->stream, e));
    TRY(model_open(&m, o->config->model_dir, e));
    rc = replay_log(q, o, m, e);
    model_free(m);
    if (rc != RC_OK) return rc;
    TRY(compare_file(q, o->stream, o->scores_path, compare_score, e));
    return compare_file(q, o->stream, o->lists_path, compare_list, e);
}
