/* inspect.h - what the kinds of inspect share. */
#ifndef MILLRACE_INSPECT_H
#define MILLRACE_INSPECT_H

#include "cli.h"

struct inspect {
    struct cli cli;
    struct config *config;   /* NULL for a model */
    struct cli_texts logs;   /* fold these instead of reading the store */
    struct cli_texts labels; /* with what became known of their events */
    uint32_t events;         /* most that a table shows */
    const char *catalogue;   /* of an item; NULL: not said */
    bool verify;
};

enum { INSPECT_TIME_BYTES = 32 };
/* "2026-01-31T12:00:00.250Z" */
const char *inspect_time(int64_t time_ms, char out[INSPECT_TIME_BYTES]);

/* Each prints, and returns the exit status. */
int inspect_user(struct inspect *in, const char *user);
int inspect_event(struct inspect *in, const char *id);
int inspect_item(struct inspect *in, const char *item);
int inspect_model(struct inspect *in, const char *dir);
int inspect_store(struct inspect *in, const char *dir);

#endif
