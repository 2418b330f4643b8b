/* utf8.h - is it UTF-8 (RFC 3629: no surrogates, nothing over-long)? */
#ifndef MILLRACE_UTF8_H
#define MILLRACE_UTF8_H

#include "slice.h"

/* Length of the sequence at p (end - p > 0), or 0 if it is not UTF-8. */
static inline size_t utf8_sequence(const uint8_t *p, const uint8_t *end)
{
    size_t left = (size_t)(end - p);
    uint8_t low = 0x80, high = 0xbf;
    size_t len, i;
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
    len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (left < len) return 0;
    if (p[0] == 0xe0) low = 0xa0;
    if (p[0] == 0xed) high = 0x9f;
    if (p[0] == 0xf0) low = 0x90;
    if (p[0] == 0xf4) high = 0x8f;
    if (p[1] < low || p[1] > high) return 0;
    for (i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return len;
}

/* The most bytes of valid text, at most max < s.len, that end with the end of
 * a character. */
static inline size_t utf8_floor(struct slice s, size_t max)
{
    while (max > 0 && (s.ptr[max] & 0xc0) == 0x80)
        max--;
    return max;
}

static inline bool utf8_valid(struct slice s)
{
    const uint8_t *p = s.ptr, *end = s.len ? p + s.len : p;
    while (p != end) {
        uint64_t eight;
        size_t len;
        if (end - p >= 8) {
            memcpy(&eight, p, 8);
            if (!(eight & 0x8080808080808080u)) {
                p += 8;
                continue;
            }
        }
        len = utf8_sequence(p, end);
        if (len == 0) return false;
        p += len;
    }
    return true;
}

#endif
