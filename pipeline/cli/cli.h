/* cli.h - what the commands share: the list of them, and exit statuses.
 *
 * A command is one file, cli/NAME.c, with int command_NAME(argc, argv);
 * argv[0] is the command's own name. Data on stdout, words on stderr. */
#ifndef MILLRACE_CLI_H
#define MILLRACE_CLI_H

#include <jansson.h>

#include "config.h"

enum exit_status {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_CONFIG = 3,
    EXIT_DIFFERS = 4,
};

#define COMMAND(name, function, summary) int function(int argc, char **argv);
#include "commands.def"
#undef COMMAND

/* ------------------------------------------------------ command lines */

/* What an option's argument becomes in *to. */
enum cli_kind {
    CLI_FLAG,  /* bool: no argument */
    CLI_TEXT,  /* const char *: lent by argv */
    CLI_TEXTS, /* struct cli_texts: may be given several times */
    CLI_U32,   /* uint32_t */
    CLI_U64,   /* uint64_t */
    CLI_F64,   /* double */
    CLI_TIME,  /* int64_t: ms since 1970 UTC; see cli_read_time */
    CLI_SIZE,  /* uint64_t: bytes; 64KiB, 1GiB */
    CLI_SPAN,  /* int64_t: ms; 250ms, 30s, 7d */
};
enum { CLI_TEXTS_MAX = 64, CLI_OPTIONS_MAX = 64 };
struct cli_texts {
    const char *at[CLI_TEXTS_MAX];
    uint32_t count;
};
struct cli_option {
    const char *name;     /* without the dashes; NULL ends the list */
    const char *argument; /* its name in --help; NULL for a CLI_FLAG */
    enum cli_kind kind;
    void *to; /* holds the default before cli_parse */
    const char *help;
};

/* One command. --help, and by uses --config, --set and --json, come by
 * themselves. */
enum cli_uses { CLI_CONFIG = 1, CLI_JSON = 2 };
struct cli_usage {
    const char *synopsis;             /* "replay [options] FILE..." */
    const char *about;                /* what it does, a few lines */
    unsigned uses;                    /* enum cli_uses */
    const struct cli_option *options; /* NULL: none */
    const char *example; /* one that works, without "millrace" left out */
};

/* A command line, read. Texts are lent by argv. */
struct cli {
    const char *command;
    const char *config_path; /* --config, else MILLRACE_CONFIG, else NULL */
    struct cli_texts sets;   /* --set key=value */
    bool json;
    char **args; /* what is no option, in order */
    uint32_t arg_count;
};

/* CLI_GO, or the exit status with which the command shall return at once:
 * --help was printed, or the fault (on stderr). */
enum { CLI_GO = -1 };
int cli_parse(struct cli *cli, const struct cli_usage *u, int argc,
              char **argv);

/* The configuration of the command line, whose log.level counts from now on.
 * NULL: the fault is on stderr; return EXIT_CONFIG. */
struct config *cli_config(const struct cli *cli);

/* "millrace COMMAND: text" on stderr; returns the status. */
int cli_fail(const struct cli *cli, enum exit_status status,
             const struct err *e);
PRINTF_LIKE(3, 4)
int cli_complain(const struct cli *cli, enum exit_status status,
                 const char *format, ...);

/* "2018-07-25", "2018-07-25T12:00:00Z" or milliseconds. False: neither. */
bool cli_read_time(const char *text, int64_t *out_ms);

/* ------------------------------------------------------------- results */

/* For people: "1.30 M", "128 MiB", "2.5 s", "3 min 20 s". */
enum { CLI_HUMAN_BYTES = 32 };
const char *cli_human(double count, char out[CLI_HUMAN_BYTES]);
const char *cli_human_bytes(double bytes, char out[CLI_HUMAN_BYTES]);
const char *cli_human_seconds(double seconds, char out[CLI_HUMAN_BYTES]);

/* A number; null where it is not finite, which JSON cannot say. */
json_t *cli_json_real(double x);
/* Prints one line of JSON on stdout. takes value. */
void cli_print_json(json_t *value);

#endif
