#include "bootstrap.h"

#include <math.h>
#include <stdlib.h>

#include "hash.h"

/* Poisson(1) by inversion. */
uint32_t bootstrap_times(uint64_t user, uint32_t number)
{
    static const double at_most[] = {/* sums of 1 / (e k!) */
                                     0.36787944117144233, 0.73575888234288467,
                                     0.91969860292860584, 0.98101184312384626,
                                     0.99634015317265634, 0.99940581518241838,
                                     0.99991675885071200, 0.99998975080332531};
    uint64_t drawn = hash_mix(user ^ hash_mix(number + 1));
    double u = (double)(drawn >> 11) * 0x1p-53;
    uint32_t k = 0;
    while (k < sizeof at_most / sizeof *at_most && u >= at_most[k])
        k++;
    return k;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct interval bootstrap_difference(const double *a, const double *b)
{
    double values[BOOTSTRAP_RESAMPLES];
    uint32_t count = 0;
    for (uint32_t i = 0; i < BOOTSTRAP_RESAMPLES; i++)
        if (isfinite(a[i] - b[i])) values[count++] = a[i] - b[i];
    if (count == 0) return (struct interval){NAN, NAN};
    qsort(values, count, sizeof *values, by_value);
    return (struct interval){values[(uint32_t)(count * 0.025)],
                             values[(uint32_t)(count * 0.975)]};
}

struct interval bootstrap_interval(const double *values)
{
    static const double none[BOOTSTRAP_RESAMPLES];
    return bootstrap_difference(values, none);
}
