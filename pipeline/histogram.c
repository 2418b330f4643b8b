#include "histogram.h"

#include <assert.h>
#include <math.h>

enum { SUB_LOG2 = 3 };
_Static_assert(1 << SUB_LOG2 == HISTOGRAM_PER_OCTAVE, "sub-buckets");

/* Buckets are open below and closed above: the value less one decides, so
 * that 2^10 is the last of the first bucket. */
static uint32_t bucket_of(uint64_t ns)
{
    uint32_t log2, sub;
    if (ns <= 1ull << HISTOGRAM_FIRST_LOG2) return 0;
    if (ns > 1ull << HISTOGRAM_LAST_LOG2) return HISTOGRAM_BUCKETS - 1;
    log2 = 63 - (uint32_t)__builtin_clzll(ns - 1);
    sub =
        (uint32_t)((ns - 1) >> (log2 - SUB_LOG2)) & (HISTOGRAM_PER_OCTAVE - 1);
    return 1 + (log2 - HISTOGRAM_FIRST_LOG2) * HISTOGRAM_PER_OCTAVE + sub;
}

static uint64_t read(const _Atomic uint64_t *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

/* Only the owner writes, so a load and a store are enough. */
static void add(_Atomic uint64_t *at, uint64_t n)
{
    atomic_store_explicit(at, read(at) + n, memory_order_relaxed);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    add(&h->counts[bucket_of(ns)], 1);
    add(&h->sum_ns, ns);
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        add(&to->counts[i], read(&from->counts[i]));
    add(&to->sum_ns, read(&from->sum_ns));
}

uint64_t histogram_bound_ns(uint32_t i)
{
    uint32_t octave, sub;
    assert(i < HISTOGRAM_BUCKETS);
    if (i == HISTOGRAM_BUCKETS - 1) return UINT64_MAX;
    if (i == 0) return 1ull << HISTOGRAM_FIRST_LOG2;
    octave = (i - 1) / HISTOGRAM_PER_OCTAVE;
    sub = (i - 1) % HISTOGRAM_PER_OCTAVE;
    return (uint64_t)(HISTOGRAM_PER_OCTAVE + sub + 1)
           << (HISTOGRAM_FIRST_LOG2 + octave - SUB_LOG2);
}

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        count += read(&h->counts[i]);
    return count;
}

uint64_t histogram_quantile_ns(const struct histogram *h, double q)
{
    double rank = ceil(q * (double)histogram_count(h));
    uint64_t below = 0;
    if (rank < 1) rank = 1;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += read(&h->counts[i]);
        if ((double)below >= rank) return histogram_bound_ns(i);
    }
    return 0;
}
