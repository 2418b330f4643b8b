#include "kafka_client.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"

enum {
    MESSAGE_BYTES = 1024, /* so many of the producer's queue a message */
    MESSAGES_MIN = 1000,
    FETCH_BYTES_MIN = 1 << 20,  /* librdkafka: at least one message's most */
    FETCH_BYTES_MAX = 50 << 20, /* and less than an answer may have */
    ASK_AGAIN_MS = 100,
};

static const char *const ROLE_PREFIX[] = {"consumer.", "producer.",
                                          "producer."};
static const char *const ROLE_NAME[] = {"consumer", "producer", "admin client"};

/* Called from librdkafka's own threads. It mends by itself what it logs;
 * what it cannot mend comes to us as the failure of a call. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility,
                   const char *text)
{
    (void)rk;
    /* kafka.* goes to consumers and producers alike; that one ignores what
     * is meant for the other is not worth a line. FAIL comes as an error. */
    if (strcmp(facility, "CONFWARN") == 0 || strcmp(facility, "FAIL") == 0)
        return;
    if (level <= 4)
        LOG(WARN, "KAFKA", "%s: %s", facility, text);
    else if (level <= 6)
        LOG(INFO, "KAFKA", "%s: %s", facility, text);
    else
        LOG(DEBUG, "KAFKA", "%s: %s", facility, text);
}

static void on_error(rd_kafka_t *rk, int error, const char *text, void *opaque)
{
    (void)opaque;
    LOG(WARN, "KAFKA", "%s: %s: %s", rd_kafka_name(rk),
        rd_kafka_err2name((rd_kafka_resp_err_t)error), text);
}

/* The key that librdkafka is given for p in this role; NULL: not for it. */
static const char *role_key(const struct property *p, enum kafka_role role)
{
    static const char *const ALL[] = {"consumer.", "producer."};
    size_t len = strlen(ROLE_PREFIX[role]);

    if (strncmp(p->key, ROLE_PREFIX[role], len) == 0) return p->key + len;
    for (size_t i = 0; i < sizeof ALL / sizeof *ALL; i++)
        if (strncmp(p->key, ALL[i], strlen(ALL[i])) == 0) return NULL;
    return p->key;
}

const char *kafka_property(const struct config *c, enum kafka_role role,
                           const char *key)
{
    const char *value = NULL;
    bool special = false;

    for (uint32_t i = 0; i < c->kafka_count; i++) {
        const struct property *p = &c->kafka[i];
        const char *own = role_key(p, role);
        if (!own || strcmp(own, key) != 0 || (special && own == p->key))
            continue;
        value = p->value;
        special = own != p->key;
    }
    return value;
}

static enum rc set(rd_kafka_conf_t *conf, const char *key, const char *value,
                   const char *origin, struct err *e)
{
    char text[KAFKA_ERROR_BYTES];

    if (rd_kafka_conf_set(conf, key, value, text, sizeof text) !=
        RD_KAFKA_CONF_OK)
        return ERR(e, RC_STOP, "%s: kafka property %s: %s", origin, key, text);
    return RC_OK;
}

/* librdkafka quotes values that it refuses. */
static enum rc set_property(rd_kafka_conf_t *conf, const char *key,
                            const struct property *p, struct err *e)
{
    enum rc rc = set(conf, key, p->value, p->origin, e);
    if (rc != RC_OK && p->secret && *p->value && strstr(e->text, p->value))
        return ERR(e, rc, "%s: kafka property %s: its value is refused",
                   p->origin, key);
    return rc;
}

static enum rc set_all(rd_kafka_conf_t *conf, const struct kafka_setting *list,
                       struct err *e)
{
    for (; list && list->key; list++)
        TRY(set(conf, list->key, list->value, "millrace", e));
    return RC_OK;
}

static enum rc set_number(rd_kafka_conf_t *conf, const char *key,
                          uint64_t value, struct err *e)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return set(conf, key, text, "millrace", e);
}

/* Both queues are bounded, by bytes and, since each message has a cost of its
 * own, by number. A fetch may come on top of what waits. */
