/* err.h - what went wrong, and what the caller should do about it.
 *
 * Errors   A function that can fail returns enum rc and fills a struct err
 *          with one text: what was being done, to what, what went wrong,
 *          what to do. "Not found" is a count of 0, not an error. Our own
 *          bugs are asserts, which stay on in release builds.
 * Memory   A plain value; nothing to free.
 * Threads  One struct err belongs to one thread. */
#ifndef MILLRACE_ERR_H
#define MILLRACE_ERR_H

#include <stdarg.h>
#include <stdio.h>

#define MUST_USE                 __attribute__((warn_unused_result))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

enum rc {
    RC_OK,
    RC_AGAIN, /* may work later; the worker rewinds to its last commit */
    RC_SKIP,  /* this input is bad; its neighbours are not */
    RC_STOP,  /* do not go on */
};

enum { ERR_TEXT_BYTES = 1024 };

struct err {
    enum rc rc;
    char text[ERR_TEXT_BYTES];
};

/* Fill *e and return rc. */
PRINTF_LIKE(3, 4)
static inline enum rc err_set(struct err *e, enum rc rc, const char *format,
                              ...)
{
    va_list args;
    e->rc = rc;
    va_start(args, format);
    (void)vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    return rc;
}

/* Put "context: " before the text that is there already, and return e->rc. */
PRINTF_LIKE(2, 3)
static inline enum rc err_context(struct err *e, const char *format, ...)
{
    char text[ERR_TEXT_BYTES];
    int used;
    va_list args;
    va_start(args, format);
    used = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof text - 1)
        (void)snprintf(text + used, sizeof text - (size_t)used, ": %.*s",
                       (int)(sizeof text - (size_t)used - 3), e->text);
    (void)snprintf(e->text, sizeof e->text, "%s", text);
    return e->rc;
}

#define ERR(e, rc, ...) err_set((e), (rc), __VA_ARGS__)

#define TRY(call)                                                              \
    do {                                                                       \
        enum rc try_rc_ = (call);                                              \
        if (try_rc_ != RC_OK) return try_rc_;                                  \
    } while (0)

#endif
