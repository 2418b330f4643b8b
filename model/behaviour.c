#include "behaviour.h"

#include "behaviour_layer.h"
#include "hash.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_ALIGN = 64, EXACT_DISTANCES = 16, CACHE_LINE = 64 };

/* ---- packed weights -------------------------------------------------- */

/* Takes count reals from *next, at a cache line. With a NULL base it only
 * counts: the same code measures and lays out. */
static real *take(real *base, size_t *used, size_t count)
{
    real *p = base ? base + *used : NULL;
    *used += (count + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
    return p;
}

static void pack_layer(struct behaviour *b, uint32_t l, size_t *used)
{
    const struct params *p = b->params;
    const struct behaviour_config *c = &p->config;
    const struct layer_tensors *t = &p->layer[l];
    struct behaviour_layer *to = &b->layer[l];
    uint32_t d = c->width;
    real *query = take(b->block, used, packed_size(d, d));
    real *keyvalue = take(b->block, used, packed_size(d, 2 * d));
    real *output = take(b->block, used, packed_size(d, d));
    real *up = take(b->block, used, packed_size(d, c->ffn));
    real *down = take(b->block, used, packed_size(c->ffn, d));
    real scale = 1 / (real)sqrt((double)(d / c->heads));
    const real *bias;

    to->query_bias = take(b->block, used, d);
    to->distance = take(b->block, used, (size_t)c->heads * b->distance_stride);
    if (!b->block) return;

    to->query =
        matrix_pack(params_of(p, b->values, t->query_weight), d, d, query);
    for (size_t i = 0; i < packed_size(d, d); i++)
        query[i] *= scale;
    bias = params_of(p, b->values, t->query_bias);
    for (uint32_t i = 0; i < d; i++)
        to->query_bias[i] = bias[i] * scale;
    to->keyvalue = matrix_pack(params_of(p, b->values, t->keyvalue_weight), d,
                               2 * d, keyvalue);
    to->output =
        matrix_pack(params_of(p, b->values, t->output_weight), d, d, output);
    to->up = matrix_pack(params_of(p, b->values, t->up_weight), d, c->ffn, up);
    to->down =
        matrix_pack(params_of(p, b->values, t->down_weight), c->ffn, d, down);
    bias = params_of(p, b->values, t->distance_bias);
    for (uint32_t h = 0; h < c->heads; h++) {
        real *row = to->distance + (size_t)h * b->distance_stride;
        for (uint32_t i = 0; i < b->distance_stride; i++)
            row[i] = i >= 2 * c->window
                         ? 0
                         : bias[h * BIAS_BUCKETS + behaviour_distance_bucket(
                                                       2 * c->window - 1 - i)];
    }
}

void behaviour_refresh(struct behaviour *b)
{
    size_t used = 0;
    for (uint32_t l = 0; l < b->params->config.layers; l++)
        pack_layer(b, l, &used);
}

struct behaviour *behaviour_new(const struct params *p, const real *values)
{
    const struct behaviour_config *c = &p->config;
    struct behaviour *b = calloc(1, sizeof *b);
    size_t used = 0;

    if (!b) return NULL;
    b->params = p;
    b->values = values;
    b->weight_stride = (2 * c->window + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK;
    b->distance_stride = 2 * c->window + KV_BLOCK;
    b->item_scale = (real)sqrt((double)c->width);
    b->page_bytes = c->layers * kv_layer_bytes(c->width, c->kv_bf16);
    for (uint32_t l = 0; l < c->layers; l++)
        pack_layer(b, l, &used);
    b->block = aligned_alloc(BLOCK_ALIGN, used * sizeof *b->block);
    if (!b->block) {
        free(b);
        return NULL;
    }
    behaviour_refresh(b);
    return b;
}

void behaviour_free(struct behaviour *b)
{
    if (!b) return;
    free(b->block);
    free(b);
}

/* ---- what a token is ------------------------------------------------- */

uint32_t behaviour_distance_bucket(uint32_t distance)
{
    uint32_t octave, bucket;
    if (distance < EXACT_DISTANCES) return distance;
    octave = 31 - (uint32_t)__builtin_clz(distance);
    bucket =
        EXACT_DISTANCES + 4 * (octave - 4) + ((distance >> (octave - 2)) & 3);
    return bucket < BIAS_BUCKETS ? bucket : BIAS_BUCKETS - 1;
}

int32_t behaviour_time(int64_t time_ms, int64_t anchor_ms)
{
    __int128 since = ((__int128)time_ms - anchor_ms) >> 10;
    return since > INT32_MAX   ? INT32_MAX
           : since < INT32_MIN ? INT32_MIN
                               : (int32_t)since;
}

void behaviour_embed(const struct behaviour *b, const struct token *token,
                     uint32_t position, real *x)
{
    const struct params *p = b->params;
    const struct behaviour_config *c = &p->config;
    const real *row[FIELDS_MAX];
    real scale[FIELDS_MAX];
    uint32_t d = c->width;

    assert(position < 2 * c->window);
    for (uint32_t f = 0; f < c->field_count; f++) {
        assert(token->row[f] < c->field[f].rows);
        row[f] = params_of(p, b->values, p->embedding[f]) +
                 (size_t)token->row[f] * d;
        scale[f] = c->field[f].kind == FIELD_ITEM ? b->item_scale : 1;
        if (c->field[f].kind == FIELD_ITEM) /* the one large table */
            for (uint32_t i = 0; i < d; i += CACHE_LINE / sizeof(real))
                __builtin_prefetch(row[f] + i);
    }
    kernels_get()->sum_rows(params_of(p, b->values, p->position) +
                                (size_t)position * d,
                            row, scale, c->field_count, d, x);
}

void behaviour_buckets(const struct behaviour *b, const struct rows *r,
                       uint8_t *bucket)
{
    const struct kernels *k = kernels_get();
    for (uint32_t i = 0; i < r->count; i++) {
        const struct row *row = &r->row[i];
        k->time_buckets(row->times[row->position], row->times,
                        row->position + 1,
                        bucket + (size_t)i * b->weight_stride);
    }
}

/* ---- dropout --------------------------------------------------------- */

enum { MASK_STEPS = 256 };

struct mask mask_of(struct dropout d)
{
    return (struct mask){.cut = (uint32_t)(d.rate * MASK_STEPS + 0.5f),
                         .base = draw(d.seed, d.step, MASK_SITES)};
}

void mask_apply(const struct mask *m, uint32_t layer, enum mask_site site,
                const struct row *row, const uint32_t *list, uint32_t rows,
                uint32_t width, real *x)
{
    real keep = (real)MASK_STEPS / (real)(MASK_STEPS - m->cut);
    uint64_t base = hash_mix(m->base ^ (layer * MASK_SITES + site));

    for (uint32_t r = 0; r < rows; r++)
        kernels_get()->mask(hash_mix(base ^ row[list ? list[r] : r].key),
                            m->cut, keep, width, x + (size_t)r * width);
}

/* ---- a layer --------------------------------------------------------- */

/* K and V of every row, into the pages. */
static void put_keys(const struct behaviour *b, uint32_t l,
                     const struct rows *r, struct activations *a)
{
    const struct params *p = b->params;
    const struct layer_tensors *t = &p->layer[l];
    uint32_t d = p->config.width;
    bool bf16 = p->config.kv_bf16;
    size_t offset = l * kv_layer_bytes(d, bf16);

    matrix_norm(a->x, r->count, d, NORM_EPSILON,
                params_of(p, b->values, t->norm1_weight),
                params_of(p, b->values, t->norm1_bias), a->norm1, a->stats1);
    matrix_multiply(a->norm1, d, r->count, &b->layer[l].keyvalue,
                    params_of(p, b->values, t->keyvalue_bias), a->keyvalue,
                    2 * d, MATRIX_SET);
    for (uint32_t i = 0; i < r->count; i++) {
        const struct row *row = &r->row[i];
        kernels_put(a->keyvalue + (size_t)i * 2 * d, d, bf16,
                    row->page[row->position / KV_BLOCK], offset,
                    row->position % KV_BLOCK);
    }
}

/* Contexts are cold: while one query is worked on, the next one's keys and
 * values of this layer come in. */
static void prefetch(const struct behaviour *b, uint32_t l,
                     const struct row *row)
{
    const struct behaviour_config *c = &b->params->config;
    size_t bytes = kv_layer_bytes(c->width, c->kv_bf16);
    for (uint32_t k = 0; k <= row->position; k += KV_BLOCK) {
        const uint8_t *from = row->page[k / KV_BLOCK] + l * bytes;
        for (size_t i = 0; i < bytes; i += CACHE_LINE)
            __builtin_prefetch(from + i, 0, 2);
    }
}

static void attend(const struct behaviour *b, uint32_t l, const struct rows *r,
                   struct activations *a)
{
    const struct params *p = b->params;
    const struct behaviour_config *c = &p->config;
    const struct kernels *k = kernels_get();
    uint32_t d = c->width;
    struct attention at = {
        .width = d,
        .heads = c->heads,
        .bf16 = c->kv_bf16,
        .layer_offset = l * kv_layer_bytes(d, c->kv_bf16),
        .distance_stride = b->distance_stride,
        .weight_stride = b->weight_stride,
        .time =
            c->has_time ? params_of(p, b->values, p->layer[l].time_bias) : NULL,
    };

    matrix_multiply(a->norm_wanted, d, r->wanted_count, &b->layer[l].query,
                    b->layer[l].query_bias, a->query, d, MATRIX_SET);
    for (uint32_t i = 0; i < r->wanted_count; i++) {
        uint32_t from = r->wanted[i];
        const struct row *row = &r->row[from];
        if (i + 1 < r->wanted_count) {
            const struct row *next = &r->row[r->wanted[i + 1]];
            if (next->page != row->page) prefetch(b, l, next);
        }
        at.page = (const void *const *)row->page;
        at.keys = row->position + 1;
        at.query = a->query + (size_t)i * d;
        at.distance =
            b->layer[l].distance + (2 * c->window - 1 - row->position);
        if (c->has_time)
            at.time_bucket = r->bucket + (size_t)from * b->weight_stride;
        at.weight = a->weight + i * a->weight_step;
        at.total = a->total + i * a->total_step;
        at.out = a->mixed + (size_t)i * d;
        k->attend(&at);
    }
}

/* out = in + branch(inputs); with dropout the branch is cut first. */
static void add_branch(const struct rows *r, uint32_t l, enum mask_site site,
                       const struct mask *m, const real *inputs,
                       const struct packed *w, const real *bias, const real *in,
                       real *out, real *branch)
{
    uint32_t d = w->cols, rows = r->wanted_count;
    size_t reals = (size_t)rows * d;

    if (out != in) memcpy(out, in, reals * sizeof *out);
    if (m && m->cut) {
        matrix_multiply(inputs, w->inner, rows, w, bias, branch, d, MATRIX_SET);
        mask_apply(m, l, site, r->row, r->wanted, rows, d, branch);
        kernels_get()->add_scaled(branch, 1, reals, out);
    } else {
        matrix_multiply(inputs, w->inner, rows, w, bias, out, d, MATRIX_ADD);
    }
}

void behaviour_layer_forward(const struct behaviour *b, uint32_t l,
                             const struct rows *r, struct activations *a,
                             const struct mask *m)
{
    const struct params *p = b->params;
    const struct layer_tensors *t = &p->layer[l];
    uint32_t d = p->config.width, h = p->config.ffn, rows = r->wanted_count;

    put_keys(b, l, r, a);
    if (rows == 0) return;
    if (a->x_wanted != a->x)
        for (uint32_t i = 0; i < rows; i++) {
            size_t from = (size_t)r->wanted[i] * d;
            memcpy(a->x_wanted + (size_t)i * d, a->x + from, d * sizeof(real));
            memcpy(a->norm_wanted + (size_t)i * d, a->norm1 + from,
                   d * sizeof(real));
        }
    attend(b, l, r, a);
    add_branch(r, l, MASK_ATTENTION, m, a->mixed, &b->layer[l].output,
               params_of(p, b->values, t->output_bias), a->x_wanted, a->middle,
               a->branch);
    matrix_norm(a->middle, rows, d, NORM_EPSILON,
                params_of(p, b->values, t->norm2_weight),
                params_of(p, b->values, t->norm2_bias), a->norm2, a->stats2);
    matrix_multiply(a->norm2, d, rows, &b->layer[l].up,
                    params_of(p, b->values, t->up_bias), a->up, h, MATRIX_SET);
    matrix_gelu(a->up, (size_t)rows * h, a->act);
    add_branch(r, l, MASK_FFN, m, a->act, &b->layer[l].down,
               params_of(p, b->values, t->down_bias), a->middle, a->out,
               a->branch);
}
