/* bootstrap.h - how far a number would move with other users: 95 % intervals
 * by resampling users, whose rows come together.
 *
 * Each user counts Poisson(1) times in a resample, drawn by a hash of user
 * and resample: an interval depends on no order, and two models over the
 * same events draw the same users, so that their numbers can be subtracted
 * resample by resample. */
#ifndef MILLRACE_BOOTSTRAP_H
#define MILLRACE_BOOTSTRAP_H

#include <stdint.h>

enum { BOOTSTRAP_RESAMPLES = 200 };

struct interval {
    double low, high;
};

/* How often a user is in resample number. */
uint32_t bootstrap_times(uint64_t user, uint32_t number);

/* Of BOOTSTRAP_RESAMPLES values; those that are not finite are left out. All
 * such: NaN. */
struct interval bootstrap_interval(const double *values);
/* Of a's number less b's. */
struct interval bootstrap_difference(const double *a, const double *b);

#endif
