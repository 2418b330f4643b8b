#include "log_input.h"

#include <string.h>

#include "framing.h"
#include "source_file.h"
#include "source_merge.h"
#include "stages.h"

enum { QUERY_WAIT_MS = 10000 };

/* What opening needs beside what stays. */
struct opening {
    struct log_input *in;
    const struct config *config;
    const struct labels *labels; /* NULL: none come */
    const struct log_labels *of;
    uint32_t events_max; /* of the worker's batches */
};

/* Outputs name their source; a log in files has the name of its topic, so
 * that a replay of files equals the run that read it. */
static const char *name_of(const struct config *c)
{
    return c->input_topic[0] ? c->input_topic : "file";
}

static enum rc new_mapping(const struct opening *o, struct mapping **out,
                           struct err *e)
{
    struct log_input *in = o->in;
    const struct schema *writer;
    enum rc rc;
    if (!in->files)
        return mapping_new(out, o->config, in->reader, in->registry, e);
    writer = source_file_schema(in->whole);
    TRY(mapping_new(out, o->config, in->reader ? in->reader : writer, NULL, e));
    rc = mapping_read_plain(*out, writer, in->reader ? in->reader : writer, e);
    if (rc != RC_OK) mapping_free(*out);
    return rc;
}

/* Takes the sources. */
static enum rc merge(const struct opening *o, struct source **events,
                     uint32_t count, struct err *e)
{
    struct log_input *in = o->in;
    struct source_merge_options m = {.events = events,
                                     .count = count,
                                     .labels = o->labels,
                                     .known = o->of->known,
                                     .known_user = o->of->known_user,
                                     .events_max = o->events_max};
    if (new_mapping(o, &m.times, e) != RC_OK) {
        for (uint32_t i = 0; i < count; i++)
            source_close(events[i]);
        return e->rc;
    }
    in->merged = true;
    return source_merge_open(&in->source, &m, e);
}

static enum rc open_files(const struct opening *o, const char *const *paths,
                          uint32_t path_count, struct err *e)
{
    struct log_input *in = o->in;
    struct source *files;
    TRY(source_file_open(&files, paths, path_count, e));
    in->files = true;
    in->whole = files;
    in->topic = name_of(o->config);
    if (!o->labels) {
        in->source = files;
        return RC_OK;
    }
    return merge(o, &files, 1, e);
}

/* --- a topic ------------------------------------------------------------ */

static enum rc open_lanes(const struct opening *o,
                          const struct topic_range *range, uint32_t partitions,
                          struct err *e)
{
    struct source *lanes[SOURCE_MERGE_MAX];
    struct topic_range one = *range;
    uint32_t count = 0;
    enum rc rc = RC_OK;
    for (uint32_t p = 0; rc == RC_OK && p < partitions; p++) {
        if (range->partition >= 0 && range->partition != (int32_t)p) continue;
        one.partition = (int32_t)p;
        rc =
            source_range_open(&lanes[count], o->config, &one, o->events_max, e);
        if (rc != RC_OK) break;
        o->in->records += source_range_records(lanes[count]);
        count++;
    }
    if (rc == RC_OK) return merge(o, lanes, count, e);
    for (uint32_t i = 0; i < count; i++)
        source_close(lanes[i]);
    return rc;
}

/* Items are of all partitions, and labels of all: one order is needed. */
static enum rc open_in_time(const struct opening *o,
                            const struct topic_range *range, struct err *e)
{
    const struct topic_range first = {
        .topic = range->topic, .partition = 0, .until = 0};
    struct source *s;
    uint32_t partitions;
    enum rc rc;
    TRY(source_range_open(&s, o->config, &first, o->events_max, e));
    rc = kafka_topic_partitions(source_kafka_handle(s), range->topic,
                                &partitions, e);
    source_close(s);
    if (rc != RC_OK) return rc;
    if (partitions > SOURCE_MERGE_MAX)
        return ERR(e, RC_STOP,
                   "topic %s: %u partitions; at most %d can be read in the "
                   "order of time, which items and labels need",
                   range->topic, partitions, SOURCE_MERGE_MAX);
    return open_lanes(o, range, partitions, e);
}

static enum rc open_topic(const struct opening *o,
                          const struct topic_range *range, struct err *e)
{
    struct log_input *in = o->in;
    if (!in->reader)
        return ERR(e, RC_STOP,
                   "topic %s: set input.schema to the Avro schema in which "
                   "its events are read",
                   range->topic);
    in->topic = range->topic;
    if (framing_names_schemas(o->config))
        TRY(registry_open(&in->registry, o->config, in->reader, e));
    if (o->labels || in->chained) return open_in_time(o, range, e);
    TRY(source_range_open(&in->source, o->config, range, o->events_max, e));
    in->records = source_range_records(in->source);
    return RC_OK;
}

/* --- all ---------------------------------------------------------------- */

static bool is_chained(const struct config *c, const struct topic_range *range,
                       bool files)
{
    return stages_has(c, STAGE_ITEMS) &&
           (files || strcmp(range->topic, c->enriched_topic) != 0);
}

static enum rc open_all(const struct opening *o, const char *const *paths,
                        uint32_t path_count, const struct topic_range *range,
                        struct err *e)
{
    struct log_input *in = o->in;
    const struct config *c = o->config;
    if (c->input_schema[0]) TRY(schema_read(&in->reader, c->input_schema, e));
    TRY(path_count > 0 ? open_files(o, paths, path_count, e)
                       : open_topic(o, range, e));
    TRY(new_mapping(o, &in->mapping, e));
    return o->labels ? mapping_read_labels(in->mapping, true, NULL, e) : RC_OK;
}

enum rc log_input_open(struct log_input *in, const struct config *c,
                       const char *const *paths, uint32_t path_count,
                       const struct topic_range *range,
                       const struct log_labels *labels, struct err *e)
{
    struct opening o = {
        .in = in, .config = c, .of = labels, .events_max = c->batch_events_max};
    enum rc rc;
    *in = (struct log_input){.chained = is_chained(c, range, path_count > 0)};
    if (!c->labels_role &&
        (stages_user_labels(c) || (in->chained && stages_item_labels(c))))
        o.labels = labels->labels;
    rc = open_all(&o, paths, path_count, range, e);
    if (rc != RC_OK) log_input_close(in);
    return rc;
}

void log_input_close(struct log_input *in)
{
    if (in->mapping) mapping_free(in->mapping);
    if (in->source) source_close(in->source);
    registry_close(in->registry);
    schema_free(in->reader);
    *in = (struct log_input){0};
}

uint64_t log_input_total(const struct log_input *in)
{
    uint64_t done, total;
    if (!in->files) return in->records;
    source_file_progress(in->whole, &done, &total);
    return total;
}

uint64_t log_input_done(const struct log_input *in)
{
    uint64_t done, total;
    assert(in->files);
    source_file_progress(in->whole, &done, &total);
    return done;
}
