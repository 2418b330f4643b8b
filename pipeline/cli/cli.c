#include "cli.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config_value.h"
#include "iso_time.h"
#include "log.h"

enum { FIRST_OWN = 256, HELP_COLUMN = 26, SECRET_KEY_BYTES = 128 };

/* ------------------------------------------------------- command lines */

/* The options that come by themselves. */
struct shared {
    struct cli_texts sets;
    bool help;
};

static uint32_t shared_options(struct cli *cli, struct shared *s,
                               const struct cli_usage *u,
                               struct cli_option out[])
{
    uint32_t n = 0;
    if (u->uses & CLI_CONFIG) {
        out[n++] =
            (struct cli_option){"config", "FILE", CLI_TEXT, &cli->config_path,
                                "configuration (default: $MILLRACE_CONFIG)"};
        out[n++] = (struct cli_option){"set", "KEY=VALUE", CLI_TEXTS, &s->sets,
                                       "one option, over file and environment"};
    }
    if (u->uses & CLI_JSON)
        out[n++] = (struct cli_option){"json", NULL, CLI_FLAG, &cli->json,
                                       "results as JSON, for machines"};
    out[n++] =
        (struct cli_option){"help", NULL, CLI_FLAG, &s->help, "this text"};
    return n;
}

static void print_option(const struct cli_option *o)
{
    int used = printf("  --%s%s%s", o->name, o->argument ? " " : "",
                      o->argument ? o->argument : "");
    if (used >= HELP_COLUMN)
        (void)printf("\n%*s%s\n", HELP_COLUMN, "", o->help);
    else
        (void)printf("%*s%s\n", HELP_COLUMN - used, "", o->help);
}

static void print_usage(const struct cli_usage *u, const struct cli_option *all,
                        uint32_t count)
{
    (void)printf("usage: millrace %s\n\n%s\n\nOptions:\n", u->synopsis,
                 u->about);
    for (uint32_t i = 0; i < count; i++)
        print_option(&all[i]);
    (void)printf("\nExample:\n  %s\n", u->example);
}

static bool read_u64(const char *text, uint64_t limit, uint64_t *out)
{
    char *end;
    unsigned long long n;
    if (strspn(text, "0123456789") != strlen(text)) return false;
    errno = 0;
    n = strtoull(text, &end, 10);
    if (end == text || errno || n > limit) return false;
    *out = n;
    return true;
}

/* Puts the argument where it belongs; false: it is not of this kind. */
static bool take(const struct cli_option *o, const char *text)
{
    uint64_t n;
    char *end;
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)o->to = true;
        return true;
    case CLI_TEXT:
        *(const char **)o->to = text;
        return true;
    case CLI_TEXTS: {
        struct cli_texts *texts = o->to;
        if (texts->count == CLI_TEXTS_MAX) return false;
        texts->at[texts->count++] = text;
        return true;
    }
    case CLI_U32:
        if (!read_u64(text, UINT32_MAX, &n)) return false;
        *(uint32_t *)o->to = (uint32_t)n;
        return true;
    case CLI_U64:
        return read_u64(text, UINT64_MAX, o->to);
    case CLI_F64:
        *(double *)o->to = strtod(text, &end);
        return end != text && !*end && isfinite(*(double *)o->to);
    case CLI_TIME:
        return cli_read_time(text, o->to);
    case CLI_SIZE:
        return config_read_size(text, o->to);
    case CLI_SPAN:
        return config_read_duration(text, o->to);
    }
    return false;
}

static const char *kind_text(enum cli_kind kind)
{
    switch (kind) {
    case CLI_U32:
    case CLI_U64:
        return "a whole number";
    case CLI_F64:
        return "a number";
    case CLI_TIME:
        return "a time like 2018-07-25, 2018-07-25T12:00:00Z or milliseconds";
    case CLI_SIZE:
        return "a size like 512MiB";
    case CLI_SPAN:
        return "a duration like 30s or 7d";
    case CLI_TEXTS:
        return "so many texts";
    case CLI_FLAG:
    case CLI_TEXT:
        break;
    }
    return "a text";
}

/* Runs getopt over argv with the options of all. */
static int read_options(const struct cli *cli, const struct cli_option *all,
                        uint32_t count, int argc, char **argv)
{
    struct option longs[CLI_OPTIONS_MAX + 1] = {{0}};
    for (uint32_t i = 0; i < count; i++)
        longs[i] = (struct option){all[i].name,
                                   all[i].kind == CLI_FLAG ? no_argument
                                                           : required_argument,
                                   NULL, FIRST_OWN + (int)i};
    optind = 0; /* glibc: start anew */
    opterr = 0;
    for (;;) {
        int got = getopt_long(argc, argv, ":", longs, NULL);
        if (got == -1) return CLI_GO;
        if (got == ':')
            return cli_complain(cli, EXIT_USAGE, "%s needs an argument",
                                argv[optind - 1]);
        if (got < FIRST_OWN)
            return cli_complain(cli, EXIT_USAGE,
                                "unknown or ambiguous option '%s'",
                                argv[optind - 1]);
        if (!take(&all[got - FIRST_OWN], optarg))
            return cli_complain(cli, EXIT_USAGE, "--%s: '%s' is not %s",
                                all[got - FIRST_OWN].name, optarg,
                                kind_text(all[got - FIRST_OWN].kind));
    }
}

