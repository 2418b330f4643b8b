#include "train_optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE_REALS = 16384, VALUES_ALIGN = 64 };

static const float momentum = 0.9f, square_momentum = 0.98f;
static const float tiny = 1e-8f;

/* The average's memory at step t is at most (1 + t) / (average_delay + t). */
static const double average_delay = 10;

/* A stretch of one tensor: what one task does. */
struct stretch {
    size_t from, count;
    uint32_t cols; /* of the sphere's rows, which are whole; else 0 */
    bool decays, fixed;
};

struct optimizer {
    struct optimizer_options options;
    struct team *team;
    real *values;
    real *gradients[TRAIN_SHARDS];
    real *mean, *square;
    real *average; /* NULL: none */
    struct stretch *stretches;
    double *norms; /* (stretch_count) squared */
    uint32_t stretch_count;
    uint64_t step;
    float rate, scale, mean_correction, square_correction; /* of this step */
    float average_share;                                   /* of the values */
};

static uint32_t list_stretches(const struct params *p,
                               const struct optimizer_options *o,
                               struct stretch *out)
{
    uint32_t count = 0;
    for (uint32_t t = 0; t < p->count; t++) {
        size_t cols = p->tensor[t].cols, size = SLICE_REALS;
        size_t reals = (size_t)p->tensor[t].rows * cols;
        bool sphere = t == o->sphere;
        if (sphere) size = size / cols * cols;
        for (size_t at = 0; at < reals; at += size, count++) {
            size_t left = reals - at;
            if (!out) continue;
            out[count] =
                (struct stretch){.from = p->tensor[t].offset + at,
                                 .count = left < size ? left : size,
                                 .cols = sphere ? (uint32_t)cols : 0,
                                 .decays = p->tensor[t].decays && !sphere,
                                 .fixed = t == o->fixed[0] || t == o->fixed[1]};
        }
    }
    return count;
}

/* Every row to the sphere; one of zeros cannot be put there and stays. */
static void to_sphere(real *x, size_t count, uint32_t cols, float radius)
{
    for (size_t r = 0; r < count; r += cols) {
        double length = 0;
        real scale;
        for (uint32_t k = 0; k < cols; k++)
            length += (double)x[r + k] * (double)x[r + k];
        if (length <= 0) continue;
        scale = (real)((double)radius / sqrt(length));
        for (uint32_t k = 0; k < cols; k++)
            x[r + k] *= scale;
    }
}

static real *take_block(size_t reals)
{
    size_t bytes =
        (reals * sizeof(real) + VALUES_ALIGN) / VALUES_ALIGN * VALUES_ALIGN;
    real *block = aligned_alloc(VALUES_ALIGN, bytes);
    if (block) memset(block, 0, bytes);
    return block;
}

/* The random start goes to the sphere, and the average begins there. */
static void start_values(struct optimizer *o, size_t size)
{
    for (uint32_t i = 0; i < o->stretch_count; i++) {
        const struct stretch *s = &o->stretches[i];
        if (s->cols)
            to_sphere(o->values + s->from, s->count, s->cols,
                      o->options.radius);
    }
    if (o->average) memcpy(o->average, o->values, size * sizeof *o->values);
}

enum rc optimizer_new(struct optimizer **out, const struct params *p,
                      real *values, struct optimizer_options options,
                      struct team *team, struct err *e)
{
    struct optimizer *o = calloc(1, sizeof *o);
    bool whole;
    *out = NULL;
    if (!o) return ERR(e, RC_STOP, "training: no memory");
    o->options = options;
    o->team = team;
    o->values = values;
    o->stretch_count = list_stretches(p, &options, NULL);
    o->stretches = calloc(o->stretch_count, sizeof *o->stretches);
    o->norms = calloc(o->stretch_count, sizeof *o->norms);
    o->mean = take_block(p->size);
    o->square = take_block(p->size);
    if (options.average > 0) o->average = take_block(p->size);
    whole = o->stretches && o->norms && o->mean && o->square &&
            (o->average || options.average <= 0);
    for (uint32_t s = 0; s < TRAIN_SHARDS; s++) {
        o->gradients[s] = take_block(p->size);
        whole = whole && o->gradients[s];
    }
    if (!whole) {
        optimizer_free(o);
        return ERR(e, RC_STOP,
                   "training: no memory for the gradients of %zu weights; "
                   "fewer items (--items-max) need less",
                   p->size);
    }
    (void)list_stretches(p, &options, o->stretches);
    start_values(o, p->size);
    *out = o;
    return RC_OK;
}

