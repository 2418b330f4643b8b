/* generate_rhythm.h - the hours at which people shop, and exp and log that
 * are the same bits on every machine.
 *
 * Rhythm   A weight for each hour of the week, mean 1. A stretch of time is
 *          worth the sum of its weights, so what happens at a steady rate
 *          per weighted hour follows the day and the week.
 * Bits     libm's exp and log differ between machines in the last bit, and
 *          a generated stream must not: these use +, -, *, / alone.
 * Threads  Immutable after rhythm_init. */
#ifndef MILLRACE_GENERATE_RHYTHM_H
#define MILLRACE_GENERATE_RHYTHM_H

#include <stdint.h>

enum { RHYTHM_HOURS = 168 };

struct rhythm {
    double worth[RHYTHM_HOURS + 1]; /* of all hours before, from Monday */
};

void rhythm_init(struct rhythm *r);
/* The time (ms since 1970) that is weighted hours after from_ms. */
int64_t rhythm_later(const struct rhythm *r, int64_t from_ms, double hours);

/* |x| < 700. */
double rhythm_exp(double x);
/* x > 0. */
double rhythm_log(double x);

#endif
