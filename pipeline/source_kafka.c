#include "source_kafka.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

#include "log.h"
#include "log_reader.h"

enum {
    QUERY_WAIT_MS = 10000, /* committed offsets, watermarks */
    SEEK_WAIT_MS = 10000,
    SEEK_RETRY_MS = 20,
    LEAVE_WAIT_MS = 1000, /* for the group's coordinator to hear of it */
    CLOSE_WAIT_MS = 1000,
    CLOSE_STEP_MS = 10,
    LAG_PERIOD_MS = 1000,
    CLUSTER_ID_BYTES = 64,
};

typedef rd_kafka_topic_partition_list_t partition_list;

/* One partition of a range: done when its next record is at until. */
struct range_part {
    int64_t from, until;
    bool done;
};

struct kafka_source {
    struct source base;
    const struct config *config;
    const char *client; /* lent until it is open */
    rd_kafka_t *rk;
    bool range;       /* finite: no group, no rebalances */
    bool cooperative; /* known at the first rebalance */
    bool from_latest; /* where a group that never committed begins */
    char *topics[SOURCE_TOPICS_MAX];
    uint32_t topic_count, topic_partitions;
    char cluster_id[CLUSTER_ID_BYTES];

    rd_kafka_message_t **messages; /* lent out by the last poll */
    struct header *headers;        /* (events_max, headers_max) */
    uint32_t headers_max;          /* of a record */
    size_t headers_bytes_max;
    uint32_t message_count, events_max;

    /* Recorded by the callback, answered by assign or unassign. */
    enum source_change_kind pending;
    partition_list *pending_parts;
    struct source_position *positions; /* of pending_parts, once asked for */
    bool positions_known;
    struct log_reader *reader; /* of single records; NULL: none was asked for */
    uint32_t reader_input;

    struct range_part *parts; /* (topic_partitions) of a range */
    uint32_t parts_open;
    uint64_t range_records;

    struct worker_metrics *metrics; /* NULL: none */
    int64_t lag_at_ms;
};

static struct kafka_source *self(struct source *s)
{
    return (struct kafka_source *)s;
}

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- records ---------------------------------------------------------- */

static uint32_t input_of(const struct kafka_source *k,
                         const rd_kafka_message_t *m)
{
    const char *name;

    if (k->topic_count == 1) return 0;
    name = rd_kafka_topic_name(m->rkt);
    for (uint32_t i = 0; i < k->topic_count; i++)
        if (strcmp(k->topics[i], name) == 0) return i;
    assert(!"a message of a topic that was not subscribed to");
    return 0;
}

static uint32_t take_headers(struct kafka_source *k, rd_kafka_message_t *m,
                             struct header *out)
{
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size, left = k->headers_bytes_max;
    uint32_t count = 0;

    if (rd_kafka_message_headers(m, &headers)) return 0;
    while (count < k->headers_max &&
           !rd_kafka_header_get_all(headers, count, &name, &value, &size)) {
        size_t name_len = strlen(name);
        if (name_len > left || size > left - name_len) break;
        left -= name_len + size;
        out[count].name = slice_of(name, name_len);
        out[count].value = slice_of(value, size);
        count++;
    }
    if (count < rd_kafka_header_cnt(headers) && k->metrics)
        metrics_add(k->metrics, COUNT_headers_cut, 1);
    return count;
}

static void take_message(struct kafka_source *k, struct batch *b,
                         rd_kafka_message_t *m)
{
    uint32_t i = b->count++;
    struct header *headers = k->headers + (size_t)i * k->headers_max;
    rd_kafka_timestamp_type_t type;

    k->messages[k->message_count++] = m;
    b->records[i] = (struct record){
        .input = input_of(k, m),
        .partition = m->partition,
        .offset = m->offset,
        .timestamp_ms = rd_kafka_message_timestamp(m, &type),
        .key = slice_of(m->key, m->key_len),
        .value = slice_of(m->payload, m->len),
        .headers = headers,
        .header_count = take_headers(k, m, headers),
    };
}