int cli_parse(struct cli *cli, const struct cli_usage *u, int argc, char **argv)
{
    struct cli_option all[CLI_OPTIONS_MAX];
    struct shared s = {0};
    uint32_t count = 0;
    int status;

    *cli = (struct cli){.command = argv[0],
                        .config_path = getenv("MILLRACE_CONFIG")};
    for (const struct cli_option *o = u->options; o && o->name; o++) {
        assert(count < CLI_OPTIONS_MAX - 4);
        all[count++] = *o;
    }
    count += shared_options(cli, &s, u, all + count);
    status = read_options(cli, all, count, argc, argv);
    if (status != CLI_GO) return status;
    if (s.help) {
        print_usage(u, all, count);
        return EXIT_OK;
    }
    cli->sets = s.sets;
    cli->args = argv + optind;
    cli->arg_count = (uint32_t)(argc - optind);
    return CLI_GO;
}

/* The command line is there for all users of this host to read. */
static void warn_of_secrets(const struct cli *cli)
{
    for (uint32_t i = 0; i < cli->sets.count; i++) {
        const char *set = cli->sets.at[i], *equals = strchr(set, '=');
        char key[SECRET_KEY_BYTES];
        if (!equals || !equals[1] || strstr(equals, "${")) continue;
        (void)snprintf(key, sizeof key, "%.*s", (int)(equals - set), set);
        if (config_is_secret(key))
            LOG(WARN, "SECRETARG",
                "--set %s: every user of this host can read it; give "
                "${file:PATH} or ${env:NAME}",
                key);
    }
}

struct config *cli_config(const struct cli *cli)
{
    struct config *c;
    struct err e;
    if (config_load(&c, cli->config_path, cli->sets.at, cli->sets.count, &e) ==
        RC_OK) {
        log_set_level((enum log_level)c->log_level);
        warn_of_secrets(cli);
        return c;
    }
    (void)cli_fail(cli, EXIT_CONFIG, &e);
    return NULL;
}

int cli_fail(const struct cli *cli, enum exit_status status,
             const struct err *e)
{
    (void)fprintf(stderr, "millrace %s: %s\n", cli->command, e->text);
    return (int)status;
}

int cli_complain(const struct cli *cli, enum exit_status status,
                 const char *format, ...)
{
    va_list args;
    (void)fprintf(stderr, "millrace %s: ", cli->command);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    if (status == EXIT_USAGE)
        (void)fprintf(stderr, "; see millrace %s --help", cli->command);
    (void)fputc('\n', stderr);
    return (int)status;
}

bool cli_read_time(const char *text, int64_t *out_ms)
{
    uint64_t ms;
    if (iso_time_parse(slice_str(text), out_ms)) return true;
    if (!read_u64(text, INT64_MAX, &ms)) return false;
    *out_ms = (int64_t)ms;
    return true;
}

/* -------------------------------------------------------------- results */

/* x in [1, step) of a unit, with three figures. */
static const char *scaled(double x, double step, const char *const *units,
                          char *out)
{
    double size = fabs(x);
    while (size >= step * 0.9995 && units[1]) {
        size /= step;
        units++;
    }
    (void)snprintf(out, CLI_HUMAN_BYTES, "%s%.*f%s%s", x < 0 ? "-" : "",
                   size == floor(size) || size >= 99.95 ? 0
                   : size >= 9.995                      ? 1
                                                        : 2,
                   size, **units ? " " : "", *units);
    return out;
}

const char *cli_human(double count, char out[CLI_HUMAN_BYTES])
{
    static const char *const UNITS[] = {"", "k", "M", "G", NULL};
    return scaled(count, 1000, UNITS, out);
}

const char *cli_human_bytes(double bytes, char out[CLI_HUMAN_BYTES])
{
    static const char *const UNITS[] = {"B", "KiB", "MiB", "GiB", "TiB", NULL};
    return scaled(bytes, 1024, UNITS, out);
}

const char *cli_human_seconds(double seconds, char out[CLI_HUMAN_BYTES])
{
    if (!isfinite(seconds))
        (void)snprintf(out, CLI_HUMAN_BYTES, "?");
    else if (seconds < 1)
        (void)snprintf(out, CLI_HUMAN_BYTES, "%.3g ms", seconds * 1e3);
    else if (seconds < 99.95)
        (void)snprintf(out, CLI_HUMAN_BYTES, "%.1f s", seconds);
    else if (seconds < 5999.5)
        (void)snprintf(out, CLI_HUMAN_BYTES, "%d min %d s",
                       (int)(seconds + 0.5) / 60, (int)(seconds + 0.5) % 60);
    else
        (void)snprintf(out, CLI_HUMAN_BYTES, "%.0f h %.0f min",
                       floor(seconds / 3600), floor(fmod(seconds, 3600) / 60));
    return out;
}

json_t *cli_json_real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

void cli_print_json(json_t *value)
{
    int failed = json_dumpf(value, stdout, JSON_REAL_PRECISION(12));
    assert(failed == 0 || ferror(stdout));
    (void)fputc('\n', stdout);
    json_decref(value);
}
