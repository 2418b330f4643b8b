#include "import.h"

#include <stdlib.h>
#include <strings.h>

#include "cli.h"
#include "import_file.h"
#include "import_text.h"
#include "progress.h"
#include "schemas.h"

enum { STEP_RECORDS = 1024, PATH_BYTES = 4096 };

struct command {
    struct cli cli;
    const char *input;
    const char *to, *topic, *codec, *schema, *format, *delimiter, *columns;
    const char *mapping, *rejects, *key;
    struct cli_texts maps;
    uint32_t schema_id;
    uint64_t rejects_max;

    struct config *config;
    struct import_file file;
    struct schema *parsed;
    struct import_text *text;
    struct import import;
    char rejects_path[PATH_BYTES];
    double seconds;
    uint64_t bytes;
};

static int parse(struct command *c, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"to", "FILE", CLI_TEXT, &c->to, "to this Avro container file"},
        {"topic", "NAME", CLI_TEXT, &c->topic, "to this Kafka topic"},
        {"schema", "FILE", CLI_TEXT, &c->schema,
         "schema to fill: a file, or transaction, label, handbook, "
         "interaction"},
        {"mapping", "FILE", CLI_TEXT, &c->mapping,
         "schema, format and rules from a file (config/handbook.map)"},
        {"map", "FIELD=COLUMN[:OPTION,...]", CLI_TEXTS, &c->maps,
         "where a field comes from; may be given often"},
        {"format", "NAME", CLI_TEXT, &c->format,
         "csv (default), jsonl, sequence, pairs or lists"},
        {"delimiter", "C", CLI_TEXT, &c->delimiter,
         "of CSV: one character, or tab (default: comma)"},
        {"columns", "A,B,...", CLI_TEXT, &c->columns,
         "names of the columns of a CSV without a header"},
        {"rejects", "FILE", CLI_TEXT, &c->rejects,
         "keep bad records here (default: OUTPUT.rejects)"},
        {"rejects-max", "N", CLI_U64, &c->rejects_max,
         "exit with 1 if there are more (default 0)"},
        {"key", "FIELD", CLI_TEXT, &c->key,
         "key of messages in a topic (default: role.user, else user_id)"},
        {"schema-id", "ID", CLI_U32, &c->schema_id,
         "put a Confluent header with this id before messages"},
        {"codec", "NAME", CLI_TEXT, &c->codec,
         "of the file: null, deflate or zstandard (default)"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = "import [options] FILE",
        .about =
            "Makes Avro records from CSV, JSON lines or item sequences (`user "
            "item` or\n`user item item ...` a line). FILE may be plain, .gz or "
            ".xz; - is stdin.\n\n"
            "Options of a rule: epoch_s, epoch_ms, epoch_us, iso8601, "
            "strptime=PATTERN,\norigin=TIME, scale=X or X/Y, strip=CHARS, "
            "null=TEXT, default=TEXT, const=TEXT,\nposition. Columns joined "
            "by + are read as one text. Sequences have the columns\nuser, "
            "item and position. Fields without a rule take the column of "
            "their name.",
        .uses = CLI_CONFIG | CLI_JSON,
        .options = options,
        .example = "printf 'user,item\\nann,pen\\nbob,ink\\n' | millrace "
                   "import - --schema interaction --map user_id=user --map "
                   "item_id=item --to pairs.avro",
    };
    int status = cli_parse(&c->cli, &usage, argc, argv);
    if (status != CLI_GO) return status;
    if (c->cli.arg_count != 1)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "give one FILE, or - for "
                            "standard input");
    if (!c->to == !c->topic)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "give one of --to FILE and --topic NAME");
    c->input = c->cli.args[0];
    return CLI_GO;
}

static enum rc read_format(const struct command *c, enum import_format *out,
                           struct err *e)
{
    static const struct {
        const char *name;
        enum import_format format;
    } FORMATS[] = {
        {"csv", IMPORT_CSV},           {"jsonl", IMPORT_JSON},
        {"pairs", IMPORT_PAIRS},       {"lists", IMPORT_LISTS},
        {"sequence", IMPORT_SEQUENCE},
    };
    const char *name = c->format ? c->format : "csv";
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++)
        if (strcmp(FORMATS[i].name, name) == 0) {
            *out = FORMATS[i].format;
            return RC_OK;
        }
    return ERR(e, RC_STOP,
               "format '%s' is not csv, jsonl, sequence, pairs or "
               "lists",
               name);
}

