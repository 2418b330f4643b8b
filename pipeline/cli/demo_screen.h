/* demo_screen.h - what `millrace demo` shows.
 *
 * On a terminal colours and a status line that is redrawn; elsewhere plain
 * lines. With --json all of it goes to stderr, and the result to stdout.
 * Threads  One thread. */
#ifndef MILLRACE_DEMO_SCREEN_H
#define MILLRACE_DEMO_SCREEN_H

#include "demo_live.h"
#include "err.h"

struct demo_screen {
    FILE *to;
    bool colours, status_drawn;
    double started_s, shown_s;
    float *latencies_ms; /* (latency_max) of the paced part */
    uint32_t latency_count, latency_max;
    double threshold; /* of fraud */
    bool showing;     /* events are shown as they come out */
    bool remarkable;  /* the last one shown was; the next will not be */
};

void demo_screen_start(struct demo_screen *s, FILE *to);
/* "1  A stream" */
PRINTF_LIKE(3, 4)
void demo_screen_step(struct demo_screen *s, int number, const char *format,
                      ...);
PRINTF_LIKE(2, 3)
void demo_screen_say(struct demo_screen *s, const char *format, ...);
/* A line that the next one takes the place of; nothing when piped. */
PRINTF_LIKE(2, 3)
void demo_screen_status(struct demo_screen *s, const char *format, ...);

/* An event and what came out for it, if it is time to show one. */
void demo_screen_result(struct demo_screen *s, const struct demo_result *r);

/* q-quantile of the latencies so far; NaN without any. */
double demo_screen_latency_ms(struct demo_screen *s, double q);

#endif