static enum rc set_queue(rd_kafka_conf_t *conf, const struct config *c,
                         enum kafka_role role, struct err *e)
{
    uint64_t fetch = c->input_queue, messages = c->output_queue / MESSAGE_BYTES;
    if (role == KAFKA_CONSUMER) {
        if (fetch > FETCH_BYTES_MAX) fetch = FETCH_BYTES_MAX;
        if (fetch < FETCH_BYTES_MIN) fetch = FETCH_BYTES_MIN;
        TRY(set_number(conf, "queued.max.messages.kbytes",
                       c->input_queue / 1024, e));
        return set_number(conf, "fetch.max.bytes", fetch, e);
    }
    if (role != KAFKA_PRODUCER) return RC_OK;
    if (messages < MESSAGES_MIN) messages = MESSAGES_MIN;
    TRY(set_number(conf, "queue.buffering.max.kbytes", c->output_queue / 1024,
                   e));
    return set_number(conf, "queue.buffering.max.messages", messages, e);
}

uint64_t kafka_queue_bytes(const struct config *c, enum kafka_role role)
{
    bool in = role == KAFKA_CONSUMER;
    const char *own = kafka_property(c, role,
                                     in ? "queued.max.messages.kbytes"
                                        : "queue.buffering.max.kbytes");
    if (own) return strtoull(own, NULL, 10) * 1024;
    return in ? c->input_queue : c->output_queue;
}

/* First the properties for all, then those for this role, so that the order
 * of lines in a file does not matter. */
static enum rc set_configured(rd_kafka_conf_t *conf, const struct config *c,
                              enum kafka_role role, struct err *e)
{
    for (int special = 0; special < 2; special++)
        for (uint32_t i = 0; i < c->kafka_count; i++) {
            const struct property *p = &c->kafka[i];
            const char *key = role_key(p, role);
            if (key && (key != p->key) == (special == 1))
                TRY(set_property(conf, key, p, e));
        }
    return RC_OK;
}

/* A property that we must set was set otherwise: say so, once a client. */
static void warn_forced(const struct config *c, enum kafka_role role,
                        const struct kafka_setting *forced)
{
    for (; forced && forced->key; forced++) {
        const char *value = kafka_property(c, role, forced->key);
        if (value && strcmp(value, forced->value) != 0)
            LOG(WARN, "KAFKACONF", "property=kafka.%s ignored; it is always %s",
                forced->key, forced->value);
    }
}

enum rc kafka_conf_new(rd_kafka_conf_t **out, const struct config *c,
                       enum kafka_role role,
                       const struct kafka_setting *defaults,
                       const struct kafka_setting *forced, struct err *e)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    enum rc rc = set(conf, "client.id", "millrace", "millrace", e);

    if (rc == RC_OK) rc = set_queue(conf, c, role, e);
    if (rc == RC_OK) rc = set_all(conf, defaults, e);
    if (rc == RC_OK) rc = set_configured(conf, c, role, e);
    if (rc == RC_OK) rc = set_all(conf, forced, e);
    if (rc == RC_OK && !kafka_property(c, role, "bootstrap.servers"))
        rc =
            ERR(e, RC_STOP,
                "kafka.bootstrap.servers is not set; give the cluster's "
                "host:port, e.g. --set kafka.bootstrap.servers=localhost:9092");
    if (rc != RC_OK) {
        rd_kafka_conf_destroy(conf);
        return rc;
    }
    warn_forced(c, role, forced);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    *out = conf;
    return RC_OK;
}

enum rc kafka_client_new(rd_kafka_t **out, rd_kafka_conf_t *conf,
                         enum kafka_role role, struct err *e)
{
    char text[KAFKA_ERROR_BYTES];
    rd_kafka_type_t type =
        role == KAFKA_CONSUMER ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER;

    *out = rd_kafka_new(type, conf, text, sizeof text);
    if (*out) return RC_OK;
    rd_kafka_conf_destroy(conf);
    return ERR(e, RC_STOP, "kafka: no %s with this configuration: %s",
               ROLE_NAME[role], text);
}

