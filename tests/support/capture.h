/* capture.h - runs a command of the program inside a test and keeps what it
 * prints. */
#ifndef MILLRACE_TEST_CAPTURE_H
#define MILLRACE_TEST_CAPTURE_H

enum { CAPTURE_BYTES = 262144, CAPTURE_WORDS_MAX = 48 };

struct captured {
    int status;
    char out[CAPTURE_BYTES], err[CAPTURE_BYTES];
};

/* Splits line at blanks, the first word being the command's own name, and
 * calls run with it. Asserts if streams cannot be put aside. */
void capture(struct captured *c, int (*run)(int argc, char **argv),
             const char *line);

#endif
