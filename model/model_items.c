/* model_items.c - what a model says of items and of groups of users beside
 * their scores. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "model_dir.h"

int32_t model_item_index(const struct model *m, uint64_t item_hash)
{
    if (m->item_field < 0) return -1;
    return vocabulary_find(&m->tokeniser.vocabulary[m->item_field], item_hash);
}

struct slice model_item_name(const struct model *m, uint32_t index)
{
    return vocabulary_text(&m->tokeniser.vocabulary[m->item_field], index);
}

uint32_t model_item_rank(const struct model *m, uint32_t rank)
{
    assert(rank < m->params.config.items);
    return m->popular[rank];
}

float model_item_count(const struct model *m, uint32_t index)
{
    assert(index < m->params.config.items);
    return m->item_counts[index];
}

static float cosine_of(const real *a, const real *b, uint32_t width)
{
    double dot = 0, aa = 0, bb = 0;
    for (uint32_t d = 0; d < width; d++) {
        dot += (double)a[d] * (double)b[d];
        aa += (double)a[d] * (double)a[d];
        bb += (double)b[d] * (double)b[d];
    }
    return aa > 0 && bb > 0 ? (float)(dot / sqrt(aa * bb)) : 0;
}

uint32_t model_item_nearest(const struct model *m, uint32_t index, uint32_t k,
                            struct neighbour *out)
{
    const struct behaviour_config *c = &m->params.config;
    const real *table =
        params_of(&m->params, m->values, m->params.embedding[m->item_field]);
    uint32_t found = 0;
    assert(index < c->items);
    for (uint32_t i = 0; i < c->items; i++) {
        struct neighbour next = {i, cosine_of(table + (size_t)index * c->width,
                                              table + (size_t)i * c->width,
                                              c->width)};
        uint32_t at = found < k ? found : k;
        if (i == index) continue;
        for (; at > 0 && next.cosine > out[at - 1].cosine; at--)
            if (at < k) out[at] = out[at - 1];
        if (at < k) out[at] = next;
        if (found < k) found++;
    }
    return found;
}

int32_t model_segment(const struct model *m, const float *hidden)
{
    if (m->segments.count == 0) return -1;
    return (int32_t)segments_nearest(&m->segments, hidden);
}

static int compare_counts(const void *a, const void *b, void *user)
{
    const float *counts = user;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (counts[x] != counts[y]) return counts[x] > counts[y] ? -1 : 1;
    return (x > y) - (x < y);
}

void model_rank_items(struct model *m)
{
    uint32_t items = m->params.config.items;
    for (uint32_t i = 0; i < items; i++)
        m->popular[i] = i;
    qsort_r(m->popular, items, sizeof *m->popular, compare_counts,
            m->item_counts);
}
