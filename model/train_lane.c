#include "train_lane.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

enum {
    MEMORY_ALIGN = 64,
    TILE_REALS = 1 << 20, /* of logits: what stays in the cache */
    TILE_ROWS_MIN = 8,
    FRAUD_LAYER_KEY = 0x6672, /* dropout's draws apart from the layers' */
};

/* --- memory ------------------------------------------------------------- */

static uint32_t columns_max(const struct train_shared *s)
{
    const struct behaviour_config *c = &s->m->params.config;
    uint32_t most = 1;
    if (s->m->item_field >= 0)
        most = s->o->negatives ? s->o->negatives : c->items;
    for (uint32_t f = 0; f < c->field_count; f++)
        if (s->m->params.next_weight[f] != TENSOR_NONE &&
            c->field[f].rows > most)
            most = c->field[f].rows;
    return most;
}

static uint32_t tile_of(uint32_t columns)
{
    uint32_t rows = TILE_REALS / columns;
    if (rows < TILE_ROWS_MIN) return TILE_ROWS_MIN;
    return rows < TILE_ROWS_MAX ? rows : TILE_ROWS_MAX;
}

/* One walk over all arrays: with base NULL it only measures. */
struct cut {
    uint8_t *base;
    size_t used;
};

static void *cut_take(struct cut *c, size_t count, size_t size)
{
    void *at = c->base ? c->base + c->used : NULL;
    c->used += (count * size + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
    return at;
}

static void take_fraud(struct lane *l, struct cut *c)
{
    const struct behaviour_config *shape = &l->shared->m->params.config;
    size_t inner = (size_t)shape->fraud_heads * shape->fraud_width;
    size_t n = shape->fraud_heads ? l->tokens_max : 0;
    l->fraud_x = cut_take(c, n * fraud_inputs(shape), sizeof(real));
    l->fraud_mask = cut_take(c, n * inner, sizeof(real));
    l->fraud_before = cut_take(c, n * inner, sizeof(real));
    l->fraud_after = cut_take(c, n * inner, sizeof(real));
    l->fraud_dafter = cut_take(c, n * inner, sizeof(real));
    l->fraud_logits = cut_take(c, n * shape->fraud_heads, sizeof(real));
    l->fraud_dlogits = cut_take(c, n * shape->fraud_heads, sizeof(real));
    l->fraud_dx = cut_take(c, n * shape->width, sizeof(real));
    l->fraud_weights = cut_take(c, n, sizeof(real));
    l->fraud_labels = cut_take(c, n, 1);
    l->frauds = cut_take(c, n, sizeof *l->frauds);
}

static void take_arrays(struct lane *l, struct cut *c)
{
    size_t d = l->shared->m->params.config.width;
    size_t items = l->shared->m->params.config.items;
    l->logits_size = (size_t)l->tile_rows * columns_max(l->shared);
    if (l->logits_size < items) l->logits_size = items;
    l->sequences = cut_take(c, l->tokens_max, sizeof *l->sequences);
    l->targets = cut_take(c, l->targets_max, sizeof *l->targets);
    l->rows = cut_take(c, l->targets_max, sizeof *l->rows);
    l->before = cut_take(c, l->targets_max * d, sizeof(real));
    l->dbefore = cut_take(c, l->targets_max * d, sizeof(real));
    l->dhidden = cut_take(c, l->tokens_max * d, sizeof(real));
    l->logits = cut_take(c, l->logits_size, sizeof(real));
    l->target_gradient = cut_take(c, l->tile_rows * d, sizeof(real));
    l->sample_gradient = cut_take(c, l->shared->o->negatives * d, sizeof(real));
    take_fraud(l, c);
}

enum rc lane_new(struct lane **out, const struct train_shared *shared,
                 uint32_t tokens_max, struct err *e)
{
    struct lane *l = calloc(1, sizeof *l);
    struct cut measure = {0}, cut = {0};
    *out = NULL;
    if (!l) return ERR(e, RC_STOP, "training: no memory");
    l->shared = shared;
    l->tokens_max = tokens_max;
    l->targets_max = 2 * tokens_max; /* a start target for every sequence */
    l->tile_rows = tile_of(columns_max(shared));
    take_arrays(l, &measure);
    l->memory = cut.base = aligned_alloc(MEMORY_ALIGN, measure.used);
    l->trainer = trainer_new(shared->m->behaviour, tokens_max, tokens_max);
    if (!l->memory || !l->trainer) {
        lane_free(l);
        return ERR(e, RC_STOP, "training: no memory for batches of %u tokens",
                   tokens_max);
    }
    take_arrays(l, &cut);
    *out = l;
    return RC_OK;
}

void lane_free(struct lane *l)
{
    if (!l) return;
    trainer_free(l->trainer);
    free(l->memory);
    free(l);
}

/* --- gathering ---------------------------------------------------------- */

static bool has_item_loss(const struct train_shared *s, uint64_t row)
{
    int f = s->m->item_field;
    return f >= 0 && s->data->tokens[row].row[f] < s->m->params.config.items;
}

void lane_count(const struct train_shared *s, const struct piece *const *pieces,
                uint32_t count, enum role role, struct batch_total *total)
{
    *total = (struct batch_total){0};
    for (uint32_t k = 0; k < count; k++) {
        const struct piece *p = pieces[k];
        for (uint32_t i = p->target_from; i < p->target_until; i++) {
            real weight;
            if (!piece_wants(s->data, p, i, role)) continue;
            total->targets++;
            total->item_targets += has_item_loss(s, p->row + i);
            weight = shared_fraud_weight(s, p->row + i, role);
            total->frauds += weight > 0;
            total->fraud_weight += (double)weight;
        }
    }
}

/* Hidden states are wanted from that before the first target on. */
static uint32_t wanted_from(const struct piece *p)
{
    return p->target_from ? p->target_from - 1 : 0;
}

static void gather_fraud_target(struct lane *l, uint32_t hidden, uint64_t row,
                                enum role role)
{
    real weight = shared_fraud_weight(l->shared, row, role);
    if (!(weight > 0)) return;
    l->fraud_weights[l->fraud_count] = weight;
    l->frauds[l->fraud_count++] = (struct target){.hidden = hidden, .row = row};
}

/* Targets with, or without, an item loss; with those of fraud once. */
static void gather_targets(struct lane *l, const struct piece *p, uint32_t base,
                           enum role role, bool item)
{
    const struct train_data *data = l->shared->data;
    for (uint32_t i = p->target_from; i < p->target_until; i++) {
        uint64_t row = p->row + i;
        if (!piece_wants(data, p, i, role)) continue;
        if (has_item_loss(l->shared, row) == item)
            l->targets[l->target_count++] = (struct target){
                .hidden = i ? base + i - 1 - wanted_from(p) : HIDDEN_START,
                .row = row};
        if (item) gather_fraud_target(l, base + i - wanted_from(p), row, role);
    }
}

static void gather(struct lane *l, const struct piece *const *pieces,
                   uint32_t count, enum role role)
{
    uint32_t base = 0;
    l->target_count = l->item_count = l->fraud_count = 0;
    for (uint32_t k = 0; k < count; k++) {
        gather_targets(l, pieces[k], base, role, true);
        base += pieces[k]->count - wanted_from(pieces[k]);
    }
    l->item_count = l->target_count;
    l->hidden_count = base;
    base = 0;
    for (uint32_t k = 0; k < count; k++) {
        gather_targets(l, pieces[k], base, role, false);
        base += pieces[k]->count - wanted_from(pieces[k]);
    }
    assert(l->target_count <= l->targets_max);
}

void lane_forward(struct lane *l, const struct piece *const *pieces,
                  uint32_t count, enum role role, struct dropout dropout)
{
    for (uint32_t k = 0; k < count; k++)
        l->sequences[k] = (struct sequence){
            .tokens = l->shared->data->tokens + pieces[k]->row,
            .count = pieces[k]->count,
            .wanted_from = wanted_from(pieces[k]),
            .user = pieces[k]->row}; /* pieces of a user are apart too */
    gather(l, pieces, count, role);
    l->hidden = trainer_forward(l->trainer, l->sequences, count, dropout);
}

void lane_gather_before(struct lane *l)
{
    const struct params *p = &l->shared->m->params;
    const real *start = params_of(p, l->shared->m->values, p->start);
    size_t d = p->config.width;
    for (uint32_t i = 0; i < l->target_count; i++) {
        const real *from = l->targets[i].hidden == HIDDEN_START
                               ? start
                               : l->hidden + l->targets[i].hidden * d;
        memcpy(l->before + i * d, from, d * sizeof *from);
    }
}

/* --- losses ------------------------------------------------------------- */

static double item_tile(struct lane *l, uint32_t from, uint32_t rows,
                        real scale, real *gradients)
{
    const struct train_shared *s = l->shared;
    const struct params *p = &s->m->params;
    size_t d = p->config.width;
    real *table = params_at(p, gradients, p->embedding[s->m->item_field]);
    double loss;
    if (!s->o->negatives)
        return item_loss(&s->items, l->before + from * d, rows, l->rows + from,
                         scale, l->logits, l->dbefore + from * d, table);
    memset(l->target_gradient, 0, rows * d * sizeof(real));
    loss = item_sample_loss(&s->items, &s->sample, l->before + from * d, rows,
                            l->rows + from, scale, l->logits,
                            l->dbefore + from * d, l->sample_gradient,
                            l->target_gradient);
    for (uint32_t i = 0; i < rows; i++)
        for (size_t k = 0; k < d; k++)
            table[l->rows[from + i] * d + k] += l->target_gradient[i * d + k];
    return loss;
}

/* The sample's gradient goes to the rows it was drawn from. */
static void scatter_sample(struct lane *l, real *gradients)
{
    const struct train_shared *s = l->shared;
    const struct params *p = &s->m->params;
    size_t d = p->config.width;
    real *table = params_at(p, gradients, p->embedding[s->m->item_field]);
    for (uint32_t i = 0; i < s->o->negatives; i++)
        for (size_t k = 0; k < d; k++)
            table[s->sample.negatives[i] * d + k] +=
                l->sample_gradient[i * d + k];
}

static double all_items(struct lane *l, real scale, real *gradients)
{
    const struct train_shared *s = l->shared;
    size_t d = s->m->params.config.width;
    double loss = 0;
    for (uint32_t i = 0; i < l->item_count; i++)
        l->rows[i] = s->data->tokens[l->targets[i].row].row[s->m->item_field];
    memset(l->sample_gradient, 0, s->o->negatives * d * sizeof(real));
    for (uint32_t i = 0; i < l->item_count; i += l->tile_rows) {
        uint32_t rows = l->item_count - i;
        if (rows > l->tile_rows) rows = l->tile_rows;
        loss += item_tile(l, i, rows, scale, gradients);
    }
    if (s->o->negatives && l->item_count) scatter_sample(l, gradients);
    return loss;
}

static double one_field(struct lane *l, uint32_t f, real scale, real *gradients)
{
    const struct train_shared *s = l->shared;
    const struct params *p = &s->m->params;
    size_t d = p->config.width;
    double loss = 0;
    for (uint32_t i = 0; i < l->target_count; i++)
        l->rows[i] = s->data->tokens[l->targets[i].row].row[f];
    for (uint32_t i = 0; i < l->target_count; i += l->tile_rows) {
        uint32_t rows = l->target_count - i;
        if (rows > l->tile_rows) rows = l->tile_rows;
        loss += field_loss(heads_next(s->m->heads, f), l->before + i * d, rows,
                           l->rows + i, scale, l->logits, l->dbefore + i * d,
                           params_at(p, gradients, p->next_weight[f]),
                           params_at(p, gradients, p->next_bias[f]));
    }
    return loss;
}

/* Gradients of the states before targets go to where they were taken. */
static void scatter_before(struct lane *l, real *gradients)
{
    const struct params *p = &l->shared->m->params;
    real *start = params_at(p, gradients, p->start);
    size_t d = p->config.width;
    for (uint32_t i = 0; i < l->target_count; i++) {
        real *to = l->targets[i].hidden == HIDDEN_START
                       ? start
                       : l->dhidden + l->targets[i].hidden * d;
        for (size_t k = 0; k < d; k++)
            to[k] += l->dbefore[i * d + k];
    }
}

/* --- fraud -------------------------------------------------------------- */

static void gather_fraud(struct lane *l)
{
    const struct train_shared *s = l->shared;
    const struct train_log *log = s->data->log;
    const struct fraud_layer *fraud = heads_fraud_layer(s->m->heads);
    size_t d = s->m->params.config.width;
    for (uint32_t i = 0; i < l->fraud_count; i++) {
        uint64_t row = l->frauds[i].row;
        real *x = l->fraud_x + (size_t)i * fraud->inputs;
        memcpy(x, l->hidden + l->frauds[i].hidden * d, d * sizeof *x);
        features_expand(heads_feature_layer(s->m->heads),
                        log->feature_rows + row * log->features, x + d);
        l->fraud_labels[i] = s->data->label[row] == LABEL_FRAUD;
    }
}

void lane_fraud_logits(struct lane *l, float *out)
{
    const struct fraud_layer *f = heads_fraud_layer(l->shared->m->heads);
    if (l->fraud_count == 0) return;
    gather_fraud(l);
    fraud_forward(f, l->fraud_x, l->fraud_count, NULL, l->fraud_before,
                  l->fraud_after, l->fraud_logits);
    for (uint32_t i = 0; i < l->fraud_count; i++) {
        real sum = 0;
        for (uint32_t k = 0; k < f->members; k++)
            sum += l->fraud_logits[i * f->members + k];
        out[i] = (float)(sum / (real)f->members);
    }
}

/* Each member drops its own inner units. */
static void fill_mask(struct lane *l, struct dropout dropout)
{
    const struct fraud_layer *f = heads_fraud_layer(l->shared->m->heads);
    uint32_t inner = f->members * f->width;
    uint32_t dropped = (uint32_t)(dropout.rate * 256 + 0.5f);
    real keep = (real)256 / (real)(256 - dropped);
    uint64_t key = draw(dropout.seed, dropout.step, FRAUD_LAYER_KEY);
    for (uint32_t i = 0; i < l->fraud_count; i++) {
        real *mask = l->fraud_mask + (size_t)i * inner;
        for (uint32_t k = 0; k < inner; k += 8) {
            uint64_t bits = draw(key, l->frauds[i].row, k);
            for (uint32_t j = k; j < k + 8 && j < inner; j++, bits >>= 8)
                mask[j] = (bits & 0xff) < dropped ? 0 : keep;
        }
    }
}

static double fraud_gradients(struct lane *l, const struct batch_total *total,
                              struct dropout dropout, real *gradients)
{
    const struct train_shared *s = l->shared;
    const struct params *p = &s->m->params;
    const struct fraud_layer *fraud = heads_fraud_layer(s->m->heads);
    const struct fraud_gradients g = {
        .hidden_weight = params_at(p, gradients, p->fraud_hidden_weight),
        .hidden_bias = params_at(p, gradients, p->fraud_hidden_bias),
        .output_weight = params_at(p, gradients, p->fraud_output_weight),
        .output_bias = params_at(p, gradients, p->fraud_output_bias),
    };
    real scale = (real)(s->o->fraud_weight / total->fraud_weight);
    double loss;
    gather_fraud(l);
    fill_mask(l, dropout);
    fraud_forward(fraud, l->fraud_x, l->fraud_count, l->fraud_mask,
                  l->fraud_before, l->fraud_after, l->fraud_logits);
    loss =
        fraud_loss(l->fraud_logits, l->fraud_count, fraud->members,
                   l->fraud_labels, l->fraud_weights, scale, l->fraud_dlogits);
    fraud_backward(fraud, l->fraud_x, l->fraud_count, l->fraud_mask,
                   l->fraud_before, l->fraud_after, l->fraud_dlogits,
                   l->fraud_dafter, p->config.width, l->fraud_dx, &g);
    return loss;
}

static void scatter_fraud(struct lane *l)
{
    size_t d = l->shared->m->params.config.width;
    for (uint32_t i = 0; i < l->fraud_count; i++) {
        real *to = l->dhidden + l->frauds[i].hidden * d;
        for (size_t k = 0; k < d; k++)
            to[k] += l->fraud_dx[i * d + k];
    }
}

struct lane_loss lane_backward(struct lane *l, const struct batch_total *total,
                               struct dropout dropout, real *gradients)
{
    const struct train_shared *s = l->shared;
    const struct behaviour_config *c = &s->m->params.config;
    struct lane_loss loss = {0};
    real scale = 1 / (real)(total->targets ? total->targets : 1);
    lane_gather_before(l);
    memset(l->dbefore, 0,
           (size_t)l->target_count * c->width * sizeof *l->dbefore);
    memset(l->dhidden, 0,
           (size_t)l->hidden_count * c->width * sizeof *l->dhidden);
    if (l->item_count) loss.item = all_items(l, scale, gradients);
    for (uint32_t f = 0; f < c->field_count; f++)
        if (s->m->params.next_weight[f] != TENSOR_NONE && s->field_share[f] > 0)
            loss.fields +=
                (double)s->field_share[f] *
                one_field(l, f, s->field_share[f] * scale, gradients);
    scatter_before(l, gradients);
    trainer_backward(l->trainer, l->dhidden, true, gradients);
    if (l->fraud_count == 0) return loss;
    /* Once more for the fraud alone, which does not reach the item table:
     * there it would learn the few items of the known frauds by heart. */
    memset(l->dhidden, 0,
           (size_t)l->hidden_count * c->width * sizeof *l->dhidden);
    loss.fraud = fraud_gradients(l, total, dropout, gradients);
    scatter_fraud(l);
    trainer_backward(l->trainer, l->dhidden, false, gradients);
    return loss;
}
