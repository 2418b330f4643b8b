#include "restore.h"

#include <assert.h>
#include <stdlib.h>

#include "log.h"
#include "log_reader.h"

enum {
    STEP_NS = 20000000,
    TAIL_RECORDS = 16, /* read first to find the newest marker, then more */
    TAIL_GROWTH = 8,
    LOOK_WAIT_MS = 20000,
    REPORT_MS = 2000,
};

struct restore {
    struct restore_options o;
    struct log_reader *tails;  /* of partitions being assigned; NULL: none */
    struct log_reader *reader; /* NULL: nothing to read */
    struct partition **at, **done;
    uint32_t count, done_count, max;
    uint64_t reported_ns;
};

enum rc restore_new(struct restore **out, const struct restore_options *o,
                    struct err *e)
{
    struct restore *r = calloc(1, sizeof *r);
    if (!r) return ERR(e, RC_STOP, "restore: no memory");
    r->o = *o;
    *out = r;
    return RC_OK;
}

void restore_free(struct restore *r)
{
    if (!r) return;
    log_reader_close(r->tails);
    log_reader_close(r->reader);
    free((void *)r->at);
    free((void *)r->done);
    free(r);
}

uint32_t restore_count(const struct restore *r)
{
    return r->count;
}

void restore_rest(struct restore *r)
{
    log_reader_close(r->tails);
    r->tails = NULL;
    if (r->count > 0) return;
    log_reader_close(r->reader);
    r->reader = NULL;
}

/* --- where the changelog ends ------------------------------------------ */

static enum rc need_tails(struct restore *r, uint32_t partitions, struct err *e)
{
    const char *topic = r->o.changelog;
    uint32_t found;
    if (r->tails) return RC_OK;
    TRY(log_reader_open(&r->tails, r->o.config, topic, true, e));
    found = log_reader_partitions(r->tails);
    if (found == partitions) return RC_OK;
    return ERR(e, RC_STOP,
               "changelog '%s' has %u partitions, '%s' has %u: a partition's "
               "rows go to the one of the same number; make the changelog anew "
               "with `millrace topics --create`, or name another topic",
               topic, found, r->o.topic, partitions);
}

static enum rc decode(const struct restore *r, const struct record *record,
                      struct changelog_record *out, struct err *e)
{
    return changelog_decode(out, r->o.changelog, record, r->o.key_bytes_max, e);
}

/* The newest marker at or after an offset. */
static enum rc read_tail(struct restore *r, int32_t partition, int64_t from,
                         struct changelog_end *out, struct err *e)
{
    uint64_t until_ns = metrics_now_ns() + UINT64_C(1000000) * LOOK_WAIT_MS;
    enum log_reader_found found = LOG_READER_NOTHING;
    struct record record;
    while (found != LOG_READER_END) {
        struct changelog_record c;
        if (metrics_now_ns() > until_ns)
            return ERR(e, RC_AGAIN,
                       "changelog '%s', partition %d: not read to "
                       "its end from %lld in %d s",
                       r->o.changelog, partition, (long long)from,
                       LOOK_WAIT_MS / 1000);
        TRY(log_reader_next(r->tails, 100, &found, &record, e));
        if (found != LOG_READER_RECORD) continue;
        TRY(decode(r, &record, &c, e));
        if (c.kind == CHANGELOG_ROW || c.user.len > 0) continue;
        out->marked = c.kind == CHANGELOG_MARKER;
        out->marker = c.marker;
    }
    return RC_OK;
}

/* Markers are the newest records, but rows of commits that were not finished,
 * and what a transaction leaves, may follow them. */
enum rc restore_look(struct restore *r, int32_t partition, uint32_t partitions,
                     struct changelog_end *out, struct err *e)
{
    int64_t back = TAIL_RECORDS, from;
    enum rc rc;
    *out = (struct changelog_end){0};
    TRY(need_tails(r, partitions, e));
    TRY(log_reader_ends(r->tails, partition, &out->start, &out->end, e));
    do {
        from = out->end - back > out->start ? out->end - back : out->start;
        if (from == out->end) return RC_OK;
        TRY(log_reader_add(r->tails, partition, from, e));
        rc = read_tail(r, partition, from, out, e);
        log_reader_remove(r->tails, partition);
        back *= TAIL_GROWTH;
    } while (rc == RC_OK && !out->marked && from > out->start);
    return rc;
}

/* --- reading ----------------------------------------------------------- */

static struct partition *find(const struct restore *r, int32_t id, uint32_t *at)
{
    for (*at = 0; *at < r->count; ++*at)
        if (r->at[*at]->id == id) return r->at[*at];
    return NULL;
}

