#include "train_shared.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

enum {
    PANELS_ALIGN = 64,
    SAMPLE_KEY = 0x73616d70, /* draws of the sample apart from all others */
    POSITIVE_WEIGHT_MAX = 10,
};

/* Rare frauds weigh more, by the root of the imbalance: enough to be heard,
 * not so much that a few rows shout. Calibration takes it out again. */
static real weigh_positives(const struct train_data *d)
{
    double ratio;
    if (d->positives == 0) return 1;
    ratio = sqrt((double)d->negatives / (double)d->positives);
    if (ratio < 1) return 1;
    return (real)(ratio < POSITIVE_WEIGHT_MAX ? ratio : POSITIVE_WEIGHT_MAX);
}

enum rc shared_new(struct train_shared **out, struct model *m,
                   const struct train_data *data, const struct train_options *o,
                   struct err *e)
{
    struct train_shared *s = calloc(1, sizeof *s);
    const struct behaviour_config *c = &m->params.config;
    size_t panels, rows = o->negatives > c->items ? o->negatives : c->items;
    *out = NULL;
    if (!s) return ERR(e, RC_STOP, "training: no memory");
    s->m = m;
    s->data = data;
    s->o = o;
    s->positive_weight = weigh_positives(data);
    for (uint32_t f = 0; f < FIELDS_MAX; f++)
        s->field_share[f] = FIELD_SHARE;
    panels = packed_size(c->width, (uint32_t)rows) * sizeof *s->panels;
    s->panels =
        aligned_alloc(PANELS_ALIGN, (panels / PANELS_ALIGN + 1) * PANELS_ALIGN);
    s->negatives = calloc(o->negatives + 1, sizeof *s->negatives);
    s->log_weight = calloc(o->negatives + 1, sizeof *s->log_weight);
    s->sample_rows =
        calloc((size_t)o->negatives * c->width + 1, sizeof *s->sample_rows);
    if (!s->panels || !s->negatives || !s->log_weight || !s->sample_rows) {
        shared_free(s);
        return ERR(e, RC_STOP, "training: no memory for %u items", c->items);
    }
    *out = s;
    return RC_OK;
}

void shared_free(struct train_shared *s)
{
    if (!s) return;
    free(s->panels);
    free(s->negatives);
    free(s->log_weight);
    free(s->sample_rows);
    free(s);
}

static const real *item_table(const struct train_shared *s)
{
    const struct params *p = &s->m->params;
    return params_of(p, s->m->values, p->embedding[s->m->item_field]);
}

/* Half of the draws are log-uniform over the vocabulary, whose order is by
 * frequency: nearly what a catalogue's sales look like, and no table is
 * needed. The other half are uniform, so that no item is drawn so rarely that
 * it stands for very many when it is. */
static void draw_sample(struct train_shared *s, uint64_t step)
{
    uint32_t items = s->m->params.config.items;
    double range = log(items + 1.0);
    for (uint32_t i = 0; i < s->o->negatives; i++) {
        double unit = (double)draw_unit(draw(s->o->seed ^ SAMPLE_KEY, step, i));
        double at = i % 2 ? unit * items : exp(unit * range) - 1, share;
        uint32_t k = at < items - 1 ? (uint32_t)at : items - 1;
        share = 0.5 / items + 0.5 * log((k + 2.0) / (k + 1.0)) / range;
        s->negatives[i] = k;
        s->log_weight[i] = (real)-log(share * s->o->negatives);
    }
}

static void pack_sample(struct train_shared *s)
{
    uint32_t d = s->m->params.config.width;
    for (uint32_t i = 0; i < s->o->negatives; i++)
        memcpy(s->sample_rows + (size_t)i * d,
               item_table(s) + (size_t)s->negatives[i] * d, d * sizeof(real));
    s->sample = (struct item_sample){.negatives = s->negatives,
                                     .log_weight = s->log_weight,
                                     .sample = s->sample_rows};
    s->items =
        (struct item_layer){.width = d,
                            .rows = s->o->negatives,
                            .table_packed = matrix_pack_transposed(
                                s->sample_rows, d, s->o->negatives, s->panels),
                            .table = item_table(s)};
}

static void pack_whole(struct train_shared *s)
{
    const struct behaviour_config *c = &s->m->params.config;
    s->items =
        (struct item_layer){.width = c->width,
                            .rows = c->items,
                            .table_packed = matrix_pack_transposed(
                                item_table(s), c->width, c->items, s->panels),
                            .table = item_table(s)};
}

void shared_refresh_whole(struct train_shared *s)
{
    behaviour_refresh(s->m->behaviour);
    heads_refresh(s->m->heads);
    if (s->m->item_field >= 0) pack_whole(s);
}

void shared_refresh(struct train_shared *s, uint64_t step)
{
    if (!s->o->negatives || s->m->item_field < 0) {
        shared_refresh_whole(s);
        return;
    }
    behaviour_refresh(s->m->behaviour);
    heads_refresh(s->m->heads);
    draw_sample(s, step);
    pack_sample(s);
}

real shared_fraud_weight(const struct train_shared *s, uint64_t row,
                         enum role role)
{
    float share = s->o->good_share;
    if (s->data->label[row] < 0) return 0;
    if (role == ROLE_TRAIN && s->fraud_rests) return 0;
    if (s->data->label[row] == LABEL_FRAUD) return s->positive_weight;
    if (role != ROLE_TRAIN || share >= 1) return 1;
    return draw_unit(draw(s->good_key, row, 0)) < share ? 1 / (real)share : 0;
}
