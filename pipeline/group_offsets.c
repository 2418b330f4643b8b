#include "group_offsets.h"

#include "kafka_client.h"

enum { ANSWER_WAIT_MS = 30000 };

static rd_kafka_topic_partition_list_t *
list_of(const char *topic, const int64_t *to, uint32_t count)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)count);
    for (uint32_t i = 0; i < count; i++) {
        rd_kafka_topic_partition_t *p;
        if (to && to[i] < 0) continue; /* it has none, and keeps that */
        p = rd_kafka_topic_partition_list_add(list, topic, (int32_t)i);
        if (to) p->offset = to[i];
    }
    return list;
}

static enum rc refuse(const char *doing, const char *group, const char *topic,
                      rd_kafka_resp_err_t error, const char *text,
                      struct err *e)
{
    switch (error) {
    case RD_KAFKA_RESP_ERR_GROUP_SUBSCRIBED_TO_TOPIC:
    case RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP:
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
        return ERR(e, RC_STOP,
                   "group %s, topic %s: it has members at work (%s); stop "
                   "every `millrace run` of the group, on all hosts, and wait "
                   "for its session time-out where one was killed",
                   group, topic, text);
    default:
        return ERR(e, kafka_error_rc(error), "group %s, topic %s: %s: %s",
                   group, topic, doing, text);
    }
}

/* The one group of an answer, or what went wrong as a whole. */
static enum rc group_of(rd_kafka_event_t *answer, const char *doing,
                        const char *group, const char *topic,
                        const rd_kafka_group_result_t **out, struct err *e)
{
    const rd_kafka_group_result_t **groups = NULL;
    const rd_kafka_error_t *error;
    size_t count = 0;
    *out = NULL;
    if (!answer)
        return ERR(e, RC_AGAIN, "group %s, topic %s: %s: no answer in %d s",
                   group, topic, doing, ANSWER_WAIT_MS / 1000);
    if (rd_kafka_event_error(answer))
        return refuse(doing, group, topic, rd_kafka_event_error(answer),
                      rd_kafka_event_error_string(answer), e);
    switch (rd_kafka_event_type(answer)) {
    case RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT:
        groups = rd_kafka_ListConsumerGroupOffsets_result_groups(
            rd_kafka_event_ListConsumerGroupOffsets_result(answer), &count);
        break;
    case RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT:
        groups = rd_kafka_AlterConsumerGroupOffsets_result_groups(
            rd_kafka_event_AlterConsumerGroupOffsets_result(answer), &count);
        break;
    case RD_KAFKA_EVENT_DELETECONSUMERGROUPOFFSETS_RESULT:
        groups = rd_kafka_DeleteConsumerGroupOffsets_result_groups(
            rd_kafka_event_DeleteConsumerGroupOffsets_result(answer), &count);
        break;
    default:
        break;
    }
    if (count != 1)
        return ERR(e, RC_STOP,
                   "group %s, topic %s: %s: an answer about %zu "
                   "groups",
                   group, topic, doing, count);
    error = rd_kafka_group_result_error(groups[0]);
    *out = groups[0];
    return error ? refuse(doing, group, topic, rd_kafka_error_code(error),
                          rd_kafka_error_string(error), e)
                 : RC_OK;
}

/* Every partition's own error. */
static enum rc check_partitions(const rd_kafka_group_result_t *result,
                                const char *doing, const char *group,
                                const char *topic, struct err *e)
{
    const rd_kafka_topic_partition_list_t *list =
        rd_kafka_group_result_partitions(result);
    for (int i = 0; list && i < list->cnt; i++)
        if (list->elems[i].err)
            return refuse(doing, group, topic, list->elems[i].err,
                          rd_kafka_err2str(list->elems[i].err), e);
    return RC_OK;
}

/* --- read -------------------------------------------------------------- */

