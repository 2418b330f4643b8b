/* The same forward pass with every layer's activations kept, and its gradient
 * by hand. Shapes: T tokens of the shard, R wanted ones, D width, H inner. */
#include "behaviour.h"
#include "behaviour_layer.h"
#include "hash.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TRAINER_ALIGN = 64,
    QUERY_BLOCK = 64, /* whose gradients are one product; none of them reads a
                         key behind the last, so what is above the diagonal is
                         left out but for a corner of each block */
};

/* Where a sequence lies in the shard. */
struct place {
    uint32_t first, count;               /* its rows */
    uint32_t wanted_first, wanted_count; /* among the wanted */
};

struct trainer {
    const struct behaviour *b;
    uint32_t tokens_max, sequences_max;

    /* The shard of the last forward. */
    uint32_t sequences;
    struct place *place; /* (sequences_max) */
    struct token *token; /* (T) */
    struct row *row;     /* (T) */
    int32_t *times;      /* (T) */
    uint8_t **page;      /* each sequence's pages in order */
    uint8_t *pages;
    uint8_t *bucket;        /* (T, weight_stride) */
    uint32_t *all, *wanted; /* (T) row numbers */
    struct rows rows;       /* all rows are wanted */
    struct rows last_rows;
    struct mask mask;
    struct activations act[LAYERS_MAX];
    real *hidden;       /* (R, D) */
    real *hidden_stats; /* (R, 2) */

    /* Gradients under way. */
    real *dx, *dx_before;     /* (T, D) */
    real *dnorm, *dwide;      /* (T, D), (T, H) */
    real *dquery, *dmixed;    /* (R, D) */
    real *dkeyvalue;          /* (T, 2 D) */
    real *branch;             /* (T, D) */
    real *weights, *dweights; /* (QUERY_BLOCK, 2 W): one head's */
    real *by_distance;        /* (2 W) */
    void *block;
};

/* ---- memory ---------------------------------------------------------- */

struct layout {
    uint8_t *base;
    size_t used;
};

static void *lay(struct layout *l, size_t count, size_t size)
{
    void *p = l->base ? l->base + l->used : NULL;
    l->used +=
        (count * size + TRAINER_ALIGN - 1) / TRAINER_ALIGN * TRAINER_ALIGN;
    return p;
}

static real *lay_reals(struct layout *l, size_t rows, size_t cols)
{
    return lay(l, rows * cols, sizeof(real));
}

static void lay_layer(struct trainer *t, struct layout *l, uint32_t layer)
{
    const struct behaviour_config *c = &t->b->params->config;
    struct activations *a = &t->act[layer];
    size_t n = t->tokens_max, d = c->width;
    bool last = layer + 1 == c->layers;

    *a = (struct activations){0};
    a->x = lay_reals(l, n, d);
    a->norm1 = lay_reals(l, n, d);
    a->stats1 = lay_reals(l, n, 2);
    a->keyvalue = lay_reals(l, n, 2 * d);
    a->x_wanted = last ? lay_reals(l, n, d) : a->x;
    a->norm_wanted = last ? lay_reals(l, n, d) : a->norm1;
    a->query = lay_reals(l, n, d);
    a->weight_step = (size_t)c->heads * t->b->weight_stride;
    a->weight = lay_reals(l, n, a->weight_step);
    a->total_step = c->heads;
    a->total = lay_reals(l, n, c->heads);
    a->mixed = lay_reals(l, n, d);
    a->middle = lay_reals(l, n, d);
    a->norm2 = lay_reals(l, n, d);
    a->stats2 = lay_reals(l, n, 2);
    a->up = lay_reals(l, n, c->ffn);
    a->act = lay_reals(l, n, c->ffn);
}

