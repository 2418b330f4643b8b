/* cli.h - what the commands share: the list of them, and exit statuses.
 *
 * A command is one file, cli/NAME.c, with int command_NAME(argc, argv);
 * argv[0] is the command's own name. Data on stdout, words on stderr. */
#ifndef MILLRACE_CLI_H
#define MILLRACE_CLI_H

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

#endif
