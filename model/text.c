#include "text_model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "kernels.h"

enum {
    BLOCK_ALIGN = 64,
    ALIGN_REALS = 16,
    TEXT_TOKENS_FEW = 8, /* a chunk has a text per so many tokens at most */
};

/* ---- packed weights -------------------------------------------------- */

/* Takes count reals from a block; with a NULL base it only counts. */
static real *take(real *base, size_t *used, size_t count)
{
    real *p = base ? base + *used : NULL;
    *used += (count + ALIGN_REALS - 1) / ALIGN_REALS * ALIGN_REALS;
    return p;
}

/* A dense weight (cols, inner). */
static struct packed pack(const struct text_model *m, uint32_t tensor,
                          size_t *used)
{
    const struct text_tensor *t = &m->params.at[tensor];
    uint32_t cols = (uint32_t)t->shape[0], inner = (uint32_t)t->shape[1];
    real *panels = take(m->block, used, packed_size(inner, cols));
    if (!panels) return (struct packed){0};
    return matrix_pack_transposed(text_params_of(&m->params, m->values, tensor),
                                  inner, cols, panels);
}

static void pack_layer(struct text_model *m, uint32_t l, size_t *used)
{
    const struct text_params *p = &m->params;
    struct text_layer *to = &m->layer[l];
    uint32_t d = p->config.width;
    real scale = 1 / (real)sqrt((double)d / p->config.heads);
    size_t panels = *used;

    to->query = pack(m, text_params_part(p, l, PART_QUERY), used);
    to->query_bias = take(m->block, used, d);
    to->key = pack(m, text_params_part(p, l, PART_KEY), used);
    to->value = pack(m, text_params_part(p, l, PART_VALUE), used);
    to->output = pack(m, text_params_part(p, l, PART_OUTPUT), used);
    to->up = pack(m, text_params_part(p, l, PART_UP), used);
    to->down = pack(m, text_params_part(p, l, PART_DOWN), used);
    if (!m->block) return;
    for (size_t i = 0; i < packed_size(d, d); i++)
        m->block[panels + i] *= scale;
    for (uint32_t i = 0; i < d; i++)
        to->query_bias[i] =
            scale * text_params_of(p, m->values,
                                   text_params_part(p, l, PART_QUERY) + 1)[i];
}

static size_t pack_all(struct text_model *m)
{
    const struct text_params *p = &m->params;
    size_t used = 0;
    for (uint32_t l = 0; l < p->config.layers; l++)
        pack_layer(m, l, &used);
    if (p->pooler != TEXT_TENSOR_NONE) m->pooler = pack(m, p->pooler, &used);
    if (p->classifier != TEXT_TENSOR_NONE)
        m->classifier = pack(m, p->classifier, &used);
    return used;
}

enum rc text_pack(struct text_model *m, struct err *e)
{
    size_t reals;
    m->layer = calloc(m->params.config.layers, sizeof *m->layer);
    if (!m->layer) return ERR(e, RC_STOP, "no memory for its layers");
    reals = pack_all(m);
    m->block = aligned_alloc(BLOCK_ALIGN, reals * sizeof *m->block);
    if (!m->block)
        return ERR(e, RC_STOP, "no memory for %zu packed weights", reals);
    (void)pack_all(m);
    return RC_OK;
}

/* ---- an encoder ------------------------------------------------------ */

/* Where one text of a chunk stands. */
struct text_span {
    uint32_t first, count; /* rows */
    uint32_t page;         /* its first */
};

struct text_encoder {
    const struct text_model *m;
    struct arena memory;
    uint32_t tokens_max, texts_max, pages_max;
    uint32_t weight_stride; /* keys of a text, rounded up to pages */
    /* The chunk. */
    uint32_t tokens, texts, pages;
    struct text_span *span; /* (texts_max) */
    void **page;            /* (pages_max) */
    real *x;                /* (T, D) */
    real *query;            /* (T, D) */
    real *keyvalue;         /* (T, 2 D) */
    real *mixed;            /* (T, D) */
    real *up;               /* (T, H) */
    real *weight, *total;   /* one query's */
    real *no_bias;          /* zeros: no key is nearer than another */
};

static uint32_t blocks_of(uint32_t tokens)
{
    return (tokens + KV_BLOCK - 1) / KV_BLOCK;
}

/* Lays all buffers out; false when they do not fit. */
static bool lay_out(struct text_encoder *t)
{
    const struct text_config *c = &t->m->params.config;
    struct arena *a = &t->memory;
    size_t page_bytes = kv_layer_bytes(c->width, false);
    size_t rows = t->tokens_max;
    uint8_t *pages = arena_take(a, t->pages_max, page_bytes);

    t->span = arena_take(a, t->texts_max, sizeof *t->span);
    t->page = arena_take(a, t->pages_max, sizeof *t->page);
    t->x = arena_take(a, rows * c->width, sizeof(real));
    t->query = arena_take(a, rows * c->width, sizeof(real));
    t->keyvalue = arena_take(a, rows * 2 * c->width, sizeof(real));
    t->mixed = arena_take(a, rows * c->width, sizeof(real));
    t->up = arena_take(a, rows * c->ffn, sizeof(real));
    t->weight =
        arena_take(a, (size_t)c->heads * t->weight_stride, sizeof(real));
    t->total = arena_take(a, c->heads, sizeof(real));
    t->no_bias = arena_take(a, t->weight_stride, sizeof(real));
    if (!t->no_bias) return false;
    /* Keys behind a text's last are multiplied before they are left out. */
    memset(pages, 0, t->pages_max * page_bytes);
    memset(t->no_bias, 0, t->weight_stride * sizeof(real));
    for (uint32_t i = 0; i < t->pages_max; i++)
        t->page[i] = pages + i * page_bytes;
    return true;
}

