#include "segments.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

enum {
    STEPS_MAX = 100,  /* of Lloyd; it ends long before */
    START_KEY = 0x6b, /* draws apart from those of training */
};

bool segments_init(struct segments *s, uint32_t count, uint32_t width)
{
    size_t floats = (size_t)count * width + 1;
    assert(count <= SEGMENTS_MAX);
    *s = (struct segments){.count = count, .width = width};
    s->centroids = calloc(floats, sizeof *s->centroids);
    s->columns = calloc(floats, sizeof *s->columns);
    if (s->centroids && s->columns) return true;
    segments_fini(s);
    return false;
}

void segments_fini(struct segments *s)
{
    free(s->centroids);
    free(s->columns);
    *s = (struct segments){0};
}

void segments_ready(struct segments *s)
{
    for (uint32_t c = 0; c < s->count; c++)
        for (uint32_t d = 0; d < s->width; d++)
            s->columns[(size_t)d * s->count + c] =
                s->centroids[(size_t)c * s->width + d];
}

/* Sums go over dimensions in order, one chain a centroid, so that vectors
 * over centroids change no bit. */
static void distances(const struct segments *s, const float *state,
                      double out[SEGMENTS_MAX])
{
    memset(out, 0, s->count * sizeof *out);
    for (uint32_t d = 0; d < s->width; d++) {
        const float *column = s->columns + (size_t)d * s->count;
        for (uint32_t c = 0; c < s->count; c++) {
            double apart = (double)state[d] - (double)column[c];
            out[c] += apart * apart;
        }
    }
}

static uint32_t least(const double *x, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (x[i] < x[best]) best = i;
    return best;
}

uint32_t segments_nearest(const struct segments *s, const float *state)
{
    double apart[SEGMENTS_MAX];
    assert(s->count > 0);
    distances(s, state, apart);
    return least(apart, s->count);
}

/* --- finding ------------------------------------------------------------ */

struct search {
    const float *points; /* (n, D) */
    uint32_t n;
    double *apart; /* (n) squared, to the nearest so far */
    uint32_t *of;  /* (n) the segment of each point */
    double *sums;  /* (k, D) */
    uint32_t size[SEGMENTS_MAX];
    uint32_t first[SEGMENTS_MAX]; /* point of each segment */
};

static const float *point(const struct search *f, const struct segments *s,
                          uint32_t i)
{
    return f->points + (size_t)i * s->width;
}

static void set_centroid(struct segments *s, uint32_t c, const float *from)
{
    memcpy(s->centroids + (size_t)c * s->width, from,
           s->width * sizeof *s->centroids);
}

static double distance(const float *a, const float *b, uint32_t width)
{
    double sum = 0;
    for (uint32_t d = 0; d < width; d++)
        sum += ((double)a[d] - (double)b[d]) * ((double)a[d] - (double)b[d]);
    return sum;
}

/* A point with a chance by its squared distance to those chosen before. n:
 * every point is one of them. */
static uint32_t choose(const struct search *f, uint64_t bits)
{
    double all = 0, below = 0, at;
    uint32_t last = f->n;
    for (uint32_t i = 0; i < f->n; i++)
        all += f->apart[i];
    at = (double)(bits >> 11) * 0x1p-53 * all;
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->apart[i] <= 0) continue;
        last = i;
        below += f->apart[i];
        if (below > at) break;
    }
    return last;
}

/* Returns how many centroids there are: fewer where points are alike. */
static uint32_t start(struct search *f, struct segments *s, uint32_t k,
                      uint64_t seed)
{
    for (uint32_t i = 0; i < f->n; i++)
        f->apart[i] = 1;
    for (uint32_t c = 0; c < k; c++) {
        uint32_t chosen = choose(f, draw(seed, START_KEY, c));
        if (chosen == f->n) return c;
        set_centroid(s, c, point(f, s, chosen));
        for (uint32_t i = 0; i < f->n; i++) {
            double apart =
                distance(point(f, s, i), point(f, s, chosen), s->width);
            if (c == 0 || apart < f->apart[i]) f->apart[i] = apart;
        }
    }
    return k;
}

/* True if a point moved to another segment. */
static bool assign(struct search *f, struct segments *s)
{
    bool moved = false;
    segments_ready(s);
    memset(f->size, 0, sizeof f->size);
    for (uint32_t i = 0; i < f->n; i++) {
        uint32_t c = segments_nearest(s, point(f, s, i));
        if (f->size[c]++ == 0) f->first[c] = i;
        moved |= f->of[i] != c;
        f->of[i] = c;
    }
    return moved;
}

/* Each centroid to the mean of its points; one without any stays. */
static void move(struct search *f, struct segments *s)
{
    size_t width = s->width;
    memset(f->sums, 0, s->count * width * sizeof *f->sums);
    for (uint32_t i = 0; i < f->n; i++)
        for (size_t d = 0; d < width; d++)
            f->sums[f->of[i] * width + d] += (double)point(f, s, i)[d];
    for (uint32_t c = 0; c < s->count; c++)
        for (size_t d = 0; f->size[c] > 0 && d < width; d++)
            s->centroids[c * width + d] =
                (float)(f->sums[c * width + d] / f->size[c]);
}

static bool comes_before(const struct search *f, uint32_t a, uint32_t b)
{
    if (f->size[a] != f->size[b]) return f->size[a] > f->size[b];
    return f->first[a] < f->first[b];
}

static bool put_in_order(const struct search *f, struct segments *s)
{
    struct segments from = *s;
    uint32_t order[SEGMENTS_MAX];
    if (!segments_init(s, from.count, from.width)) {
        *s = from;
        return false;
    }
    for (uint32_t c = 0; c < from.count; c++) {
        uint32_t at = c;
        for (; at > 0 && comes_before(f, c, order[at - 1]); at--)
            order[at] = order[at - 1];
        order[at] = c;
    }
    for (uint32_t c = 0; c < from.count; c++)
        set_centroid(s, c, from.centroids + (size_t)order[c] * from.width);
    segments_ready(s);
    segments_fini(&from);
    return true;
}

bool segments_find(struct segments *s, const float *points, uint32_t n,
                   uint32_t width, uint32_t k, uint64_t seed)
{
    struct search f = {.points = points, .n = n};
    bool ok = segments_init(s, k < n ? k : n, width);
    f.apart = malloc((n + 1) * sizeof *f.apart);
    f.of = calloc(n + 1, sizeof *f.of);
    f.sums = calloc((size_t)k * width + 1, sizeof *f.sums);
    ok = ok && f.apart && f.of && f.sums;
    if (ok) s->count = start(&f, s, s->count, seed);
    for (int step = 0; ok && s->count > 0 && step < STEPS_MAX; step++) {
        if (!assign(&f, s) && step > 0) break;
        move(&f, s);
    }
    /* The last step may have moved centroids: sizes are those they have. */
    if (ok && s->count > 0) (void)assign(&f, s);
    if (ok) ok = put_in_order(&f, s);
    free(f.apart);
    free(f.of);
    free(f.sums);
    if (!ok) segments_fini(s);
    return ok;
}
