#include "log_reader.h"

#include <assert.h>
#include <stdlib.h>

#include "log.h"
#include "metrics.h"

enum { QUERY_WAIT_MS = 10000, HASH_WAIT_MS = 10000, WAIT_STEP_MS = 5 };

/* Each with a queue of its own: what librdkafka had put under way for a
 * partition when it was removed, an end above all, is gone with its queue. */
struct place {
    int32_t partition;
    int64_t next;
    rd_kafka_queue_t *queue;
};

struct log_reader {
    rd_kafka_t *rk;
    rd_kafka_topic_t *rkt;
    char *topic;
    uint32_t partitions;  /* of the topic */
    struct place *places; /* (partitions), count of them read */
    uint32_t count, turn; /* turn: whose records come next */
    rd_kafka_message_t *lent;
};

static const struct kafka_setting DEFAULTS[] = {
    {"socket.nagle.disable", "true"},
    {"fetch.min.bytes", "1"},
    {"fetch.wait.max.ms", "20"}, /* so late comes the end of a quiet one */
    {NULL, NULL},
};

static const struct kafka_setting FEW[] = {
    {"socket.nagle.disable", "true"},
    {"fetch.min.bytes", "1"},
    {"fetch.wait.max.ms", "1"},
    {"queued.max.messages.kbytes", "1024"},
    {"fetch.message.max.bytes", "65536"},
    {NULL, NULL},
};

static const struct kafka_setting FORCED[] = {
    {"enable.auto.commit", "false"},
    {"enable.auto.offset.store", "false"},
    {"isolation.level", "read_committed"},
    {"auto.offset.reset", "error"},
    {"enable.partition.eof", "true"},
    {NULL, NULL},
};

/* ---- open and close --------------------------------------------------- */

static enum rc open_client(struct log_reader *r, const struct config *c,
                           bool few, struct err *e)
{
    rd_kafka_conf_t *conf;

    TRY(kafka_conf_new(&conf, c, KAFKA_CONSUMER, few ? FEW : DEFAULTS, FORCED,
                       e));
    TRY(kafka_client_new(&r->rk, conf, KAFKA_CONSUMER, e));
    TRY(kafka_topic_partitions(r->rk, r->topic, &r->partitions, e));
    r->rkt = rd_kafka_topic_new(r->rk, r->topic, NULL);
    if (r->rkt) return RC_OK;
    return ERR(e, RC_STOP, "kafka: opening a reader of '%s': %s", r->topic,
               rd_kafka_err2str(rd_kafka_last_error()));
}

enum rc log_reader_open(struct log_reader **out, const struct config *c,
                        const char *topic, bool few, struct err *e)
{
    struct log_reader *r = calloc(1, sizeof *r);
    enum rc rc;

    if (!r) return ERR(e, RC_STOP, "kafka: no memory for a reader");
    r->topic = strdup(topic);
    rc = r->topic ? open_client(r, c, few, e)
                  : ERR(e, RC_STOP, "kafka: no memory for a topic's name");
    if (rc == RC_OK) {
        r->places = calloc(r->partitions, sizeof *r->places);
        if (!r->places)
            rc = ERR(e, RC_STOP, "kafka: no memory for %u partitions",
                     r->partitions);
    }
    if (rc != RC_OK) {
        log_reader_close(r);
        return rc;
    }
    *out = r;
    return RC_OK;
}

static void give_back(struct log_reader *r)
{
    if (r->lent) rd_kafka_message_destroy(r->lent);
    r->lent = NULL;
}

static void stop(struct log_reader *r, struct place *at)
{
    give_back(r);
    (void)rd_kafka_consume_stop(r->rkt, at->partition);
    rd_kafka_queue_destroy(at->queue);
}

void log_reader_close(struct log_reader *r)
{
    if (!r) return;
    give_back(r);
    while (r->count > 0)
        stop(r, &r->places[--r->count]);
    if (r->rkt) rd_kafka_topic_destroy(r->rkt);
    if (r->rk) rd_kafka_destroy(r->rk);
    free(r->topic);
    free(r->places);
    free(r);
}

uint32_t log_reader_partitions(const struct log_reader *r)
{
    return r->partitions;
}

enum rc log_reader_ends(struct log_reader *r, int32_t partition, int64_t *start,
                        int64_t *end, struct err *e)
{
    return kafka_partition_ends(r->rk, r->topic, partition, start, end,
                                QUERY_WAIT_MS, e);
}

/* ---- which partitions ------------------------------------------------- */

static struct place *find(struct log_reader *r, int32_t partition)
{
    for (uint32_t i = 0; i < r->count; i++)
        if (r->places[i].partition == partition) return &r->places[i];
    return NULL;
}

enum rc log_reader_add(struct log_reader *r, int32_t partition, int64_t offset,
                       struct err *e)
{
    struct place *at;

