#include "redrive.h"

#include <stdlib.h>
#include <string.h>

#include "producer.h"
#include "source_kafka.h"

enum {
    BATCH_EVENTS = 256,
    POLL_WAIT_MS = 1000,
    CHUNK = 500, /* letters in a transaction */
    NUMBER_BYTES = 24,
    TIMES_BYTES = 16,
    ID_BYTES = 300,
    INIT_WAIT_MS = 30000,
    COMMIT_WAIT_MS = 30000,
};

enum { TOPIC_BACK, TOPIC_DEAD_LETTERS, TOPICS };

bool redrive_wants(const struct redrive_filter *f, const struct dead_letter *d)
{
    if (f->reason && !slice_equal(d->reason, slice_str(f->reason)))
        return false;
    if (f->partition >= 0 && d->partition != f->partition) return false;
    return d->timestamp_ms >= f->since_ms && d->timestamp_ms < f->until_ms;
}

/* --- reading ----------------------------------------------------------- */

typedef enum rc record_fn(void *user, const struct record *r, struct err *e);

/* Every record of the topic up to its present end. */
static enum rc each_record(const struct redrive_scan *s, struct source *source,
                           struct batch *b, record_fn *fn, void *user,
                           struct err *e)
{
    uint64_t done = 0;
    while (!source_ended(source)) {
        struct source_change change;
        TRY(source_change(source, &change, e));
        if (change.kind == SOURCE_ASSIGNED)
            TRY(source_assign(source, change.positions, change.count, e));
        batch_reset(b);
        TRY(source_poll(source, b, POLL_WAIT_MS, e));
        for (uint32_t i = 0; i < b->count; i++)
            TRY(fn(user, &b->records[i], e));
        done += b->count;
        source_release(source);
        if (s->progress)
            s->progress(s->user, done, source_range_records(source));
    }
    return RC_OK;
}

static enum rc read_topic(const struct redrive_scan *s, record_fn *fn,
                          void *user, struct err *e)
{
    const struct topic_range range = {.topic = s->config->dead_letters_topic,
                                      .partition = -1,
                                      .until = -1,
                                      .dead_letters = true};
    struct source *source;
    struct batch batch;
    enum rc rc;
    TRY(batch_init(&batch, BATCH_EVENTS, e));
    rc = source_range_open(&source, s->config, &range, BATCH_EVENTS, e);
    if (rc == RC_OK) {
        rc = each_record(s, source, &batch, fn, user, e);
        source_close(source);
    }
    batch_fini(&batch);
    return rc;
}

/* A foreign record that looks like a mark marks nothing. */
static enum rc add_mark(void *user, const struct record *r, struct err *e)
{
    struct dead_letter d;
    if (dead_letter_read(r, &d) != DEAD_LETTER_IS_MARK) return RC_OK;
    if (dead_letter_add_mark(user, r, e) == RC_STOP) return RC_STOP;
    return RC_OK;
}

struct looking {
    const struct redrive_scan *scan;
    struct dead_letter_marks marks;
};

static enum rc look(void *user, const struct record *r, struct err *e)
{
    const struct looking *l = user;
    struct dead_letter d;
    enum dead_letter_kind kind = dead_letter_read(r, &d);
    if (kind == DEAD_LETTER_IS_MARK) return RC_OK;
    return l->scan->look(l->scan->user, r,
                         kind == DEAD_LETTER_IS_LETTER ? &d : NULL,
                         dead_letter_is_marked(&l->marks, r), e);
}

enum rc redrive_read(const struct redrive_scan *s, struct err *e)
{
    struct looking l = {.scan = s};
    enum rc rc = read_topic(s, add_mark, &l.marks, e);
    if (rc == RC_OK) rc = read_topic(s, look, &l, e);
    dead_letter_marks_fini(&l.marks);
    return rc;
}

/* --- sending ----------------------------------------------------------- */

struct redrive {
    const struct redrive_options *o;
    struct redrive_result *out;
    struct producer *producer; /* NULL: a dry run */
    const char *back;          /* topic of TOPIC_BACK */
    bool open;                 /* a transaction is */
    uint32_t count;            /* letters in it */
    int32_t partitions[CHUNK];
    int64_t offsets[CHUNK];
};

/* takes error */
static enum rc failed(rd_kafka_error_t *error, const char *doing, struct err *e)
{
    enum rc rc = rd_kafka_error_is_retriable(error) ||
                         rd_kafka_error_txn_requires_abort(error)
                     ? RC_AGAIN
                     : RC_STOP;
    (void)ERR(e, rc, "redrive: %s: %s", doing, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return rc;
}

static enum rc open_producer(struct redrive *r, struct err *e)
{
    const struct config *c = r->o->config;
    const char *topics[TOPICS] = {
        [TOPIC_BACK] = r->back, [TOPIC_DEAD_LETTERS] = c->dead_letters_topic};
    char id[ID_BYTES];
    const struct producer_options o = {.config = c,
                                       .topics = topics,
                                       .topic_count = TOPICS,
                                       .transactional_id = id};
    rd_kafka_error_t *error;
    (void)snprintf(id, sizeof id, "%s.redrive", c->group_id);
    TRY(producer_open(&r->producer, &o, e));
    error =
        rd_kafka_init_transactions(producer_handle(r->producer), INIT_WAIT_MS);
    return error ? failed(error, "taking its transactional id", e) : RC_OK;
}

/* Every partition's mark, once: "12,13,20". */
static enum rc send_marks(struct redrive *r, struct err *e)
{
    static char text[CHUNK * NUMBER_BYTES];
    for (uint32_t i = 0; i < r->count; i++) {
        size_t used = 0;
        if (r->partitions[i] < 0) continue; /* done with an earlier one */
        for (uint32_t k = r->count; k-- > i;) {
            if (r->partitions[k] != r->partitions[i]) continue;
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%lld",
                                     used ? "," : "", (long long)r->offsets[k]);
            if (k > i) r->partitions[k] = -1;
        }
        const struct header header = {slice_str(DEAD_LETTER_MARK),
                                      slice_of(text, used)};
        const struct message mark = {.headers = &header, .header_count = 1};
        TRY(producer_send_to(r->producer, TOPIC_DEAD_LETTERS, r->partitions[i],
                             &mark, e));
    }
    return RC_OK;
}

