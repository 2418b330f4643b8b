#include "train_from.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define TEMPERATURE_DIGITS 1e-3f

/* --- what must be equal ------------------------------------------------- */

static enum rc take_shape(const char *option, uint32_t base, uint32_t *value,
                          struct err *e)
{
    if (*value == 0) *value = base;
    if (*value == base) return RC_OK;
    return ERR(e, RC_STOP,
               "training: the model to go on from has --%s %u, not %u; leave "
               "--%s out, or train anew without --from",
               option, base, *value, option);
}

/* With a temperature the last norm stays at exactly one and zero, and the
 * items have one length; any other training moves both. */
static float temperature_of(const struct model *m)
{
    const struct params *p = &m->params;
    const real *weight = params_of(p, m->values, p->norm_weight);
    const real *bias = params_of(p, m->values, p->norm_bias);
    uint32_t d = p->config.width;
    double length = 0;
    const real *item;
    if (m->item_field < 0 || p->config.items == 0) return 0;
    for (uint32_t k = 0; k < d; k++)
        if (weight[k] != 1 || bias[k] != 0) return 0;
    item = params_of(p, m->values, p->embedding[m->item_field]);
    for (uint32_t k = 0; k < d; k++)
        length += (double)item[k] * (double)item[k];
    return length > 0 ? (float)(1 / sqrt(length * d)) : 0;
}

/* The base's is known by its rows' length, to so many digits. */
static enum rc take_temperature(float base, float *value, struct err *e)
{
    if (*value < 0) *value = base;
    if (fabsf(*value - base) <= TEMPERATURE_DIGITS * base) return RC_OK;
    return ERR(e, RC_STOP,
               "training: the model to go on from has --temperature %.4g, not "
               "%.4g; leave --temperature out, or train anew without --from",
               (double)base, (double)*value);
}

enum rc from_options(const struct model *base, struct train_options *o,
                     struct err *e)
{
    const struct behaviour_config *c = &base->params.config;
    TRY(take_shape("layers", c->layers, &o->layers, e));
    TRY(take_shape("width", c->width, &o->width, e));
    TRY(take_shape("heads", c->heads, &o->heads, e));
    TRY(take_shape("ffn", c->ffn, &o->ffn, e));
    TRY(take_shape("window", c->window, &o->window, e));
    TRY(take_shape("item-buckets", c->item_buckets, &o->item_buckets, e));
    if (c->fraud_heads > 0) {
        TRY(take_shape("fraud-heads", c->fraud_heads, &o->fraud_heads, e));
        TRY(take_shape("fraud-width", c->fraud_width, &o->fraud_width, e));
    }
    o->kv_bf16 = c->kv_bf16;
    return take_temperature(temperature_of(base), &o->temperature, e);
}

static enum rc check_fields(const struct behaviour_config *base,
                            const struct behaviour_config *shape, struct err *e)
{
    for (uint32_t f = 0; f < base->field_count || f < shape->field_count; f++) {
        const char *old = f < base->field_count ? base->field[f].name : "none";
        const char *new =
            f < shape->field_count ? shape->field[f].name : "none";
        if (strcmp(old, new) != 0)
            return ERR(e, RC_STOP,
                       "training: field %u of the model to go on from is "
                       "'%s', of this log '%s'; map the same roles",
                       f, old, new);
    }
    return RC_OK;
}

enum rc from_check(const struct model *base,
                   const struct behaviour_config *shape, uint32_t amount_scale,
                   const char *const *feature_names, struct err *e)
{
    const struct behaviour_config *c = &base->params.config;
    TRY(check_fields(c, shape, e));
    if (amount_scale != base->info.amount_scale)
        return ERR(e, RC_STOP,
                   "training: amounts of the model to go on from are in 1/%u, "
                   "of this log in 1/%u; set role.amount.scale",
                   base->info.amount_scale, amount_scale);
    if (shape->features != c->features)
        return ERR(e, RC_STOP,
                   "training: the model to go on from reads %u features, this "
                   "log has %u; set windows as they were",
                   c->features, shape->features);
    for (uint32_t i = 0; i < c->features; i++)
        if (strcmp(base->feature_names[i], feature_names[i]) != 0)
            return ERR(e, RC_STOP,
                       "training: feature %u of the model to go on from is "
                       "'%s', of this log '%s'; set windows as they were",
                       i, base->feature_names[i], feature_names[i]);
    return RC_OK;
}

