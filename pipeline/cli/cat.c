/* cat.c - `millrace cat`: container files and topics as JSON lines.
 *
 * A file's line is its value. A topic's line is the message: partition,
 * offset, time, key, headers, and the value decoded by the schema that the
 * configuration gives that topic. A value that cannot be decoded is shown in
 * hexadecimal with the reason: what is there must be seen. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "container.h"
#include "framing.h"
#include "mapping.h"
#include "schemas.h"
#include "source_kafka.h"
#include "utf8.h"

enum {
    TAPE_DATUMS_MAX = 1 << 20,
    BATCH_EVENTS = 256,
    POLL_WAIT_MS = 1000,
    FRAME_BYTES = 5, /* Confluent: magic byte, schema id */
};

struct cat {
    struct cli cli;
    bool schema_only, avro_json;
    uint64_t limit; /* lines; 0: all */
    const char *topic, *as;
    int64_t from;
    uint64_t count;
    uint32_t partition; /* NO_PARTITION: all */
    uint64_t lines;
    struct tape tape;

    /* Of a topic. */
    struct config *config;
    struct schema *schema;   /* NULL: values are shown as they are */
    struct decoder *decoder; /* of values in that schema alone */
    size_t head;             /* bytes in front of them, whatever they say */
    struct registry *registry;
    struct framing *framing; /* of values that name their schema; NULL: none */
};

enum { NO_PARTITION = UINT32_MAX };

static bool full(const struct cat *c)
{
    return c->limit > 0 && c->lines >= c->limit;
}

static enum json_style style(const struct cat *c)
{
    return c->avro_json ? JSON_AVRO : JSON_PLAIN;
}

static void print_schema(const struct schema *s)
{
    struct slice json = schema_json(s);
    (void)fwrite(json.ptr, 1, json.len, stdout);
    if (json.len == 0 || json.ptr[json.len - 1] != '\n') (void)putchar('\n');
}

/* ------------------------------------------------------------------ files */

static enum rc print_values(struct cat *c, struct container_reader *r,
                            const struct decoder *d, struct err *e)
{
    const struct schema *s = container_schema(r);
    while (!full(c)) {
        struct slice value;
        bool ended;
        TRY(container_next(r, &value, &ended, e));
        if (ended) return RC_OK;
        TRY(decoder_decode(d, value, &c->tape, e));
        TRY(tape_write_json(s, &c->tape, style(c), stdout, e));
        (void)putchar('\n');
        c->lines++;
    }
    return RC_OK;
}

static enum rc cat_file(struct cat *c, const char *path, struct err *e)
{
    struct container_reader *r;
    struct decoder *d = NULL;
    enum rc rc;
    TRY(container_open(&r, path, e));
    if (c->schema_only) {
        print_schema(container_schema(r));
        container_close(r);
        return RC_OK;
    }
    rc = decoder_compile(&d, container_schema(r), container_schema(r), e);
    if (rc == RC_OK) rc = print_values(c, r, d, e);
    if (rc == RC_SKIP) rc = err_context(e, "%s", path);
    decoder_free(d);
    container_close(r);
    return rc;
}

/* ----------------------------------------------------------------- topics */

static bool is_topic(const struct cat *c, const char *option)
{
    return option && option[0] && strcmp(option, c->topic) == 0;
}

/* The built-in schema that a topic of the configuration has; NULL: none. */
static const char *built_in(const struct cat *c)
{
    const struct config *g = c->config;
    if (c->as) return c->as;
    if (is_topic(c, g->output_fraud_topic)) return "fraud_score";
    if (is_topic(c, g->output_recommendations_topic)) return "recommendations";
    if (is_topic(c, g->labels_topic)) return "label";
    return NULL;
}