static size_t bytes_needed(const struct text_encoder *t)
{
    const struct text_config *c = &t->m->params.config;
    size_t reals = (size_t)t->tokens_max * (5 * (size_t)c->width + c->ffn) +
                   (size_t)(c->heads + 1) * t->weight_stride + c->heads;
    return reals * sizeof(real) +
           t->pages_max * (kv_layer_bytes(c->width, false) + sizeof *t->page) +
           t->texts_max * sizeof *t->span + 10 * (size_t)ARENA_ALIGN;
}

enum rc text_encoder_new(struct text_encoder **out, const struct text_model *m,
                         uint32_t tokens_max, struct err *e)
{
    struct text_encoder *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return ERR(e, RC_STOP, "text encoder: no memory");
    t->m = m;
    t->tokens_max = tokens_max > m->info.ids_max ? tokens_max : m->info.ids_max;
    t->texts_max = t->tokens_max / TEXT_TOKENS_FEW + 1;
    t->pages_max = blocks_of(t->tokens_max) + t->texts_max;
    t->weight_stride = blocks_of(m->info.ids_max) * KV_BLOCK;
    if (!arena_init(&t->memory, bytes_needed(t)) || !lay_out(t)) {
        text_encoder_free(t);
        return ERR(e, RC_STOP, "text encoder: no memory for %u tokens",
                   tokens_max);
    }
    *out = t;
    return RC_OK;
}

void text_encoder_free(struct text_encoder *t)
{
    if (!t) return;
    arena_fini(&t->memory);
    free(t);
}

/* ---- forward --------------------------------------------------------- */

static const real *bias_of(const struct text_model *m, uint32_t l,
                           enum text_part part)
{
    return text_params_of(&m->params, m->values,
                          text_params_part(&m->params, l, part) + 1);
}

static void norm(const struct text_model *m, uint32_t tensor, real *x,
                 uint32_t rows)
{
    const struct text_params *p = &m->params;
    matrix_norm(x, rows, p->config.width, p->config.epsilon,
                text_params_of(p, m->values, tensor),
                text_params_of(p, m->values, tensor + 1), x, NULL);
}

/* x of a text's rows: word, position and type, then the norm. */
static void embed(struct text_encoder *t, const struct text_input *in,
                  uint32_t first)
{
    const struct text_params *p = &t->m->params;
    const struct text_config *c = &p->config;
    const real scale[2] = {1, 1};
    uint32_t d = c->width;
    for (uint32_t i = 0; i < in->count; i++) {
        uint32_t type = in->types ? in->types[i] : 0;
        const real *row[2] = {text_params_of(p, t->m->values, p->positions) +
                              (size_t)i * d};
        assert(in->ids[i] < c->ids && type < t->m->info.types);
        if (c->types)
            row[1] =
                text_params_of(p, t->m->values, p->types) + (size_t)type * d;
        kernels_get()->sum_rows(
            text_params_of(p, t->m->values, p->words) + (size_t)in->ids[i] * d,
            row, scale, c->types ? 2 : 1, d, t->x + (size_t)(first + i) * d);
    }
}

/* Keys and values of all rows, into the pages. */
static void put_keys(struct text_encoder *t, uint32_t l)
{
    const struct text_layer *w = &t->m->layer[l];
    uint32_t d = t->m->params.config.width;
    matrix_multiply(t->x, d, t->tokens, &w->key, bias_of(t->m, l, PART_KEY),
                    t->keyvalue, 2 * (size_t)d, MATRIX_SET);
    matrix_multiply(t->x, d, t->tokens, &w->value, bias_of(t->m, l, PART_VALUE),
                    t->keyvalue + d, 2 * (size_t)d, MATRIX_SET);
    for (uint32_t s = 0; s < t->texts; s++)
        for (uint32_t i = 0; i < t->span[s].count; i++)
            kernels_put(t->keyvalue + (size_t)(t->span[s].first + i) * 2 * d, d,
                        false, t->page[t->span[s].page + i / KV_BLOCK], 0,
                        i % KV_BLOCK);
}