/* --- weights ------------------------------------------------------------ */

/* Where row r of a field's table, whose rows grew, is now. */
static uint32_t row_now(const struct model *base, const struct model *m,
                        uint32_t field, uint32_t r)
{
    uint32_t before = base->tokeniser.vocabulary[field].count;
    uint32_t now = m->tokeniser.vocabulary[field].count;
    return r < before ? r : r + (now - before);
}

static const real *tensor_of(const struct model *m, uint32_t t)
{
    return params_of(&m->params, m->values, t);
}

static void copy_embedding(const struct model *base, struct model *m,
                           uint32_t field)
{
    uint32_t d = m->params.config.width;
    const real *from = tensor_of(base, base->params.embedding[field]);
    real *to = params_at(&m->params, m->values, m->params.embedding[field]);
    for (uint32_t r = 0; r < base->params.config.field[field].rows; r++)
        memcpy(to + (size_t)row_now(base, m, field, r) * d,
               from + (size_t)r * d, d * sizeof *to);
}

/* A softmax over a field's rows: they are the columns. */
static void copy_next(const struct model *base, struct model *m, uint32_t field,
                      uint32_t old_tensor, uint32_t new_tensor)
{
    const struct tensor *old = &base->params.tensor[old_tensor];
    const struct tensor *new = &m->params.tensor[new_tensor];
    const real *from = tensor_of(base, old_tensor);
    real *to = params_at(&m->params, m->values, new_tensor);
    for (uint32_t k = 0; k < old->rows; k++)
        for (uint32_t r = 0; r < old->cols; r++)
            to[(size_t)k * new->cols + row_now(base, m, field, r)] =
                from[(size_t)k * old->cols + r];
}

/* A tensor of the same name and shape; one that the base has not stays as
 * it began. */
static void copy_same(const struct model *base, struct model *m, uint32_t t)
{
    const struct tensor *new = &m->params.tensor[t];
    for (uint32_t i = 0; i < base->params.count; i++) {
        const struct tensor *old = &base->params.tensor[i];
        if (strcmp(old->name, new->name) != 0) continue;
        if (old->rows != new->rows || old->cols != new->cols) return;
        memcpy(params_at(&m->params, m->values, t), tensor_of(base, i),
               (size_t) new->rows *new->cols * sizeof *m->values);
        return;
    }
}

static void copy_tables(const struct model *base, struct model *m)
{
    const struct behaviour_config *c = &m->params.config;
    size_t borders = (size_t)c->features * (c->bins + 1);
    struct head_tables *to = &m->tables;
    const struct head_tables *from = &base->tables;
    memcpy(to->feature_mean, from->feature_mean, c->features * sizeof(float));
    memcpy(to->feature_scale, from->feature_scale, c->features * sizeof(float));
    memcpy(to->feature_border, from->feature_border, borders * sizeof(float));
    memcpy(to->calibration, from->calibration, sizeof to->calibration);
}

void from_copy(const struct model *base, struct model *m)
{
    const struct params *p = &m->params;
    for (uint32_t t = 0; t < p->count; t++)
        copy_same(base, m, t);
    for (uint32_t f = 0; f < p->config.field_count; f++) {
        copy_embedding(base, m, f);
        if (p->next_weight[f] == TENSOR_NONE) continue;
        copy_next(base, m, f, base->params.next_weight[f], p->next_weight[f]);
        copy_next(base, m, f, base->params.next_bias[f], p->next_bias[f]);
    }
    copy_tables(base, m);
    /* Training adds those of its own log. */
    memcpy(m->item_counts, base->item_counts,
           base->params.config.items * sizeof *m->item_counts);
}
