#include "sink_kafka.h"

#include <assert.h>
#include <stdlib.h>

#include "log.h"
#include "outputs.h"
#include "producer.h"
#include "source_kafka.h"
#include "topic_limits.h"

enum {
    FLUSH_WAIT_MS = 30000,  /* as long as a message may take to be delivered */
    COMMIT_WAIT_MS = 15000, /* one call of the transaction's coordinator */
    INIT_WAIT_MS = 30000,   /* the coordinator may have to end an open one */
    OFFSETS_WAIT_MS = 15000,
    SETTLE_US = 5000, /* see begin */
    HEADERS_OMITTED = 2,
    ROW_KEY_BYTES = 4352,       /* beside a row in its message */
    CLIENT_BYTES_MAX = 1000000, /* librdkafka's message.max.bytes */
};

struct kafka_sink {
    struct sink base;
    struct sink_kafka_options o;
    struct producer *producer;
    rd_kafka_t *consumer;
    bool open;                  /* a transaction has begun */
    uint64_t committed_ns;      /* when the last one was committed */
    rd_kafka_queue_t *answers;  /* of offset commits */
    uint64_t message_bytes_max; /* the output topics' least; 0: not known */
};

static struct kafka_sink *self(struct sink *k)
{
    return (struct kafka_sink *)k;
}

static bool exactly_once(const struct kafka_sink *k)
{
    return k->o.transactional_id != NULL;
}

/* ---- the producer ----------------------------------------------------- */

static enum rc init_transactions(struct kafka_sink *k, struct err *e)
{
    rd_kafka_error_t *error =
        rd_kafka_init_transactions(producer_handle(k->producer), INIT_WAIT_MS);
    enum rc rc;

    if (!error) return RC_OK;
    rc = rd_kafka_error_is_retriable(error)
             ? RC_AGAIN
             : kafka_error_rc(rd_kafka_error_code(error));
    rc = ERR(e, rc, "kafka: taking transactional id '%s': %s",
             k->o.transactional_id, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return rc;
}

/* A new producer with the same transactional id: the coordinator completes
 * or aborts what the one before left open, before it lets this one in. */
static enum rc renew_producer(struct kafka_sink *k, struct err *e)
{
    struct producer_options o = {
        .config = k->o.config,
        .topics = k->o.topics,
        .topic_count = OUTPUTS,
        .transactional_id = k->o.transactional_id,
        .message_bytes_max = k->message_bytes_max,
    };
    enum rc rc;

    producer_close(k->producer);
    k->producer = NULL;
    k->open = false;
    TRY(producer_open(&k->producer, &o, e));
    rc = exactly_once(k) ? init_transactions(k, e) : RC_OK;
    if (rc != RC_OK) {
        producer_close(k->producer);
        k->producer = NULL;
    }
    return rc;
}

/* A failed attempt to renew may have left none. */
static enum rc need_producer(struct kafka_sink *k, struct err *e)
{
    return k->producer ? RC_OK : renew_producer(k, e);
}

/* True if the producer can do no more, but a new one could. That holds for
 * a fenced one too: its transaction may only have timed out. Of two processes
 * that run with one id, the group stops one through its consumer. */
static bool producer_broken(struct kafka_sink *k)
{
    char text[KAFKA_ERROR_BYTES];
    return rd_kafka_fatal_error(producer_handle(k->producer), text,
                                sizeof text) != 0;
}

/* ---- send ------------------------------------------------------------- */

/* The coordinator answers a commit before it has written the commit's
 * markers, and whoever adds a partition until then is told to come again:
 * librdkafka does so 20 ms later. Waiting a little first is what a quiet
 * topic gains by; under load the time has passed long ago. */
static void let_settle(const struct kafka_sink *k)
{
    uint64_t passed_us = (metrics_now_ns() - k->committed_ns) / 1000;
    struct timespec rest;

    if (passed_us >= SETTLE_US) return;
    rest = (struct timespec){.tv_nsec = (long)(SETTLE_US - passed_us) * 1000};
    (void)nanosleep(&rest, NULL);
}

static enum rc begin(struct kafka_sink *k, struct err *e)
{
    rd_kafka_error_t *error;
    enum rc rc;

