/* config_cmd.c - millrace config check | explain KEY | print. */
#include <string.h>

#include "budget.h"
#include "cli.h"
#include "config_audit.h"
#include "config_docs.h"

static const struct cli_usage USAGE = {
    .synopsis = "config check | explain KEY | print [options]",
    .about =
        "check    finds unknown keys, bad values, missing files, fields that "
        "the\n"
        "         schema lacks, and properties that librdkafka refuses\n"
        "explain  says what an option does, takes, and where it is set now\n"
        "print    shows every value in force and where it came from",
    .uses = CLI_CONFIG | CLI_JSON,
    .example = "millrace config check --config config/handbook.conf",
};

/* ----------------------------------------------------------------- check */

struct findings {
    json_t *faults, *notes;
};

static void add_fault(void *user, const char *text)
{
    struct findings *f = user;
    (void)json_array_append_new(f->faults, json_string(text));
}

static void add_note(void *user, const char *text)
{
    struct findings *f = user;
    (void)json_array_append_new(f->notes, json_string(text));
}

static void print_lines(const char *what, json_t *texts)
{
    for (size_t i = 0; i < json_array_size(texts); i++)
        (void)printf("%s: %s\n", what,
                     json_string_value(json_array_get(texts, i)));
}

static int check(const struct cli *cli)
{
    struct findings f = {json_array(), json_array()};
    struct config *c;
    size_t faults;

    (void)config_check(&c, cli->config_path, cli->sets.at, cli->sets.count,
                       add_fault, &f);
    (void)config_audit(c, add_fault, add_note, &f);
    config_free(c);
    faults = json_array_size(f.faults);
    if (cli->json) {
        cli_print_json(json_pack("{sbsOsO}", "valid", faults == 0, "faults",
                                 f.faults, "notes", f.notes));
    } else {
        print_lines("fault", f.faults);
        print_lines("note", f.notes);
        (void)printf("%s: %zu fault%s\n",
                     cli->config_path ? cli->config_path : "no file", faults,
                     faults == 1 ? "" : "s");
    }
    json_decref(f.faults);
    json_decref(f.notes);
    return faults == 0 ? EXIT_OK : EXIT_CONFIG;
}

/* --------------------------------------------------------------- explain */

/* Of memory.max: the sum that it is compared with. */
static json_t *budget_json(const struct config *c)
{
    json_t *lines = json_array();
    struct budget b;
    budget_add_up(&b, c);
    for (uint32_t i = 0; i < b.count; i++)
        (void)json_array_append_new(
            lines, json_pack("{sssssI}", "what", b.lines[i].what, "options",
                             b.lines[i].options, "bytes",
                             (json_int_t)b.lines[i].bytes));
    return json_pack("{sosIsIsI}", "lines", lines, "total_bytes",
                     (json_int_t)b.total, "row_bytes_max",
                     (json_int_t)b.row_bytes, "log_bytes_max",
                     (json_int_t)b.log_bytes);
}

static void explain_json(const struct config *c, const struct config_option *o,
                         const struct property *p)
{
    char range[128], env[160];
    json_t *out;
    config_range_text(o, range, sizeof range);
    config_env_name(o->key, env, sizeof env);
    out = json_pack("{ssssssssssssssssss}", "key", o->key, "help", o->help,
                    "type", config_type_text(o->type), "range", range,
                    "default", o->text, "applies",
                    o->live ? "at once" : "at start", "environment", env,
                    "value", property_shown(p), "origin", p->origin);
    if (o == &CONFIG_OPTIONS[OPTION_memory_max])
        (void)json_object_set_new(out, "budget", budget_json(c));
    cli_print_json(out);
}

static void explain_text(const struct config *c, const struct config_option *o,
                         const struct property *p)
{
    char range[128], env[160];
    config_range_text(o, range, sizeof range);
    config_env_name(o->key, env, sizeof env);
    (void)printf("%s\n  %s\n\n", o->key, o->help);
    (void)printf("  takes        %s%s%s\n", config_type_text(o->type),
                 *range ? ": " : "", range);
    (void)printf("  default      %s\n", *o->text ? o->text : "(empty)");
    (void)printf("  read         %s\n",
                 o->live ? "may change while running" : "at start");
    (void)printf("  environment  %s\n", env);
    (void)printf("  now          %s\n",
                 *p->value ? property_shown(p) : "(empty)");
    (void)printf("  from         %s\n", p->origin);
    if (o == &CONFIG_OPTIONS[OPTION_memory_max]) {
        struct budget b;
        budget_add_up(&b, c);
        (void)printf("\n");
        budget_print(&b, stdout);
    }
}

