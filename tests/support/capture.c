#include "capture.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A stream put aside for a file. */
struct aside {
    int fd, saved;
    FILE *file;
};

static struct aside put_aside(int fd)
{
    struct aside a = {.fd = fd, .saved = dup(fd), .file = tmpfile()};
    assert(a.saved >= 0 && a.file);
    assert(dup2(fileno(a.file), fd) == fd);
    return a;
}

static void put_back(struct aside *a, char *text)
{
    size_t len;
    assert(dup2(a->saved, a->fd) == a->fd);
    (void)close(a->saved);
    rewind(a->file);
    len = fread(text, 1, CAPTURE_BYTES - 1, a->file);
    text[len] = 0;
    (void)fclose(a->file);
}

void capture(struct captured *c, int (*run)(int argc, char **argv),
             const char *line)
{
    char words[4096], *argv[CAPTURE_WORDS_MAX + 1], *word;
    struct aside out, err;
    int argc = 0;

    assert(strlen(line) < sizeof words);
    (void)strcpy(words, line);
    for (word = strtok(words, " "); word; word = strtok(NULL, " ")) {
        assert(argc < CAPTURE_WORDS_MAX);
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    (void)fflush(NULL);
    out = put_aside(STDOUT_FILENO);
    err = put_aside(STDERR_FILENO);
    c->status = run(argc, argv);
    (void)fflush(NULL);
    put_back(&err, c->err);
    put_back(&out, c->out);
}