static enum rc read_delimiter(const char *text, uint8_t *out, struct err *e)
{
    if (!text) text = ",";
    if (strcmp(text, "tab") == 0) text = "\t";
    if (strlen(text) != 1 || strchr("\"\r\n", text[0]))
        return ERR(e, RC_STOP, "delimiter '%s' is not one character, or tab",
                   text);
    *out = (uint8_t)text[0];
    return RC_OK;
}

/* Flags stand over the mapping file. */
static enum rc open_mapping(struct command *c, struct err *e)
{
    if (c->mapping) TRY(import_file_read(&c->file, c->mapping, e));
    if (!c->schema) c->schema = c->file.schema;
    if (!c->format) c->format = c->file.format;
    if (!c->delimiter) c->delimiter = c->file.delimiter;
    if (!c->columns) c->columns = c->file.columns;
    return RC_OK;
}

static enum rc open_schema(struct command *c, bool sequence, struct err *e)
{
    struct slice built_in;
    if (!c->schema && sequence) c->schema = "interaction";
    if (!c->schema)
        return ERR(e, RC_STOP,
                   "which schema shall be filled? Give --schema "
                   "FILE.avsc or --mapping FILE");
    built_in = schemas_get(c->schema);
    if (built_in.len > 0) return schema_parse(&c->parsed, built_in, e);
    return schema_read(&c->parsed, c->schema, e);
}

/* A sequence fills user_id and item_id of itself. */
static enum rc add_rules(struct command *c, bool sequence, struct err *e)
{
    struct import_map *map = c->import.map;
    if (sequence && row_find(c->import.row, "user_id") >= 0)
        TRY(import_map_add(map, "user_id=user", e));
    if (sequence && row_find(c->import.row, "item_id") >= 0)
        TRY(import_map_add(map, "item_id=item", e));
    for (uint32_t i = 0; i < c->file.rule_count; i++)
        TRY(import_map_add(map, c->file.rules[i], e));
    for (uint32_t i = 0; i < c->maps.count; i++)
        TRY(import_map_add(map, c->maps.at[i], e));
    return import_map_bind(map, c->import.reader, e);
}

static enum rc find_key(struct command *c, struct err *e)
{
    const char *name = c->key;
    if (!name && row_find(c->import.row, c->config->role_user) >= 0)
        name = c->config->role_user;
    if (!name) name = "user_id";
    c->import.key_field = row_find(c->import.row, name);
    if (c->import.key_field >= 0 || !c->topic) return RC_OK;
    return ERR(e, RC_STOP,
               "the schema has no field '%s' to be the key of "
               "messages; name one by --key",
               name);
}

static enum rc read_text(void *user, uint8_t *to, size_t size, size_t *got,
                         struct err *e)
{
    return import_text_read(user, to, size, got, e);
}

static enum rc open_reader(struct command *c, enum import_format format,
                           struct err *e)
{
    struct import_reader_options o = {
        .format = format, .columns = c->columns, .read = read_text};
    TRY(read_delimiter(c->delimiter, &o.delimiter, e));
    TRY(import_text_open(&c->text, c->input, e));
    o.user = c->text;
    if (import_reader_new(&c->import.reader, &o, e) == RC_OK) return RC_OK;
    return err_context(e, "%s", c->input);
}

static enum rc open_all(struct command *c, struct err *e)
{
    const struct feed_target target = {.path = c->to,
                                       .topic = c->topic,
                                       .codec = c->codec,
                                       .config = c->config,
                                       .schema_id = c->schema_id};
    enum import_format format = IMPORT_CSV;
    bool sequence;
    TRY(open_mapping(c, e));
    TRY(read_format(c, &format, e));
    sequence = format != IMPORT_CSV && format != IMPORT_JSON;
    TRY(open_schema(c, sequence, e));
    TRY(row_new(&c->import.row, c->parsed, e));
    TRY(import_map_new(&c->import.map, c->import.row, e));
    TRY(open_reader(c, format, e));
    TRY(add_rules(c, sequence, e));
    TRY(find_key(c, e));
    (void)snprintf(c->rejects_path, sizeof c->rejects_path, "%s.rejects",
                   c->to && strcmp(c->to, "-") != 0 ? c->to
                   : c->topic                       ? c->topic
                                                    : "import");
    c->import.rejects_path = c->rejects ? c->rejects : c->rejects_path;
    return feed_open(&c->import.feed, &target, c->parsed, e);
}