enum rc kafka_topic_partitions(rd_kafka_t *rk, const char *topic,
                               uint32_t *partitions, struct err *e)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
    rd_kafka_resp_err_t error;
    enum rc rc = RC_OK;

    if (!rkt)
        return ERR(e, RC_STOP, "kafka: topic '%s': %s", topic,
                   rd_kafka_err2str(rd_kafka_last_error()));
    error = rd_kafka_metadata(rk, 0, rkt, &md, KAFKA_METADATA_WAIT_MS);
    if (error)
        rc =
            ERR(e, RC_AGAIN,
                "kafka: asking for topic '%s': %s; are kafka.bootstrap.servers "
                "and the security settings right?",
                topic, rd_kafka_err2str(error));
    else if (md->topic_cnt != 1 || md->topics[0].err ||
             md->topics[0].partition_cnt == 0)
        rc = ERR(
            e, RC_STOP,
            "kafka: topic '%s': %s; `millrace topics --create` makes "
            "every topic of the configuration",
            topic,
            rd_kafka_err2str(md->topic_cnt == 1 && md->topics[0].err
                                 ? md->topics[0].err
                                 : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART));
    else
        *partitions = (uint32_t)md->topics[0].partition_cnt;
    if (md) rd_kafka_metadata_destroy(md);
    rd_kafka_topic_destroy(rkt);
    return rc;
}

/* at: RD_KAFKA_OFFSET_BEGINNING or _END, which ListOffsets takes as times. */
static rd_kafka_resp_err_t ask_offset(rd_kafka_t *rk, const char *topic,
                                      int32_t partition, int64_t at,
                                      int wait_ms, int64_t *out)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *part =
        rd_kafka_topic_partition_list_add(list, topic, partition);
    rd_kafka_resp_err_t error;

    part->offset = at;
    error = rd_kafka_offsets_for_times(rk, list, wait_ms);
    if (!error) error = part->err;
    if (!error && part->offset < 0) error = RD_KAFKA_RESP_ERR__BAD_MSG;
    *out = part->offset;
    rd_kafka_topic_partition_list_destroy(list);
    return error;
}

/* A leader that has moved is found by asking again. */
static rd_kafka_resp_err_t find_offset(rd_kafka_t *rk, const char *topic,
                                       int32_t partition, int64_t at,
                                       int wait_ms, int64_t *out)
{
    const struct timespec pause = {.tv_nsec = ASK_AGAIN_MS * 1000000L};
    rd_kafka_resp_err_t error;

    for (;; wait_ms -= ASK_AGAIN_MS) {
        error = ask_offset(rk, topic, partition, at, wait_ms, out);
        if (!error || kafka_error_rc(error) != RC_AGAIN) return error;
        if (error == RD_KAFKA_RESP_ERR__TIMED_OUT || wait_ms <= ASK_AGAIN_MS)
            return error;
        (void)nanosleep(&pause, NULL);
    }
}

enum rc kafka_partition_ends(rd_kafka_t *rk, const char *topic,
                             int32_t partition, int64_t *start, int64_t *end,
                             int wait_ms, struct err *e)
{
    rd_kafka_resp_err_t error = find_offset(
        rk, topic, partition, RD_KAFKA_OFFSET_BEGINNING, wait_ms, start);

    if (!error)
        error = find_offset(rk, topic, partition, RD_KAFKA_OFFSET_END, wait_ms,
                            end);
    if (!error) return RC_OK;
    return ERR(e, kafka_error_rc(error),
               "kafka: asking for the ends of '%s' partition %d: %s", topic,
               partition, rd_kafka_err2str(error));
}

bool kafka_is_fenced(rd_kafka_t *rk)
{
    char text[KAFKA_ERROR_BYTES];
    return rd_kafka_fatal_error(rk, text, sizeof text) ==
           RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
}

bool kafka_is_forbidden(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           error == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
           error == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED ||
           error == RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
}

enum rc kafka_error_rc(rd_kafka_resp_err_t error)
{
    if (kafka_is_forbidden(error)) return RC_STOP;
    switch (error) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return RC_OK;
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
        return RC_STOP;
    default:
        return RC_AGAIN;
    }
}
