#include "baseline.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIT_ROWS = 200000, /* of more, every so manieth is taken */
    NEWTON_STEPS = 30,
    HALVINGS = 20,
};

/* Inputs of the regression: (F) standardised, (F) missing, 1. */
static uint32_t inputs_of(const struct feature_layer *l)
{
    return 2 * l->features + 1;
}

static void fill_inputs(const struct feature_layer *l, const float *x,
                        float *out)
{
    memset(out, 0, 2 * (size_t)l->features * sizeof *out);
    for (uint32_t f = 0; f < l->features; f++) {
        if (isnan(x[f]))
            out[l->features + f] = 1;
        else
            out[f] = (float)feature_standardise(l, f, x[f]);
    }
    out[2 * l->features] = 1;
}

/* --- fitting ------------------------------------------------------------- */

struct fit {
    uint32_t inputs; /* I */
    uint64_t rows;
    float *x;         /* (rows, I) */
    uint8_t *fraud;   /* (rows) */
    double *weight;   /* (I) */
    double *step;     /* (I) */
    double *gradient; /* (I) */
    double *hessian;  /* (I, I), its lower half */
};

static double logit_of(const struct fit *f, const double *weight, uint64_t row)
{
    const float *x = f->x + row * f->inputs;
    double sum = 0;
    for (uint32_t i = 0; i < f->inputs; i++)
        sum += weight[i] * (double)x[i];
    return sum;
}

static double loss_of(const struct fit *f, const double *weight)
{
    double loss = 0;
    for (uint32_t i = 0; i + 1 < f->inputs; i++)
        loss += weight[i] * weight[i] / 2;
    for (uint64_t r = 0; r < f->rows; r++) {
        double z = logit_of(f, weight, r);
        if (f->fraud[r]) z = -z;
        loss += z > 0 ? z + log1p(exp(-z)) : log1p(exp(z));
    }
    return loss;
}

/* The missing flags are nearly all 0, so rows of the half are skipped. */
static void add_curvature(struct fit *f, const float *x, double weight)
{
    for (uint32_t i = 0; i < f->inputs; i++) {
        double scaled = weight * (double)x[i];
        double *row = f->hessian + (size_t)i * f->inputs;
        if (x[i] == 0) continue;
        for (uint32_t j = 0; j <= i; j++)
            row[j] += scaled * (double)x[j];
    }
}

static void fill_slopes(struct fit *f)
{
    uint32_t n = f->inputs;
    memset(f->hessian, 0, (size_t)n * n * sizeof *f->hessian);
    for (uint32_t i = 0; i < n; i++) {
        bool ridge = i + 1 < n; /* the offset has none */
        f->gradient[i] = ridge ? f->weight[i] : 0;
        f->hessian[(size_t)i * n + i] = ridge ? 1 : 1e-9;
    }
    for (uint64_t r = 0; r < f->rows; r++) {
        const float *x = f->x + r * n;
        double p = 1 / (1 + exp(-logit_of(f, f->weight, r)));
        double miss = p - f->fraud[r];
        for (uint32_t i = 0; i < n; i++)
            f->gradient[i] += miss * (double)x[i];
        add_curvature(f, x, p * (1 - p));
    }
}

/* Cholesky in place: hessian step = gradient. The ridge keeps every pivot
 * above 0. */
static void solve(struct fit *f)
{
    uint32_t n = f->inputs;
    double *h = f->hessian, *s = f->step;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j <= i; j++) {
            double sum = h[(size_t)i * n + j];
            for (uint32_t k = 0; k < j; k++)
                sum -= h[(size_t)i * n + k] * h[(size_t)j * n + k];
            h[(size_t)i * n + j] =
                i == j ? sqrt(fmax(sum, 1e-12)) : sum / h[(size_t)j * n + j];
        }
    for (uint32_t i = 0; i < n; i++) {
        s[i] = f->gradient[i];
        for (uint32_t k = 0; k < i; k++)
            s[i] -= h[(size_t)i * n + k] * s[k];
        s[i] /= h[(size_t)i * n + i];
    }
    for (uint32_t i = n; i-- > 0;) {
        for (uint32_t k = i + 1; k < n; k++)
            s[i] -= h[(size_t)k * n + i] * s[k];
        s[i] /= h[(size_t)i * n + i];
    }
}

/* A full step may overshoot where frauds are rare: then half of it. Returns
 * how far it went; 0: nowhere is better. */
static double move(struct fit *f, double *loss)
{
    double far = 0, part = 1;
    for (uint32_t i = 0; i < f->inputs; i++)
        far = fmax(far, fabs(f->step[i]));
    for (uint32_t halving = 0; halving < HALVINGS; halving++, part /= 2) {
        double next;
        for (uint32_t i = 0; i < f->inputs; i++)
            f->weight[i] -= part * f->step[i];
        next = loss_of(f, f->weight);
        if (next <= *loss) {
            *loss = next;
            return far * part;
        }
        for (uint32_t i = 0; i < f->inputs; i++)
            f->weight[i] += part * f->step[i];
    }
    return 0;
}