/* mixed of the rows in query: of each text all, or its first. */
static void attend(struct text_encoder *t, enum text_rows rows)
{
    const struct text_config *c = &t->m->params.config;
    const struct kernels *k = kernels_get();
    struct attention a = {
        .width = c->width,
        .heads = c->heads,
        .distance = t->no_bias,
        .weight = t->weight,
        .weight_stride = t->weight_stride,
        .total = t->total,
        .query = t->query,
        .out = t->mixed,
    };
    for (uint32_t s = 0; s < t->texts; s++) {
        uint32_t queries = rows == TEXT_ALL ? t->span[s].count : 1;
        a.page = (const void *const *)t->page + t->span[s].page;
        a.keys = t->span[s].count;
        for (uint32_t i = 0; i < queries; i++) {
            k->attend(&a);
            a.query += c->width;
            a.out += c->width;
        }
    }
}

/* One layer; what goes beyond keys and values is in x afterwards. */
static void layer(struct text_encoder *t, uint32_t l, enum text_rows want)
{
    const struct text_model *m = t->m;
    const struct text_layer *w = &m->layer[l];
    const struct text_config *c = &m->params.config;
    uint32_t d = c->width, rows = want == TEXT_ALL ? t->tokens : t->texts;

    put_keys(t, l);
    if (want == TEXT_FIRST)
        for (uint32_t s = 0; s < t->texts; s++)
            memmove(t->x + (size_t)s * d, t->x + (size_t)t->span[s].first * d,
                    d * sizeof(real));
    matrix_multiply(t->x, d, rows, &w->query, w->query_bias, t->query, d,
                    MATRIX_SET);
    attend(t, want);
    matrix_multiply(t->mixed, d, rows, &w->output, bias_of(m, l, PART_OUTPUT),
                    t->x, d, MATRIX_ADD);
    norm(m, text_params_part(&m->params, l, PART_NORM1), t->x, rows);
    matrix_multiply(t->x, d, rows, &w->up, bias_of(m, l, PART_UP), t->up,
                    c->ffn, MATRIX_SET);
    if (c->act == TEXT_GELU)
        matrix_gelu_erf(t->up, (size_t)rows * c->ffn, t->up);
    else
        matrix_gelu(t->up, (size_t)rows * c->ffn, t->up);
    matrix_multiply(t->up, c->ffn, rows, &w->down, bias_of(m, l, PART_DOWN),
                    t->x, d, MATRIX_ADD);
    norm(m, text_params_part(&m->params, l, PART_NORM2), t->x, rows);
}

/* Takes texts from in while they fit; returns how many. */
static uint32_t fill(struct text_encoder *t, const struct text_input *in,
                     uint32_t count)
{
    t->tokens = t->texts = t->pages = 0;
    while (t->texts < count && t->texts < t->texts_max) {
        const struct text_input *text = &in[t->texts];
        assert(text->count >= 1 && text->count <= t->m->info.ids_max);
        if (t->tokens + text->count > t->tokens_max) break;
        embed(t, text, t->tokens);
        t->span[t->texts++] =
            (struct text_span){t->tokens, text->count, t->pages};
        t->tokens += text->count;
        t->pages += blocks_of(text->count);
    }
    norm(t->m, t->m->params.norm, t->x, t->tokens);
    return t->texts;
}

void text_encode(struct text_encoder *t, const struct text_input *in,
                 uint32_t count, enum text_rows rows, float *out)
{
    const struct text_config *c = &t->m->params.config;
    matrix_thread_init();
    while (count > 0) {
        uint32_t took = fill(t, in, count);
        size_t reals = (size_t)(rows == TEXT_ALL ? t->tokens : took) * c->width;
        for (uint32_t l = 0; l < c->layers; l++)
            layer(t, l, l + 1 == c->layers ? rows : TEXT_ALL);
        memcpy(out, t->x, reals * sizeof *out);
        out += reals;
        in += took;
        count -= took;
    }
}

void text_classify(struct text_encoder *t, const float *first, uint32_t count,
                   float *logits)
{
    const struct text_params *p = &t->m->params;
    uint32_t d = p->config.width, labels = p->config.labels;
    assert(labels > 0);
    matrix_thread_init();
    while (count > 0) {
        uint32_t rows = count < t->tokens_max ? count : t->tokens_max;
        matrix_multiply(first, d, rows, &t->m->pooler,
                        text_params_of(p, t->m->values, p->pooler + 1), t->x, d,
                        MATRIX_SET);
        for (size_t i = 0; i < (size_t)rows * d; i++)
            t->x[i] = p->config.layout == TEXT_BERT ? matrix_tanh(t->x[i])
                      : t->x[i] > 0                 ? t->x[i]
                                                    : 0;
        matrix_multiply(t->x, d, rows, &t->m->classifier,
                        text_params_of(p, t->m->values, p->classifier + 1),
                        logits, labels, MATRIX_SET);
        first += (size_t)rows * d;
        logits += (size_t)rows * labels;
        count -= rows;
    }
}

bool text_tokenize(const struct text_model *m, struct slice text, uint32_t *ids,
                   uint32_t ids_max, uint32_t *count)
{
    struct encoded made;
    assert(ids_max <= m->info.ids_max);
    made = tokenizer_encode(m->tokenizer, text, ids, ids_max);
    *count = made.count;
    return made.truncated;
}
