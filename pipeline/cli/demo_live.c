#include "demo_live.h"

#include <stdlib.h>
#include <time.h>

#include "codec.h"
#include "kafka_client.h"
#include "metrics.h"
#include "mock_cluster.h"
#include "producer.h"
#include "schemas.h"
#include "service.h"

enum {
    TOPICS_MAX = 2,
    BURST = 64,       /* sent before the reader looks again */
    DATUMS_MAX = 512, /* of one output */
    TICK_MS = 40,
    FOLD_WAIT_S = 60,
    QUIET_S = 30, /* without any output: something is wrong */
    STOP_WAIT_MS = 10000,
};

struct demo_live {
    struct demo_live_options o;
    struct service *service;
    struct producer *producer;
    rd_kafka_t *reader;
    struct schema *schemas[TOPICS_MAX]; /* of scores, of lists */
    struct decoder *decoders[TOPICS_MAX];
    struct datum datums[DATUMS_MAX];
    struct demo_result results[DEMO_UNDER_WAY]; /* by number, modulo */
    uint32_t partitions;
    uint64_t sent, received; /* events; received: with both outputs */
    double started_s, received_s, ticked_s;
};

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void nap(double seconds)
{
    const struct timespec t = {.tv_nsec = (long)(seconds * 1e9)};
    (void)nanosleep(&t, NULL);
}

/* ---- open ---- */

static enum rc open_decoder(struct demo_live *l, int which, const char *name,
                            struct err *e)
{
    TRY(schema_parse(&l->schemas[which], schemas_get(name), e));
    return decoder_compile(&l->decoders[which], l->schemas[which],
                           l->schemas[which], e);
}

static enum rc open_producer(struct demo_live *l, struct err *e)
{
    const char *topics[] = {l->o.config->input_topic};
    const struct producer_options o = {
        .config = l->o.config, .topics = topics, .topic_count = 1};
    TRY(producer_open(&l->producer, &o, e));
    return kafka_topic_partitions(producer_handle(l->producer), topics[0],
                                  &l->partitions, e);
}

static enum rc open_consumer(struct demo_live *l, rd_kafka_t **out,
                             const char *group, struct err *e)
{
    const struct kafka_setting settings[] = {
        {"group.id", group}, {"enable.auto.commit", "false"}, {NULL, NULL}};
    rd_kafka_conf_t *conf;
    TRY(kafka_conf_new(&conf, l->o.config, KAFKA_CONSUMER, settings, NULL, e));
    TRY(kafka_client_new(out, conf, KAFKA_CONSUMER, e));
    (void)rd_kafka_poll_set_consumer(*out);
    return RC_OK;
}

/* All partitions of both outputs, from their beginning, without a group's
 * ceremony. */
static enum rc open_reader(struct demo_live *l, struct err *e)
{
    const char *topics[TOPICS_MAX] = {
        l->o.config->output_fraud_topic,
        l->o.config->output_recommendations_topic};
    rd_kafka_topic_partition_list_t *all =
        rd_kafka_topic_partition_list_new(16);
    rd_kafka_resp_err_t error;
    enum rc rc = open_consumer(l, &l->reader, "demo-reader", e);
    for (int t = 0; rc == RC_OK && t < TOPICS_MAX; t++) {
        uint32_t count;
        rc = kafka_topic_partitions(l->reader, topics[t], &count, e);
        for (uint32_t i = 0; rc == RC_OK && i < count; i++)
            rd_kafka_topic_partition_list_add(all, topics[t], (int32_t)i)
                ->offset = RD_KAFKA_OFFSET_BEGINNING;
    }
    error = rc == RC_OK ? rd_kafka_assign(l->reader, all) : 0;
    if (error)
        rc = ERR(e, RC_STOP, "reading outputs: %s", rd_kafka_err2str(error));
    rd_kafka_topic_partition_list_destroy(all);
    return rc;
}

static enum rc open_parts(struct demo_live *l, struct err *e)
{
    TRY(open_decoder(l, 0, "fraud_score", e));
    TRY(open_decoder(l, 1, "recommendations", e));
    TRY(open_producer(l, e));
    TRY(open_reader(l, e));
    /* Nobody can ask it to reload: no admin interface, no signal. */
    return service_open(&l->service, l->o.config, (struct service_reread){0},
                        e);
}

enum rc demo_live_open(struct demo_live **out,
                       const struct demo_live_options *o, struct err *e)
{
    enum rc rc;
    struct demo_live *l = calloc(1, sizeof *l);
    if (!l) return ERR(e, RC_STOP, "no memory");
    l->o = *o;
    rc = open_parts(l, e);
    if (rc != RC_OK) {
        demo_live_close(l);
        return rc;
    }
    *out = l;
    return RC_OK;
}

