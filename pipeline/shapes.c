#include "shapes.h"

#include <assert.h>

#include "train.h"

void shapes_init(struct history_shape *history, struct windows_shape *windows,
                 const struct config *c, uint32_t fields)
{
    assert(c->windows.count <= WINDOWS_MAX);
    assert(c->feature_numbers.count <= EXTRA_MAX);
    *history = (struct history_shape){
        .events_max = c->history_events,
        .fields = fields,
        .numbers = c->feature_numbers.count,
        .categoricals = c->feature_categories.count,
        .amount_scale = c->role_amount_scale,
    };
    history_shape_init(history);
    *windows = (struct windows_shape){
        .count = c->windows.count,
        .events_max = c->windows_events,
        .amount_scale = c->role_amount_scale,
        .has_amount = fields & TRAIN_AMOUNT,
        .has_time = fields & TRAIN_TIME,
        .numbers = c->feature_numbers.count,
    };
    for (uint32_t i = 0; i < c->windows.count; i++)
        windows->length_ms[i] = c->windows.at_ms[i];
    for (uint32_t i = 0; i < c->feature_numbers.count; i++)
        windows->number_names[i] = c->feature_numbers.at[i];
}