static void lay_out(struct trainer *t, struct layout *l)
{
    const struct behaviour_config *c = &t->b->params->config;
    size_t n = t->tokens_max, d = c->width, context = 2 * c->window;
    size_t pages = n / KV_BLOCK + t->sequences_max;

    t->place = lay(l, t->sequences_max, sizeof *t->place);
    t->token = lay(l, n, sizeof *t->token);
    t->row = lay(l, n, sizeof *t->row);
    t->times = lay(l, n, sizeof *t->times);
    t->page = lay(l, pages, sizeof *t->page);
    t->pages = lay(l, pages, t->b->page_bytes);
    t->bucket = lay(l, n, t->b->weight_stride);
    t->all = lay(l, n, sizeof *t->all);
    t->wanted = lay(l, n, sizeof *t->wanted);
    for (uint32_t i = 0; i < c->layers; i++)
        lay_layer(t, l, i);
    for (uint32_t i = 0; i + 1 < c->layers; i++)
        t->act[i].out = t->act[i + 1].x;
    t->act[c->layers - 1].out = lay_reals(l, n, d);
    t->hidden = lay_reals(l, n, d);
    t->hidden_stats = lay_reals(l, n, 2);
    t->dx = lay_reals(l, n, d);
    t->dx_before = lay_reals(l, n, d);
    t->dnorm = lay_reals(l, n, d);
    t->dwide = lay_reals(l, n, c->ffn);
    t->dquery = lay_reals(l, n, d);
    t->dmixed = lay_reals(l, n, d);
    t->dkeyvalue = lay_reals(l, n, 2 * d);
    t->branch = lay_reals(l, n, d);
    t->weights = lay_reals(l, QUERY_BLOCK, context);
    t->dweights = lay_reals(l, QUERY_BLOCK, context);
    t->by_distance = lay_reals(l, context, 1);
    for (uint32_t i = 0; i < c->layers; i++)
        t->act[i].branch = t->branch;
}

struct trainer *trainer_new(const struct behaviour *b, uint32_t tokens_max,
                            uint32_t sequences_max)
{
    struct trainer *t = calloc(1, sizeof *t);
    struct layout l = {0};

    if (!t) return NULL;
    t->b = b;
    t->tokens_max = tokens_max;
    t->sequences_max = sequences_max;
    lay_out(t, &l);
    t->block = aligned_alloc(TRAINER_ALIGN, l.used);
    if (!t->block) {
        free(t);
        return NULL;
    }
    /* Keys and buckets behind a context's end are read, and masked. */
    memset(t->block, 0, l.used);
    l = (struct layout){.base = t->block};
    lay_out(t, &l);
    for (uint32_t i = 0; i < tokens_max; i++)
        t->all[i] = i;
    return t;
}

void trainer_free(struct trainer *t)
{
    if (!t) return;
    free(t->block);
    free(t);
}

/* ---- forward --------------------------------------------------------- */

static void place_sequence(struct trainer *t, const struct sequence *in,
                           struct place *p, uint32_t *pages)
{
    uint32_t d = t->b->params->config.width;
    uint8_t **table = t->page + *pages;
    uint64_t key = hash_mix(in->user);

    for (uint32_t i = 0; i < in->count; i += KV_BLOCK) {
        t->page[*pages] = t->pages + *pages * t->b->page_bytes;
        ++*pages;
    }
    for (uint32_t i = 0; i < in->count; i++) {
        uint32_t r = p->first + i;
        t->token[r] = in->tokens[i];
        t->times[r] =
            behaviour_time(in->tokens[i].time_ms, in->tokens[0].time_ms);
        t->row[r] = (struct row){.page = table,
                                 .times = t->times + p->first,
                                 .position = i,
                                 .key = key + i};
        behaviour_embed(t->b, &t->token[r], i, t->act[0].x + (size_t)r * d);
    }
    for (uint32_t i = 0; i < p->wanted_count; i++)
        t->wanted[p->wanted_first + i] = p->first + in->wanted_from + i;
}

static void place_shard(struct trainer *t, const struct sequence *in,
                        uint32_t count)
{
    uint32_t rows = 0, wanted = 0, pages = 0;

    assert(count <= t->sequences_max);
    t->sequences = count;
    for (uint32_t s = 0; s < count; s++) {
        struct place *p = &t->place[s];
        assert(in[s].count > 0 && in[s].wanted_from <= in[s].count);
        assert(in[s].count <= 2 * t->b->params->config.window);
        assert(in[s].count <= t->tokens_max - rows);
        *p = (struct place){.first = rows,
                            .count = in[s].count,
                            .wanted_first = wanted,
                            .wanted_count = in[s].count - in[s].wanted_from};
        place_sequence(t, &in[s], p, &pages);
        rows += p->count;
        wanted += p->wanted_count;
    }
    t->rows = (struct rows){.count = rows,
                            .row = t->row,
                            .wanted_count = rows,
                            .wanted = t->all,
                            .bucket = t->bucket};
    t->last_rows = t->rows;
    t->last_rows.wanted_count = wanted;
    t->last_rows.wanted = t->wanted;
}

