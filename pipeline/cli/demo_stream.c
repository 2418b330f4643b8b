#include "demo_stream.h"

#include "container.h"

static enum rc write_events(struct demo_stream *s, struct generator *g,
                            struct container_writer *to, struct err *e)
{
    struct generated ev;
    while (generator_next(g, &ev)) {
        char id[GENERATE_ID_BYTES];
        struct slice key, value;
        bool made;
        TRY(generate_event(s->rows, &ev, &key, &value, e));
        TRY(container_append(to, value, e));
        generate_event_id(s->o.seed, ev.number, id);
        if (!map64_put(&s->numbers, hash64(slice_str(id)), ev.number, &made))
            return ERR(e, RC_STOP, "no memory for the demo's stream");
        s->events[s->count++].made = ev;
        s->frauds += ev.fraud != FRAUD_NONE;
    }
    return RC_OK;
}

static enum rc write_labels(struct demo_stream *s, struct generator *g,
                            struct container_writer *to, struct err *e)
{
    struct generated_label label;
    while (generator_next_label(g, &label)) {
        struct slice key, value;
        TRY(generate_label(s->rows, &label, &key, &value, e));
        TRY(container_append(to, value, e));
        s->labels++;
    }
    return RC_OK;
}

typedef enum rc write_fn(struct demo_stream *s, struct generator *g,
                         struct container_writer *to, struct err *e);

/* One reading of the stream into one file. */
static enum rc write_file(struct demo_stream *s, const char *path,
                          const struct schema *schema, write_fn *write,
                          struct err *e)
{
    struct generator *g;
    struct container_writer *to;
    enum rc rc;
    TRY(generator_new(&g, &s->o, e));
    rc = container_create(&to, path, schema, "null", e);
    if (rc == RC_OK) {
        rc = write(s, g, to, e);
        if (rc == RC_OK)
            rc = container_finish(to, e);
        else
            container_abandon(to);
    }
    generator_free(g);
    return rc;
}

static void find_split(struct demo_stream *s, double share)
{
    int64_t first_ms = s->events[0].made.time_ms;
    int64_t last_ms = s->events[s->count - 1].made.time_ms;
    s->split_ms = first_ms + (int64_t)((double)(last_ms - first_ms) * share);
    while (s->split < s->count &&
           s->events[s->split].made.time_ms < s->split_ms)
        s->split++;
}

enum rc demo_stream_make(struct demo_stream *s, const char *events_path,
                         const char *labels_path, double split_share,
                         struct err *e)
{
    TRY(generate_rows_new(&s->rows, s->o.seed, e));
    s->events = calloc(s->o.events, sizeof *s->events);
    if (!s->events) return ERR(e, RC_STOP, "no memory for the demo's stream");
    TRY(write_file(s, events_path, generate_event_schema(s->rows), write_events,
                   e));
    TRY(write_file(s, labels_path, generate_label_schema(s->rows), write_labels,
                   e));
    find_split(s, split_share);
    return RC_OK;
}

void demo_stream_fini(struct demo_stream *s)
{
    generate_rows_free(s->rows);
    free(s->events);
    map64_fini(&s->numbers);
}

struct demo_event *demo_stream_find(const struct demo_stream *s,
                                    struct slice id)
{
    const uint64_t *number = map64_get(&s->numbers, hash64(id));
    return number ? &s->events[*number] : NULL;
}