    if (k->open) return RC_OK;
    let_settle(k);
    error = rd_kafka_begin_transaction(producer_handle(k->producer));
    if (!error) {
        k->open = true;
        return RC_OK;
    }
    rc = ERR(e, RC_AGAIN, "kafka: beginning a transaction: %s",
             rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return rc;
}

static uint32_t add_omitted(struct header *h, uint32_t count, const char *name)
{
    h[count] = (struct header){slice_str(name), slice_str("omitted")};
    return count + 1;
}

/* A dead letter without its value, or without all but its reason. What was
 * left out is said next to it, before the input's own headers. */
static enum rc send_shortened(struct kafka_sink *k, const struct message *m,
                              bool reason_only, struct err *e)
{
    struct header h[DEAD_LETTER_HEADERS + HEADERS_OMITTED + SOURCE_HEADERS_MAX];
    struct message less = *m;
    uint32_t count = DEAD_LETTER_HEADERS, own = m->header_count - count;

    assert(m->header_count >= count && own <= SOURCE_HEADERS_MAX);
    memcpy(h, m->headers, count * sizeof *h);
    if (m->value.len > 0) count = add_omitted(h, count, DEAD_LETTER_VALUE);
    if (reason_only) count = add_omitted(h, count, DEAD_LETTER_KEY);
    if (reason_only) own = 0;
    memcpy(h + count, m->headers + DEAD_LETTER_HEADERS, own * sizeof *h);
    less.value = slice_of(NULL, 0);
    if (reason_only) less.key = slice_of(NULL, 0);
    less.headers = h;
    less.header_count = count + own;
    return producer_send(k->producer, m->output, &less, e);
}

/* Losing an unusable record's place is worse than losing its bytes. */
static enum rc send_dead_letter(struct kafka_sink *k, const struct message *m,
                                struct err *e)
{
    enum rc rc = producer_send(k->producer, m->output, m, e);

    if (rc != RC_STOP || producer_broken(k)) return rc;
    if (k->o.metrics) metrics_add(k->o.metrics, COUNT_dead_letters_cut, 1);
    rc = send_shortened(k, m, false, e);
    return rc == RC_STOP ? send_shortened(k, m, true, e) : rc;
}

static enum rc send_one(struct kafka_sink *k, const struct message *m,
                        struct err *e)
{
    enum rc rc = m->output == OUTPUT_DEAD_LETTERS
                     ? send_dead_letter(k, m, e)
                     : producer_send(k->producer, m->output, m, e);

    return rc == RC_STOP && producer_broken(k) ? (e->rc = RC_AGAIN) : rc;
}

static enum rc kafka_send(struct sink *sink, const struct message *m,
                          uint32_t count, struct err *e)
{
    struct kafka_sink *k = self(sink);

    TRY(need_producer(k, e));
    if (exactly_once(k) && count > 0) TRY(begin(k, e));
    for (uint32_t i = 0; i < count; i++) {
        if (producer_has_topic(k->producer, m[i].output))
            TRY(send_one(k, &m[i], e));
    }
    /* Serves failed deliveries, which the next commit reports. */
    (void)rd_kafka_poll(producer_handle(k->producer), 0);
    return RC_OK;
}

/* ---- offsets ---------------------------------------------------------- */

static rd_kafka_topic_partition_list_t *
offset_list(const struct kafka_sink *k, const struct source_position *next,
            uint32_t count)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)count);
    for (uint32_t i = 0; i < count; i++) {
        if (next[i].offset < 0) continue; /* nothing read of it yet */
        rd_kafka_topic_partition_list_add(
            list, source_kafka_topic(k->o.source, next[i].input),
            next[i].partition)
            ->offset = next[i].offset;
    }
    return list;
}

/* An answer that comes too late must not be taken for that of the next
 * commit: it goes down with its queue. */
static void renew_answers(struct kafka_sink *k)
{
    rd_kafka_queue_destroy(k->answers);
    k->answers = rd_kafka_queue_new(k->consumer);
}

/* The answer is waited for on a queue of our own, so that the wait has an
 * end and no callback of the consumer runs meanwhile. */
