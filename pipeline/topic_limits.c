#include "topic_limits.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

enum {
    ANSWER_WAIT_MS = 10000,
    TOPICS_MAX = 8,
    BATCH_BYTES = 128, /* the header of a batch, and that of its message */
};

static void read_setting(struct topic_limits *t, const char *name,
                         const char *value)
{
    if (!value) return;
    if (strcmp(name, "max.message.bytes") == 0)
        t->message_bytes_max = strtoull(value, NULL, 10);
    else if (strcmp(name, "cleanup.policy") == 0)
        t->compacted = strstr(value, "compact") != NULL;
}

static void read_topic(struct topic_limits *t,
                       const rd_kafka_ConfigResource_t *topic)
{
    size_t count;
    const rd_kafka_ConfigEntry_t **settings =
        rd_kafka_ConfigResource_configs(topic, &count);

    if (rd_kafka_ConfigResource_error(topic)) {
        LOG(INFO, "LIMITS", "topic=%s not told: %s",
            rd_kafka_ConfigResource_name(topic),
            rd_kafka_ConfigResource_error_string(topic));
        return;
    }
    for (size_t i = 0; i < count; i++)
        read_setting(t, rd_kafka_ConfigEntry_name(settings[i]),
                     rd_kafka_ConfigEntry_value(settings[i]));
    t->known = t->message_bytes_max > BATCH_BYTES;
}

static enum rc read_answer(rd_kafka_event_t *answer, const char *const *topics,
                           uint32_t count, struct topic_limits *out,
                           struct err *e)
{
    const rd_kafka_ConfigResource_t **found;
    rd_kafka_resp_err_t error;
    size_t found_count;

    if (!answer)
        return ERR(e, RC_AGAIN, "kafka: no answer about topics in %d s",
                   ANSWER_WAIT_MS / 1000);
    error = rd_kafka_event_error(answer);
    if (error == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE) {
        LOG(DEBUG, "LIMITS", "brokers tell nothing about their topics");
        return RC_OK;
    }
    if (error)
        return ERR(e, kafka_error_rc(error), "kafka: asking about topics: %s",
                   rd_kafka_event_error_string(answer));
    found = rd_kafka_DescribeConfigs_result_resources(
        rd_kafka_event_DescribeConfigs_result(answer), &found_count);
    for (size_t i = 0; i < found_count; i++)
        for (uint32_t t = 0; t < count; t++)
            if (topics[t] &&
                strcmp(topics[t], rd_kafka_ConfigResource_name(found[i])) == 0)
                read_topic(&out[t], found[i]);
    return RC_OK;
}

static bool listed_before(const char *const *topics, uint32_t at)
{
    for (uint32_t i = 0; i < at; i++)
        if (topics[i] && strcmp(topics[i], topics[at]) == 0) return true;
    return false;
}

/* Such questions go to the controller; without one that is there (as in
 * librdkafka's in-process cluster) they would wait in vain. */
static bool has_controller(rd_kafka_t *rk)
{
    const struct rd_kafka_metadata *md = NULL;
    int32_t id = rd_kafka_controllerid(rk, ANSWER_WAIT_MS);
    bool found = false;

    if (rd_kafka_metadata(rk, 0, NULL, &md, ANSWER_WAIT_MS)) return true;
    for (int i = 0; i < md->broker_cnt; i++)
        found |= md->brokers[i].id == id;
    rd_kafka_metadata_destroy(md);
    return found;
}

enum rc topic_limits_ask(rd_kafka_t *rk, const char *const *topics,
                         uint32_t count, struct topic_limits *out,
                         struct err *e)
{
    rd_kafka_ConfigResource_t *asked[TOPICS_MAX];
    rd_kafka_queue_t *queue;
    rd_kafka_event_t *answer;
    size_t n = 0;
    enum rc rc;

    assert(count <= TOPICS_MAX);
    memset(out, 0, count * sizeof *out);
    for (uint32_t i = 0; i < count; i++)
        if (topics[i] && *topics[i] && !listed_before(topics, i))
            asked[n++] =
                rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topics[i]);
    if (n == 0) return RC_OK;
    if (!has_controller(rk)) {
        rd_kafka_ConfigResource_destroy_array(asked, n);
        return RC_OK;
    }
    queue = rd_kafka_queue_new(rk);
    rd_kafka_DescribeConfigs(rk, asked, n, NULL, queue);
    answer = rd_kafka_queue_poll(queue, ANSWER_WAIT_MS);
    rc = read_answer(answer, topics, count, out, e);
    if (answer) rd_kafka_event_destroy(answer);
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy_array(asked, n);
    return rc;
}

uint64_t topic_limits_message_bytes(const struct topic_limits *limits,
                                    uint32_t count)
{
    uint64_t least = UINT64_MAX;

    for (uint32_t i = 0; i < count; i++)
        if (limits[i].known && limits[i].message_bytes_max < least)
            least = limits[i].message_bytes_max;
    return least == UINT64_MAX ? least : least - BATCH_BYTES;
}
