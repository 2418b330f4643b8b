#include "iso_time.h"

struct cursor {
    const uint8_t *at, *end;
};

/* Exactly count digits. */
static bool digits(struct cursor *c, int count, int *out)
{
    *out = 0;
    for (; count > 0; count--, c->at++) {
        if (c->at == c->end || *c->at < '0' || *c->at > '9') return false;
        *out = *out * 10 + (*c->at - '0');
    }
    return true;
}

static bool accept(struct cursor *c, char wanted)
{
    if (c->at == c->end || *c->at != (uint8_t)wanted) return false;
    c->at++;
    return true;
}

/* Days since 1970-01-01 in the Gregorian calendar, years counted from March
 * so that the leap day comes last (Hinnant, "chrono-compatible low-level date
 * algorithms", days_from_civil). */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400, of_era = y % 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year -
           719468;
}

static bool date(struct cursor *c, int64_t *days)
{
    static const int LENGTHS[] = {31, 29, 31, 30, 31, 30,
                                  31, 31, 30, 31, 30, 31};
    int year, month, day;
    if (!digits(c, 4, &year) || !accept(c, '-') || !digits(c, 2, &month) ||
        !accept(c, '-') || !digits(c, 2, &day))
        return false;
    if (year < 1 || month < 1 || month > 12) return false;
    if (day < 1 || day > LENGTHS[month - 1]) return false;
    if (month == 2 && day == 29 &&
        (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
        return false;
    *days = days_of(year, month, day);
    return true;
}

static bool clock_ms(struct cursor *c, int64_t *ms)
{
    int hour, minute, second = 0, weight = 100;
    if (!digits(c, 2, &hour) || !accept(c, ':') || !digits(c, 2, &minute))
        return false;
    if (accept(c, ':') && !digits(c, 2, &second)) return false;
    if (hour > 23 || minute > 59 || second > 60) return false;
    *ms = ((hour * 60 + minute) * 60 + second) * (int64_t)1000;
    if (!accept(c, '.') && !accept(c, ',')) return true;
    if (c->at == c->end || *c->at < '0' || *c->at > '9') return false;
    for (; c->at != c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        *ms += (*c->at - '0') * weight;
        weight /= 10;
    }
    return true;
}

static bool zone_ms(struct cursor *c, int64_t *ms)
{
    int hours, minutes = 0, sign;
    *ms = 0;
    if (c->at == c->end || accept(c, 'Z') || accept(c, 'z')) return true;
    sign = accept(c, '+') ? 1 : accept(c, '-') ? -1 : 0;
    if (sign == 0 || !digits(c, 2, &hours)) return false;
    if (c->at != c->end) {
        (void)accept(c, ':');
        if (!digits(c, 2, &minutes)) return false;
    }
    if (hours > 23 || minutes > 59) return false;
    *ms = sign * (hours * 60 + minutes) * (int64_t)60000;
    return true;
}

bool iso_time_parse(struct slice text, int64_t *out_ms)
{
    struct cursor c = {text.ptr, text.len ? text.ptr + text.len : text.ptr};
    int64_t days, of_day = 0, zone = 0;
    if (!date(&c, &days)) return false;
    if (accept(&c, 'T') || accept(&c, ' ') || accept(&c, 't')) {
        if (!clock_ms(&c, &of_day) || !zone_ms(&c, &zone)) return false;
    }
    if (c.at != c.end) return false;
    *out_ms = days * 86400000 + of_day - zone;
    return true;
}
