#include "producer.h"

#include <stdlib.h>

#include "log.h"

enum {
    QUEUE_WAIT_MS = 10,
    SEND_WAIT_MS = 30000,
    PURGE_WAIT_MS = 1000,
};

struct producer {
    rd_kafka_t *rk;
    rd_kafka_topic_t *topics[PRODUCER_TOPICS_MAX]; /* NULL: nowhere */
    uint64_t failed; /* since the last flush or purge */
    rd_kafka_resp_err_t first_error;
    char first_topic[256];
};

/* The least that keeps every message, in order, once. Reports of success
 * are asked for although nobody reads them: their arrival ends the wait of
 * rd_kafka_flush, which without them looks only every 10 ms. */
static const struct kafka_setting FORCED[] = {
    {"acks", "all"},
    {"enable.idempotence", "true"},
    {"delivery.report.only.error", "false"},
    {NULL, NULL},
};

/* One request at a time is how messages wait for each other only while the
 * broker is busy: with more under way the first of every batch leave alone,
 * one a request, and brokers have half of the throughput; a linger long
 * enough to prevent that would add its milliseconds at any load. */
static const struct kafka_setting LIVE[] = {
    {"partitioner", "murmur2_random"},
    {"socket.nagle.disable", "true"},
    {"linger.ms", "0"},
    {"max.in.flight.requests.per.connection", "1"},
    {"message.timeout.ms", "30000"},
    {NULL, NULL},
};

/* A producer that dies within a transaction holds back all who read only
 * what is committed until the transaction's time-out: keep that short. They
 * see nothing before the commit anyway, and that does not wait for the
 * linger: so it may be longer. A coordinator that is still busy with the last
 * transaction says "again" to this one; to come back after librdkafka's 100 ms
 * is what made one commit in ten slow. */
static const struct kafka_setting TRANSACTIONAL[] = {
    {"partitioner", "murmur2_random"},
    {"socket.nagle.disable", "true"},
    {"linger.ms", "5"},
    {"transaction.timeout.ms", "10000"},
    {"retry.backoff.ms", "5"},
    {NULL, NULL},
};

static const struct kafka_setting BULK[] = {
    {"partitioner", "murmur2_random"},
    {"linger.ms", "20"},
    {"message.timeout.ms", "120000"},
    {NULL, NULL},
};

/* Called from poll and flush, so on the producer's own thread. */
static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m,
                        void *opaque)
{
    struct producer *p = opaque;
    (void)rk;
    if (m->_private) *(int64_t *)m->_private = m->offset;
    if (!m->err) return;
    if (p->failed++ > 0) return;
    p->first_error = m->err;
    (void)snprintf(p->first_topic, sizeof p->first_topic, "%s",
                   m->rkt ? rd_kafka_topic_name(m->rkt) : "?");
}

/* What the topics take, where the configuration allows more. */
static enum rc limit_messages(rd_kafka_conf_t *conf,
                              const struct producer_options *o, struct err *e)
{
    char value[32], text[KAFKA_ERROR_BYTES];
    size_t size = sizeof value;

    if (o->message_bytes_max == 0 ||
        rd_kafka_conf_get(conf, "message.max.bytes", value, &size) !=
            RD_KAFKA_CONF_OK ||
        strtoull(value, NULL, 10) <= o->message_bytes_max)
        return RC_OK;
    (void)snprintf(value, sizeof value, "%llu",
                   (unsigned long long)o->message_bytes_max);
    if (rd_kafka_conf_set(conf, "message.max.bytes", value, text,
                          sizeof text) == RD_KAFKA_CONF_OK)
        return RC_OK;
    return ERR(e, RC_STOP,
               "kafka: an output topic takes messages of %s bytes at most "
               "(max.message.bytes): %s",
               value, text);
}

static enum rc open_client(struct producer *p, const struct producer_options *o,
                           struct err *e)
{
    const struct kafka_setting *defaults = LIVE;
    rd_kafka_conf_t *conf;
    char text[KAFKA_ERROR_BYTES];

    if (o->bulk)
        defaults = BULK;
    else if (o->transactional_id)
        defaults = TRANSACTIONAL;
    TRY(kafka_conf_new(&conf, o->config, KAFKA_PRODUCER, defaults, FORCED, e));
    if (o->transactional_id &&
        rd_kafka_conf_set(conf, "transactional.id", o->transactional_id, text,
                          sizeof text) != RD_KAFKA_CONF_OK) {
        rd_kafka_conf_destroy(conf);
        return ERR(e, RC_STOP, "kafka: transactional id '%s': %s",
                   o->transactional_id, text);
    }
    if (limit_messages(conf, o, e) != RC_OK) {
        rd_kafka_conf_destroy(conf);
        return e->rc;
    }
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_opaque(conf, p);
    return kafka_client_new(&p->rk, conf, KAFKA_PRODUCER, e);
}

static enum rc open_topics(struct producer *p, const struct producer_options *o,
                           struct err *e)
{
    for (uint32_t i = 0; i < o->topic_count; i++) {
        uint32_t partitions;
        if (!o->topics[i] || !*o->topics[i]) continue;
        TRY(kafka_topic_partitions(p->rk, o->topics[i], &partitions, e));
        p->topics[i] = rd_kafka_topic_new(p->rk, o->topics[i], NULL);
        if (!p->topics[i])
            return ERR(e, RC_STOP, "kafka: producing to '%s': %s", o->topics[i],
                       rd_kafka_err2str(rd_kafka_last_error()));
    }
    return RC_OK;
}

