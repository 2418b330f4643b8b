#include "log_input.h"

#include "framing.h"
#include "source_file.h"

/* Outputs name their source; a log in files has the name of its topic, so
 * that a replay of files equals the run that read it. */
static const char *name_of(const struct config *c)
{
    return c->input_topic[0] ? c->input_topic : "file";
}

static enum rc open_files(struct log_input *in, const struct config *c,
                          const char *const *paths, uint32_t path_count,
                          struct err *e)
{
    const struct schema *writer, *reader;
    TRY(source_file_open(&in->source, paths, path_count, e));
    in->files = true;
    in->topic = name_of(c);
    writer = source_file_schema(in->source);
    reader = in->reader ? in->reader : writer;
    TRY(mapping_new(&in->mapping, c, reader, NULL, e));
    return mapping_read_plain(in->mapping, writer, reader, e);
}

static enum rc open_topic(struct log_input *in, const struct config *c,
                          const struct topic_range *range, struct err *e)
{
    if (!in->reader)
        return ERR(e, RC_STOP,
                   "topic %s: set input.schema to the Avro schema in which "
                   "its events are read",
                   range->topic);
    in->topic = range->topic;
    if (framing_names_schemas(c))
        TRY(registry_open(&in->registry, c, in->reader, e));
    TRY(mapping_new(&in->mapping, c, in->reader, in->registry, e));
    return source_range_open(&in->source, c, range, c->batch_events_max, e);
}

enum rc log_input_open(struct log_input *in, const struct config *c,
                       const char *const *paths, uint32_t path_count,
                       const struct topic_range *range, struct err *e)
{
    enum rc rc = RC_OK;
    *in = (struct log_input){0};
    if (c->input_schema[0]) rc = schema_read(&in->reader, c->input_schema, e);
    if (rc == RC_OK)
        rc = path_count > 0 ? open_files(in, c, paths, path_count, e)
                            : open_topic(in, c, range, e);
    if (rc != RC_OK) log_input_close(in);
    return rc;
}

void log_input_close(struct log_input *in)
{
    if (in->mapping) mapping_free(in->mapping);
    registry_close(in->registry);
    if (in->source) source_close(in->source);
    schema_free(in->reader);
    *in = (struct log_input){0};
}

uint64_t log_input_total(const struct log_input *in)
{
    uint64_t done, total;
    if (!in->files) return source_range_records(in->source);
    source_file_progress(in->source, &done, &total);
    return total;
}