static enum rc read_committed(rd_kafka_t *rk, const char *group,
                              const char *topic, struct group_offset *out,
                              uint32_t count, struct err *e)
{
    rd_kafka_topic_partition_list_t *list = list_of(topic, NULL, count);
    rd_kafka_ListConsumerGroupOffsets_t *request =
        rd_kafka_ListConsumerGroupOffsets_new(group, list);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_event_t *answer;
    const rd_kafka_group_result_t *result;
    enum rc rc;
    rd_kafka_ListConsumerGroupOffsets(rk, &request, 1, NULL, queue);
    answer = rd_kafka_queue_poll(queue, ANSWER_WAIT_MS);
    rc = group_of(answer, "reading its offsets", group, topic, &result, e);
    if (rc == RC_OK)
        rc = check_partitions(result, "reading its offsets", group, topic, e);
    if (rc == RC_OK) {
        const rd_kafka_topic_partition_list_t *got =
            rd_kafka_group_result_partitions(result);
        for (int i = 0; i < got->cnt; i++) {
            const rd_kafka_topic_partition_t *p = &got->elems[i];
            if (p->partition >= 0 && (uint32_t)p->partition < count)
                out[p->partition].committed = p->offset >= 0 ? p->offset : -1;
        }
    }
    if (answer) rd_kafka_event_destroy(answer);
    rd_kafka_queue_destroy(queue);
    rd_kafka_ListConsumerGroupOffsets_destroy(request);
    rd_kafka_topic_partition_list_destroy(list);
    return rc;
}

enum rc group_offsets_read(rd_kafka_t *rk, const char *group, const char *topic,
                           struct group_offset *out, uint32_t count,
                           struct err *e)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = (struct group_offset){.committed = -1};
        TRY(kafka_partition_ends(rk, topic, (int32_t)i, &out[i].log_start,
                                 &out[i].log_end, ANSWER_WAIT_MS, e));
    }
    return read_committed(rk, group, topic, out, count, e);
}

/* --- change ------------------------------------------------------------ */

enum rc group_offsets_delete(rd_kafka_t *rk, const char *group,
                             const char *topic, uint32_t count, struct err *e)
{
    static const char DOING[] = "deleting its offsets";
    rd_kafka_topic_partition_list_t *list = list_of(topic, NULL, count);
    rd_kafka_DeleteConsumerGroupOffsets_t *request =
        rd_kafka_DeleteConsumerGroupOffsets_new(group, list);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_event_t *answer;
    const rd_kafka_group_result_t *result;
    const rd_kafka_error_t *error;
    enum rc rc;
    rd_kafka_DeleteConsumerGroupOffsets(rk, &request, 1, NULL, queue);
    answer = rd_kafka_queue_poll(queue, ANSWER_WAIT_MS);
    rc = group_of(answer, DOING, group, topic, &result, e);
    error = result ? rd_kafka_group_result_error(result) : NULL;
    if (error &&
        rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND)
        rc = RC_OK; /* never committed: nothing to delete */
    else if (rc == RC_OK)
        rc = check_partitions(result, DOING, group, topic, e);
    if (answer) rd_kafka_event_destroy(answer);
    rd_kafka_queue_destroy(queue);
    rd_kafka_DeleteConsumerGroupOffsets_destroy(request);
    rd_kafka_topic_partition_list_destroy(list);
    return rc;
}

enum rc group_offsets_set(rd_kafka_t *rk, const char *group, const char *topic,
                          const int64_t *to, uint32_t count, struct err *e)
{
    static const char DOING[] = "setting its offsets";
    rd_kafka_topic_partition_list_t *list = list_of(topic, to, count);
    rd_kafka_AlterConsumerGroupOffsets_t *request;
    rd_kafka_queue_t *queue;
    rd_kafka_event_t *answer;
    const rd_kafka_group_result_t *result;
    enum rc rc;
    if (list->cnt == 0) { /* nothing is set */
        rd_kafka_topic_partition_list_destroy(list);
        return RC_OK;
    }
    request = rd_kafka_AlterConsumerGroupOffsets_new(group, list);
    queue = rd_kafka_queue_new(rk);
    rd_kafka_AlterConsumerGroupOffsets(rk, &request, 1, NULL, queue);
    answer = rd_kafka_queue_poll(queue, ANSWER_WAIT_MS);
    rc = group_of(answer, DOING, group, topic, &result, e);
    if (rc == RC_OK) rc = check_partitions(result, DOING, group, topic, e);
    if (answer) rd_kafka_event_destroy(answer);
    rd_kafka_queue_destroy(queue);
    rd_kafka_AlterConsumerGroupOffsets_destroy(request);
    rd_kafka_topic_partition_list_destroy(list);
    return rc;
}
