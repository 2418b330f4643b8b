/* forget.c - see forget.h. */
#include "forget.h"

#include <stdlib.h>
#include <unistd.h>

#include "changelog.h"
#include "log_input.h"
#include "log_reader.h"
#include "partition.h"
#include "stages.h"
#include "store.h"
#include "user_row.h"

enum {
    SAMPLE_RECORDS = 200,
    POLL_WAIT_MS = 1000,
    READER_MEMORY_BYTES = 16 << 20,
    OPEN_TRIES = 5,
    OPEN_PAUSE_US = 100000,
};

/* --- the topic --------------------------------------------------------- */

static enum rc check_record(const struct forget_topic *t,
                            const struct record *r, const struct event *ev,
                            struct err *e)
{
    const char *topic = stages_topic(t->config, STAGE_USERS, INPUT_EVENTS);
    if (ev->bad != BAD_NONE || ev->forget) return RC_OK;
    if (!slice_equal(r->key, ev->user))
        return ERR(e, RC_STOP,
                   "topic %s: the key of the record at partition %d, offset "
                   "%lld is not its user (role.user); a user can be forgotten "
                   "only where events are keyed by user",
                   topic, r->partition, (long long)r->offset);
    if (!t->any_partition &&
        partition_of(r->key, t->partitions) != r->partition)
        return ERR(e, RC_STOP,
                   "topic %s: the record at partition %d, offset %lld is not "
                   "where murmur2 puts its key, so producers use another "
                   "partitioner; say with --partition where the user's events "
                   "are",
                   topic, r->partition, (long long)r->offset);
    return RC_OK;
}

static enum rc assign(struct source *s, struct err *e)
{
    struct source_change change;
    TRY(source_change(s, &change, e));
    if (change.kind != SOURCE_ASSIGNED) return RC_OK; /* nothing there */
    return source_assign(s, change.positions, change.count, e);
}

static enum rc read_sample(const struct forget_topic *t, struct log_input *in,
                           struct batch *b, struct err *e)
{
    TRY(assign(in->source, e));
    while (!source_ended(in->source)) {
        batch_reset(b);
        TRY(source_poll(in->source, b, POLL_WAIT_MS, e));
        event_decode(in->mapping, b);
        for (uint32_t i = 0; i < b->count; i++)
            TRY(check_record(t, &b->records[i], &b->events[i], e));
        source_release(in->source);
    }
    return RC_OK;
}

enum rc forget_check(const struct forget_topic *t, struct err *e)
{
    const struct config *c = t->config;
    const struct topic_range range = {
        .topic = stages_topic(c, STAGE_USERS, INPUT_EVENTS),
        .partition = t->partition,
        .from = t->log_end > SAMPLE_RECORDS ? t->log_end - SAMPLE_RECORDS : 0,
        .until = t->log_end,
    };
    const struct log_labels none = {0};
    struct log_input in;
    struct batch b = {0};
    enum rc rc;
    TRY(log_input_open(&in, c, NULL, 0, &range, &none, e));
    rc = batch_init(&b, c->batch_events_max, e);
    if (rc == RC_OK) rc = read_sample(t, &in, &b, e);
    batch_fini(&b);
    log_input_close(&in);
    return rc;
}

/* --- the store --------------------------------------------------------- */

struct looking {
    struct forget_look *out;
    struct store *store;
    const char *start; /* "users/TOPIC/" */
    struct slice user;
    int32_t partition;
    int64_t offset;
};

/* A row that cannot be read may hold anything. */
static bool is_newer(const struct looking *l, int32_t partition,
                     struct slice row)
{
    struct err ignored;
    int64_t applied, newest_ms;
    return partition == l->partition && l->offset != INT64_MAX &&
           user_row_head(l->user, row, &applied, &newest_ms, &ignored) ==
               RC_OK &&
           applied > l->offset;
}

