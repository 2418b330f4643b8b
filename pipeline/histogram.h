/* histogram.h - durations in buckets whose width grows with the value.
 *
 * Buckets  Eight to an octave, from 2^10 ns (1 us) to 2^36 ns (69 s), so a
 *          quantile is off by 12.5 % at most. Bucket i holds the values in
 *          (bound(i - 1), bound(i)], as Prometheus counts.
 * Memory   A plain value, fixed size.
 * Threads  One thread adds, any thread reads (relaxed atomics: no lock, and
 *          no locked instruction). What is read may lie between two adds;
 *          the count is taken from the buckets, so it always fits them. */
#ifndef MILLRACE_HISTOGRAM_H
#define MILLRACE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    HISTOGRAM_FIRST_LOG2 = 10,
    HISTOGRAM_LAST_LOG2 = 36,
    HISTOGRAM_PER_OCTAVE = 8,
    /* the first takes all up to 2^10 ns, the last all above 2^36 ns */
    HISTOGRAM_BUCKETS =
        (HISTOGRAM_LAST_LOG2 - HISTOGRAM_FIRST_LOG2) * HISTOGRAM_PER_OCTAVE + 2,
};

struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BUCKETS];
    _Atomic uint64_t sum_ns;
};

/* The owner's thread. */
void histogram_add(struct histogram *h, uint64_t ns);

/* Adds what from holds to the (plain, zeroed) copy to. */
void histogram_merge(struct histogram *to, const struct histogram *from);

/* Upper bound of bucket i; UINT64_MAX for the last. */
uint64_t histogram_bound_ns(uint32_t i);
uint64_t histogram_count(const struct histogram *h);
/* The bound of the bucket that holds the q-quantile; 0 when empty. */
uint64_t histogram_quantile_ns(const struct histogram *h, double q);

#endif