static enum rc schema_choose(struct cat *c, struct err *e)
{
    const struct config *g = c->config;
    const char *name = built_in(c);
    struct slice text = name ? schemas_get(name) : slice_of(NULL, 0);
    if (text.len > 0) return schema_parse(&c->schema, text, e);
    if (name) return schema_read(&c->schema, name, e);
    if (is_topic(c, g->dead_letters_topic)) return RC_OK;
    if (g->input_schema[0]) return schema_read(&c->schema, g->input_schema, e);
    return ERR(e, RC_STOP,
               "no schema for topic '%s': give --as FILE.avsc, or "
               "input.schema in the configuration",
               c->topic);
}

static enum rc decoders_make(struct cat *c, struct err *e)
{
    const struct config *g = c->config;
    bool output = is_topic(c, g->output_fraud_topic) ||
                  is_topic(c, g->output_recommendations_topic);
    bool framed = output ? g->output_format == OUTPUT_CONFLUENT
                         : framing_names_schemas(g);
    if (!c->schema) return RC_OK;
    c->head = framed ? FRAME_BYTES : 0;
    TRY(decoder_compile(&c->decoder, c->schema, c->schema, e));
    if (output || !framed ||
        (g->input_format == FORMAT_CONFLUENT && !*g->schemas_dir))
        return RC_OK;
    TRY(registry_open(&c->registry, g, c->schema, e));
    return framing_new(&c->framing, g, c->registry, c->schema, e);
}

static enum rc value_decode(struct cat *c, const struct record *r,
                            struct err *e)
{
    struct framed framed = {.decoder = c->decoder};
    if (c->framing) {
        TRY(framing_require(c->framing, r, &framed, e));
    } else if (r->value.len < c->head) {
        return ERR(e, RC_SKIP, "no Confluent header");
    } else {
        framed.avro = slice_of(r->value.ptr + c->head, r->value.len - c->head);
    }
    return decoder_decode(framed.decoder, framed.avro, &c->tape, e);
}

static void print_text(struct slice s)
{
    json_text_write(s, stdout);
}

static void print_hex(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        (void)printf("%02x", s.ptr[i]);
}

static void print_headers(const struct record *r)
{
    (void)printf(",\"headers\":[");
    for (uint32_t i = 0; i < r->header_count; i++) {
        (void)printf("%s[", i ? "," : "");
        print_text(r->headers[i].name);
        (void)putchar(',');
        print_text(r->headers[i].value);
        (void)putchar(']');
    }
    (void)putchar(']');
}

static enum rc print_record(struct cat *c, const struct record *r,
                            struct err *e)
{
    struct err why;
    (void)printf("{\"partition\":%d,\"offset\":%" PRId64
                 ",\"timestamp\":%" PRId64 ",\"key\":",
                 r->partition, r->offset, r->timestamp_ms);
    if (r->key.ptr)
        print_text(r->key);
    else
        (void)printf("null");
    if (r->header_count > 0) print_headers(r);
    if (!c->schema || value_decode(c, r, &why) != RC_OK) {
        (void)printf(",\"value_hex\":\"");
        print_hex(r->value);
        (void)putchar('"');
        if (c->schema) {
            (void)printf(",\"error\":");
            print_text(slice_str(why.text));
        }
    } else {
        (void)printf(",\"value\":");
        TRY(tape_write_json(c->schema, &c->tape, style(c), stdout, e));
    }
    (void)printf("}\n");
    c->lines++;
    return RC_OK;
}

static enum rc print_records(struct cat *c, struct source *s, struct batch *b,
                             struct err *e)
{
    struct source_change change;
    while (!source_ended(s) && !full(c)) {
        TRY(source_change(s, &change, e));
        if (change.kind == SOURCE_ASSIGNED)
            TRY(source_assign(s, change.positions, change.count, e));
        batch_reset(b);
        TRY(source_poll(s, b, POLL_WAIT_MS, e));
        for (uint32_t i = 0; i < b->count && !full(c); i++)
            TRY(print_record(c, &b->records[i], e));
        source_release(s);
    }
    return RC_OK;
}

