#include "drift.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "evaluate_rows.h"

enum { TENTHS = 10, ROWS_MIN = 100 };
static const double LEAST = 1e-4;

double drift_index(const double *p, const double *q, uint32_t bins)
{
    double sum = 0;
    for (uint32_t i = 0; i < bins; i++) {
        double before = fmax(p[i], LEAST), after = fmax(q[i], LEAST);
        sum += (after - before) * log(after / before);
    }
    return sum;
}

/* --- features ------------------------------------------------------------ */

struct drift {
    const struct model *model;
    uint32_t features;
    uint64_t events;
    uint64_t *counts; /* (features, MODEL_FEATURE_BINS) */
};

struct drift *drift_new(const struct model *m)
{
    struct drift *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->model = m;
    d->features = model_info(m)->features;
    d->counts =
        calloc((size_t)d->features * MODEL_FEATURE_BINS + 1, sizeof *d->counts);
    if (d->counts) return d;
    free(d);
    return NULL;
}

void drift_free(struct drift *d)
{
    if (!d) return;
    free(d->counts);
    free(d);
}

void drift_add(struct drift *d, const float *features)
{
    d->events++;
    for (uint32_t f = 0; f < d->features; f++)
        d->counts[f * MODEL_FEATURE_BINS +
                  model_feature_bin(d->model, f, features[f])]++;
}

void drift_merge(struct drift *to, const struct drift *from)
{
    assert(to->features == from->features);
    to->events += from->events;
    for (size_t i = 0; i < (size_t)to->features * MODEL_FEATURE_BINS; i++)
        to->counts[i] += from->counts[i];
}

const char *drift_name(const struct drift *d, uint32_t feature)
{
    return model_feature_name(d->model, feature);
}

double drift_feature(const struct drift *d, uint32_t feature)
{
    const float *shares = model_feature_shares(d->model, feature);
    double p[MODEL_FEATURE_BINS], q[MODEL_FEATURE_BINS];
    if (d->events == 0 || !shares) return NAN;
    for (uint32_t b = 0; b < MODEL_FEATURE_BINS; b++) {
        p[b] = (double)shares[b];
        q[b] = (double)d->counts[feature * MODEL_FEATURE_BINS + b] /
               (double)d->events;
    }
    return drift_index(p, q, MODEL_FEATURE_BINS);
}

/* --- scores -------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The tenth of before (sorted) that x is in; equal borders leave some empty,
 * for both sides alike. */
static uint32_t tenth_of(const float *border, float x)
{
    uint32_t t = 0;
    while (t + 1 < TENTHS && x >= border[t])
        t++;
    return t;
}

static double compare(float *before, uint64_t before_count, const float *after,
                      uint64_t after_count)
{
    float border[TENTHS - 1];
    double p[TENTHS] = {0}, q[TENTHS] = {0};
    if (before_count < ROWS_MIN || after_count < ROWS_MIN) return NAN;
    qsort(before, before_count, sizeof *before, by_value);
    for (uint32_t t = 0; t + 1 < TENTHS; t++)
        border[t] = before[(t + 1) * before_count / TENTHS];
    for (uint64_t i = 0; i < before_count; i++)
        p[tenth_of(border, before[i])] += 1 / (double)before_count;
    for (uint64_t i = 0; i < after_count; i++)
        q[tenth_of(border, after[i])] += 1 / (double)after_count;
    return drift_index(p, q, TENTHS);
}

enum rc drift_score(const struct evaluate *ev, uint32_t column, int64_t from_ms,
                    int64_t until_ms, double *out, struct err *e)
{
    uint64_t rows = evaluate_rows(ev), before = 0, after = 0;
    float *values = malloc((rows + 1) * sizeof *values);
    if (!values)
        return ERR(e, RC_STOP, "drift: no memory for %llu scores",
                   (unsigned long long)rows);
    /* Those before fill it from its start, the others from its end. */
    for (uint64_t i = 0; i < rows; i++) {
        float x = evaluate_score(ev, i, column);
        int64_t time_ms = evaluate_time(ev, i);
        if (isnan(x) || time_ms >= until_ms) continue;
        if (time_ms < from_ms)
            values[before++] = x;
        else
            values[rows - ++after] = x;
    }
    *out = compare(values, before, values + rows - after, after);
    free(values);
    return RC_OK;
}