static enum rc reserve(struct restore *r, struct err *e)
{
    uint32_t max = r->max ? 2 * r->max : 8;
    struct partition **at, **done;
    if (r->count < r->max) return RC_OK;
    at = (struct partition **)realloc((void *)r->at, max * sizeof *at);
    if (at) r->at = at;
    done = (struct partition **)realloc((void *)r->done, max * sizeof *done);
    if (done) r->done = done;
    if (!at || !done) return ERR(e, RC_STOP, "restore: no memory");
    r->max = max;
    return RC_OK;
}

/* Of all that are at it: what is left, and which part is done. */
static void report(struct restore *r, bool log)
{
    int64_t all = 0, left = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct changelog_copy *c = state_copy(r->at[i]);
        int64_t size = c->end - c->from, rest = c->end - c->next;
        all += size;
        left += rest;
        if (!log) continue;
        LOG(INFO, "RESTORE",
            "partition=%d rows=%llu offsets_left=%lld percent=%.0f",
            r->at[i]->id, (unsigned long long)c->rows, (long long)rest,
            size > 0 ? 100.0 * (double)(size - rest) / (double)size : 100.0);
    }
    metrics_gauge(r->o.metrics, GAUGE_partitions_restoring, r->count);
    metrics_gauge(r->o.metrics, GAUGE_restore_left, (double)left);
    metrics_gauge(r->o.metrics, GAUGE_restore_done,
                  all > 0 ? (double)(all - left) / (double)all : 1);
}

enum rc restore_begin(struct restore *r, struct partition *p, struct err *e)
{
    const struct changelog_copy *c = state_copy(p);
    uint32_t at;
    if (find(r, p->id, &at)) return RC_OK;
    TRY(reserve(r, e));
    if (!r->reader)
        TRY(log_reader_open(&r->reader, r->o.config, r->o.changelog, false, e));
    TRY(log_reader_add(r->reader, p->id, c->next, e));
    r->at[r->count++] = p;
    LOG(INFO, "RESTORE", "partition=%d begins at %lld of %lld in '%s'", p->id,
        (long long)c->next, (long long)c->end, r->o.changelog);
    report(r, false);
    return RC_OK;
}

static void leave(struct restore *r, uint32_t at)
{
    log_reader_remove(r->reader, r->at[at]->id);
    r->at[at] = r->at[--r->count];
    report(r, false);
}

void restore_cancel(struct restore *r, const struct partition *p)
{
    uint32_t at;
    if (!find(r, p->id, &at)) return;
    leave(r, at);
    restore_rest(r);
}

static enum rc take(struct restore *r, enum log_reader_found found,
                    const struct record *record, struct err *e)
{
    struct changelog_record c;
    uint32_t at;
    struct partition *p = find(r, record->partition, &at);
    if (!p) return RC_OK;
    if (found == LOG_READER_RECORD) {
        TRY(decode(r, record, &c, e));
        TRY(changelog_copy_take(state_copy(p), &c, record->offset, e));
        metrics_add(r->o.metrics, COUNT_restore_rows,
                    c.kind != CHANGELOG_MARKER);
        return RC_OK;
    }
    TRY(changelog_copy_end(state_copy(p), record->offset, e));
    LOG(INFO, "RESTORED", "partition=%d rows=%llu checkpoint=%lld", p->id,
        (unsigned long long)state_copy(p)->rows,
        (long long)state_copy(p)->meta.checkpoint);
    leave(r, at);
    r->done[r->done_count++] = p;
    return RC_OK;
}

enum rc restore_step(struct restore *r, uint32_t wait_ms,
                     struct partition *const **done, uint32_t *count,
                     struct err *e)
{
    uint64_t from_ns = metrics_now_ns(), now_ns = from_ns;
    enum log_reader_found found;
    struct record record;
    r->done_count = 0;
    while (r->count > 0 && now_ns < from_ns + STEP_NS) {
        TRY(log_reader_next(r->reader, wait_ms, &found, &record, e));
        if (found == LOG_READER_NOTHING) break;
        TRY(take(r, found, &record, e));
        wait_ms = 0;
        now_ns = metrics_now_ns();
    }
    if (now_ns - r->reported_ns > REPORT_MS * UINT64_C(1000000)) {
        report(r, true);
        r->reported_ns = now_ns;
    }
    *done = r->done;
    *count = r->done_count;
    if (r->done_count > 0) restore_rest(r);
    return RC_OK;
}