void optimizer_free(struct optimizer *o)
{
    if (!o) return;
    for (uint32_t s = 0; s < TRAIN_SHARDS; s++)
        free(o->gradients[s]);
    free(o->mean);
    free(o->square);
    free(o->average);
    free(o->stretches);
    free(o->norms);
    free(o);
}

real *optimizer_gradients(struct optimizer *o, uint32_t shard)
{
    return o->gradients[shard];
}

/* The sum goes to the first shard's block. */
static void add_up(void *user, uint32_t task, uint32_t thread)
{
    struct optimizer *o = user;
    const struct stretch *s = &o->stretches[task];
    real *a = o->gradients[0] + s->from, *b = o->gradients[1] + s->from;
    real *c = o->gradients[2] + s->from, *d = o->gradients[3] + s->from;
    double norm = 0;
    (void)thread;
    for (size_t i = 0; i < s->count; i++) {
        a[i] = (a[i] + b[i]) + (c[i] + d[i]);
        norm += (double)a[i] * (double)a[i];
    }
    o->norms[task] = norm;
}

static void move_stretch(const struct optimizer *o, const struct stretch *s)
{
    real *restrict w = o->values + s->from;
    real *restrict g = o->gradients[0] + s->from;
    real *restrict mean = o->mean + s->from;
    real *restrict square = o->square + s->from;
    real rate = s->cols ? o->rate * o->options.sphere_rate : o->rate;
    real keep = 1 - o->rate * (s->decays ? o->options.weight_decay : 0);
    for (size_t i = 0; i < s->count; i++) {
        real x = g[i] * o->scale;
        mean[i] = momentum * mean[i] + (1 - momentum) * x;
        square[i] = square_momentum * square[i] + (1 - square_momentum) * x * x;
        w[i] =
            keep * w[i] -
            rate * (mean[i] * o->mean_correction) /
                ((real)sqrtf((float)(square[i] * o->square_correction)) + tiny);
    }
    if (s->cols) to_sphere(w, s->count, s->cols, o->options.radius);
}

static void move(void *user, uint32_t task, uint32_t thread)
{
    const struct optimizer *o = user;
    const struct stretch *s = &o->stretches[task];
    (void)thread;
    if (!s->fixed) move_stretch(o, s);
    for (size_t i = 0; o->average && i < s->count; i++)
        o->average[s->from + i] += o->average_share * (o->values[s->from + i] -
                                                       o->average[s->from + i]);
    if (o->average && s->cols)
        to_sphere(o->average + s->from, s->count, s->cols, o->options.radius);
    for (uint32_t k = 0; k < TRAIN_SHARDS; k++)
        memset(o->gradients[k] + s->from, 0, s->count * sizeof(real));
}

static float average_share(const struct optimizer *o)
{
    double t = (double)o->step, kept = (1 + t) / (average_delay + t);
    if (kept > (double)o->options.average) kept = (double)o->options.average;
    return (float)(1 - kept);
}

double optimizer_step(struct optimizer *o, float learning_rate)
{
    double norm = 0;
    team_run(o->team, o->stretch_count, add_up, o);
    for (uint32_t i = 0; i < o->stretch_count; i++)
        norm += o->norms[i];
    norm = sqrt(norm);
    o->scale = 1;
    if (!isfinite(norm)) return norm;
    if (o->options.clip_norm > 0 && norm > (double)o->options.clip_norm)
        o->scale = (float)((double)o->options.clip_norm / norm);
    o->step++;
    o->rate = learning_rate;
    o->mean_correction =
        (float)(1 / (1 - pow((double)momentum, (double)o->step)));
    o->square_correction =
        (float)(1 / (1 - pow((double)square_momentum, (double)o->step)));
    o->average_share = average_share(o);
    team_run(o->team, o->stretch_count, move, o);
    return norm;
}

static void swap_stretch(void *user, uint32_t task, uint32_t thread)
{
    const struct optimizer *o = user;
    const struct stretch *s = &o->stretches[task];
    real *values = o->values + s->from, *average = o->average + s->from;
    (void)thread;
    for (size_t i = 0; i < s->count; i++) {
        real x = values[i];
        values[i] = average[i];
        average[i] = x;
    }
}

void optimizer_swap_average(struct optimizer *o)
{
    if (o->average) team_run(o->team, o->stretch_count, swap_stretch, o);
}
