/* reason_text.h - a reason as risk analysts read it: a code that stays the
 * same from release to release, and a sentence with its numbers.
 *
 * Codes    One table in reason_text.c, by the names of features
 *          (windows_features.c): whatever their windows, whosever they are.
 *          schemas/README.md lists them. A feature that the table does not
 *          know, one of feature.numbers, is NUMBER_HIGH or NUMBER_LOW.
 * Memory   Plain values. Threads: any; pure functions. */
#ifndef MILLRACE_REASON_TEXT_H
#define MILLRACE_REASON_TEXT_H

#include "reasons.h"

enum {
    REASON_CODE_BYTES = 64,
    REASON_FEATURE_BYTES = 256,
    REASON_TEXT_BYTES = 384
};

struct reason_words {
    char code[REASON_CODE_BYTES];
    char feature[REASON_FEATURE_BYTES]; /* "past.hour" and the like, for what
                                           is not a feature */
    char text[REASON_TEXT_BYTES];
};

/* name: of its feature; not read for other parts. */
void reason_text(const struct reason *r, const char *name,
                 struct reason_words *out);

#endif
