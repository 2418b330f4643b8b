/* progress.h - how far a long command has come, on stderr.
 *
 * On a terminal one redrawn line with bar, percent, rate and time left, from
 * the first second on; elsewhere one log line every ten seconds. Commands
 * that take less than a second show nothing.
 * Memory   A plain value; texts are kept by pointer.
 * Threads  One thread. */
#ifndef MILLRACE_PROGRESS_H
#define MILLRACE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* "replay" */
    const char *unit; /* "events" */
    double total;     /* 0: not known */
    double done;
    double started_s, next_s; /* monotonic clock */
    bool terminal, drawn;
};

void progress_start(struct progress *p, const char *what, const char *unit,
                    double total);
/* Cheap enough for every batch. note: further text ("loss 1.93"), or NULL. */
void progress_update(struct progress *p, double done, const char *note);
/* Takes the line away. */
void progress_end(struct progress *p);
double progress_seconds(const struct progress *p); /* since start */

#endif
