#include "train_tables.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FEATURE_SAMPLE = 200000,
    CALIBRATION_STEPS = 50,
    CALIBRATION_LABELS_MIN = 10, /* of each kind; fewer say too little */
};

/* Where the borders of a feature's bins stand: closer in the upper tail,
 * since that is where the odd payments are. */
static const double border_rank[BINS + 1] = {
    0, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.997, 1};

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* --- features ----------------------------------------------------------- */

static bool counts_for_features(const struct train_data *d, uint64_t row)
{
    if (d->role[row] != ROLE_TRAIN) return false;
    return d->positives == 0 || d->label[row] >= 0;
}

static void one_feature(uint32_t f, float *values, size_t count,
                        struct head_tables *t)
{
    double sum = 0, squares = 0, mean, deviation;
    float *border = t->feature_border + (size_t)f * (BINS + 1);
    qsort(values, count, sizeof *values, compare_floats);
    for (size_t i = 0; i < count; i++)
        sum += (double)values[i];
    mean = count ? sum / (double)count : 0;
    for (size_t i = 0; i < count; i++)
        squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    deviation = count ? sqrt(squares / (double)count) : 0;
    t->feature_mean[f] = (float)mean;
    t->feature_scale[f] = deviation > 1e-6 ? (float)(1 / deviation) : 1;
    for (uint32_t b = 0; b <= BINS; b++)
        border[b] =
            count ? values[(size_t)(border_rank[b] * (double)(count - 1))] : 0;
}

enum rc tables_features(const struct train_data *d, struct head_tables *t,
                        struct err *e)
{
    const struct train_log *log = d->log;
    uint64_t rows = 0, step;
    float *values;
    for (uint64_t r = 0; r < log->rows; r++)
        rows += counts_for_features(d, r);
    step = rows / FEATURE_SAMPLE + 1;
    values = malloc((rows / step + 1) * sizeof *values);
    if (!values) return ERR(e, RC_STOP, "training: no memory");
    for (uint32_t f = 0; f < log->features; f++) {
        size_t count = 0;
        uint64_t at = 0;
        for (uint64_t r = 0; r < log->rows; r++) {
            float x = log->feature_rows[r * log->features + f];
            if (!counts_for_features(d, r) || at++ % step) continue;
            if (isfinite(x)) values[count++] = feature_signed_log(x);
        }
        one_feature(f, values, count, t);
    }
    free(values);
    return RC_OK;
}

/* Sorts count values, of which missing more are none. */
static float median(float *values, size_t count, size_t missing)
{
    if (count <= missing) return NAN;
    qsort(values, count, sizeof *values, compare_floats);
    return values[(count - 1) / 2];
}

enum rc tables_typical(const struct train_data *d, float *out, struct err *e)
{
    const struct train_log *log = d->log;
    uint64_t rows = 0, step;
    float *values;
    for (uint64_t r = 0; r < log->rows; r++)
        rows += d->role[r] == ROLE_TRAIN && d->label[r] == LABEL_GOOD;
    step = rows / FEATURE_SAMPLE + 1;
    values = malloc((rows / step + 1) * sizeof *values);
    if (!values) return ERR(e, RC_STOP, "training: no memory");
    for (uint32_t f = 0; f < log->features; f++) {
        size_t count = 0, missing = 0;
        uint64_t at = 0;
        for (uint64_t r = 0; r < log->rows; r++) {
            float x = log->feature_rows[r * log->features + f];
            if (d->role[r] != ROLE_TRAIN || d->label[r] != LABEL_GOOD) continue;
            if (at++ % step) continue;
            if (isfinite(x))
                values[count++] = x;
            else
                missing++;
        }
        out[f] = median(values, count, missing);
    }
    free(values);
    return RC_OK;
}

void tables_reference(uint32_t items, struct head_tables *t)
{
    t->reference_count = items < REFERENCE_ITEMS ? items : REFERENCE_ITEMS;
    for (uint32_t i = 0; i < t->reference_count; i++)
        t->reference[i] = (uint32_t)(((2 * (uint64_t)i + 1) * items) /
                                     (2 * (uint64_t)t->reference_count));
}

/* --- calibration -------------------------------------------------------- */

/* One Newton step on the cross-entropy of sigmoid(line[0] x + line[1]). */
static double calibrate_step(const struct scored_labels *s,
                             const double goal[2], double line[2])
{
    double g0 = 0, g1 = 0, h00 = 1e-9, h01 = 0, h11 = 1e-9, det, d0, d1;
    for (uint64_t i = 0; i < s->count; i++) {
        double x = (double)s->logit[i];
        double p = 1 / (1 + exp(-(line[0] * x + line[1])));
        double d = p - goal[s->label[i]], w = p * (1 - p);
        g0 += d * x;
        g1 += d;
        h00 += w * x * x;
        h01 += w * x;
        h11 += w;
    }
    det = h00 * h11 - h01 * h01;
    if (!(det > 0)) return 0;
    d0 = (h11 * g0 - h01 * g1) / det;
    d1 = (h00 * g1 - h01 * g0) / det;
    /* Far from the optimum a full step can overshoot. */
    if (fabs(d0) > 1) d0 = d0 > 0 ? 1 : -1;
    if (fabs(d1) > 2) d1 = d1 > 0 ? 2 : -2;
    line[0] -= d0;
    line[1] -= d1;
    return fabs(d0) + fabs(d1);
}

