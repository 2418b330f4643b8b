#include "import_time.h"

#include <time.h>

enum { MS_PER_SECOND = 1000, FRACTION_DIGITS = 9 };

bool import_time_pattern(struct slice text, const char *pattern,
                         int64_t *out_ms)
{
    char copy[IMPORT_TIME_BYTES_MAX];
    struct tm tm = {.tm_mday = 1, .tm_year = 70};
    const char *end;
    long east_of_utc_s;
    if (text.len >= sizeof copy || memchr(text.ptr, '\0', text.len))
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    end = strptime(copy, pattern, &tm);
    if (!end || *end) return false;
    if (tm.tm_year < -1899 || tm.tm_year > 8099) return false;
    east_of_utc_s = tm.tm_gmtoff; /* timegm sets it to 0 */
    *out_ms = ((int64_t)timegm(&tm) - east_of_utc_s) * MS_PER_SECOND;
    return true;
}

/* The digits at the beginning of *text, or those that fit below max. */
static bool take_digits(struct slice *text, int64_t max, int64_t *out)
{
    size_t before = text->len;
    *out = 0;
    for (; text->len > 0 && text->ptr[0] >= '0' && text->ptr[0] <= '9';
         *text = slice_of(text->ptr + 1, text->len - 1)) {
        *out = *out * 10 + (text->ptr[0] - '0');
        if (*out > max) return false;
    }
    return text->len < before;
}

static bool take_char(struct slice *text, char c)
{
    if (text->len == 0 || text->ptr[0] != (uint8_t)c) return false;
    *text = slice_of(text->ptr + 1, text->len - 1);
    return true;
}

bool import_time_count(struct slice text, int64_t unit_ms, int64_t *out_ms)
{
    const int64_t max = INT64_MAX / 100 / unit_ms;
    int64_t whole, part = 0, worth = 1;
    bool negative = take_char(&text, '-');
    if (!take_digits(&text, max, &whole)) return false;
    if (take_char(&text, '.')) {
        size_t digits = text.len < FRACTION_DIGITS ? text.len : FRACTION_DIGITS;
        struct slice head = slice_of(text.ptr, digits);
        int64_t beyond;
        if (!take_digits(&head, INT64_MAX / 10, &part) || head.len > 0)
            return false;
        for (size_t i = 0; i < digits; i++)
            worth *= 10;
        text = slice_of(text.ptr + digits, text.len - digits);
        if (text.len > 0 && !take_digits(&text, INT64_MAX / 100, &beyond))
            return false;
    }
    if (text.len > 0) return false;
    whole = whole * unit_ms + part * unit_ms / worth;
    *out_ms = negative ? -whole : whole;
    return true;
}