static enum rc cat_topic(struct cat *c, struct err *e)
{
    struct topic_range range = {
        .topic = c->topic,
        .partition = c->partition == NO_PARTITION ? -1 : (int32_t)c->partition,
        .from = c->from,
        .until = c->count ? c->from + (int64_t)c->count : -1};
    struct source *source;
    struct batch batch;
    enum rc rc;
    TRY(schema_choose(c, e));
    if (c->schema_only && c->schema) {
        print_schema(c->schema);
        return RC_OK;
    }
    TRY(decoders_make(c, e));
    TRY(batch_init(&batch, BATCH_EVENTS, e));
    rc = source_range_open(&source, c->config, &range, BATCH_EVENTS, e);
    if (rc == RC_OK) {
        rc = print_records(c, source, &batch, e);
        source_close(source);
    }
    batch_fini(&batch);
    return rc;
}

/* ---------------------------------------------------------------- command */

static int parse(struct cat *c, int argc, char **argv)
{
    uint64_t from = 0;
    const struct cli_option options[] = {
        {"schema", NULL, CLI_FLAG, &c->schema_only,
         "print the schema, no values"},
        {"limit", "N", CLI_U64, &c->limit, "stop after so many lines"},
        {"avro-json", NULL, CLI_FLAG, &c->avro_json,
         "Avro's JSON encoding: unions name their branch"},
        {"topic", "NAME", CLI_TEXT, &c->topic, "a Kafka topic, to its end"},
        {"as", "SCHEMA", CLI_TEXT, &c->as,
         "the topic's schema: a file, or fraud_score, recommendations, "
         "label, transaction, ..."},
        {"partition", "N", CLI_U32, &c->partition, "this one (default: all)"},
        {"from", "OFFSET", CLI_U64, &from,
         "first offset in each partition (default 0)"},
        {"count", "N", CLI_U64, &c->count,
         "so many offsets of each partition (default: to the end)"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = "cat [options] FILE... | cat --topic NAME [options]",
        .about = "Prints Avro container files, or a topic, as JSON lines.\n"
                 "FILE - is standard input. Topics need --config or\n"
                 "--set kafka.bootstrap.servers=HOST:PORT.",
        .uses = CLI_CONFIG,
        .options = options,
        .example = "millrace generate --events 100 --to events.avro && "
                   "millrace cat --limit 3 events.avro",
    };
    int status = cli_parse(&c->cli, &usage, argc, argv);
    if (status != CLI_GO) return status;
    if (from > INT64_MAX / 2 || c->count > INT64_MAX / 2)
        return cli_complain(&c->cli, EXIT_USAGE, "--from or --count too large");
    c->from = (int64_t)from;
    if ((c->cli.arg_count > 0) == (c->topic != NULL))
        return cli_complain(&c->cli, EXIT_USAGE,
                            "give either files or --topic NAME");
    return CLI_GO;
}

static int run(struct cat *c)
{
    struct err e;
    enum rc rc = RC_OK;
    c->tape.max = TAPE_DATUMS_MAX;
    c->tape.at = malloc(TAPE_DATUMS_MAX * sizeof *c->tape.at);
    if (!c->tape.at) return cli_complain(&c->cli, EXIT_FAILED, "out of memory");
    if (c->topic) {
        c->config = cli_config(&c->cli);
        if (!c->config) return EXIT_CONFIG;
        rc = cat_topic(c, &e);
    }
    for (uint32_t i = 0; i < c->cli.arg_count && rc == RC_OK && !full(c); i++)
        rc = cat_file(c, c->cli.args[i], &e);
    if (rc != RC_OK) return cli_fail(&c->cli, EXIT_FAILED, &e);
    if (fflush(stdout) != 0)
        return cli_complain(&c->cli, EXIT_FAILED, "cannot write the output");
    return EXIT_OK;
}

int command_cat(int argc, char **argv)
{
    struct cat c = {.partition = NO_PARTITION};
    int status = parse(&c, argc, argv);
    if (status != CLI_GO) return status;
    status = run(&c);
    free(c.tape.at);
    framing_free(c.framing);
    registry_close(c.registry);
    decoder_free(c.decoder);
    schema_free(c.schema);
    config_free(c.config);
    return status;
}