static enum rc commit(struct redrive *r, struct err *e)
{
    rd_kafka_error_t *error;
    if (!r->open) return RC_OK;
    TRY(send_marks(r, e));
    error = rd_kafka_commit_transaction(producer_handle(r->producer),
                                        COMMIT_WAIT_MS);
    if (error) return failed(error, "committing", e);
    r->open = false;
    r->out->redriven += r->count;
    r->count = 0;
    return RC_OK;
}

static enum rc send_back(struct redrive *r, const struct record *letter,
                         const struct dead_letter *d, struct err *e)
{
    struct header headers[SOURCE_HEADERS_MAX + SOURCE_HEADERS_OURS + 1];
    char times[TIMES_BYTES];
    struct message m = {.timestamp_ms = d->timestamp_ms,
                        .key = letter->key,
                        .value = letter->value,
                        .headers = headers};
    (void)snprintf(times, sizeof times, "%u", d->redriven + 1);
    m.header_count = dead_letter_headers(letter, times, headers);
    if (!r->open) {
        rd_kafka_error_t *error =
            rd_kafka_begin_transaction(producer_handle(r->producer));
        if (error) return failed(error, "beginning a transaction", e);
        r->open = true;
    }
    r->partitions[r->count] = letter->partition;
    r->offsets[r->count++] = letter->offset;
    if (r->o->to) return producer_send(r->producer, TOPIC_BACK, &m, e);
    return producer_send_to(r->producer, TOPIC_BACK, d->partition, &m, e);
}

/* Where this letter goes; NULL: it is sent. */
static uint64_t *stays(struct redrive *r, const struct dead_letter *d,
                       bool marked)
{
    struct redrive_result *out = r->out;
    if (marked) return &out->before;
    if (d->omitted) return &out->omitted;
    if (d->redriven >= r->o->times_max) return &out->too_often;
    if (r->o->max > 0 && out->redriven + r->count >= r->o->max)
        return &out->beyond;
    return NULL;
}

static enum rc take_letter(void *user, const struct record *letter,
                           const struct dead_letter *d, bool marked,
                           struct err *e)
{
    struct redrive *r = user;
    uint64_t *count;
    if (!d) {
        r->out->foreign++;
        return RC_OK;
    }
    if (!redrive_wants(&r->o->filter, d)) return RC_OK;
    count = stays(r, d, marked);
    if (count) {
        ++*count;
        return RC_OK;
    }
    if (!r->o->to && !slice_equal(d->topic, slice_str(r->back)))
        return ERR(e, RC_STOP,
                   "redrive: partition %d, offset %lld came from topic %.*s, "
                   "input.topic is %s; give --to TOPIC, or the configuration "
                   "of the other",
                   letter->partition, (long long)letter->offset,
                   (int)d->topic.len, (const char *)d->topic.ptr, r->back);
    if (!r->producer) {
        r->out->redriven++;
        return RC_OK;
    }
    TRY(send_back(r, letter, d, e));
    return r->count == CHUNK ? commit(r, e) : RC_OK;
}

static void report(void *user, uint64_t done, uint64_t all)
{
    const struct redrive *r = user;
    if (r->o->progress) r->o->progress(r->o->user, done, all);
}

enum rc redrive_run(const struct redrive_options *o, struct redrive_result *out,
                    struct err *e)
{
    struct redrive *r = calloc(1, sizeof *r);
    const struct redrive_scan scan = {.config = o->config,
                                      .look = take_letter,
                                      .progress = report,
                                      .user = r};
    enum rc rc = RC_OK;

    *out = (struct redrive_result){0};
    if (!r) return ERR(e, RC_STOP, "redrive: no memory");
    r->o = o;
    r->out = out;
    r->back = o->to ? o->to : o->config->input_topic;
    if (!o->dry_run) rc = open_producer(r, e);
    if (rc == RC_OK) rc = redrive_read(&scan, e);
    if (rc == RC_OK) rc = commit(r, e);
    /* What is open ends with the producer's id: the next one that takes it
     * undoes it, and so does the transaction's time-out. */
    if (r->open)
        rd_kafka_error_destroy(rd_kafka_abort_transaction(
            producer_handle(r->producer), COMMIT_WAIT_MS));
    producer_close(r->producer);
    free(r);
    return rc;
}