static enum rc commit_offsets(struct kafka_sink *k,
                              const rd_kafka_topic_partition_list_t *list,
                              struct err *e)
{
    rd_kafka_resp_err_t error =
        rd_kafka_commit_queue(k->consumer, list, k->answers, NULL, NULL);
    rd_kafka_event_t *answer;

    if (!error) {
        answer = rd_kafka_queue_poll(k->answers, k->o.offsets_wait_ms);
        error = answer ? rd_kafka_event_error(answer)
                       : RD_KAFKA_RESP_ERR__TIMED_OUT;
        if (answer)
            rd_kafka_event_destroy(answer);
        else
            renew_answers(k);
    }
    if (!error || error == RD_KAFKA_RESP_ERR__NO_OFFSET) return RC_OK;
    return ERR(e, kafka_error_rc(error), "kafka: committing offsets: %s",
               rd_kafka_err2str(error));
}

/* Did the transaction whose outcome nobody told commit these offsets? It did
 * all of it or nothing. A partition that stands further on has a new owner
 * already, who began where this transaction left it: it says nothing against
 * a commit, and what is read of it here goes to nobody. */
static enum rc was_committed(struct kafka_sink *k,
                             const rd_kafka_topic_partition_list_t *list,
                             bool *committed, struct err *e)
{
    rd_kafka_topic_partition_list_t *found =
        rd_kafka_topic_partition_list_copy(list);
    rd_kafka_resp_err_t error =
        rd_kafka_committed(k->consumer, found, k->o.offsets_wait_ms);

    *committed = true;
    for (int i = 0; !error && i < list->cnt; i++) {
        error = found->elems[i].err;
        if (found->elems[i].offset < list->elems[i].offset) *committed = false;
    }
    rd_kafka_topic_partition_list_destroy(found);
    if (!error) return RC_OK;
    return ERR(e, kafka_error_rc(error),
               "kafka: asking whether a commit happened: %s",
               rd_kafka_err2str(error));
}

/* ---- exactly once ----------------------------------------------------- */

/* How a call of the transactional producer went. */
enum txn_outcome { TXN_DONE, TXN_TO_ABORT, TXN_UNKNOWN, TXN_BROKEN };

/* Takes error. */
static enum txn_outcome judge(rd_kafka_error_t *error, const char *doing,
                              struct err *e)
{
    enum txn_outcome outcome = TXN_UNKNOWN;

    if (!error) return TXN_DONE;
    if (rd_kafka_error_is_fatal(error))
        outcome = TXN_BROKEN;
    else if (rd_kafka_error_txn_requires_abort(error))
        outcome = TXN_TO_ABORT;
    /* What a right is missing for will miss it again. */
    (void)ERR(
        e, kafka_is_forbidden(rd_kafka_error_code(error)) ? RC_STOP : RC_AGAIN,
        "kafka: %s: %s", doing, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return outcome;
}

static enum txn_outcome
send_offsets(struct kafka_sink *k, const rd_kafka_topic_partition_list_t *list,
             struct err *e)
{
    /* Anew every time: its generation is what fences a zombie. */
    rd_kafka_consumer_group_metadata_t *group =
        rd_kafka_consumer_group_metadata(k->consumer);
    enum txn_outcome outcome;

    if (!group) {
        (void)ERR(e, RC_AGAIN, "kafka: no group metadata");
        return TXN_TO_ABORT;
    }
    outcome =
        judge(rd_kafka_send_offsets_to_transaction(producer_handle(k->producer),
                                                   list, group, COMMIT_WAIT_MS),
              "adding offsets to the transaction", e);
    rd_kafka_consumer_group_metadata_destroy(group);
    return outcome;
}

/* A call that timed out goes on in the background; calling again resumes it. */
static enum txn_outcome end_transaction(struct kafka_sink *k, struct err *e)
{
    rd_kafka_t *rk = producer_handle(k->producer);
    rd_kafka_error_t *error = rd_kafka_commit_transaction(rk, COMMIT_WAIT_MS);

    if (error && rd_kafka_error_is_retriable(error)) {
        rd_kafka_error_destroy(error);
        error = rd_kafka_commit_transaction(rk, COMMIT_WAIT_MS);
    }
    return judge(error, "committing a transaction", e);
}

/* Leaves a producer that can begin anew, or says why not. */
static enum rc abort_transaction(struct kafka_sink *k, struct err *e)
{
    struct err why;
    enum txn_outcome outcome;

