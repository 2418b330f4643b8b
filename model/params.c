#include "params.h"

#include "hash.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

enum {
    TENSOR_ALIGN = 16, /* reals: a panel, a cache line of floats */
    HEAD_STEP = 8,     /* a head is a whole number of vectors */
    FFN_MAX = 8192,
    ROWS_MAX = 1 << 28, /* of an embedding table */
    FEATURES_CHECK_MAX = 4096,
    BINS_MAX = 256,
    FRAUD_HEADS_MAX = 64,
    FRAUD_WIDTH_MAX = 1024,
};

#define EMBEDDING_DEVIATION 0.02f

static enum rc check_fields(const struct behaviour_config *c, struct err *e)
{
    if (c->field_count == 0 || c->field_count > FIELDS_MAX)
        return ERR(e, RC_STOP, "model: %u fields, must be 1 to %d",
                   c->field_count, FIELDS_MAX);
    for (uint32_t f = 0; f < c->field_count; f++) {
        const struct behaviour_field *field = &c->field[f];
        if (field->rows == 0 || field->rows > ROWS_MAX)
            return ERR(e, RC_STOP, "model: field '%s' has %u rows", field->name,
                       field->rows);
        if (field->kind == FIELD_ITEM &&
            (uint64_t)field->rows != (uint64_t)c->items + c->item_buckets + 1)
            return ERR(e, RC_STOP,
                       "model: item table of %u rows for %u items, %u "
                       "buckets and the row for none",
                       field->rows, c->items, c->item_buckets);
        if (field->extra >= EXTRA_MAX)
            return ERR(e, RC_STOP, "model: field '%s' is extra number %u",
                       field->name, field->extra);
    }
    return RC_OK;
}

enum rc behaviour_config_check(const struct behaviour_config *c, struct err *e)
{
    if (c->layers == 0 || c->layers > LAYERS_MAX)
        return ERR(e, RC_STOP, "model: %u layers, must be 1 to %d", c->layers,
                   LAYERS_MAX);
    if (c->heads == 0 || c->heads > HEADS_MAX)
        return ERR(e, RC_STOP, "model: %u heads, must be 1 to %d", c->heads,
                   HEADS_MAX);
    if (c->width == 0 || c->width > WIDTH_MAX ||
        c->width % (c->heads * HEAD_STEP) != 0)
        return ERR(e, RC_STOP,
                   "model: width %u with %u heads; it must be a multiple of "
                   "%d times the heads, at most %d",
                   c->width, c->heads, HEAD_STEP, WIDTH_MAX);
    if (c->ffn == 0 || c->ffn > FFN_MAX || c->ffn % HEAD_STEP != 0)
        return ERR(e, RC_STOP,
                   "model: inner width %u, must be a multiple of %d, at most "
                   "%d",
                   c->ffn, HEAD_STEP, FFN_MAX);
    if (c->window == 0 || c->window > WINDOW_MAX)
        return ERR(e, RC_STOP, "model: window %u, must be 1 to %d", c->window,
                   WINDOW_MAX);
    if (c->features > FEATURES_CHECK_MAX || c->bins > BINS_MAX)
        return ERR(e, RC_STOP, "model: %u features in %u bins", c->features,
                   c->bins);
    if (c->fraud_heads > FRAUD_HEADS_MAX || c->fraud_width > FRAUD_WIDTH_MAX ||
        (c->fraud_heads > 0 && c->fraud_width == 0))
        return ERR(e, RC_STOP, "model: %u fraud heads of width %u",
                   c->fraud_heads, c->fraud_width);
    return check_fields(c, e);
}

int params_field(const struct behaviour_config *c, enum field_kind kind,
                 uint32_t extra)
{
    for (uint32_t f = 0; f < c->field_count; f++)
        if (c->field[f].kind == kind && c->field[f].extra == extra)
            return (int)f;
    return -1;
}

PRINTF_LIKE(5, 6)
static uint32_t add(struct params *p, uint32_t rows, uint32_t cols,
                    enum tensor_start start, const char *format, ...)
{
    struct tensor *t = &p->tensor[p->count];
    size_t reals = (size_t)rows * cols;
    va_list args;

    assert(p->count < TENSORS_MAX);
    va_start(args, format);
    (void)vsnprintf(t->name, sizeof t->name, format, args);
    va_end(args);
    t->rows = rows;
    t->cols = cols;
    t->offset = p->size;
    t->start = start;
    t->decays = rows > 1 && start == START_NORMAL;
    /* Products keep the size of what goes in (LeCun 1998). */
    t->deviation = (float)sqrt(1.0 / rows);
    p->size += (reals + TENSOR_ALIGN - 1) / TENSOR_ALIGN * TENSOR_ALIGN;
    return p->count++;
}

static void add_embeddings(struct params *p)
{
    const struct behaviour_config *c = &p->config;
    for (uint32_t f = 0; f < c->field_count; f++) {
        uint32_t t = add(p, c->field[f].rows, c->width, START_NORMAL,
                         "embedding.%s.weight", c->field[f].name);
        /* Small: the item's table is the next item's softmax too, whose
         * logits then start near 0. Its rows come in times sqrt D. */
        p->tensor[t].deviation = EMBEDDING_DEVIATION;
        p->tensor[t].decays = true;
        p->embedding[f] = t;
    }
    p->position = add(p, 2 * c->window, c->width, START_NORMAL,
                      "embedding.position.weight");
    p->tensor[p->position].deviation = EMBEDDING_DEVIATION;
}

