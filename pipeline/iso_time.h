/* iso_time.h - ISO 8601 times as texts carry them.
 *
 * Reads    YYYY-MM-DD, then optionally T or a space and hh:mm[:ss[.digits]],
 *          then optionally Z, +hh:mm, +hhmm or +hh. Without a zone it is UTC;
 *          digits beyond milliseconds are dropped. */
#ifndef MILLRACE_ISO_TIME_H
#define MILLRACE_ISO_TIME_H

#include "slice.h"

/* Years 1 to 9999: what a time may be anywhere in millrace. */
#define TIME_MS_MIN (-62135596800000)
#define TIME_MS_MAX 253402300799999

/* False, *out_ms untouched: the text is no such time. */
bool iso_time_parse(struct slice text, int64_t *out_ms);

#endif