    if (!k->open) return producer_broken(k) ? renew_producer(k, e) : RC_OK;
    if (k->o.metrics) metrics_add(k->o.metrics, COUNT_commits_aborted, 1);
    outcome = judge(rd_kafka_abort_transaction(producer_handle(k->producer),
                                               COMMIT_WAIT_MS),
                    "aborting a transaction", &why);
    k->open = false;
    producer_purge(k->producer);
    if (outcome == TXN_DONE) return RC_OK;
    LOG(WARN, "TXNRENEW", "%s", why.text);
    return renew_producer(k, e);
}

/* The producer gave no answer, or cannot go on: a new one settles what is
 * open, then the group's offsets say which way. */
static enum rc settle(struct kafka_sink *k,
                      const rd_kafka_topic_partition_list_t *list,
                      struct err *e)
{
    struct err why = *e;
    bool committed;

    LOG(WARN, "TXNSETTLE", "%s", why.text);
    /* While nobody tells, to go on as if it were not would score twice. */
    if (renew_producer(k, e) != RC_OK ||
        was_committed(k, list, &committed, e) != RC_OK) {
        (void)err_context(e, "outcome of a transaction unknown; a restart "
                             "goes on from the group's offsets");
        return e->rc = RC_STOP;
    }
    LOG(INFO, "TXNSETTLED", "committed=%d", committed);
    return committed ? RC_OK : ERR(e, why.rc, "%s", why.text);
}

static enum rc commit_transaction(struct kafka_sink *k,
                                  const rd_kafka_topic_partition_list_t *list,
                                  struct err *e)
{
    enum txn_outcome outcome;
    struct err why;

    TRY(begin(k, e));
    outcome = send_offsets(k, list, e);
    if (outcome == TXN_DONE)
        outcome = end_transaction(k, e);
    else if (outcome == TXN_UNKNOWN)
        outcome = TXN_TO_ABORT; /* not ended: abort */
    if (outcome == TXN_DONE) {
        k->open = false;
        k->committed_ns = metrics_now_ns();
        return RC_OK;
    }
    if (outcome != TXN_TO_ABORT) return settle(k, list, e);
    why = *e;
    TRY(abort_transaction(k, e));
    *e = why;
    return e->rc;
}

/* ---- the interface ---------------------------------------------------- */

static enum rc commit_acknowledged(struct kafka_sink *k,
                                   const rd_kafka_topic_partition_list_t *list,
                                   struct err *e)
{
    enum rc rc = producer_flush(k->producer, FLUSH_WAIT_MS, e);

    if (rc == RC_OK) return list->cnt == 0 ? RC_OK : commit_offsets(k, list, e);
    if (rc == RC_AGAIN && producer_broken(k)) {
        struct err why = *e;
        TRY(renew_producer(k, e));
        *e = why;
    }
    return rc;
}

static enum rc kafka_commit(struct sink *sink,
                            const struct source_position *next, uint32_t count,
                            struct err *e)
{
    struct kafka_sink *k = self(sink);
    rd_kafka_topic_partition_list_t *list;
    enum rc rc;

    TRY(need_producer(k, e));
    if (count == 0 && exactly_once(k) && !k->open) return RC_OK;
    list = offset_list(k, next, count);
    rc = exactly_once(k) ? commit_transaction(k, list, e)
                         : commit_acknowledged(k, list, e);
    rd_kafka_topic_partition_list_destroy(list);
    return rc;
}

static enum rc kafka_abort(struct sink *sink, struct err *e)
{
    struct kafka_sink *k = self(sink);