/* A partition of a range has given all of it: no more is fetched. */
static void part_done(struct kafka_source *k, int32_t partition)
{
    struct range_part *part = &k->parts[partition];
    partition_list *one;

    if (part->done) return;
    part->done = true;
    k->parts_open--;
    one = rd_kafka_topic_partition_list_new(1);
    (void)rd_kafka_topic_partition_list_add(one, k->topics[0], partition);
    (void)rd_kafka_pause_partitions(k->rk, one);
    rd_kafka_topic_partition_list_destroy(one);
}

/* The log may end in control records, which are never delivered: then the
 * end of the partition tells that the range is over. */
static bool in_range(struct kafka_source *k, const rd_kafka_message_t *m)
{
    struct range_part *part;

    if (!k->range) return true;
    part = &k->parts[m->partition];
    if (part->done || m->offset >= part->until) {
        part_done(k, m->partition);
        return false;
    }
    if (m->offset + 1 == part->until) part_done(k, m->partition);
    return true;
}

/* What came in place of a record. */
static enum rc take_error(struct kafka_source *k, const rd_kafka_message_t *m,
                          struct err *e)
{
    rd_kafka_resp_err_t error = m->err, fatal;
    char text[KAFKA_ERROR_BYTES];

    if (error == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        if (k->range && m->offset >= k->parts[m->partition].until)
            part_done(k, m->partition);
        return RC_OK;
    }
    if ((fatal = rd_kafka_fatal_error(k->rk, text, sizeof text)) != 0)
        return ERR(e, RC_STOP, "kafka: consuming: %s: %s%s",
                   rd_kafka_err2name(fatal), text,
                   fatal == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID
                       ? "; another process runs with this state.dir's id"
                       : "");
    if (error == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
        return ERR(e, RC_STOP,
                   "kafka: '%s' partition %d: offset %lld is not in the log: "
                   "%s; records were deleted before they were read. `millrace "
                   "reset` starts anew",
                   m->rkt ? rd_kafka_topic_name(m->rkt) : "?", m->partition,
                   (long long)m->offset, rd_kafka_message_errstr(m));
    if (kafka_error_rc(error) == RC_STOP)
        return ERR(e, RC_STOP, "kafka: consuming: %s",
                   rd_kafka_message_errstr(m));
    LOG(WARN, "CONSUME", "error=%s %s", rd_kafka_err2name(error),
        rd_kafka_message_errstr(m));
    return RC_OK;
}

/* What librdkafka knows of the logs' ends from its last fetches. */
static void update_lag(struct kafka_source *k)
{
    partition_list *owned = NULL;
    uint64_t lag = 0;
    int64_t now = now_ms();

    if (!k->metrics || now - k->lag_at_ms < LAG_PERIOD_MS) return;
    k->lag_at_ms = now;
    if (rd_kafka_assignment(k->rk, &owned)) return;
    if (!rd_kafka_position(k->rk, owned))
        for (int i = 0; i < owned->cnt; i++) {
            const rd_kafka_topic_partition_t *p = &owned->elems[i];
            int64_t low, high;
            if (p->offset >= 0 &&
                !rd_kafka_get_watermark_offsets(k->rk, p->topic, p->partition,
                                                &low, &high) &&
                high > p->offset)
                lag += (uint64_t)(high - p->offset);
        }
    rd_kafka_topic_partition_list_destroy(owned);
    metrics_gauge(k->metrics, GAUGE_lag_events, (double)lag);
}

static enum rc kafka_poll(struct source *s, struct batch *b, uint32_t wait_ms,
                          struct err *e)
{
    struct kafka_source *k = self(s);
    int64_t deadline = now_ms() + wait_ms;

