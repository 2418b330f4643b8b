#include "topic_scan.h"

#include "source_kafka.h"

enum {
    BATCH_EVENTS = 256,
    POLL_WAIT_MS = 1000,
    FRAME_BYTES = 5, /* Confluent: magic byte, schema id u32be */
};

static enum rc scan(struct source *s, struct batch *b, topic_scan_fn *fn,
                    void *user, struct err *e)
{
    struct source_change change;
    TRY(source_change(s, &change, e));
    for (uint32_t i = 0; i < change.count; i++)
        change.positions[i].offset = change.positions[i].log_start;
    if (change.kind == SOURCE_ASSIGNED)
        TRY(source_assign(s, change.positions, change.count, e));
    while (!source_ended(s)) {
        batch_reset(b);
        TRY(source_poll(s, b, POLL_WAIT_MS, e));
        for (uint32_t i = 0; i < b->count; i++)
            TRY(fn(user, &b->records[i], e));
        source_release(s);
    }
    return RC_OK;
}

enum rc topic_scan(const struct config *c, const char *topic, topic_scan_fn *fn,
                   void *user, struct err *e)
{
    const struct topic_range all = {
        .topic = topic, .partition = -1, .until = -1};
    struct source *s = NULL;
    struct batch b;
    enum rc rc;
    TRY(batch_init(&b, BATCH_EVENTS, e));
    rc = source_range_open(&s, c, &all, BATCH_EVENTS, e);
    if (rc == RC_OK) rc = scan(s, &b, fn, user, e);
    if (s) source_close(s);
    batch_fini(&b);
    if (rc == RC_OK) return RC_OK;
    (void)err_context(e, "topic %s", topic);
    return RC_STOP;
}

/* --- outputs ------------------------------------------------------------- */

struct output_scan {
    topic_value_fn *fn;
    void *user;
    size_t head;
};

static enum rc take_output(void *user, const struct record *r, struct err *e)
{
    const struct output_scan *o = user;
    if (r->value.len < o->head)
        return ERR(e, RC_SKIP, "a value without its header");
    return o->fn(o->user,
                 slice_of(r->value.ptr + o->head, r->value.len - o->head), e);
}

enum rc topic_scan_output(const struct config *c, const char *topic,
                          topic_value_fn *fn, void *user, struct err *e)
{
    struct output_scan o = {
        fn, user, c->output_format == OUTPUT_CONFLUENT ? FRAME_BYTES : 0};
    return topic_scan(c, topic, take_output, &o, e);
}