/* ---- history ---- */

static enum rc send_event(struct demo_live *l, struct demo_event *ev,
                          struct err *e)
{
    struct message m = {.timestamp_ms = ev->made.time_ms};
    TRY(generate_event(l->o.stream->rows, &ev->made, &m.key, &m.value, e));
    ev->sent_s = now_s();
    return producer_send(l->producer, 0, &m, e);
}

/* The group's offsets to the end of the topic, before it has members. */
static enum rc commit_end(struct demo_live *l, struct err *e)
{
    const char *topic = l->o.config->input_topic;
    rd_kafka_topic_partition_list_t *ends;
    rd_kafka_resp_err_t error = 0;
    rd_kafka_t *rk;
    TRY(open_consumer(l, &rk, l->o.config->group_id, e));
    ends = rd_kafka_topic_partition_list_new((int)l->partitions);
    for (uint32_t i = 0; !error && i < l->partitions; i++) {
        int64_t low, high;
        error = rd_kafka_query_watermark_offsets(rk, topic, (int32_t)i, &low,
                                                 &high, KAFKA_METADATA_WAIT_MS);
        rd_kafka_topic_partition_list_add(ends, topic, (int32_t)i)->offset =
            error ? 0 : high;
    }
    if (!error) error = rd_kafka_commit(rk, ends, 0);
    rd_kafka_topic_partition_list_destroy(ends);
    (void)rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    if (!error) return RC_OK;
    return ERR(e, RC_STOP, "committing the history's end: %s",
               rd_kafka_err2str(error));
}

static enum rc check_alive(struct demo_live *l, struct err *e)
{
    if (*l->o.stopped) return ERR(e, RC_STOP, "interrupted");
    if (service_running(l->service)) return RC_OK;
    if (service_join(l->service, STOP_WAIT_MS, e) != RC_OK) return RC_STOP;
    return ERR(e, RC_STOP, "the workers ended by themselves");
}

static bool scoring(const struct demo_live *l)
{
    const struct metrics *m = service_metrics(l->service);
    uint64_t owned = 0;
    for (uint32_t w = 0; w < metrics_workers(m); w++) {
        struct worker_health health = metrics_health(m, w);
        if (health.phase != PHASE_SCORING) return false;
        owned += health.partitions;
    }
    return owned == l->partitions;
}

enum rc demo_live_fold(struct demo_live *l, struct err *e)
{
    double until_s = now_s() + FOLD_WAIT_S;
    for (uint64_t i = 0; i < l->o.stream->split; i++)
        TRY(send_event(l, &l->o.stream->events[i], e));
    TRY(producer_flush(l->producer, PRODUCER_FLUSH_MS, e));
    TRY(commit_end(l, e));
    TRY(service_start(l->service, e));
    while (!scoring(l)) {
        TRY(check_alive(l, e));
        if (now_s() > until_s)
            return ERR(e, RC_STOP,
                       "the workers have not folded the "
                       "history within %d s",
                       FOLD_WAIT_S);
        l->o.tick(
            l->o.user, l->o.stream->split,
            metrics_sum(service_metrics(l->service), COUNT_events_folded));
        nap(TICK_MS * 1e-3);
    }
    return RC_OK;
}

/* ---- outputs ---- */

uint64_t demo_list_hash(const struct tape *tape)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < tape->at[DEMO_LIST_ITEMS].count; i++)
        hash = hash_mix(
            hash ^ hash64(tape->at[DEMO_LIST_FIRST + i * DEMO_LIST_STRIDE].s));
    return hash;
}

/* False: not an event of this demo, or it came before. */
/* Largest first, so the first that is above 0 and no sum of others. */
static void take_why(const struct tape *tape, struct demo_result *r)
{
    uint32_t count = tape->at[DEMO_SCORE_REASONS].count;
    r->why[0] = '\0';
    for (uint32_t i = 0; i + 1 < count; i++) {
        const struct datum *at = &tape->at[i * DEMO_REASON_STRIDE];
        struct slice text = at[DEMO_REASON_TEXT].s;
        if (at[DEMO_REASON_CONTRIBUTION].d <= 0) continue;
        (void)snprintf(r->why, sizeof r->why, "%.*s", (int)text.len,
                       (const char *)text.ptr);
        return;
    }
}

static bool take_score(struct demo_event *ev, const struct tape *tape,
                       struct demo_result *r)
{
    if (!ev || ev->scored) return false;
    ev->scored = true;
    take_why(tape, r);
    ev->fraud = (float)tape->at[DEMO_SCORE_PROBABILITY].d;
    ev->anomaly = (float)tape->at[DEMO_SCORE_ANOMALY].d;
    ev->latency_ms = (float)((now_s() - ev->sent_s) * 1e3);
    return true;
}