const real *trainer_forward(struct trainer *t, const struct sequence *in,
                            uint32_t count, struct dropout dropout)
{
    const struct behaviour *b = t->b;
    const struct params *p = b->params;
    uint32_t d = p->config.width, last = p->config.layers - 1;

    matrix_thread_init();
    place_shard(t, in, count);
    t->mask = mask_of(dropout);
    if (t->mask.cut)
        mask_apply(&t->mask, 0, MASK_EMBEDDING, t->row, NULL, t->rows.count, d,
                   t->act[0].x);
    if (p->config.has_time) behaviour_buckets(b, &t->rows, t->bucket);
    for (uint32_t l = 0; l <= last; l++)
        behaviour_layer_forward(b, l, l < last ? &t->rows : &t->last_rows,
                                &t->act[l], &t->mask);
    matrix_norm(t->act[last].out, t->last_rows.wanted_count, d, NORM_EPSILON,
                params_of(p, b->values, p->norm_weight),
                params_of(p, b->values, p->norm_bias), t->hidden,
                t->hidden_stats);
    return t->hidden;
}

/* ---- backward -------------------------------------------------------- */

/* The gradients of y = x w + bias; dx may be NULL. */
static void projection_backward(const struct trainer *t, uint32_t weight,
                                uint32_t bias, const real *x, const real *dy,
                                uint32_t rows, real *dx, enum matrix_mode mode,
                                real *gradients)
{
    const struct params *p = t->b->params;
    uint32_t inner = p->tensor[weight].rows, cols = p->tensor[weight].cols;
    matrix_gradient_weight(x, inner, dy, cols, rows, inner, cols,
                           params_at(p, gradients, weight));
    matrix_gradient_bias(dy, cols, rows, cols, params_at(p, gradients, bias));
    matrix_gradient_input(dy, cols, rows, params_of(p, t->b->values, weight),
                          inner, cols, dx, inner, mode);
}

static void norm_backward(const struct trainer *t, uint32_t weight,
                          uint32_t bias, const real *x, const real *stats,
                          const real *dy, uint32_t rows, real *dx,
                          real *gradients)
{
    const struct params *p = t->b->params;
    matrix_norm_backward(x, stats, params_of(p, t->b->values, weight), dy, rows,
                         p->config.width, dx, params_at(p, gradients, weight),
                         params_at(p, gradients, bias));
}

/* What comes into a branch, given what comes into the sum it was added to. */
static const real *branch_gradient(struct trainer *t, const struct rows *r,
                                   uint32_t l, enum mask_site site)
{
    uint32_t d = t->b->params->config.width;
    if (!t->mask.cut) return t->dx;
    memcpy(t->branch, t->dx, (size_t)r->wanted_count * d * sizeof(real));
    mask_apply(&t->mask, l, site, r->row, r->wanted, r->wanted_count, d,
               t->branch);
    return t->branch;
}

/* One head of one sequence, or some of its queries: its slice of everything. */
struct head {
    uint32_t keys, queries, first_position; /* of the first query */
    const real *query, *key, *value, *dmixed;
    real *dquery, *dkey, *dvalue;
    const real *weight, *total; /* of the first query */
    const uint8_t *bucket;      /* of the first query */
    size_t weight_step, total_step;
    real *ddistance, *dtime; /* (BIAS_BUCKETS); dtime may be NULL */
};

/* Gradients of the biases from those of the scores. */
static void bias_backward(struct trainer *t, const struct head *h)
{
    uint32_t context = 2 * t->b->params->config.window;
    memset(t->by_distance, 0, context * sizeof *t->by_distance);
    for (uint32_t i = 0; i < h->queries; i++) {
        uint32_t position = h->first_position + i;
        const real *ds = t->dweights + (size_t)i * h->keys;
        const uint8_t *bucket = h->bucket + (size_t)i * t->b->weight_stride;
        /* Nearest last, as the forward pass reads its biases. */
        kernels_get()->add_scaled(ds, 1, position + 1,
                                  t->by_distance + (context - 1 - position));
        if (h->dtime)
            for (uint32_t k = 0; k <= position; k++)
                h->dtime[bucket[k]] += ds[k];
    }
    for (uint32_t i = 0; i < context; i++)
        h->ddistance[behaviour_distance_bucket(context - 1 - i)] +=
            t->by_distance[i];
}

/* With P the weights, dP = dO V^T, dS = P (dP - rows' sums of dP P):
 * dQ = dS K, dK = dS^T Q, dV = P^T dO. */