void tables_calibrate(const struct scored_labels *s, double positive_weight,
                      struct head_tables *t)
{
    double line[2] = {1, -log(positive_weight)}, goal[2];
    uint64_t frauds = 0, good;
    for (uint64_t i = 0; i < s->count; i++)
        frauds += s->label[i];
    good = s->count - frauds;
    t->calibration[0] = 1;
    t->calibration[1] = (float)line[1];
    if (frauds < CALIBRATION_LABELS_MIN || good < CALIBRATION_LABELS_MIN)
        return;
    goal[0] = 1 / ((double)good + 2);
    goal[1] = ((double)frauds + 1) / ((double)frauds + 2);
    for (int i = 0; i < CALIBRATION_STEPS; i++)
        if (calibrate_step(s, goal, line) < 1e-9) break;
    /* A slope that is not positive would turn the ranking over: the labels
     * do not bear out the logit, and a line cannot mend that. */
    if (!(line[0] > 0) || !isfinite(line[0]) || !isfinite(line[1])) return;
    t->calibration[0] = (float)line[0];
    t->calibration[1] = (float)line[1];
}

/* --- anomaly ------------------------------------------------------------ */

/* Point i is where -ln(1 - rank) is depth i / (QUANTILE_POINTS - 1). */
static void fill_quantiles(float *values, uint64_t count, double depth,
                           float *out)
{
    qsort(values, count, sizeof *values, compare_floats);
    for (uint32_t i = 0; i < QUANTILE_POINTS; i++) {
        double rank = 1 - exp(-depth * i / (QUANTILE_POINTS - 1));
        uint64_t at = (uint64_t)(rank * (double)count);
        out[i] = values[at < count ? at : count - 1];
    }
    out[QUANTILE_POINTS - 1] = values[count - 1];
}

/* The quantiles of a column of the surprises; values (rows) is scratch. */
static void fill_column(const float *surprise, uint64_t rows, size_t columns,
                        size_t column, float *values, double depth, float *out)
{
    for (uint64_t r = 0; r < rows; r++)
        values[r] = surprise[r * columns + column];
    fill_quantiles(values, rows, depth, out);
}

/* A table beyond which nothing is: its field never counts. */
static void silence(float *out)
{
    for (uint32_t i = 0; i < QUANTILE_POINTS; i++)
        out[i] = FLT_MAX;
}

enum rc tables_anomaly(const float *surprise, uint64_t rows, bool own_only,
                       const struct heads *h, const struct params *p,
                       struct head_tables *t, struct err *e)
{
    float *values = malloc((rows + 1) * sizeof *values);
    double depth = log((double)(rows > 1 ? rows : 2));
    size_t columns = heads_surprises(p), fields = p->config.field_count;
    if (!values) return ERR(e, RC_STOP, "training: no memory");
    t->depth = (float)depth;
    for (uint32_t f = 0; rows && f < fields; f++) {
        if (own_only)
            silence(t->field_quantile[f]);
        else if (p->config.field[f].predicted)
            fill_column(surprise, rows, columns, f, values, depth,
                        t->field_quantile[f]);
    }
    for (uint32_t k = 0; rows && k < OWN_MEASURES; k++)
        fill_column(surprise, rows, columns, fields + k, values, depth,
                    t->own_quantile[k]);
    for (uint64_t r = 0; r < rows; r++)
        values[r] = heads_total(h, surprise + r * columns);
    if (rows) fill_quantiles(values, rows, depth, t->total_quantile);
    free(values);
    return RC_OK;
}

/* --- items -------------------------------------------------------------- */

void tables_item_counts(const struct train_data *d, struct model *m)
{
    if (m->item_field < 0) return;
    for (uint64_t r = 0; r < d->log->rows; r++) {
        uint32_t item = d->tokens[r].row[m->item_field];
        if (d->role[r] == ROLE_TRAIN && item < m->params.config.items)
            m->item_counts[item]++;
    }
    model_rank_items(m);
}

/* --- unknown ids -------------------------------------------------------- */

static void mean_row(real *table, uint32_t known, uint32_t rows, size_t d,
                     const uint8_t *seen)
{
    for (size_t k = 0; k < d; k++) {
        double sum = 0;
        for (uint32_t r = 0; r < known; r++)
            sum += (double)table[r * d + k];
        for (uint32_t r = known; r < rows; r++)
            if (!seen[r]) table[r * d + k] = (real)(sum / (known ? known : 1));
    }
}

void tables_unseen_rows(const struct train_data *d, struct model *m)
{
    const struct params *p = &m->params;
    const struct behaviour_config *c = &p->config;
    for (uint32_t f = 0; f < c->field_count; f++) {
        uint32_t rows = c->field[f].rows;
        uint8_t *seen;
        if (!field_has_vocabulary(c->field[f].kind)) continue;
        seen = calloc(rows, 1);
        for (uint64_t r = 0; seen && r < d->log->rows; r++)
            if (d->role[r] == ROLE_TRAIN) seen[d->tokens[r].row[f]] = 1;
        if (seen)
            mean_row(params_at(p, m->values, p->embedding[f]),
                     m->tokeniser.vocabulary[f].count, rows, c->width, seen);
        free(seen);
    }
}