static enum rc look_into(void *user, const char *name,
                         const struct family_meta *meta, bool found,
                         struct err *e)
{
    struct looking *l = user;
    int64_t forgotten, erased;
    int32_t partition;
    uint8_t *row;
    size_t size;
    (void)meta;
    (void)found;
    if (strncmp(name, l->start, strlen(l->start)) != 0) return RC_OK;
    partition = (int32_t)atoi(name + strlen(l->start));
    TRY(store_forgotten(l->store, name, &forgotten, &erased, e));
    if (erased < forgotten) l->out->pending = true;
    TRY(store_find_row(l->store, name, l->user, &row, &size, e));
    if (!row) return RC_OK;
    if (is_newer(l, partition, slice_of(row, size))) {
        l->out->returned++;
    } else {
        l->out->held++;
        l->out->partition = partition;
    }
    free(row);
    return RC_OK;
}

/* Beside a process at work files may go between being listed and opened. */
static enum rc open_beside(struct store **out, const char *dir, struct err *e)
{
    const struct store_options o = {
        .dir = dir, .memory_bytes = READER_MEMORY_BYTES, .read_only = true};
    for (int i = 1;; i++) {
        enum rc rc = store_open(out, &o, e);
        if (rc == RC_OK || i == OPEN_TRIES) return rc;
        (void)usleep(OPEN_PAUSE_US);
    }
}

enum rc forget_look(struct forget_look *out, const char *dir, const char *topic,
                    struct slice user, int32_t partition, int64_t offset,
                    struct err *e)
{
    char path[4096], start[STORE_NAME_MAX];
    struct looking l = {.out = out,
                        .start = start,
                        .user = user,
                        .partition = partition,
                        .offset = offset};
    enum rc rc;
    *out = (struct forget_look){.partition = -1};
    (void)snprintf(path, sizeof path, "%s/rocksdb", dir);
    if (access(path, F_OK) != 0) return RC_OK;
    out->store = true;
    (void)snprintf(start, sizeof start, "users/%s/", topic);
    TRY(open_beside(&l.store, dir, e));
    rc = store_each_family(l.store, look_into, &l, e);
    store_close(l.store);
    return rc;
}

/* --- the changelog ----------------------------------------------------- */

static void see_copy(struct forget_copy *out, const struct record *r,
                     struct slice user, int64_t offset)
{
    struct err ignored;
    int64_t applied, newest_ms;
    out->older += out->held || out->returned;
    out->held = out->returned = false;
    if (!r->value.ptr) return;
    out->returned = offset != INT64_MAX &&
                    user_row_head(user, r->value, &applied, &newest_ms,
                                  &ignored) == RC_OK &&
                    applied > offset;
    out->held = !out->returned; /* one that cannot be read may hold anything */
}

static enum rc read_copy(struct forget_copy *out, struct log_reader *reader,
                         struct slice key, int64_t offset, struct err *e)
{
    struct slice user =
        slice_of(key.ptr + CHANGELOG_KEY_EXTRA, key.len - CHANGELOG_KEY_EXTRA);
    enum log_reader_found found = LOG_READER_NOTHING;
    while (found != LOG_READER_END) {
        struct record r;
        TRY(log_reader_next(reader, POLL_WAIT_MS, &found, &r, e));
        if (found == LOG_READER_RECORD && slice_equal(r.key, key))
            see_copy(out, &r, user, offset);
    }
    return RC_OK;
}

enum rc forget_look_copy(struct forget_copy *out, const struct config *c,
                         struct slice user, int32_t partition, int64_t offset,
                         struct err *e)
{
    uint8_t key[STORE_NAME_MAX + 4096];
    struct log_reader *reader;
    int64_t start, end;
    enum rc rc;
    *out = (struct forget_copy){0};
    if (!c->changelog_topic[0]) return RC_OK;
    assert(user.len + CHANGELOG_KEY_EXTRA <= sizeof key);
    out->topic = true;
    TRY(log_reader_open(&reader, c, c->changelog_topic, false, e));
    rc = log_reader_ends(reader, partition, &start, &end, e);
    if (rc == RC_OK) rc = log_reader_add(reader, partition, start, e);
    if (rc == RC_OK)
        rc = read_copy(out, reader, changelog_row_key(user, key), offset, e);
    log_reader_close(reader);
    return rc;
}