enum rc producer_open(struct producer **out, const struct producer_options *o,
                      struct err *e)
{
    struct producer *p = calloc(1, sizeof *p);
    enum rc rc;

    assert(o->topic_count <= PRODUCER_TOPICS_MAX);
    if (!p) return ERR(e, RC_STOP, "kafka: no memory for a producer");
    rc = open_client(p, o, e);
    if (rc == RC_OK) rc = open_topics(p, o, e);
    if (rc != RC_OK) {
        producer_close(p);
        return rc;
    }
    *out = p;
    return RC_OK;
}

bool producer_has_topic(const struct producer *p, uint32_t topic)
{
    return topic < PRODUCER_TOPICS_MAX && p->topics[topic];
}

/* NULL where there is no memory or no header. */
static rd_kafka_headers_t *make_headers(const struct message *m)
{
    rd_kafka_headers_t *headers;

    if (m->header_count == 0) return NULL;
    headers = rd_kafka_headers_new(m->header_count);
    for (uint32_t i = 0; i < m->header_count; i++)
        (void)rd_kafka_header_add(headers, (const char *)m->headers[i].name.ptr,
                                  (ssize_t)m->headers[i].name.len,
                                  m->headers[i].value.ptr,
                                  (ssize_t)m->headers[i].value.len);
    return headers;
}

/* *offset is set when the message is acknowledged; NULL: not asked. */
static rd_kafka_resp_err_t produce(struct producer *p, uint32_t topic,
                                   int32_t partition, const struct message *m,
                                   int64_t *offset)
{
    rd_kafka_headers_t *headers = make_headers(m);
    int64_t timestamp_ms = m->timestamp_ms > 0 ? m->timestamp_ms : 0;
    rd_kafka_resp_err_t error = rd_kafka_producev(
        p->rk, RD_KAFKA_V_RKT(p->topics[topic]),
        RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_OPAQUE(offset),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(m->key.ptr, m->key.len),
        RD_KAFKA_V_VALUE((void *)(uintptr_t)m->value.ptr, m->value.len),
        RD_KAFKA_V_TIMESTAMP(timestamp_ms), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_END);
    /* Taken by librdkafka only if it took the message. */
    if (error && headers) rd_kafka_headers_destroy(headers);
    return error;
}

static enum rc send_to(struct producer *p, uint32_t topic, int32_t partition,
                       const struct message *m, int64_t *offset, struct err *e)
{
    rd_kafka_resp_err_t error;
    int waited_ms = 0;

    assert(producer_has_topic(p, topic));
    while ((error = produce(p, topic, partition, m, offset)) ==
               RD_KAFKA_RESP_ERR__QUEUE_FULL &&
           waited_ms < SEND_WAIT_MS) {
        (void)rd_kafka_poll(p->rk, QUEUE_WAIT_MS);
        waited_ms += QUEUE_WAIT_MS;
    }
    if (!error) return RC_OK;
    return ERR(e, kafka_error_rc(error),
               "kafka: producing %zu bytes to '%s': %s", m->value.len,
               rd_kafka_topic_name(p->topics[topic]), rd_kafka_err2str(error));
}

enum rc producer_send(struct producer *p, uint32_t topic,
                      const struct message *m, struct err *e)
{
    int32_t partition = m->placed ? m->partition : RD_KAFKA_PARTITION_UA;
    return send_to(p, topic, partition, m, NULL, e);
}

enum rc producer_send_to(struct producer *p, uint32_t topic, int32_t partition,
                         const struct message *m, struct err *e)
{
    return send_to(p, topic, partition, m, NULL, e);
}

enum rc producer_put(struct producer *p, uint32_t topic, int32_t partition,
                     const struct message *m, int64_t *offset, struct err *e)
{
    *offset = -1;
    TRY(send_to(p, topic, partition, m, offset, e));
    TRY(producer_flush(p, PRODUCER_FLUSH_MS, e));
    assert(*offset >= 0);
    return RC_OK;
}

enum rc producer_flush(struct producer *p, int wait_ms, struct err *e)
{
    rd_kafka_resp_err_t error = rd_kafka_flush(p->rk, wait_ms);
    uint64_t failed = p->failed;

    if (error)
        return ERR(e, RC_AGAIN, "kafka: %d messages not acknowledged in %d ms",
                   rd_kafka_outq_len(p->rk), wait_ms);
    if (failed == 0) return RC_OK;
    p->failed = 0;
    return ERR(e, kafka_error_rc(p->first_error),
               "kafka: %llu messages not delivered, the first to '%s': %s",
               (unsigned long long)failed, p->first_topic,
               rd_kafka_err2str(p->first_error));
}

void producer_purge(struct producer *p)
{
    (void)rd_kafka_purge(p->rk,
                         RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    (void)rd_kafka_flush(p->rk, PURGE_WAIT_MS);
    p->failed = 0;
}

rd_kafka_t *producer_handle(struct producer *p)
{
    return p->rk;
}

void producer_close(struct producer *p)
{
    if (!p) return;
    if (p->rk) producer_purge(p);
    for (uint32_t i = 0; i < PRODUCER_TOPICS_MAX; i++)
        if (p->topics[i]) rd_kafka_topic_destroy(p->topics[i]);
    if (p->rk) rd_kafka_destroy(p->rk);
    free(p);
}
