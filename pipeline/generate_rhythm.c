#include "generate_rhythm.h"

#include <assert.h>
#include <math.h>

enum {
    MS_PER_HOUR = 3600000,
    FIRST_MONDAY_MS = 4 * 24 * MS_PER_HOUR, /* 1970-01-05 */
};
static const double WEEKEND = 1.3;
static const double LN2 = 0.69314718055994531;

static const double HOURS[24] = {
    0.25, 0.15, 0.10, 0.08, 0.10, 0.20, 0.45, 0.75, 0.95, 1.10, 1.20, 1.35,
    1.50, 1.35, 1.20, 1.15, 1.25, 1.45, 1.70, 1.95, 2.05, 1.75, 1.15, 0.60,
};

void rhythm_init(struct rhythm *r)
{
    double sum = 0;
    for (int h = 0; h < RHYTHM_HOURS; h++)
        sum += HOURS[h % 24] * (h / 24 >= 5 ? WEEKEND : 1);
    r->worth[0] = 0;
    for (int h = 0; h < RHYTHM_HOURS; h++)
        r->worth[h + 1] = r->worth[h] + HOURS[h % 24] *
                                            (h / 24 >= 5 ? WEEKEND : 1) *
                                            RHYTHM_HOURS / sum;
    r->worth[RHYTHM_HOURS] = RHYTHM_HOURS;
}

/* The hour of the week in which `worth` is reached. */
static int hour_of(const struct rhythm *r, double worth)
{
    int low = 0, high = RHYTHM_HOURS;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (r->worth[middle] <= worth)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int64_t rhythm_later(const struct rhythm *r, int64_t from_ms, double hours)
{
    const int64_t week_ms = (int64_t)RHYTHM_HOURS * MS_PER_HOUR;
    int64_t week = (from_ms - FIRST_MONDAY_MS) / week_ms;
    int64_t in_week = (from_ms - FIRST_MONDAY_MS) - week * week_ms;
    int h = (int)(in_week / MS_PER_HOUR);
    double part = (double)(in_week % MS_PER_HOUR) / MS_PER_HOUR;
    double worth = r->worth[h] + part * (r->worth[h + 1] - r->worth[h]) + hours;
    double weeks = floor(worth / RHYTHM_HOURS);
    int64_t later_ms;
    assert(from_ms >= FIRST_MONDAY_MS && hours >= 0);
    worth -= weeks * RHYTHM_HOURS;
    h = hour_of(r, worth);
    part = (worth - r->worth[h]) / (r->worth[h + 1] - r->worth[h]);
    later_ms = FIRST_MONDAY_MS + (week + (int64_t)weeks) * week_ms +
               (int64_t)((h + part) * MS_PER_HOUR);
    return later_ms < from_ms ? from_ms : later_ms; /* rounding */
}

double rhythm_exp(double x)
{
    double n = floor(x / LN2 + 0.5), r = x - n * LN2, sum = 1;
    for (int k = 13; k > 0; k--) /* |r| <= 0.35: r^14 / 14! < 5e-18 */
        sum = 1 + r / k * sum;
    return ldexp(sum, (int)n);
}

double rhythm_log(double x)
{
    int n;
    double m = frexp(x, &n), z, zz, sum = 0;
    if (m < 0.70710678118654752) {
        m *= 2;
        n--;
    }
    z = (m - 1) / (m + 1);
    zz = z * z;
    for (int k = 21; k > 0; k -= 2) /* |z| <= 0.172: z^23 / 23 < 2e-19 */
        sum = sum * zz + 1.0 / k;
    return 2 * z * sum + n * LN2;
}
