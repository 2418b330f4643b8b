#include "changelog_clear.h"

#include "changelog.h"
#include "log_reader.h"
#include "producer.h"

enum { WAIT_MS = 100, QUIET_MS_MAX = 20000 };

/* As the shape of rows that no configuration makes. */
#define BEING_RESET "being reset; run millrace reset once more"

struct clearing {
    struct log_reader *reader;
    struct producer *to;
    uint32_t partitions;
    uint64_t rows;
};

static enum rc put(struct clearing *x, int32_t partition, struct slice key,
                   struct slice value, struct err *e)
{
    const struct message m = {
        .key = key, .value = value, .placed = true, .partition = partition};
    return producer_send(x->to, 0, &m, e);
}

/* value empty: null. */
static enum rc put_markers(struct clearing *x, struct slice value,
                           struct err *e)
{
    for (uint32_t i = 0; i < x->partitions; i++)
        TRY(put(x, (int32_t)i, changelog_marker_key(), value, e));
    return producer_flush(x->to, PRODUCER_FLUSH_MS, e);
}

/* Each from where it starts to where it ended before the first null. */
static enum rc put_nulls(struct clearing *x, struct err *e)
{
    uint32_t open = 0;
    int quiet_ms = 0;
    for (uint32_t i = 0; i < x->partitions; i++) {
        int64_t start, end;
        TRY(log_reader_ends(x->reader, (int32_t)i, &start, &end, e));
        if (start == end) continue;
        TRY(log_reader_add(x->reader, (int32_t)i, start, e));
        open++;
    }
    while (open > 0) {
        enum log_reader_found found;
        struct record r;
        TRY(log_reader_next(x->reader, WAIT_MS, &found, &r, e));
        quiet_ms = found == LOG_READER_NOTHING ? quiet_ms + WAIT_MS : 0;
        if (quiet_ms > QUIET_MS_MAX)
            return ERR(e, RC_AGAIN, "changelog: nothing came for %d s",
                       QUIET_MS_MAX / 1000);
        if (found == LOG_READER_END) {
            log_reader_remove(x->reader, r.partition);
            open--;
        }
        if (found != LOG_READER_RECORD || !r.value.ptr ||
            slice_equal(r.key, changelog_marker_key()))
            continue;
        TRY(put(x, r.partition, r.key, slice_of(NULL, 0), e));
        x->rows++;
    }
    return producer_flush(x->to, PRODUCER_FLUSH_MS, e);
}

static enum rc clear(struct clearing *x, struct err *e)
{
    const struct family_meta refused = {.shape = BEING_RESET,
                                        .partitions = x->partitions,
                                        .seen_offset = -1,
                                        .changelog_next = -1};
    uint8_t bytes[FAMILY_META_BYTES_MAX];
    size_t len = family_meta_encode(&refused, bytes);
    TRY(put_markers(x, slice_of(bytes, len), e));
    TRY(put_nulls(x, e));
    return put_markers(x, slice_of(NULL, 0), e);
}

enum rc changelog_clear(const struct config *c, const char *topic,
                        uint64_t *rows, struct err *e)
{
    const char *topics[] = {topic};
    const struct producer_options o = {
        .config = c, .topics = topics, .topic_count = 1, .bulk = true};
    struct clearing x = {0};
    enum rc rc = log_reader_open(&x.reader, c, topic, false, e);
    if (rc == RC_OK) x.partitions = log_reader_partitions(x.reader);
    if (rc == RC_OK) rc = producer_open(&x.to, &o, e);
    if (rc == RC_OK) rc = clear(&x, e);
    producer_close(x.to);
    log_reader_close(x.reader);
    *rows = x.rows;
    return rc;
}