static void add_layer(struct params *p, uint32_t l)
{
    const struct behaviour_config *c = &p->config;
    struct layer_tensors *t = &p->layer[l];
    uint32_t d = c->width, h = c->ffn;

    t->norm1_weight = add(p, 1, d, START_ONE, "layers.%u.norm1.weight", l);
    t->norm1_bias = add(p, 1, d, START_ZERO, "layers.%u.norm1.bias", l);
    t->query_weight = add(p, d, d, START_NORMAL, "layers.%u.query.weight", l);
    t->query_bias = add(p, 1, d, START_ZERO, "layers.%u.query.bias", l);
    t->keyvalue_weight =
        add(p, d, 2 * d, START_NORMAL, "layers.%u.keyvalue.weight", l);
    t->keyvalue_bias =
        add(p, 1, 2 * d, START_ZERO, "layers.%u.keyvalue.bias", l);
    t->distance_bias = add(p, c->heads, BIAS_BUCKETS, START_ZERO,
                           "layers.%u.distance.bias", l);
    t->time_bias = !c->has_time ? TENSOR_NONE
                                : add(p, c->heads, BIAS_BUCKETS, START_ZERO,
                                      "layers.%u.time.bias", l);
    t->output_weight = add(p, d, d, START_NORMAL, "layers.%u.output.weight", l);
    t->output_bias = add(p, 1, d, START_ZERO, "layers.%u.output.bias", l);
    t->norm2_weight = add(p, 1, d, START_ONE, "layers.%u.norm2.weight", l);
    t->norm2_bias = add(p, 1, d, START_ZERO, "layers.%u.norm2.bias", l);
    t->up_weight = add(p, d, h, START_NORMAL, "layers.%u.up.weight", l);
    t->up_bias = add(p, 1, h, START_ZERO, "layers.%u.up.bias", l);
    t->down_weight = add(p, h, d, START_NORMAL, "layers.%u.down.weight", l);
    t->down_bias = add(p, 1, d, START_ZERO, "layers.%u.down.bias", l);
    /* What is added to the residual starts smaller, the more layers add
     * (Radford et al. 2019). */
    p->tensor[t->output_weight].deviation /= sqrtf(2.0f * (float)c->layers);
    p->tensor[t->down_weight].deviation /= sqrtf(2.0f * (float)c->layers);
}

static void add_heads(struct params *p)
{
    const struct behaviour_config *c = &p->config;
    uint32_t d = c->width, hidden = c->fraud_heads * c->fraud_width;

    for (uint32_t f = 0; f < FIELDS_MAX; f++)
        p->next_weight[f] = p->next_bias[f] = TENSOR_NONE;
    for (uint32_t f = 0; f < c->field_count; f++) {
        const struct behaviour_field *field = &c->field[f];
        if (!field->predicted || field->kind == FIELD_ITEM) continue;
        p->next_weight[f] =
            add(p, d, field->rows, START_NORMAL, "next.%s.weight", field->name);
        p->next_bias[f] =
            add(p, 1, field->rows, START_ZERO, "next.%s.bias", field->name);
    }
    p->start = add(p, 1, d, START_ZERO, "next.start");
    p->fraud_hidden_weight = p->fraud_hidden_bias = TENSOR_NONE;
    p->fraud_output_weight = p->fraud_output_bias = TENSOR_NONE;
    if (c->fraud_heads == 0) return;
    p->fraud_hidden_weight =
        add(p, fraud_inputs(c), hidden, START_NORMAL, "fraud.hidden.weight");
    p->fraud_hidden_bias = add(p, 1, hidden, START_ZERO, "fraud.hidden.bias");
    p->fraud_output_weight = add(p, c->fraud_heads, c->fraud_width,
                                 START_NORMAL, "fraud.output.weight");
    p->tensor[p->fraud_output_weight].deviation =
        (float)sqrt(1.0 / c->fraud_width);
    p->fraud_output_bias =
        add(p, 1, c->fraud_heads, START_ZERO, "fraud.output.bias");
}

void params_init(struct params *p, const struct behaviour_config *c)
{
    memset(p, 0, sizeof *p);
    p->config = *c;
    add_embeddings(p);
    for (uint32_t l = 0; l < c->layers; l++)
        add_layer(p, l);
    p->norm_weight = add(p, 1, c->width, START_ONE, "norm.weight");
    p->norm_bias = add(p, 1, c->width, START_ZERO, "norm.bias");
    add_heads(p);
}

/* Two uniform draws make a normal one (Box and Muller 1958). */
static real draw_normal(uint64_t bits)
{
    double u = ((double)(bits >> 40) + 1) * 0x1p-24;
    double v = (double)(bits & 0xffffff) * 0x1p-24;
    return (real)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

void params_start(const struct params *p, uint64_t seed, real *block)
{
    memset(block, 0, p->size * sizeof *block);
    for (uint32_t t = 0; t < p->count; t++) {
        const struct tensor *tensor = &p->tensor[t];
        size_t reals = (size_t)tensor->rows * tensor->cols;
        real *x = block + tensor->offset;
        if (tensor->start == START_ZERO) continue;
        for (size_t i = 0; i < reals; i++)
            x[i] = tensor->start == START_ONE ? 1
                                              : draw_normal(draw(seed, t, i)) *
                                                    (real)tensor->deviation;
    }
}
