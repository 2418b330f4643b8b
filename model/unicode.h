/* unicode.h - what text normalisation asks of one code point.
 *
 * Versions Published tokenizers mean particular versions of Unicode, so the
 *          classes are tables of ours (unicode_classes.inc, made by asking
 *          the PyPI package `tokenizers` about every code point), and what
 *          utf8proc does not know yet, or knows already, is listed in
 *          unicode.c. oracle_tokenizer compares every code point.
 * Threads  Pure functions. */
#ifndef MILLRACE_UNICODE_H
#define MILLRACE_UNICODE_H

#include "slice.h"

enum {
    UNICODE_REMOVED = 1,     /* controls, private use, U+FFFD */
    UNICODE_SPACE = 2,       /* ends a word */
    UNICODE_PUNCTUATION = 4, /* a word of its own */
    UNICODE_CHINESE = 8,     /* an ideograph: a word of its own */
    UNICODE_MARK = 16,       /* an accent that stands for itself (Mn) */
    UNICODE_ORDERED = 32,    /* no accent, but sorted among them */
};

enum { UNICODE_REPLACEMENT = 0xfffd, UNICODE_PARTS_MAX = 4 };

/* The code point at *at, which moves on. Each longest beginning of a sequence
 * that cannot be finished is one U+FFFD, as Unicode recommends and Python's
 * errors="replace" does. *at < text.len. */
uint32_t unicode_next(struct slice text, size_t *at);

/* Writes c (no surrogate) at out, 1 to 4 bytes; returns how many. */
uint32_t unicode_put(uint32_t c, uint8_t *out);

/* The bits above. */
uint32_t unicode_class(uint32_t c);

/* Lower case, without regard to context: one code point, or two. */
uint32_t unicode_lower(uint32_t c, uint32_t out[2]);

/* The full canonical decomposition, not sorted; returns how many. */
uint32_t unicode_decompose(uint32_t c, uint32_t out[UNICODE_PARTS_MAX]);

/* The canonical combining class; 0 ends a run that is sorted. */
uint32_t unicode_combining(uint32_t c, uint32_t class);

#endif
