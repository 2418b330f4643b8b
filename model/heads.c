#include "heads.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { TILE_ROWS = 64, PANELS_ALIGN = 64 };

/* A prediction learns from what it sees: after the first payments of somebody
 * else on a card more of them are expected. What the user did over all times
 * does not follow so soon, so a predicted field has to be rarer by far to say
 * as much. */
static const float PREDICTED_SHARE = 0.4f;

struct heads {
    const struct params *params;
    const real *values;
    const struct head_tables *tables;
    real *panels; /* memory of everything packed */
    struct field_layer next[FIELDS_MAX];
    struct fraud_layer fraud;
    struct feature_layer features;
    struct packed reference; /* (D, reference_count) */
    real *reference_rows;    /* the same, not packed */
    int item_field;
};

static uint32_t panel_reals(uint32_t inner, uint32_t cols)
{
    size_t align = PANELS_ALIGN / sizeof(real);
    return (uint32_t)((packed_size(inner, cols) + align - 1) / align * align);
}

static bool predicts(const struct params *p, uint32_t f)
{
    return p->next_weight[f] != TENSOR_NONE;
}

static size_t panels_size(const struct params *p)
{
    const struct behaviour_config *c = &p->config;
    size_t reals = panel_reals(c->width, REFERENCE_ITEMS);
    for (uint32_t f = 0; f < c->field_count; f++)
        if (predicts(p, f)) reals += panel_reals(c->width, c->field[f].rows);
    if (c->fraud_heads)
        reals += panel_reals(fraud_inputs(c), c->fraud_heads * c->fraud_width);
    return reals;
}

struct heads *heads_new(const struct params *p, const real *values,
                        const struct head_tables *t)
{
    struct heads *h = calloc(1, sizeof *h);
    if (!h) return NULL;
    h->params = p;
    h->values = values;
    h->tables = t;
    h->item_field = params_field(&p->config, FIELD_ITEM, 0);
    h->panels = aligned_alloc(PANELS_ALIGN, panels_size(p) * sizeof(real));
    h->reference_rows =
        calloc((size_t)REFERENCE_ITEMS * p->config.width, sizeof(real));
    if (!h->panels || !h->reference_rows) {
        heads_free(h);
        return NULL;
    }
    heads_refresh(h);
    return h;
}

void heads_free(struct heads *h)
{
    if (!h) return;
    free(h->panels);
    free(h->reference_rows);
    free(h);
}

static real *refresh_fraud(struct heads *h, real *panels)
{
    const struct params *p = h->params;
    const struct behaviour_config *c = &p->config;
    uint32_t inner = c->fraud_heads * c->fraud_width;
    const real *weight = params_of(p, h->values, p->fraud_hidden_weight);
    h->fraud = (struct fraud_layer){
        .inputs = fraud_inputs(c),
        .members = c->fraud_heads,
        .width = c->fraud_width,
        .hidden_packed = matrix_pack(weight, fraud_inputs(c), inner, panels),
        .hidden_weight = weight,
        .hidden_bias = params_of(p, h->values, p->fraud_hidden_bias),
        .output_weight = params_of(p, h->values, p->fraud_output_weight),
        .output_bias = params_of(p, h->values, p->fraud_output_bias),
    };
    h->features = (struct feature_layer){
        .features = c->features,
        .bins = c->bins,
        .mean = h->tables->feature_mean,
        .scale = h->tables->feature_scale,
        .border = h->tables->feature_border,
    };
    return panels + panel_reals(fraud_inputs(c), inner);
}

static real *refresh_reference(struct heads *h, real *panels)
{
    const struct params *p = h->params;
    uint32_t d = p->config.width, count = h->tables->reference_count;
    const real *table = params_of(p, h->values, p->embedding[h->item_field]);
    for (uint32_t i = 0; i < count; i++)
        memcpy(h->reference_rows + (size_t)i * d,
               table + (size_t)h->tables->reference[i] * d, d * sizeof *table);
    h->reference = matrix_pack_transposed(h->reference_rows, d, count, panels);
    return panels + panel_reals(d, REFERENCE_ITEMS);
}

void heads_refresh(struct heads *h)
{
    const struct params *p = h->params;
    const struct behaviour_config *c = &p->config;
    real *panels = h->panels;
    for (uint32_t f = 0; f < c->field_count; f++) {
        const real *weight;
        if (!predicts(p, f)) continue;
        weight = params_of(p, h->values, p->next_weight[f]);
        h->next[f] = (struct field_layer){
            .width = c->width,
            .rows = c->field[f].rows,
            .weight_packed =
                matrix_pack(weight, c->width, c->field[f].rows, panels),
            .weight = weight,
            .bias = params_of(p, h->values, p->next_bias[f]),
        };
        panels += panel_reals(c->width, c->field[f].rows);
    }
    if (c->fraud_heads) panels = refresh_fraud(h, panels);
    if (h->item_field >= 0 && h->tables->reference_count)
        (void)refresh_reference(h, panels);
}