static bool take_list(struct demo_event *ev, const struct tape *tape,
                      struct demo_result *r)
{
    uint32_t count = tape->at[DEMO_LIST_ITEMS].count;
    if (!ev || ev->listed) return false;
    ev->listed = true;
    ev->list_hash = demo_list_hash(tape);
    r->list_count = count < DEMO_LIST_MAX ? count : DEMO_LIST_MAX;
    for (uint32_t i = 0; i < r->list_count; i++) {
        struct slice id = tape->at[DEMO_LIST_FIRST + i * DEMO_LIST_STRIDE].s;
        (void)snprintf(r->list[i], GENERATE_ID_BYTES, "%.*s", (int)id.len,
                       (const char *)id.ptr);
    }
    return true;
}

static enum rc take_message(struct demo_live *l, const rd_kafka_message_t *m,
                            struct err *e)
{
    const char *topic = rd_kafka_topic_name(m->rkt);
    int which = strcmp(topic, l->o.config->output_fraud_topic) == 0 ? 0 : 1;
    struct tape tape = {.at = l->datums, .max = DATUMS_MAX};
    struct demo_result *r;
    struct demo_event *ev;
    TRY(decoder_decode(l->decoders[which], slice_of(m->payload, m->len), &tape,
                       e));
    ev = demo_stream_find(
        l->o.stream,
        tape.at[which == 0 ? DEMO_SCORE_EVENT_ID : DEMO_LIST_EVENT_ID].s);
    r = &l->results[ev ? ev->made.number % DEMO_UNDER_WAY : 0];
    if (which == 0 ? !take_score(ev, &tape, r) : !take_list(ev, &tape, r))
        return RC_OK;
    if (!ev->scored || !ev->listed) return RC_OK;
    r->event = ev;
    l->o.result(l->o.user, r);
    l->received++;
    l->received_s = now_s();
    return RC_OK;
}

static enum rc receive(struct demo_live *l, int wait_ms, struct err *e)
{
    rd_kafka_message_t *m;
    enum rc rc = RC_OK;
    while (rc == RC_OK &&
           (m = rd_kafka_consumer_poll(l->reader, wait_ms)) != NULL) {
        if (!m->err) rc = take_message(l, m, e);
        rd_kafka_message_destroy(m);
        wait_ms = 0;
    }
    return rc;
}

/* ---- the run ---- */

static bool due(const struct demo_live *l, uint64_t from, uint64_t until,
                double rate)
{
    if (l->sent == until || l->sent - l->received >= DEMO_UNDER_WAY)
        return false;
    return rate == 0 ||
           now_s() >= l->started_s + (double)(l->sent - from) / rate;
}

static void tick(struct demo_live *l, uint64_t from)
{
    if (now_s() < l->ticked_s + TICK_MS * 1e-3) return;
    l->ticked_s = now_s();
    l->o.tick(l->o.user, l->sent - from, l->received - from);
}

enum rc demo_live_run(struct demo_live *l, uint64_t from, uint64_t until,
                      double rate, double *seconds, struct err *e)
{
    l->sent = l->received = from;
    l->started_s = l->received_s = now_s();
    while (l->received < until) {
        for (int i = 0; i < BURST && due(l, from, until, rate); i++)
            TRY(send_event(l, &l->o.stream->events[l->sent++], e));
        TRY(receive(l, 1, e));
        TRY(check_alive(l, e));
        tick(l, from);
        if (now_s() > l->received_s + QUIET_S)
            return ERR(e, RC_STOP,
                       "no output for %d s; %llu of %llu "
                       "events are back",
                       QUIET_S, (unsigned long long)(l->received - from),
                       (unsigned long long)(until - from));
    }
    *seconds = l->received_s - l->started_s;
    return RC_OK;
}

enum rc demo_live_stop(struct demo_live *l, struct err *e)
{
    service_stop(l->service);
    return service_join(l->service, STOP_WAIT_MS, e);
}

void demo_live_close(struct demo_live *l)
{
    struct err e;
    if (!l) return;
    if (l->service) {
        service_stop(l->service);
        if (service_join(l->service, STOP_WAIT_MS, &e) != RC_AGAIN)
            service_close(l->service);
    }
    producer_close(l->producer);
    if (l->reader) {
        (void)rd_kafka_consumer_close(l->reader);
        rd_kafka_destroy(l->reader);
    }
    for (int i = 0; i < TOPICS_MAX; i++) {
        decoder_free(l->decoders[i]);
        schema_free(l->schemas[i]);
    }
    free(l);
}
