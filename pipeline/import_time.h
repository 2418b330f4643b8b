/* import_time.h - times that are no ISO 8601 (iso_time.h), to milliseconds
 * since 1970 UTC.
 *
 * Threads  Any thread; pure functions. */
#ifndef MILLRACE_IMPORT_TIME_H
#define MILLRACE_IMPORT_TIME_H

#include "slice.h"

enum { IMPORT_TIME_BYTES_MAX = 256 };

/* strptime's patterns; %z is heeded. What the pattern leaves open is that of
 * 1970-01-01T00:00:00. The whole text must match. */
bool import_time_pattern(struct slice text, const char *pattern,
                         int64_t *out_ms);
/* "12.345" of units of unit_ms milliseconds, exactly; what is less than a
 * millisecond is cut off. */
bool import_time_count(struct slice text, int64_t unit_ms, int64_t *out_ms);

#endif
