#include "sink_topic.h"

#include "producer.h"
#include "stages.h"

struct sink_topic {
    struct sink sink; /* first: the worker holds a pointer to it */
    struct producer *producer;
    const char *topics[OUTPUTS];
    uint64_t since_commit;
};

static struct sink_topic *self(struct sink *k)
{
    return (struct sink_topic *)k;
}

static enum rc topic_send(struct sink *sink, const struct message *m,
                          uint32_t count, struct err *e)
{
    struct sink_topic *k = self(sink);
    for (uint32_t i = 0; i < count; i++) {
        if (sink->ignores & (1u << m[i].output)) continue;
        TRY(producer_send(k->producer, m[i].output, &m[i], e));
        k->since_commit++;
    }
    return RC_OK;
}

static enum rc topic_commit(struct sink *sink,
                            const struct source_position *next, uint32_t count,
                            struct err *e)
{
    struct sink_topic *k = self(sink);
    (void)next;
    (void)count;
    TRY(producer_flush(k->producer, PRODUCER_FLUSH_MS, e));
    k->since_commit = 0;
    return RC_OK;
}

static enum rc topic_abort(struct sink *sink, struct err *e)
{
    struct sink_topic *k = self(sink);
    if (k->since_commit == 0) return RC_OK;
    return ERR(e, RC_STOP,
               "topics: %llu messages are sent and cannot be taken back; "
               "empty the topics and run the command again",
               (unsigned long long)k->since_commit);
}

static void topic_close(struct sink *sink)
{
    struct sink_topic *k = self(sink);
    if (k->producer) producer_close(k->producer);
    free(k);
}

static const struct sink_ops OPS = {
    .send = topic_send,
    .commit = topic_commit,
    .abort = topic_abort,
    .close = topic_close,
};

enum rc sink_topic_open(struct sink **out, const struct config *c,
                        struct err *e)
{
    struct sink_topic *k = calloc(1, sizeof *k);
    struct producer_options o = {
        .config = c, .topic_count = OUTPUTS, .bulk = true};
    if (!k) return ERR(e, RC_STOP, "topics: no memory");
    k->sink.ops = &OPS;
    stages_outputs(c, STAGE_USERS, k->topics);
    k->topics[OUTPUT_CHANGELOG] = ""; /* a replay keeps its rows to itself */
    o.topics = k->topics;
    for (uint32_t i = 0; i < OUTPUTS; i++)
        if (!k->topics[i] || !*k->topics[i]) k->sink.ignores |= 1u << i;
    if (producer_open(&k->producer, &o, e) != RC_OK) {
        topic_close(&k->sink);
        return e->rc;
    }
    *out = &k->sink;
    return RC_OK;
}