static enum rc work(struct command *c, struct progress *p, struct err *e)
{
    bool ended = false;
    while (!ended) {
        uint64_t done, total;
        char note[64];
        TRY(import_step(&c->import, STEP_RECORDS, &ended, e));
        import_text_progress(c->text, &done, &total);
        p->total = (double)total;
        (void)snprintf(note, sizeof note, "%llu records, %llu rejects",
                       (unsigned long long)c->import.records,
                       (unsigned long long)c->import.rejects);
        progress_update(p, (double)done, note);
    }
    return import_close(&c->import, e);
}

static enum rc run(struct command *c, struct err *e)
{
    struct progress p;
    enum rc rc;
    progress_start(&p, "import", "bytes", 0);
    rc = open_all(c, e);
    if (rc == RC_OK) rc = work(c, &p, e);
    if (rc == RC_OK) {
        struct feed *feed = c->import.feed;
        c->bytes = feed_bytes(feed);
        c->import.feed = NULL;
        rc = feed_finish(feed, e);
    }
    c->seconds = progress_seconds(&p);
    progress_end(&p);
    return rc;
}

static void print_json(const struct command *c)
{
    json_t *shown = json_array();
    const struct import *im = &c->import;
    for (uint32_t i = 0; i < IMPORT_REJECTS_SHOWN && i < im->rejects; i++)
        (void)json_array_append_new(shown,
                                    json_pack("{s:I, s:s}", "line",
                                              (json_int_t)im->shown[i].line,
                                              "reason", im->shown[i].reason));
    cli_print_json(json_pack(
        "{s:I, s:I, s:o, s:s?, s:I, s:o, s:o}", "records",
        (json_int_t)im->records, "rejects", (json_int_t)im->rejects,
        "first_rejects", shown, "rejects_file",
        im->rejects ? im->rejects_path : NULL, "record_bytes",
        (json_int_t)c->bytes, "seconds", cli_json_real(c->seconds),
        "records_per_second", cli_json_real((double)im->records / c->seconds)));
}

static void print_words(const struct command *c)
{
    char records[CLI_HUMAN_BYTES], rate[CLI_HUMAN_BYTES], took[CLI_HUMAN_BYTES];
    const struct import *im = &c->import;
    (void)fprintf(stderr, "%s records in %s (%s records/s), %llu rejects\n",
                  cli_human((double)im->records, records),
                  cli_human_seconds(c->seconds, took),
                  cli_human((double)im->records / c->seconds, rate),
                  (unsigned long long)im->rejects);
    for (uint32_t i = 0; i < IMPORT_REJECTS_SHOWN && i < im->rejects; i++)
        (void)fprintf(stderr, "  line %llu: %s\n",
                      (unsigned long long)im->shown[i].line,
                      im->shown[i].reason);
    if (im->rejects > 0)
        (void)fprintf(stderr, "  rejects are kept in %s\n", im->rejects_path);
}

static int report(const struct command *c)
{
    if (c->cli.json)
        print_json(c);
    else
        print_words(c);
    if (c->import.rejects <= c->rejects_max) return EXIT_OK;
    return cli_complain(&c->cli, EXIT_FAILED,
                        "%llu rejects are more than --rejects-max %llu",
                        (unsigned long long)c->import.rejects,
                        (unsigned long long)c->rejects_max);
}

static void close_all(struct command *c)
{
    struct err e;
    (void)(import_close(&c->import, &e) == RC_OK);
    feed_abandon(c->import.feed);
    import_reader_free(c->import.reader);
    import_map_free(c->import.map);
    row_free(c->import.row);
    import_text_close(c->text);
    schema_free(c->parsed);
    import_file_free(&c->file);
    config_free(c->config);
}

int command_import(int argc, char **argv)
{
    struct command *c = calloc(1, sizeof *c);
    struct err e;
    int status;
    if (!c) return EXIT_FAILED;
    c->codec = "zstandard";
    status = parse(c, argc, argv);
    if (status == CLI_GO) {
        c->config = cli_config(&c->cli);
        status = c->config ? EXIT_OK : EXIT_CONFIG;
        if (c->config)
            status = run(c, &e) == RC_OK ? report(c)
                                         : cli_fail(&c->cli, EXIT_FAILED, &e);
        close_all(c);
    }
    free(c);
    return status;
}
