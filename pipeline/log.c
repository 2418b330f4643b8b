#include "log.h"

#include <time.h>

enum { LINES_PER_WINDOW = 20, WINDOW_MS = 1000, RARE_WINDOW_MS = 60000 };

static const char *const LEVELS[] = {"DEBUG", "INFO", "WARN", "ERROR"};
static const char WIPE[] = "\r\033[K";
static _Atomic int least_level = LOG_INFO;
static _Atomic bool over_line = false;

void log_set_level(enum log_level least)
{
    atomic_store(&least_level, (int)least);
}

void log_over_line(bool on)
{
    atomic_store(&over_line, on);
}

/* True if this site may still write in the present window; *dropped is what
 * the window before it held back. */
static bool site_allows(struct log_site *site, int64_t now_ms,
                        uint32_t *dropped)
{
    int64_t start = atomic_load(&site->window_ms);
    uint32_t lines_max = site->rare ? 1 : LINES_PER_WINDOW;
    *dropped = 0;
    if (now_ms - start >= (site->rare ? RARE_WINDOW_MS : WINDOW_MS) &&
        atomic_compare_exchange_strong(&site->window_ms, &start, now_ms)) {
        *dropped = atomic_exchange(&site->dropped, 0);
        atomic_store(&site->used, 0);
    }
    if (atomic_fetch_add(&site->used, 1) < lines_max) return true;
    atomic_fetch_add(&site->dropped, 1);
    return false;
}

void log_write(struct log_site *site, enum log_level level, const char *code,
               const char *format, ...)
{
    struct timespec now;
    struct tm utc;
    char text[ERR_TEXT_BYTES], clock[32];
    uint32_t dropped;
    va_list args;

    if ((int)level < atomic_load(&least_level)) return;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (!site_allows(site, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                     &dropped))
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)gmtime_r(&now.tv_sec, &utc);
    (void)strftime(clock, sizeof clock, "%Y-%m-%dT%H:%M:%S", &utc);
    if (dropped > 0)
        (void)fprintf(stderr, "%s.%03ldZ %s LOGDROP code=%s lines=%u\n", clock,
                      now.tv_nsec / 1000000, LEVELS[LOG_WARN], code, dropped);
    (void)fprintf(stderr, "%s%s.%03ldZ %s %s %s\n",
                  atomic_load(&over_line) ? WIPE : "", clock,
                  now.tv_nsec / 1000000, LEVELS[level], code, text);
}
