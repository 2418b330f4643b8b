#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "log.h"

enum { BAR_CELLS = 24, LINE_BYTES = 256, COLUMNS_DEFAULT = 80 };

static const double FIRST_S = 1.0, REDRAW_S = 0.1, LOG_S = 10.0;

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void progress_start(struct progress *p, const char *what, const char *unit,
                    double total)
{
    *p = (struct progress){.what = what,
                           .unit = unit,
                           .total = total,
                           .started_s = now_s(),
                           .terminal = isatty(STDERR_FILENO)};
    p->next_s = p->started_s + (p->terminal ? FIRST_S : LOG_S);
}

double progress_seconds(const struct progress *p)
{
    return now_s() - p->started_s;
}

/* "43%  1.20 M events  215 k/s  3.0 s left  loss 1.93" */
static void describe(const struct progress *p, double seconds, const char *note,
                     char out[LINE_BYTES])
{
    char done[CLI_HUMAN_BYTES], rate[CLI_HUMAN_BYTES], left[CLI_HUMAN_BYTES];
    char percent[16] = "", remaining[CLI_HUMAN_BYTES + 8] = "";
    if (p->total > 0 && p->done > 0) {
        double share = p->done < p->total ? p->done / p->total : 1;
        (void)snprintf(percent, sizeof percent, "%.0f%%  ", share * 100);
        (void)snprintf(remaining, sizeof remaining, "  %s left",
                       cli_human_seconds(seconds * (1 - share) / share, left));
    }
    (void)snprintf(out, LINE_BYTES, "%s%s %s  %s/s%s%s%s", percent,
                   cli_human(p->done, done), p->unit,
                   cli_human(p->done / seconds, rate), remaining,
                   note ? "  " : "", note ? note : "");
}

static int columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return COLUMNS_DEFAULT;
    return size.ws_col;
}

static void draw(const struct progress *p, const char *text)
{
    char bar[BAR_CELLS + 4] = "";
    char line[LINE_BYTES + BAR_CELLS + 64];
    if (p->total > 0) {
        double share = p->done < p->total ? p->done / p->total : 1;
        size_t filled = (size_t)(share * BAR_CELLS);
        bar[0] = '[';
        memset(bar + 1, '#', filled);
        memset(bar + 1 + filled, '.', BAR_CELLS - filled);
        memcpy(bar + 1 + BAR_CELLS, "] ", 3);
    }
    (void)snprintf(line, sizeof line, "%s %s%s", p->what, bar, text);
    (void)fprintf(stderr, "\r\033[K%.*s", columns() - 1, line);
    (void)fflush(stderr);
}

void progress_update(struct progress *p, double done, const char *note)
{
    char text[LINE_BYTES];
    double now = now_s();

    p->done = done;
    if (now < p->next_s) return;
    p->next_s = now + (p->terminal ? REDRAW_S : LOG_S);
    describe(p, now - p->started_s, note, text);
    if (p->terminal) {
        if (!p->drawn) log_over_line(true);
        p->drawn = true;
        draw(p, text);
    } else {
        LOG(INFO, "PROGRESS", "%s %s", p->what, text);
    }
}

void progress_end(struct progress *p)
{
    if (!p->drawn) return;
    (void)fputs("\r\033[K", stderr);
    log_over_line(false);
    p->drawn = false;
}