static void part_backward(struct trainer *t, const struct head *h)
{
    const struct behaviour_config *c = &t->b->params->config;
    uint32_t d = c->width, columns = d / c->heads;
    uint32_t n = h->keys, m = h->queries;

    for (uint32_t i = 0; i < m; i++) {
        real *p = t->weights + (size_t)i * n;
        real scale = 1 / h->total[i * h->total_step];
        uint32_t seen = h->first_position + i + 1;
        for (uint32_t k = 0; k < seen; k++)
            p[k] = h->weight[i * h->weight_step + k] * scale;
        memset(p + seen, 0, (n - seen) * sizeof *p);
    }
    matrix_gradient_product(MATRIX_PLAIN, MATRIX_TRANSPOSED, m, n, columns,
                            h->dmixed, d, h->value, 2 * d, MATRIX_SET,
                            t->dweights, n);
    matrix_gradient_product(MATRIX_TRANSPOSED, MATRIX_PLAIN, n, columns, m,
                            t->weights, n, h->dmixed, d, MATRIX_ADD, h->dvalue,
                            2 * d);
    for (uint32_t i = 0; i < m; i++)
        kernels_get()->softmax_backward(t->weights + (size_t)i * n,
                                        t->dweights + (size_t)i * n, n);
    bias_backward(t, h);
    matrix_gradient_product(MATRIX_PLAIN, MATRIX_PLAIN, m, columns, n,
                            t->dweights, n, h->key, 2 * d, MATRIX_SET,
                            h->dquery, d);
    matrix_gradient_product(MATRIX_TRANSPOSED, MATRIX_PLAIN, n, columns, m,
                            t->dweights, n, h->query, d, MATRIX_ADD, h->dkey,
                            2 * d);
}

/* Queries [from, from + count) of a head, and the keys that they read. */
static struct head head_part(const struct trainer *t, const struct head *whole,
                             uint32_t from, uint32_t count)
{
    size_t d = t->b->params->config.width;
    struct head h = *whole;
    h.first_position += from;
    h.queries = count;
    h.keys = h.first_position + count;
    h.query += from * d;
    h.dmixed += from * d;
    h.dquery += from * d;
    h.weight += from * h.weight_step;
    h.total += from * h.total_step;
    h.bucket += from * (size_t)t->b->weight_stride;
    return h;
}

static void head_backward(struct trainer *t, const struct head *whole)
{
    for (uint32_t from = 0; from < whole->queries; from += QUERY_BLOCK) {
        uint32_t left = whole->queries - from;
        struct head h =
            head_part(t, whole, from, left < QUERY_BLOCK ? left : QUERY_BLOCK);
        part_backward(t, &h);
    }
}

/* dquery (R, D) and dkeyvalue (T, 2 D) from dmixed. */
static void attention_backward(struct trainer *t, uint32_t l,
                               const struct rows *r, real *gradients)
{
    const struct params *p = t->b->params;
    const struct behaviour_config *c = &p->config;
    const struct activations *a = &t->act[l];
    const struct layer_tensors *tensors = &p->layer[l];
    size_t d = c->width, columns = d / c->heads;
    real *ddistance = params_at(p, gradients, tensors->distance_bias);
    real *dtime =
        c->has_time ? params_at(p, gradients, tensors->time_bias) : NULL;

    memset(t->dkeyvalue, 0, r->count * 2 * d * sizeof(real));
    for (uint32_t s = 0; s < t->sequences; s++) {
        const struct place *at = &t->place[s];
        bool all = r->wanted_count == r->count;
        size_t query = all ? at->first : at->wanted_first;
        uint32_t queries = all ? at->count : at->wanted_count;
        size_t from = at->first + at->count - queries; /* first query's row */
        if (queries == 0) continue;
        for (uint32_t i = 0; i < c->heads; i++) {
            size_t q = query * d + i * columns;
            size_t k = at->first * 2 * d + i * columns;
            struct head h = {
                .keys = at->count,
                .queries = queries,
                .first_position = at->count - queries,
                .query = a->query + q,
                .key = a->keyvalue + k,
                .value = a->keyvalue + k + d,
                .dmixed = t->dmixed + q,
                .dquery = t->dquery + q,
                .dkey = t->dkeyvalue + k,
                .dvalue = t->dkeyvalue + k + d,
                .weight = a->weight + query * a->weight_step +
                          (size_t)i * t->b->weight_stride,
                .total = a->total + query * a->total_step + i,
                .bucket = t->bucket + from * t->b->weight_stride,
                .weight_step = a->weight_step,
                .total_step = a->total_step,
                .ddistance = ddistance + (size_t)i * BIAS_BUCKETS,
                .dtime = dtime ? dtime + (size_t)i * BIAS_BUCKETS : NULL,
            };
            head_backward(t, &h);
        }
    }
}