    assert(!find(r, partition));
    if (partition < 0 || (uint32_t)partition >= r->partitions)
        return ERR(e, RC_STOP, "kafka: '%s' has %u partitions, no %d", r->topic,
                   r->partitions, partition);
    at = &r->places[r->count];
    *at = (struct place){partition, offset, rd_kafka_queue_new(r->rk)};
    if (rd_kafka_consume_start_queue(r->rkt, partition, offset, at->queue)) {
        rd_kafka_queue_destroy(at->queue);
        return ERR(e, RC_STOP, "kafka: reading '%s' partition %d: %s", r->topic,
                   partition, rd_kafka_err2str(rd_kafka_last_error()));
    }
    r->count++;
    return RC_OK;
}

void log_reader_remove(struct log_reader *r, int32_t partition)
{
    struct place *at = find(r, partition);

    if (!at) return;
    stop(r, at);
    *at = r->places[--r->count];
}

/* ---- read ------------------------------------------------------------- */

static enum rc take_error(const struct log_reader *r,
                          const rd_kafka_message_t *m, struct err *e)
{
    if (m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
        return ERR(e, RC_STOP,
                   "kafka: '%s' partition %d: offset %lld is not in the log: "
                   "%s",
                   r->topic, m->partition, (long long)m->offset,
                   rd_kafka_message_errstr(m));
    if (kafka_error_rc(m->err) == RC_STOP)
        return ERR(e, RC_STOP, "kafka: reading '%s': %s", r->topic,
                   rd_kafka_message_errstr(m));
    /* librdkafka goes on by itself. */
    LOG(WARN, "READER", "topic=%s error=%s %s", r->topic,
        rd_kafka_err2name(m->err), rd_kafka_message_errstr(m));
    return RC_OK;
}

static void fill(struct record *out, const rd_kafka_message_t *m)
{
    rd_kafka_timestamp_type_t type;

    *out = (struct record){
        .partition = m->partition,
        .offset = m->offset,
        .timestamp_ms = rd_kafka_message_timestamp(m, &type),
        .key = slice_of(m->key, m->key_len),
        .value = slice_of(m->payload, m->len),
    };
}

/* From one partition as long as it has some, then from the next. */
static rd_kafka_message_t *take(struct log_reader *r, struct place **at)
{
    for (uint32_t i = 0; i < r->count; i++) {
        rd_kafka_message_t *m;
        *at = &r->places[r->turn % r->count];
        m = rd_kafka_consume_queue((*at)->queue, 0);
        if (m) return m;
        r->turn++;
    }
    return NULL;
}

/* Waits at one of them in turn, a little, so that none waits long. */
static rd_kafka_message_t *wait_for_one(struct log_reader *r, uint32_t wait_ms,
                                        struct place **at)
{
    rd_kafka_message_t *m = take(r, at);

    (void)rd_kafka_poll(r->rk, 0); /* what the client has to say */
    while (!m && r->count > 0 && wait_ms > 0) {
        uint32_t some_ms = wait_ms < WAIT_STEP_MS ? wait_ms : WAIT_STEP_MS;
        *at = &r->places[r->turn % r->count];
        m = rd_kafka_consume_queue((*at)->queue, (int)some_ms);
        if (!m) m = take(r, at);
        wait_ms -= some_ms;
    }
    return m;
}

enum rc log_reader_next(struct log_reader *r, uint32_t wait_ms,
                        enum log_reader_found *found, struct record *out,
                        struct err *e)
{
    struct place *at = NULL;
    rd_kafka_message_t *m;

    *found = LOG_READER_NOTHING;
    give_back(r);
    m = r->lent = wait_for_one(r, wait_ms, &at);
    if (!m) return RC_OK;
    if (m->err && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
        return take_error(r, m, e);
    if (m->err) {
        *found = LOG_READER_END;
        *out = (struct record){.partition = at->partition, .offset = m->offset};
        if (at->next < m->offset) at->next = m->offset;
        return RC_OK;
    }
    *found = LOG_READER_RECORD;
    fill(out, m);
    at->next = m->offset + 1;
    return RC_OK;
}

enum rc log_reader_hash(struct log_reader *r, int32_t partition, int64_t offset,
                        uint64_t *hash, struct err *e)
{
    uint64_t until_ns = metrics_now_ns() + UINT64_C(1000000) * HASH_WAIT_MS;
    enum log_reader_found found = LOG_READER_NOTHING;
    struct record record;
    enum rc rc;

    assert(r->count == 0);
    *hash = 0;
    TRY(log_reader_add(r, partition, offset, e));
    do
        rc = log_reader_next(r, 100, &found, &record, e);
    while (rc == RC_OK && metrics_now_ns() < until_ns &&
           found == LOG_READER_NOTHING);
    if (rc == RC_OK && found == LOG_READER_NOTHING)
        rc = ERR(e, RC_AGAIN,
                 "kafka: '%s' partition %d: nothing came from offset %lld",
                 r->topic, partition, (long long)offset);
    if (rc == RC_OK && found == LOG_READER_RECORD && record.offset == offset)
        *hash = record_hash(&record);
    log_reader_remove(r, partition);
    return rc;
}