    assert(k->message_count == 0 && b->count == 0);
    assert(b->events_max <= k->events_max);
    update_lag(k);
    while (b->count < b->events_max && k->pending == SOURCE_NO_CHANGE) {
        int64_t left = b->count ? 0 : deadline - now_ms();
        rd_kafka_message_t *m =
            rd_kafka_consumer_poll(k->rk, left > 0 ? (int)left : 0);
        if (!m) break;
        if (m->err) {
            enum rc rc = take_error(k, m, e);
            rd_kafka_message_destroy(m);
            if (rc != RC_OK) return rc;
        } else if (in_range(k, m)) {
            take_message(k, b, m);
        } else {
            rd_kafka_message_destroy(m);
        }
        if (k->range && k->parts_open == 0) break;
    }
    return RC_OK;
}

static void kafka_release(struct source *s)
{
    struct kafka_source *k = self(s);
    for (uint32_t i = 0; i < k->message_count; i++)
        rd_kafka_message_destroy(k->messages[i]);
    k->message_count = 0;
}

/* ---- assignment ------------------------------------------------------- */

static void forget_pending(struct kafka_source *k)
{
    log_reader_close(k->reader);
    k->reader = NULL;
    if (k->pending_parts)
        rd_kafka_topic_partition_list_destroy(k->pending_parts);
    free(k->positions);
    k->pending_parts = NULL;
    k->positions = NULL;
    k->positions_known = false;
    k->pending = SOURCE_NO_CHANGE;
}

/* Called within consumer_poll, perhaps with a batch half gathered: records,
 * and ends the poll (I7). */
static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t error,
                         partition_list *parts, void *opaque)
{
    struct kafka_source *k = opaque;
    const char *protocol = rd_kafka_rebalance_protocol(rk);

    forget_pending(k);
    k->cooperative = protocol && strcmp(protocol, "COOPERATIVE") == 0;
    k->pending_parts = rd_kafka_topic_partition_list_copy(parts);
    if (error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
        k->pending = SOURCE_ASSIGNED;
    else
        k->pending =
            rd_kafka_assignment_lost(rk) ? SOURCE_LOST : SOURCE_REVOKED;
    rd_kafka_yield(rk);
}

static enum rc list_error(rd_kafka_error_t *error, rd_kafka_resp_err_t code,
                          const char *doing, struct err *e)
{
    enum rc rc;
    if (error) code = rd_kafka_error_code(error);
    if (!code) return RC_OK;
    rc = ERR(e, kafka_error_rc(code), "kafka: %s: %s", doing,
             error ? rd_kafka_error_string(error) : rd_kafka_err2str(code));
    if (error) rd_kafka_error_destroy(error);
    return rc;
}

static uint32_t topic_input(const struct kafka_source *k, const char *topic)
{
    for (uint32_t i = 0; i < k->topic_count; i++)
        if (strcmp(k->topics[i], topic) == 0) return i;
    assert(!"a partition of a topic that was not subscribed to");
    return 0;
}

static enum rc find_cluster_id(struct kafka_source *k, struct err *e)
{
    char *id;

    if (k->cluster_id[0]) return RC_OK;
    id = rd_kafka_clusterid(k->rk, QUERY_WAIT_MS);
    if (!id) return ERR(e, RC_AGAIN, "kafka: no broker told the cluster's id");
    (void)snprintf(k->cluster_id, sizeof k->cluster_id, "%s", id);
    rd_kafka_mem_free(k->rk, id);
    return RC_OK;
}

/* Which partitions the pending change is about. */
static enum rc list_positions(struct kafka_source *k, struct err *e)
{
    const partition_list *parts = k->pending_parts;

    free(k->positions);
    k->positions = calloc((size_t)parts->cnt, sizeof *k->positions);
    if (!k->positions)
        return ERR(e, RC_STOP, "kafka: no memory for %d partitions",
                   parts->cnt);
    for (int i = 0; i < parts->cnt; i++) {
        k->positions[i].input = topic_input(k, parts->elems[i].topic);
        k->positions[i].partition = parts->elems[i].partition;
    }
    return RC_OK;
}

/* Where each newly assigned partition stands. With read_committed the answer
 * for committed waits until no transaction holds offsets of the group. */
static enum rc find_positions(struct kafka_source *k, struct err *e)
{
    partition_list *parts = k->pending_parts;

    TRY(find_cluster_id(k, e));
    TRY(list_error(NULL, rd_kafka_committed(k->rk, parts, QUERY_WAIT_MS),
                   "asking for committed offsets", e));
    for (int i = 0; i < parts->cnt; i++) {
        const rd_kafka_topic_partition_t *part = &parts->elems[i];
        struct source_position *at = &k->positions[i];
        TRY(list_error(NULL, part->err, "asking for a committed offset", e));
        at->committed = part->offset >= 0 ? part->offset : -1;
        TRY(kafka_partition_ends(k->rk, part->topic, at->partition,
                                 &at->log_start, &at->log_end, QUERY_WAIT_MS,
                                 e));
        at->offset = k->from_latest ? at->log_end : at->log_start;
        if (at->committed >= 0) at->offset = at->committed;
    }
    return RC_OK;
}

static enum rc do_assign(struct kafka_source *k, const partition_list *parts,
                         struct err *e)
{
    if (k->cooperative)
        return list_error(rd_kafka_incremental_assign(k->rk, parts), 0,
                          "taking partitions", e);
    return list_error(NULL, rd_kafka_assign(k->rk, parts), "taking partitions",
                      e);
}

/* Those of parts that were not only promised but taken. */
static partition_list *taken_of(struct kafka_source *k,
                                const partition_list *parts)
{
    partition_list *taken = rd_kafka_topic_partition_list_new(parts->cnt);
    partition_list *all = NULL;

    if (rd_kafka_assignment(k->rk, &all)) return taken;
    for (int i = 0; i < parts->cnt; i++)
        if (rd_kafka_topic_partition_list_find(all, parts->elems[i].topic,
                                               parts->elems[i].partition))
            (void)rd_kafka_topic_partition_list_add(
                taken, parts->elems[i].topic, parts->elems[i].partition);
    rd_kafka_topic_partition_list_destroy(all);
    return taken;
}

static enum rc do_unassign(struct kafka_source *k, const partition_list *parts,
                           struct err *e)
{
    if (k->cooperative) {
        partition_list *taken = taken_of(k, parts);
        enum rc rc = list_error(rd_kafka_incremental_unassign(k->rk, taken), 0,
                                "giving partitions back", e);
        rd_kafka_topic_partition_list_destroy(taken);
        return rc;
    }
    return list_error(NULL, rd_kafka_assign(k->rk, NULL),
                      "giving partitions back", e);
}

static enum rc kafka_change(struct source *s, struct source_change *out,
                            struct err *e)
{
    struct kafka_source *k = self(s);

    *out = (struct source_change){0};
    if (k->pending == SOURCE_NO_CHANGE) return RC_OK;
    /* Time may have run out since it was recorded. */
    if (k->pending == SOURCE_REVOKED && rd_kafka_assignment_lost(k->rk))
        k->pending = SOURCE_LOST;
    if (k->pending_parts->cnt == 0) { /* nothing for the worker to do */
        enum rc rc = k->pending == SOURCE_ASSIGNED
                         ? do_assign(k, k->pending_parts, e)
                         : do_unassign(k, k->pending_parts, e);
        forget_pending(k);
        return rc;
    }
    if (!k->positions_known) {
        TRY(list_positions(k, e));
        /* Only what is taken needs the brokers: what is lost is often lost
         * because they do not answer. */
        if (k->pending == SOURCE_ASSIGNED) TRY(find_positions(k, e));
        k->positions_known = true;
    }
    *out = (struct source_change){
        .kind = k->pending,
        .positions = k->positions,
        .count = (uint32_t)k->pending_parts->cnt,
        .cluster_id = k->cluster_id,
        .partitions = k->topic_partitions,
    };
    return RC_OK;
}

static partition_list *list_at(const struct kafka_source *k,
                               const struct source_position *at, uint32_t count)
{
    partition_list *list = rd_kafka_topic_partition_list_new((int)count);
    for (uint32_t i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(list, k->topics[at[i].input],
                                          at[i].partition)
            ->offset = at[i].offset;
    return list;
}

static enum rc kafka_assign(struct source *s, const struct source_position *at,
                            uint32_t count, struct err *e)
{
    struct kafka_source *k = self(s);
    partition_list *list = list_at(k, at, count);
    enum rc rc = do_assign(k, list, e);

    /* One that was held when it went may have come back. */
    (void)rd_kafka_resume_partitions(k->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    forget_pending(k);
    return rc;
}

/* Not by pausing: a pause soon after an assignment may make librdkafka forget
 * where that began. */
static enum rc kafka_add(struct source *s, const struct source_position *all,
                         uint32_t count, uint32_t added, struct err *e)
{
    struct kafka_source *k = self(s);
    uint32_t from = k->cooperative ? count - added : 0;
    partition_list *list = list_at(k, all + from, count - from);
    enum rc rc = do_assign(k, list, e);

    rd_kafka_topic_partition_list_destroy(list);
    return rc;
}

static enum rc kafka_unassign(struct source *s, struct err *e)
{
    struct kafka_source *k = self(s);
    enum rc rc = RC_OK;

    if (k->pending == SOURCE_REVOKED || k->pending == SOURCE_LOST)
        rc = do_unassign(k, k->pending_parts, e);
    forget_pending(k);
    return rc;
}

/* A partition that was only just assigned cannot be moved yet. */
static rd_kafka_resp_err_t seek_once(struct kafka_source *k,
                                     partition_list *list)
{
    rd_kafka_error_t *error =
        rd_kafka_seek_partitions(k->rk, list, SEEK_WAIT_MS);
    rd_kafka_resp_err_t code = error ? rd_kafka_error_code(error) : 0;

    if (error) rd_kafka_error_destroy(error);
    for (int i = 0; !code && i < list->cnt; i++)
        code = list->elems[i].err;
    return code;
}

static void part_opens(struct kafka_source *k, int32_t partition)
{
    if (k->parts[partition].done) k->parts_open++;
    k->parts[partition].done = false;
}

static enum rc kafka_seek(struct source *s, const struct source_position *at,
                          uint32_t count, struct err *e)
{
    struct kafka_source *k = self(s);
    partition_list *list = list_at(k, at, count);
    int64_t deadline = now_ms() + SEEK_WAIT_MS;
    rd_kafka_resp_err_t code;

    (void)rd_kafka_resume_partitions(k->rk, list); /* held, or a range's end */
    while ((code = seek_once(k, list)) != 0 && now_ms() < deadline) {
        struct timespec pause = {.tv_nsec = SEEK_RETRY_MS * 1000000L};
        (void)nanosleep(&pause, NULL);
    }
    rd_kafka_topic_partition_list_destroy(list);
    for (uint32_t i = 0; k->range && i < count; i++) {
        int32_t id = at[i].partition;
        if (at[i].offset < k->parts[id].until)
            part_opens(k, id);
        else
            part_done(k, id);
    }
    return list_error(NULL, code, "going to a position", e);
}

/* Paused, librdkafka drops what it has fetched of them. */
static enum rc kafka_hold(struct source *s, const struct source_position *at,
                          uint32_t count, struct err *e)
{
    struct kafka_source *k = self(s);
    partition_list *list = list_at(k, at, count);
    rd_kafka_resp_err_t code = rd_kafka_pause_partitions(k->rk, list);

    rd_kafka_topic_partition_list_destroy(list);
    for (uint32_t i = 0; k->range && i < count; i++)
        part_opens(k, at[i].partition);
    return list_error(NULL, code, "holding partitions", e);
}

/* Not by the group's consumer, which stands between two assignments. */
static enum rc kafka_hash_at(struct source *s, uint32_t input,
                             int32_t partition, int64_t offset, uint64_t *hash,
                             struct err *e)
{
    struct kafka_source *k = self(s);

    if (k->reader && k->reader_input != input) {
        log_reader_close(k->reader);
        k->reader = NULL;
    }
    if (!k->reader)
        TRY(log_reader_open(&k->reader, k->config, k->topics[input], true, e));
    k->reader_input = input;
    return log_reader_hash(k->reader, partition, offset, hash, e);
}

static bool kafka_ended(const struct source *s)
{
    const struct kafka_source *k = (const struct kafka_source *)s;
    return k->range && k->pending == SOURCE_NO_CHANGE && k->parts_open == 0;
}

/* ---- open and close --------------------------------------------------- */

/* Gives everything back and waits until the coordinator was told, so that
 * others need not wait for this member's session to end. On termination
 * librdkafka does not do that for static members; on unsubscribe it does. */
static void leave_group(struct kafka_source *k)
{
    int64_t deadline = now_ms() + LEAVE_WAIT_MS;
    bool left = false;
    struct err e;

    if (rd_kafka_unsubscribe(k->rk)) return;
    while (!left && now_ms() < deadline) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(k->rk, CLOSE_STEP_MS);
        char *member = rd_kafka_memberid(k->rk);
        if (m) rd_kafka_message_destroy(m);
        if (k->pending == SOURCE_ASSIGNED)
            (void)do_assign(k, NULL, &e);
        else if (k->pending != SOURCE_NO_CHANGE)
            (void)do_unassign(k, k->pending_parts, &e);
        forget_pending(k);
        left = !member || !*member;
        if (member) rd_kafka_mem_free(k->rk, member);
    }
}

static void destroy_client(struct kafka_source *k)
{
    int64_t deadline = now_ms() + CLOSE_WAIT_MS;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(k->rk);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(k->rk, queue);

    if (error) rd_kafka_error_destroy(error);
    while (!rd_kafka_consumer_closed(k->rk) && now_ms() < deadline) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, CLOSE_STEP_MS);
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
            (void)rd_kafka_assign(k->rk, NULL);
        if (event) rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    /* Whoever is not heard of in time is left to the session time-out. */
    rd_kafka_destroy_flags(k->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static void kafka_close(struct source *s)
{
    struct kafka_source *k = self(s);

    kafka_release(s);
    if (k->rk && !k->range) leave_group(k);
    if (k->rk) destroy_client(k);
    forget_pending(k);
    for (uint32_t i = 0; i < k->topic_count; i++)
        free(k->topics[i]);
    free(k->messages);
    free(k->headers);
    free(k->parts);
    free(k);
}

static const struct source_ops OPS = {
    .poll = kafka_poll,
    .release = kafka_release,
    .change = kafka_change,
    .assign = kafka_assign,
    .add = kafka_add,
    .unassign = kafka_unassign,
    .seek = kafka_seek,
    .hold = kafka_hold,
    .hash_at = kafka_hash_at,
    .ended = kafka_ended,
    .close = kafka_close,
};

static const struct kafka_setting DEFAULTS[] = {
    {"session.timeout.ms", "10000"},
    {"heartbeat.interval.ms", "1000"}, /* how soon a rebalance is heard of */
    {"socket.nagle.disable", "true"},
    {"fetch.min.bytes", "1"},
    {"queued.min.messages", "20000"},
    {NULL, NULL},
};

/* Offsets are committed by the sink, with the outputs (I1); a position
 * outside the log is an error that somebody must look at. */
static const struct kafka_setting FORCED[] = {
    {"enable.auto.commit", "false"},
    {"enable.auto.offset.store", "false"},
    {"isolation.level", "read_committed"},
    {NULL, NULL},
};

static enum rc set_own(rd_kafka_conf_t *conf, const char *key,
                       const char *value, struct err *e)
{
    char text[KAFKA_ERROR_BYTES];
    if (rd_kafka_conf_set(conf, key, value, text, sizeof text) ==
        RD_KAFKA_CONF_OK)
        return RC_OK;
    return ERR(e, RC_STOP, "kafka: %s = %s: %s", key, value, text);
}

/* librdkafka's cooperative-sticky assignor looped for ever, lost partitions
 * and gave some to two members, until the last of those was fixed. */
#define COOPERATIVE_SAFE 0x020a0000

/* Unless librdkafka's own property says it. */
static enum rc choose_assignment(const struct kafka_source *k,
                                 rd_kafka_conf_t *conf, const struct config *c,
                                 struct err *e)
{
    static const char KEY[] = "partition.assignment.strategy";
    const char *own = kafka_property(c, KAFKA_CONSUMER, KEY);
    bool safe = rd_kafka_version() >= COOPERATIVE_SAFE;
    bool asked = own ? strstr(own, "cooperative") != NULL
                     : c->group_assignment == ASSIGNMENT_COOPERATIVE;
    bool cooperative = asked || (!own && safe && k->topic_count == 1 &&
                                 c->group_assignment == ASSIGNMENT_AUTO);

    if (asked && k->topic_count > 1)
        return ERR(e, RC_STOP,
                   "kafka: cooperative assignment may part events and labels "
                   "of a partition; set group.assignment = eager");
    if (cooperative && !safe)
        LOG(WARN, "ASSIGNMENT",
            "cooperative assignment is asked for; librdkafka %s has faults "
            "there that 2.10 has not",
            rd_kafka_version_str());
    if (own) return RC_OK;
    return set_own(conf, KEY, cooperative ? "cooperative-sticky" : "range", e);
}

static enum rc open_client(struct kafka_source *k, const struct config *c,
                           const char *group, const char *instance,
                           struct err *e)
{
    const char *reset = kafka_property(c, KAFKA_CONSUMER, "auto.offset.reset");
    rd_kafka_conf_t *conf;
    enum rc rc;

    k->config = c;
    k->from_latest =
        reset && (strcmp(reset, "latest") == 0 ||
                  strcmp(reset, "largest") == 0 || strcmp(reset, "end") == 0);
    TRY(kafka_conf_new(&conf, c, KAFKA_CONSUMER, DEFAULTS, FORCED, e));
    rc = set_own(conf, "group.id", group, e);
    if (rc == RC_OK && instance)
        rc = set_own(conf, "group.instance.id", instance, e);
    if (rc == RC_OK && k->client &&
        !kafka_property(c, KAFKA_CONSUMER, "client.id"))
        rc = set_own(conf, "client.id", k->client, e);
    if (rc == RC_OK) rc = set_own(conf, "auto.offset.reset", "error", e);
    if (rc == RC_OK && !k->range) rc = choose_assignment(k, conf, c, e);
    if (rc == RC_OK && k->range)
        rc = set_own(conf, "enable.partition.eof", "true", e);
    if (rc != RC_OK) {
        rd_kafka_conf_destroy(conf);
        return rc;
    }
    rd_kafka_conf_set_opaque(conf, k);
    if (!k->range) rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    TRY(kafka_client_new(&k->rk, conf, KAFKA_CONSUMER, e));
    return list_error(NULL, rd_kafka_poll_set_consumer(k->rk),
                      "opening a consumer", e);
}

/* ours: records with headers of ours in front of their own. */
static enum rc take_memory(struct kafka_source *k, uint32_t events_max,
                           bool ours, struct err *e)
{
    k->events_max = events_max;
    k->headers_max = SOURCE_HEADERS_MAX + (ours ? SOURCE_HEADERS_OURS : 0u);
    k->headers_bytes_max =
        SOURCE_HEADERS_BYTES_MAX + (ours ? SOURCE_HEADERS_OURS_BYTES : 0u);
    k->messages = calloc(events_max, sizeof *k->messages);
    k->headers = calloc(events_max, k->headers_max * sizeof *k->headers);
    if (k->messages && k->headers) return RC_OK;
    return ERR(e, RC_STOP, "kafka: no memory for batches of %u", events_max);
}

static enum rc add_topic(struct kafka_source *k, const char *topic,
                         struct err *e)
{
    k->topics[k->topic_count] = strdup(topic);
    if (!k->topics[k->topic_count])
        return ERR(e, RC_STOP, "kafka: no memory for a topic's name");
    k->topic_count++;
    return RC_OK;
}

/* Inputs of a stage are joined by key, so their partitions must match. */
static enum rc subscribe(struct kafka_source *k, struct err *e)
{
    partition_list *list = rd_kafka_topic_partition_list_new(SOURCE_TOPICS_MAX);
    enum rc rc = RC_OK;

    for (uint32_t i = 0; rc == RC_OK && i < k->topic_count; i++) {
        uint32_t partitions;
        (void)rd_kafka_topic_partition_list_add(list, k->topics[i],
                                                RD_KAFKA_PARTITION_UA);
        rc = kafka_topic_partitions(k->rk, k->topics[i], &partitions, e);
        if (rc == RC_OK && i > 0 && partitions != k->topic_partitions)
            rc = ERR(e, RC_STOP,
                     "kafka: '%s' has %u partitions and '%s' %u; inputs of one "
                     "stage need the same number",
                     k->topics[0], k->topic_partitions, k->topics[i],
                     partitions);
        if (rc == RC_OK) k->topic_partitions = partitions;
    }
    if (rc == RC_OK)
        rc =
            list_error(NULL, rd_kafka_subscribe(k->rk, list), "subscribing", e);
    rd_kafka_topic_partition_list_destroy(list);
    return rc;
}

enum rc source_kafka_open(struct source **out,
                          const struct source_kafka_options *o, struct err *e)
{
    struct kafka_source *k = calloc(1, sizeof *k);
    enum rc rc;

    assert(o->topic_count > 0 && o->topic_count <= SOURCE_TOPICS_MAX);
    if (!k) return ERR(e, RC_STOP, "kafka: no memory for a source");
    k->base.ops = &OPS;
    k->metrics = o->metrics;
    rc = take_memory(k, o->events_max, false, e);
    for (uint32_t i = 0; rc == RC_OK && i < o->topic_count; i++)
        rc = add_topic(k, o->topics[i], e);
    k->client = o->client;
    if (rc == RC_OK) rc = open_client(k, o->config, o->group, o->instance, e);
    if (rc == RC_OK) rc = subscribe(k, e);
    if (rc != RC_OK) {
        kafka_close(&k->base);
        return rc;
    }
    *out = &k->base;
    return RC_OK;
}

/* ---- a range ---------------------------------------------------------- */

static enum rc cut_part(struct kafka_source *k, const struct topic_range *r,
                        int32_t partition, struct err *e)
{
    struct range_part *part = &k->parts[partition];
    struct source_position at = {.partition = partition};

    TRY(kafka_partition_ends(k->rk, r->topic, partition, &at.log_start,
                             &at.log_end, QUERY_WAIT_MS, e));
    part->from = r->from > at.log_start ? r->from : at.log_start;
    part->until = at.log_end;
    if (r->until >= 0 && r->until < part->until) part->until = r->until;
    part->done = part->from >= part->until;
    if (part->done) return RC_OK;
    k->parts_open++;
    k->range_records += (uint64_t)(part->until - part->from);
    (void)rd_kafka_topic_partition_list_add(k->pending_parts, r->topic,
                                            partition);
    k->positions[k->pending_parts->cnt - 1] = (struct source_position){
        .partition = partition,
        .offset = part->from,
        .committed = -1,
        .log_start = part->from,
        .log_end = part->until,
    };
    return RC_OK;
}

/* The worker is given the partitions as if a group had assigned them. */
static enum rc cut_range(struct kafka_source *k, const struct topic_range *r,
                         struct err *e)
{
    TRY(find_cluster_id(k, e));
    TRY(kafka_topic_partitions(k->rk, r->topic, &k->topic_partitions, e));
    if (r->partition >= (int32_t)k->topic_partitions)
        return ERR(e, RC_STOP, "kafka: '%s' has %u partitions, no %d", r->topic,
                   k->topic_partitions, r->partition);
    k->parts = calloc(k->topic_partitions, sizeof *k->parts);
    k->positions = calloc(k->topic_partitions, sizeof *k->positions);
    k->pending_parts =
        rd_kafka_topic_partition_list_new((int)k->topic_partitions);
    if (!k->parts || !k->positions)
        return ERR(e, RC_STOP, "kafka: no memory for %u partitions",
                   k->topic_partitions);
    for (int32_t i = 0; i < (int32_t)k->topic_partitions; i++)
        if (r->partition < 0 || r->partition == i) TRY(cut_part(k, r, i, e));
    k->positions_known = true;
    k->pending = k->parts_open ? SOURCE_ASSIGNED : SOURCE_NO_CHANGE;
    return RC_OK;
}

enum rc source_range_open(struct source **out, const struct config *c,
                          const struct topic_range *range, uint32_t events_max,
                          struct err *e)
{
    struct kafka_source *k = calloc(1, sizeof *k);
    enum rc rc;

    if (!k) return ERR(e, RC_STOP, "kafka: no memory for a source");
    k->base.ops = &OPS;
    k->range = true;
    rc = take_memory(k, events_max, range->dead_letters, e);
    if (rc == RC_OK) rc = add_topic(k, range->topic, e);
    /* librdkafka wants a group's name to assign by hand; it is never used. */
    if (rc == RC_OK) rc = open_client(k, c, "millrace-range", NULL, e);
    if (rc == RC_OK) rc = cut_range(k, range, e);
    if (rc != RC_OK) {
        kafka_close(&k->base);
        return rc;
    }
    *out = &k->base;
    return RC_OK;
}

uint64_t source_range_records(const struct source *s)
{
    return ((const struct kafka_source *)s)->range_records;
}

rd_kafka_t *source_kafka_handle(const struct source *s)
{
    return ((const struct kafka_source *)s)->rk;
}

const char *source_kafka_topic(const struct source *s, uint32_t input)
{
    const struct kafka_source *k = (const struct kafka_source *)s;
    assert(input < k->topic_count);
    return k->topics[input];
}