/* From dx of the layer's output (R, D) to that of its input (T, D), in dx. */
static void layer_backward(struct trainer *t, uint32_t l, const struct rows *r,
                           real *gradients)
{
    const struct params *p = t->b->params;
    const struct layer_tensors *w = &p->layer[l];
    const struct activations *a = &t->act[l];
    uint32_t d = p->config.width, h = p->config.ffn, rows = r->wanted_count;
    size_t reals = (size_t)rows * d;
    real scale = 1 / (real)sqrt((double)(d / p->config.heads)), *swap;
    bool some = a->x_wanted != a->x;

    projection_backward(t, w->down_weight, w->down_bias, a->act,
                        branch_gradient(t, r, l, MASK_FFN), rows, t->dwide,
                        MATRIX_SET, gradients);
    matrix_gelu_backward(a->up, (size_t)rows * h, t->dwide);
    projection_backward(t, w->up_weight, w->up_bias, a->norm2, t->dwide, rows,
                        t->dnorm, MATRIX_SET, gradients);
    norm_backward(t, w->norm2_weight, w->norm2_bias, a->middle, a->stats2,
                  t->dnorm, rows, t->dx, gradients);

    projection_backward(t, w->output_weight, w->output_bias, a->mixed,
                        branch_gradient(t, r, l, MASK_ATTENTION), rows,
                        t->dmixed, MATRIX_SET, gradients);
    attention_backward(t, l, r, gradients);
    /* The packed query weights carry 1 / sqrt(D / heads). */
    for (size_t i = 0; i < reals; i++)
        t->dquery[i] *= scale;
    projection_backward(t, w->keyvalue_weight, w->keyvalue_bias, a->norm1,
                        t->dkeyvalue, r->count, t->dnorm, MATRIX_SET,
                        gradients);
    projection_backward(t, w->query_weight, w->query_bias, a->norm_wanted,
                        t->dquery, rows, some ? t->dmixed : t->dnorm,
                        some ? MATRIX_SET : MATRIX_ADD, gradients);
    if (some) { /* spread the wanted rows over all */
        memset(t->dx_before, 0, (size_t)r->count * d * sizeof(real));
        for (uint32_t i = 0; i < rows; i++) {
            size_t to = (size_t)r->wanted[i] * d;
            memcpy(t->dx_before + to, t->dx + (size_t)i * d, d * sizeof(real));
            kernels_get()->add_scaled(t->dmixed + (size_t)i * d, 1, d,
                                      t->dnorm + to);
        }
        swap = t->dx;
        t->dx = t->dx_before;
        t->dx_before = swap;
    }
    norm_backward(t, w->norm1_weight, w->norm1_bias, a->x, a->stats1, t->dnorm,
                  r->count, t->dx, gradients);
}

static void embedding_backward(struct trainer *t, bool items, real *gradients)
{
    const struct params *p = t->b->params;
    const struct behaviour_config *c = &p->config;
    const struct kernels *k = kernels_get();
    uint32_t d = c->width;

    if (t->mask.cut)
        mask_apply(&t->mask, 0, MASK_EMBEDDING, t->row, NULL, t->rows.count, d,
                   t->dx);
    for (uint32_t r = 0; r < t->rows.count; r++) {
        const real *dx = t->dx + (size_t)r * d;
        k->add_scaled(dx, 1, d,
                      params_at(p, gradients, p->position) +
                          (size_t)t->row[r].position * d);
        for (uint32_t f = 0; f < c->field_count; f++) {
            bool item = c->field[f].kind == FIELD_ITEM;
            if (item && !items) continue;
            k->add_scaled(dx, item ? t->b->item_scale : 1, d,
                          params_at(p, gradients, p->embedding[f]) +
                              (size_t)t->token[r].row[f] * d);
        }
    }
}

void trainer_backward(struct trainer *t, const real *dhidden, bool items,
                      real *gradients)
{
    const struct params *p = t->b->params;
    uint32_t last = p->config.layers - 1, rows = t->last_rows.wanted_count;

    memset(t->dx, 0, (size_t)rows * p->config.width * sizeof(real));
    norm_backward(t, p->norm_weight, p->norm_bias, t->act[last].out,
                  t->hidden_stats, dhidden, rows, t->dx, gradients);
    for (uint32_t l = p->config.layers; l-- > 0;)
        layer_backward(t, l, l < last ? &t->rows : &t->last_rows, gradients);
    embedding_backward(t, items, gradients);
}