const struct field_layer *heads_next(const struct heads *h, uint32_t field)
{
    assert(predicts(h->params, field));
    return &h->next[field];
}

const struct fraud_layer *heads_fraud_layer(const struct heads *h)
{
    return &h->fraud;
}

const struct feature_layer *heads_feature_layer(const struct heads *h)
{
    return &h->features;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t heads_scratch(const struct params *p)
{
    const struct behaviour_config *c = &p->config;
    size_t inner = (size_t)c->fraud_heads * c->fraud_width;
    size_t fraud = fraud_inputs(c) + 2 * inner + c->fraud_heads;
    size_t cols = REFERENCE_ITEMS;
    for (uint32_t f = 0; f < c->field_count; f++)
        if (predicts(p, f)) cols = larger(cols, c->field[f].rows);
    return TILE_ROWS * larger(fraud, c->width + cols);
}

/* --- fraud -------------------------------------------------------------- */

static void fraud_tile(const struct heads *h, const real *const *hidden,
                       const float *const *features, uint32_t rows, real *x,
                       float *out)
{
    const struct fraud_layer *l = &h->fraud;
    uint32_t d = h->params->config.width, inner = l->members * l->width;
    real *before = x + (size_t)TILE_ROWS * l->inputs;
    real *after = before + (size_t)TILE_ROWS * inner;
    real *logits = after + (size_t)TILE_ROWS * inner;
    for (uint32_t m = 0; m < rows; m++) {
        real *row = x + (size_t)m * l->inputs;
        memcpy(row, hidden[m], d * sizeof *row);
        features_expand(&h->features, features[m], row + d);
    }
    fraud_forward(l, x, rows, NULL, before, after, logits);
    for (uint32_t m = 0; m < rows; m++) {
        real sum = 0;
        for (uint32_t k = 0; k < l->members; k++)
            sum += logits[m * l->members + k];
        out[m] = (float)(sum / (real)l->members);
    }
}

void heads_fraud_logit(const struct heads *h, const real *const *hidden,
                       const float *const *features, uint32_t count,
                       real *scratch, float *out)
{
    for (uint32_t i = 0; i < count; i += TILE_ROWS) {
        uint32_t rows = count - i < TILE_ROWS ? count - i : TILE_ROWS;
        fraud_tile(h, hidden + i, features + i, rows, scratch, out + i);
    }
}

void heads_fraud(const struct heads *h, const real *const *hidden,
                 const float *const *features, uint32_t count, real *scratch,
                 float *out)
{
    heads_fraud_logit(h, hidden, features, count, scratch, out);
    for (uint32_t i = 0; i < count; i++)
        out[i] = (float)matrix_sigmoid(heads_log_odds(h, (real)out[i]));
}

real heads_log_odds(const struct heads *h, real logit)
{
    const float *line = h->tables->calibration;
    return (real)((float)logit * line[0] + line[1]);
}

/* --- anomaly ------------------------------------------------------------ */

/* The item's logit; one outside the vocabulary is as odd as the least likely
 * of the sample. */
static real item_logit(const struct heads *h, const real *x, uint32_t row,
                       const real *reference)
{
    const struct params *p = h->params;
    uint32_t d = p->config.width;
    real least = reference[0];
    if (row < p->config.items)
        return row_dot(x,
                       params_of(p, h->values, p->embedding[h->item_field]) +
                           (size_t)row * d,
                       d);
    for (uint32_t i = 1; i < h->tables->reference_count; i++)
        if (reference[i] < least) least = reference[i];
    return least;
}

/* The item against the reference sample and itself. */
static void item_surprise(const struct heads *h, const real *x,
                          const struct token *const *tokens, uint32_t rows,
                          real *logits, float *out, uint32_t stride)
{
    const struct params *p = h->params;
    uint32_t d = p->config.width, count = h->tables->reference_count;
    uint32_t f = (uint32_t)h->item_field;
    matrix_multiply(x, d, rows, &h->reference, NULL, logits, count, MATRIX_SET);
    for (uint32_t m = 0; m < rows; m++) {
        real own = item_logit(h, x + (size_t)m * d, tokens[m]->row[f],
                              logits + (size_t)m * count);
        real rest = matrix_log_sum_exp(logits + (size_t)m * count, count);
        real top = own > rest ? own : rest;
        real sum = matrix_exp(own - top) + matrix_exp(rest - top);
        out[(size_t)m * stride + f] = (float)(top + matrix_log(sum) - own);
    }
}

/* The surprise of one field, by the kind of its rows. */
static void field_surprise(enum field_kind kind, real *logits, uint32_t rows,
                           uint32_t cols, const uint32_t *targets, float *out)
{
    if (kind == FIELD_AMOUNT_LEVEL || kind == FIELD_AMOUNT_RATIO)
        tail_surprise(logits, rows, cols, targets, TAIL_ABOVE, out);
    else if (kind == FIELD_GAP)
        tail_surprise(logits, rows, cols, targets, TAIL_BOTH, out);
    else
        softmax_surprise(logits, rows, cols, targets, out);
}

uint32_t heads_surprises(const struct params *p)
{
    return p->config.field_count + OWN_MEASURES;
}

static void surprise_tile(const struct heads *h, const real *const *before,
                          const struct token *const *tokens, uint32_t rows,
                          real *x, float *out)
{
    const struct params *p = h->params;
    const struct behaviour_config *c = &p->config;
    real *logits = x + (size_t)TILE_ROWS * c->width;
    size_t stride = heads_surprises(p);
    memset(out, 0, rows * stride * sizeof *out);
    for (uint32_t m = 0; m < rows; m++) {
        float *own = out + m * stride + c->field_count;
        memcpy(x + (size_t)m * c->width,
               before[m] ? before[m] : params_of(p, h->values, p->start),
               c->width * sizeof *x);
        own[OWN_RATIO] = tokens[m]->amount_ratio;
        own[OWN_AMOUNT] = tokens[m]->amount;
    }
    for (uint32_t f = 0; f < c->field_count; f++) {
        uint32_t targets[TILE_ROWS];
        float surprise[TILE_ROWS];
        if (!predicts(p, f)) continue;
        for (uint32_t m = 0; m < rows; m++)
            targets[m] = tokens[m]->row[f];
        matrix_multiply(x, c->width, rows, &h->next[f].weight_packed,
                        h->next[f].bias, logits, h->next[f].rows, MATRIX_SET);
        field_surprise(c->field[f].kind, logits, rows, h->next[f].rows, targets,
                       surprise);
        for (uint32_t m = 0; m < rows; m++)
            out[m * stride + f] = surprise[m];
    }
    if (h->item_field >= 0 && c->field[h->item_field].predicted &&
        h->tables->reference_count)
        item_surprise(h, x, tokens, rows, logits, out, (uint32_t)stride);
}

void heads_surprise(const struct heads *h, const real *const *before,
                    const struct token *const *tokens, uint32_t count,
                    real *scratch, float *out)
{
    size_t stride = heads_surprises(h->params);
    for (uint32_t i = 0; i < count; i += TILE_ROWS) {
        uint32_t rows = count - i < TILE_ROWS ? count - i : TILE_ROWS;
        surprise_tile(h, before + i, tokens + i, rows, scratch,
                      out + i * stride);
    }
}

float quantile_depth(const float *table, float depth, float x)
{
    const uint32_t last = QUANTILE_POINTS - 1;
    float step = depth / (float)last;
    uint32_t low = 0, high = last;
    if (!(x > table[0])) return 0;
    if (x >= table[last]) {
        float range = table[last] - table[0];
        return range > 0 ? depth + (x - table[last]) / range * depth : depth;
    }
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (table[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return step * ((float)low + (x - table[low]) / (table[high] - table[low]));
}

float heads_total(const struct heads *h, const float *surprise)
{
    const struct params *p = h->params;
    const struct head_tables *t = h->tables;
    const float *own = surprise + p->config.field_count;
    float total = 0;
    for (uint32_t f = 0; f < p->config.field_count; f++) {
        float depth;
        if (!p->config.field[f].predicted) continue;
        depth = PREDICTED_SHARE *
                quantile_depth(t->field_quantile[f], t->depth, surprise[f]);
        if (depth > total) total = depth;
    }
    for (uint32_t k = 0; k < OWN_MEASURES; k++) {
        float depth = quantile_depth(t->own_quantile[k], t->depth, own[k]);
        if (depth > total) total = depth;
    }
    return total;
}

void heads_anomaly(const struct heads *h, const real *const *before,
                   const struct token *const *tokens, uint32_t count,
                   real *scratch, float *out)
{
    const struct head_tables *t = h->tables;
    size_t stride = heads_surprises(h->params);
    float surprise[TILE_ROWS * SURPRISES_MAX];
    for (uint32_t i = 0; i < count; i += TILE_ROWS) {
        uint32_t rows = count - i < TILE_ROWS ? count - i : TILE_ROWS;
        surprise_tile(h, before + i, tokens + i, rows, scratch, surprise);
        for (uint32_t m = 0; m < rows; m++) {
            float total = heads_total(h, surprise + m * stride);
            float depth = quantile_depth(t->total_quantile, t->depth, total);
            out[i + m] = (float)(1 - matrix_exp((real)-depth));
        }
    }
}