static void minimise(struct fit *f)
{
    double loss = loss_of(f, f->weight);
    for (uint32_t step = 0; step < NEWTON_STEPS; step++) {
        fill_slopes(f);
        solve(f);
        if (move(f, &loss) < 1e-7) return;
    }
}

/* --- the rows ------------------------------------------------------------ */

static bool is_fitted(const struct train_data *d, uint64_t row)
{
    return d->role[row] == ROLE_TRAIN && d->label[row] >= 0;
}

static enum rc take(struct fit *f, const struct feature_layer *l, uint64_t rows,
                    struct err *e)
{
    size_t n = inputs_of(l);
    *f = (struct fit){.inputs = (uint32_t)n};
    f->x = malloc((rows + 1) * n * sizeof *f->x);
    f->fraud = malloc(rows + 1);
    f->weight = calloc(n, sizeof *f->weight);
    f->step = calloc(n, sizeof *f->step);
    f->gradient = calloc(n, sizeof *f->gradient);
    f->hessian = calloc(n * n, sizeof *f->hessian);
    if (f->x && f->fraud && f->weight && f->step && f->gradient && f->hessian)
        return RC_OK;
    return ERR(e, RC_STOP, "training: no memory for a regression of %llu rows",
               (unsigned long long)rows);
}

static void give_back(struct fit *f)
{
    free(f->x);
    free(f->fraud);
    free(f->weight);
    free(f->step);
    free(f->gradient);
    free(f->hessian);
}

static void count_shares(const struct train_data *d, uint64_t rows,
                         struct model *m)
{
    uint32_t features = d->log->features;
    for (uint64_t r = 0; r < d->log->rows; r++) {
        if (!is_fitted(d, r)) continue;
        for (uint32_t f = 0; f < features; f++) {
            uint32_t bin =
                model_feature_bin(m, f, d->log->feature_rows[r * features + f]);
            m->baseline.shares[(size_t)f * MODEL_FEATURE_BINS + bin]++;
        }
    }
    for (size_t i = 0; i < (size_t)features * MODEL_FEATURE_BINS; i++)
        m->baseline.shares[i] /= (float)rows;
}

enum rc baseline_fit(const struct train_data *d, struct model *m, struct err *e)
{
    const struct feature_layer *l = heads_feature_layer(m->heads);
    uint32_t features = d->log->features;
    uint64_t rows = 0, step, at = 0;
    struct fit f;
    enum rc rc;
    assert(features == l->features);
    for (uint64_t r = 0; r < d->log->rows; r++)
        rows += is_fitted(d, r);
    if (rows == 0) return RC_OK;
    step = rows / FIT_ROWS + 1;
    rc = take(&f, l, rows / step + 1, e);
    for (uint64_t r = 0; rc == RC_OK && r < d->log->rows; r++) {
        if (!is_fitted(d, r) || at++ % step) continue;
        fill_inputs(l, d->log->feature_rows + r * features,
                    f.x + f.rows * f.inputs);
        f.fraud[f.rows++] = (uint8_t)d->label[r];
    }
    if (rc == RC_OK) {
        minimise(&f);
        for (uint32_t i = 0; i < f.inputs; i++)
            m->baseline.weights[i] = (float)f.weight[i];
        count_shares(d, rows, m);
        m->baseline.there = true;
    }
    give_back(&f);
    return rc;
}

/* --- reading ------------------------------------------------------------- */

float model_regression(const struct model *m, const float *features)
{
    const struct feature_layer *l = heads_feature_layer(m->heads);
    const float *weights = m->baseline.weights;
    double sum = (double)weights[2 * l->features];
    if (!m->baseline.there) return NAN;
    for (uint32_t f = 0; f < l->features; f++)
        sum += isnan(features[f])
                   ? (double)weights[l->features + f]
                   : (double)weights[f] *
                         (double)feature_standardise(l, f, features[f]);
    return (float)(1 / (1 + exp(-sum)));
}

const float *model_feature_shares(const struct model *m, uint32_t feature)
{
    assert(feature < m->params.config.features);
    if (!m->baseline.there) return NULL;
    return m->baseline.shares + (size_t)feature * MODEL_FEATURE_BINS;
}

/* From border to border; what is beyond the ends belongs to the end bins. */
uint32_t model_feature_bin(const struct model *m, uint32_t feature, float x)
{
    const float *border =
        m->tables.feature_border + (size_t)feature * (BINS + 1);
    uint32_t bin = 0;
    float y;
    if (isnan(x)) return MODEL_FEATURE_BINS - 1;
    y = feature_signed_log(x);
    while (bin + 1 < BINS && y >= border[bin + 1])
        bin++;
    return bin;
}