    TRY(need_producer(k, e));
    if (exactly_once(k)) return abort_transaction(k, e);
    producer_purge(k->producer);
    return producer_broken(k) ? renew_producer(k, e) : RC_OK;
}

static void kafka_close(struct sink *sink)
{
    struct kafka_sink *k = self(sink);
    struct err e;

    /* Others that read only what is committed need not wait for the
     * transaction's time-out. */
    if (k->producer && k->open && abort_transaction(k, &e) != RC_OK)
        LOG(WARN, "TXNABORT", "%s", e.text);
    producer_close(k->producer);
    if (k->answers) rd_kafka_queue_destroy(k->answers);
    free(k);
}

static const struct sink_ops OPS = {kafka_send, kafka_commit, kafka_abort,
                                    kafka_close};

/* A row that the topic or the client would refuse could not be restored. */
static enum rc check_changelog(const struct kafka_sink *k,
                               const struct topic_limits *limits, struct err *e)
{
    const struct config *c = k->o.config;
    const char *own = kafka_property(c, KAFKA_PRODUCER, "message.max.bytes");
    uint64_t client = own ? strtoull(own, NULL, 10) : CLIENT_BYTES_MAX;
    uint64_t message = c->changelog_row_bytes_max + ROW_KEY_BYTES;
    uint64_t needed = c->changelog_row_bytes_max + SINK_KAFKA_ROW_EXTRA_BYTES;

    if (client < needed)
        return ERR(e, RC_STOP,
                   "changelog.row.bytes.max = %llu: the client takes messages "
                   "of %llu bytes; set kafka.producer.message.max.bytes = %llu",
                   (unsigned long long)c->changelog_row_bytes_max,
                   (unsigned long long)client, (unsigned long long)needed);
    /* The least of all topics is what the one producer sends at most. */
    if (k->message_bytes_max > 0 && k->message_bytes_max < message)
        return ERR(e, RC_STOP,
                   "changelog.row.bytes.max = %llu: one of the output topics, "
                   "'%s' among them, takes messages of %llu bytes; set its "
                   "max.message.bytes to %llu, or lower the option",
                   (unsigned long long)c->changelog_row_bytes_max,
                   k->o.topics[OUTPUT_CHANGELOG],
                   (unsigned long long)k->message_bytes_max,
                   (unsigned long long)needed);
    if (limits->known && !limits->compacted)
        return ERR(e, RC_STOP,
                   "kafka: changelog topic '%s' is not compacted, so it would "
                   "lose users' rows by age or grow for ever; set its "
                   "cleanup.policy to compact",
                   k->o.topics[OUTPUT_CHANGELOG]);
    return RC_OK;
}

/* Dead letters may have no key, and a compacted topic refuses those. */
static enum rc ask_limits(struct kafka_sink *k, struct err *e)
{
    struct topic_limits limits[OUTPUTS];
    uint64_t bytes;

    TRY(topic_limits_ask(k->consumer, k->o.topics, OUTPUTS, limits, e));
    if (limits[OUTPUT_DEAD_LETTERS].compacted)
        return ERR(e, RC_STOP,
                   "kafka: topic '%s' is compacted, which refuses dead letters "
                   "without a key; set its cleanup.policy to delete",
                   k->o.topics[OUTPUT_DEAD_LETTERS]);
    bytes = topic_limits_message_bytes(limits, OUTPUTS);
    k->message_bytes_max = bytes == UINT64_MAX ? 0 : bytes;
    if (k->base.ignores & (1u << OUTPUT_CHANGELOG)) return RC_OK;
    return check_changelog(k, &limits[OUTPUT_CHANGELOG], e);
}

enum rc sink_kafka_open(struct sink **out, const struct sink_kafka_options *o,
                        struct err *e)
{
    struct kafka_sink *k = calloc(1, sizeof *k);
    enum rc rc;

    if (!k) return ERR(e, RC_STOP, "kafka: no memory for a sink");
    k->base.ops = &OPS;
    k->o = *o;
    if (k->o.offsets_wait_ms == 0) k->o.offsets_wait_ms = OFFSETS_WAIT_MS;
    k->consumer = source_kafka_handle(o->source);
    for (uint32_t i = 0; i < OUTPUTS; i++)
        if (!o->topics[i] || !*o->topics[i]) k->base.ignores |= 1u << i;
    k->answers = rd_kafka_queue_new(k->consumer);
    rc = ask_limits(k, e);
    if (rc == RC_OK) rc = renew_producer(k, e);
    if (rc != RC_OK) {
        kafka_close(&k->base);
        return rc;
    }
    *out = &k->base;
    return RC_OK;
}
