/* log.h - what an operator reads on stderr.
 *
 * One line: time, level, a short code to grep for, then key=value text.
 * Rate-limited per call site: LOG 20 lines a second, LOG_RARE one a minute;
 * how many were held back is said with the next. Ids only: no payloads, no
 * names, no secrets. Threads  Any thread. */
#ifndef MILLRACE_LOG_H
#define MILLRACE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* One call site's budget. */
struct log_site {
    bool rare; /* one line a minute, for what any event may say */
    _Atomic int64_t window_ms;
    _Atomic uint32_t used, dropped;
};

void log_set_level(enum log_level least);
/* on: a progress line stands on the terminal; wipe it before each line. */
void log_over_line(bool on);
PRINTF_LIKE(4, 5)
void log_write(struct log_site *site, enum log_level level, const char *code,
               const char *format, ...);

/* LOG(WARN, "SINKFULL", "topic=%s queued=%d", ...) */
#define LOG(level, code, ...)                                                  \
    do {                                                                       \
        static struct log_site log_site_;                                      \
        log_write(&log_site_, LOG_##level, (code), __VA_ARGS__);               \
    } while (0)
#define LOG_RARE(level, code, ...)                                             \
    do {                                                                       \
        static struct log_site log_site_ = {.rare = true};                     \
        log_write(&log_site_, LOG_##level, (code), __VA_ARGS__);               \
    } while (0)

#endif
