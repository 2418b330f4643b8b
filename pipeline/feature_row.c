/* feature_row.c - see feature_row.h. */
#include "feature_row.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "hash.h"

uint32_t feature_row_item_at(const struct feature_shape *s)
{
    return windows_features(&s->user) + s->numbers;
}

uint32_t feature_row_item_count(const struct feature_shape *s)
{
    return s->has_items ? windows_features(&s->item) : 0;
}

uint32_t feature_row_count(const struct feature_shape *s)
{
    assert(s->numbers <= EXTRA_MAX);
    return feature_row_item_at(s) + feature_row_item_count(s);
}

void feature_row_complete(const struct feature_shape *s,
                          const struct past_event *ev, const float *item,
                          float *row)
{
    uint32_t items = feature_row_item_count(s);
    row += windows_features(&s->user);
    for (uint32_t i = 0; i < s->numbers; i++)
        *row++ = ev->number[i];
    for (uint32_t i = 0; i < items; i++)
        row[i] = item ? item[i] : NAN;
}

const char *feature_row_name(const struct feature_shape *s, uint32_t f,
                             char *buffer, size_t size)
{
    uint32_t own = windows_features(&s->user);
    assert(f < feature_row_count(s));
    if (f < own) return windows_feature_name(&s->user, f, buffer, size);
    if (f >= own + s->numbers)
        return windows_feature_name(&s->item, f - own - s->numbers, buffer,
                                    size);
    (void)snprintf(buffer, size, "%s",
                   s->number_names[f - own] ? s->number_names[f - own]
                                            : "number");
    return buffer;
}

uint64_t feature_row_hash(const struct feature_shape *s)
{
    uint64_t hash = 0;
    for (uint32_t f = 0; f < feature_row_count(s); f++) {
        char name[FEATURE_NAME_BYTES];
        (void)feature_row_name(s, f, name, sizeof name);
        hash = hash_append(hash, slice_str(name));
    }
    return hash;
}