static int explain_kafka(const struct cli *cli, const struct config *c,
                         const char *key)
{
    for (uint32_t i = 0; i < c->kafka_count; i++) {
        const struct property *p = &c->kafka[i];
        if (strcmp(p->key, key) != 0) continue;
        if (cli->json)
            cli_print_json(json_pack("{ssssss}", "key", p->key, "value",
                                     property_shown(p), "origin", p->origin));
        else
            (void)printf("kafka.%s\n  given to librdkafka, whose "
                         "CONFIGURATION.md explains it\n\n"
                         "  now   %s\n  from  %s\n",
                         key, property_shown(p), p->origin);
        return EXIT_OK;
    }
    return cli_complain(cli, EXIT_FAILED,
                        "kafka.%s is not set; librdkafka's CONFIGURATION.md "
                        "explains it",
                        key);
}

static int explain(const struct cli *cli, const struct config *c,
                   const char *key)
{
    const struct config_option *o = config_find(key), *near;
    if (o) {
        (cli->json ? explain_json
                   : explain_text)(c, o, &c->origins[o - CONFIG_OPTIONS]);
        return EXIT_OK;
    }
    if (strncmp(key, "kafka.", 6) == 0) return explain_kafka(cli, c, key + 6);
    near = config_nearest(key);
    return cli_complain(cli, EXIT_USAGE, "no option '%s'%s%s%s", key,
                        near ? "; did you mean '" : "", near ? near->key : "",
                        near ? "'" : "");
}

/* ----------------------------------------------------------------- print */

static void print_property(json_t *list, const char *prefix,
                           const struct property *p)
{
    char key[256];
    (void)snprintf(key, sizeof key, "%s%s", prefix, p->key);
    if (list)
        (void)json_array_append_new(list, json_pack("{ssssss}", "key", key,
                                                    "value", property_shown(p),
                                                    "origin", p->origin));
    else
        (void)printf("%-34s %-28s %s\n", key, property_shown(p), p->origin);
}

static void print(const struct cli *cli, const struct config *c)
{
    json_t *list = cli->json ? json_array() : NULL;
    for (uint32_t i = 0; i < OPTION_COUNT; i++)
        print_property(list, "", &c->origins[i]);
    for (uint32_t i = 0; i < c->kafka_count; i++)
        print_property(list, "kafka.", &c->kafka[i]);
    if (list) cli_print_json(list);
}

/* For the generated pages of config/; not in --help. */
static int docs(const struct cli *cli, const char *page)
{
    if (strcmp(page, "options") == 0)
        config_docs_options(stdout);
    else if (strcmp(page, "metrics") == 0)
        config_docs_metrics(stdout);
    else
        return cli_complain(cli, EXIT_USAGE, "docs options, or docs metrics");
    return EXIT_OK;
}

static void count_fault(void *user, const char *text)
{
    (void)text;
    ++*(uint32_t *)user;
}

/* Also of a configuration with faults: one may ask because of them. */
static int explain_now(const struct cli *cli)
{
    struct config *c;
    uint32_t faults = 0;
    int status;
    (void)config_check(&c, cli->config_path, cli->sets.at, cli->sets.count,
                       count_fault, &faults);
    status = explain(cli, c, cli->args[1]);
    config_free(c);
    if (faults > 0)
        (void)cli_complain(cli, EXIT_CONFIG,
                           "%u faults left out; see millrace config check",
                           faults);
    return status;
}

static int print_now(const struct cli *cli)
{
    struct config *c = cli_config(cli);
    if (!c) return EXIT_CONFIG;
    print(cli, c);
    config_free(c);
    return EXIT_OK;
}

int command_config(int argc, char **argv)
{
    static const struct {
        const char *verb;
        uint32_t args;
    } VERBS[] = {{"check", 1}, {"explain", 2}, {"print", 1}, {"docs", 2}};
    struct cli cli;
    const char *verb = NULL;
    int status = cli_parse(&cli, &USAGE, argc, argv);

    if (status != CLI_GO) return status;
    for (size_t i = 0; i < sizeof VERBS / sizeof VERBS[0]; i++)
        if (cli.arg_count > 0 && strcmp(cli.args[0], VERBS[i].verb) == 0 &&
            cli.arg_count == VERBS[i].args)
            verb = VERBS[i].verb;
    if (!verb)
        return cli_complain(&cli, EXIT_USAGE,
                            "give check, explain KEY, or print");
    if (strcmp(verb, "check") == 0) return check(&cli);
    if (strcmp(verb, "docs") == 0) return docs(&cli, cli.args[1]);
    return strcmp(verb, "explain") == 0 ? explain_now(&cli) : print_now(&cli);
}
