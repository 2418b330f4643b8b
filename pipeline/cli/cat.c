/* cat.c - `millrace cat`: container files and topics as JSON lines.
 *
 * A file's line is its value. A topic's line is the message: partition,
 * offset, time, key, headers, and the value decoded by the schema that the
 * configuration gives that topic. A value that cannot be decoded is shown in
 * hexadecimal with the reason: what is there must be seen. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "container.h"
#include "record_json.h"
#include "source_kafka.h"

enum {
    TAPE_DATUMS_MAX = 1 << 20,
    BATCH_EVENTS = 256,
    POLL_WAIT_MS = 1000,
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
    struct record_json *records;
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
        for (uint32_t i = 0; i < b->count && !full(c); i++) {
            TRY(record_json_print(c->records, &b->records[i], e));
            c->lines++;
        }
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
        .until = c->count ? c->from + (int64_t)c->count : -1,
        .dead_letters = strcmp(c->topic, c->config->dead_letters_topic) == 0};
    const struct record_json_options o = {
        .config = c->config, .topic = c->topic, .as = c->as, .style = style(c)};
    struct source *source;
    struct batch batch;
    enum rc rc;
    TRY(record_json_open(&c->records, &o, e));
    if (c->schema_only && record_json_schema(c->records)) {
        print_schema(record_json_schema(c->records));
        return RC_OK;
    }
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
    record_json_close(c.records);
    config_free(c.config);
    return status;
}
