#include "train_optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE_REALS = 16384, VALUES_ALIGN = 64 };

static const float momentum = 0.9f, square_momentum = 0.98f;
static const float tiny = 1e-8f;

/* A stretch of one tensor: what one task does. */
struct stretch {
    size_t from, count;
    bool decays;
};

struct optimizer {
    struct optimizer_options options;
    struct team *team;
    real *values;
    real *gradients[TRAIN_SHARDS];
    real *mean, *square;
    struct stretch *stretches;
    double *norms; /* (stretch_count) squared */
    uint32_t stretch_count;
    uint64_t step;
    float rate, scale, mean_correction, square_correction; /* of this step */
};

static uint32_t list_stretches(const struct params *p, struct stretch *out)
{
    uint32_t count = 0;
    for (uint32_t t = 0; t < p->count; t++) {
        size_t reals = (size_t)p->tensor[t].rows * p->tensor[t].cols;
        for (size_t at = 0; at < reals; at += SLICE_REALS, count++) {
            size_t left = reals - at;
            if (!out) continue;
            out[count] = (struct stretch){
                .from = p->tensor[t].offset + at,
                .count = left < SLICE_REALS ? left : SLICE_REALS,
                .decays = p->tensor[t].decays};
        }
    }
    return count;
}

static real *take_block(size_t reals)
{
    size_t bytes =
        (reals * sizeof(real) + VALUES_ALIGN) / VALUES_ALIGN * VALUES_ALIGN;
    real *block = aligned_alloc(VALUES_ALIGN, bytes);
    if (block) memset(block, 0, bytes);
    return block;
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
    o->stretch_count = list_stretches(p, NULL);
    o->stretches = calloc(o->stretch_count, sizeof *o->stretches);
    o->norms = calloc(o->stretch_count, sizeof *o->norms);
    o->mean = take_block(p->size);
    o->square = take_block(p->size);
    whole = o->stretches && o->norms && o->mean && o->square;
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
    (void)list_stretches(p, o->stretches);
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

static void move(void *user, uint32_t task, uint32_t thread)
{
    const struct optimizer *o = user;
    const struct stretch *s = &o->stretches[task];
    real *restrict w = o->values + s->from;
    real *restrict g = o->gradients[0] + s->from;
    real *restrict mean = o->mean + s->from;
    real *restrict square = o->square + s->from;
    real keep = 1 - o->rate * (s->decays ? o->options.weight_decay : 0);
    (void)thread;
    for (size_t i = 0; i < s->count; i++) {
        real x = g[i] * o->scale;
        mean[i] = momentum * mean[i] + (1 - momentum) * x;
        square[i] = square_momentum * square[i] + (1 - square_momentum) * x * x;
        w[i] =
            keep * w[i] -
            o->rate * (mean[i] * o->mean_correction) /
                ((real)sqrtf((float)(square[i] * o->square_correction)) + tiny);
    }
    for (uint32_t k = 0; k < TRAIN_SHARDS; k++)
        memset(o->gradients[k] + s->from, 0, s->count * sizeof(real));
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
    team_run(o->team, o->stretch_count, move, o);
    return norm;
}
