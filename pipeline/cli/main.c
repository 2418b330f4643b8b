#include <stdio.h>
#include <string.h>

#include "cli.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} COMMANDS[] = {
#define COMMAND(name, function, summary) {name, function, summary},
#include "commands.def"
#undef COMMAND
    {NULL, NULL, NULL},
};

static void print_help(FILE *to)
{
    (void)fprintf(to, "millrace %s - scores streams of Avro events\n\n",
                  MILLRACE_VERSION);
    for (const struct command *c = COMMANDS; c->name; c++)
        (void)fprintf(to, "  millrace %-10s %s\n", c->name, c->summary);
    (void)fprintf(to, "\nmillrace COMMAND --help says more. Start with: "
                      "millrace demo\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("millrace %s\n", MILLRACE_VERSION);
        return EXIT_OK;
    }
    for (const struct command *c = COMMANDS; c->name; c++)
        if (strcmp(argv[1], c->name) == 0) return c->run(argc - 1, argv + 1);
    (void)fprintf(stderr, "millrace: no command '%s'; see millrace --help\n",
                  argv[1]);
    return EXIT_USAGE;
}
