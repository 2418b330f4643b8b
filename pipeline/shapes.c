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

enum rc shapes_fit_model(const struct history_shape *history,
                         const struct windows_shape *windows,
                         const struct model_info *info, struct err *e)
{
    if (history->events_max / 2 < info->window)
        return ERR(e, RC_STOP,
                   "model: it reads up to %u events of a user, history.events "
                   "is %u; set history.events = %u",
                   2 * info->window, history->events_max, 2 * info->window);
    if (windows && info->feature_hash != windows_feature_hash(windows))
        return ERR(e, RC_STOP,
                   "model: it was trained on other window features than "
                   "`windows`, role.amount, role.time and feature.numbers "
                   "give; use the configuration it was trained with");
    if (info->amount_scale != history->amount_scale)
        return ERR(e, RC_STOP,
                   "model: trained with role.amount.scale = %u, the "
                   "configuration says %u",
                   info->amount_scale, history->amount_scale);
    return RC_OK;
}

void shapes_describe(const struct history_shape *h,
                     const struct windows_shape *w, char *out, size_t size)
{
    int used = snprintf(
        out, size,
        "history.events=%u fields=0x%x numbers=%u categories=%u "
        "scale=%u windows.events=%u features=%016llx windows=",
        h->events_max, h->fields, h->numbers, h->categoricals, h->amount_scale,
        w->events_max, (unsigned long long)windows_feature_hash(w));
    for (uint32_t i = 0; i < w->count && used < (int)size; i++)
        used += snprintf(out + used, size - (size_t)used, "%s%llds",
                         i ? "," : "", (long long)w->length_ms[i] / 1000);
}
