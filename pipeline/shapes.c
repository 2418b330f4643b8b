#include "shapes.h"

#include <assert.h>
#include <string.h>

#include "stages.h"
#include "train.h"

static uint32_t copy_lengths(const struct duration_list *from, int64_t *to)
{
    assert(from->count <= WINDOWS_MAX);
    for (uint32_t i = 0; i < from->count; i++)
        to[i] = from->at_ms[i];
    return from->count;
}

/* What rows of users and of items have in common. */
static struct windows_shape windows_of(const struct config *c, uint32_t fields)
{
    return (struct windows_shape){
        .events_max = c->windows_events,
        .values_max = c->windows_values,
        .amount_scale = c->role_amount_scale,
        .has_amount = fields & TRAIN_AMOUNT,
        .has_time = fields & TRAIN_TIME,
        .has_other = fields & TRAIN_ITEM,
        .label_delay_ms = c->labels_delay,
    };
}

static void init_features(struct feature_shape *features,
                          const struct config *c, uint32_t fields)
{
    assert(c->feature_numbers.count <= EXTRA_MAX);
    *features = (struct feature_shape){
        .user = windows_of(c, fields),
        .item = windows_of(c, fields),
        .has_items = stages_has(c, STAGE_ITEMS),
        .numbers = c->feature_numbers.count,
    };
    features->user.has_labels = stages_user_labels(c);
    features->item.has_labels = stages_item_labels(c);
    features->user.count = copy_lengths(&c->windows, features->user.length_ms);
    features->item.entity = ENTITY_ITEM;
    features->item.count =
        copy_lengths(&c->windows_item, features->item.length_ms);
    features->item.label_count =
        copy_lengths(&c->windows_labels, features->item.label_length_ms);
    for (uint32_t i = 0; i < c->feature_numbers.count; i++)
        features->number_names[i] = c->feature_numbers.at[i];
}

void shapes_init(struct history_shape *history, struct feature_shape *features,
                 const struct config *c, uint32_t fields)
{
    *history = (struct history_shape){
        .events_max = c->history_events,
        .fields = fields,
        .numbers = c->feature_numbers.count,
        .categoricals = c->feature_categories.count,
        .amount_scale = c->role_amount_scale,
    };
    history_shape_init(history);
    init_features(features, c, fields);
}

enum rc shapes_fit_model(const struct history_shape *history,
                         const struct feature_shape *features,
                         const struct model_info *info, struct err *e)
{
    if (history->events_max / 2 < info->window)
        return ERR(e, RC_STOP,
                   "model: it reads up to %u events of a user, history.events "
                   "is %u; set history.events = %u",
                   2 * info->window, history->events_max, 2 * info->window);
    if (features && info->feature_hash != feature_row_hash(features))
        return ERR(e, RC_STOP,
                   "model: it was trained on other features than `windows`, "
                   "`windows.item`, `windows.labels`, role.item, role.amount, "
                   "role.time and feature.numbers give; use the configuration "
                   "it was trained with");
    if (info->amount_scale != history->amount_scale)
        return ERR(e, RC_STOP,
                   "model: trained with role.amount.scale = %u, the "
                   "configuration says %u",
                   info->amount_scale, history->amount_scale);
    return RC_OK;
}

static void describe_lengths(const char *name, const int64_t *length_ms,
                             uint32_t count, char *out, size_t size)
{
    size_t used = strlen(out);
    for (uint32_t i = 0; i < count && used < size; i++)
        used +=
            (size_t)snprintf(out + used, size - used, "%s%llds", i ? "," : name,
                             (long long)length_ms[i] / 1000);
}

void shapes_describe(const struct history_shape *h,
                     const struct windows_shape *w, char *out, size_t size)
{
    size_t used = (size_t)snprintf(
        out, size,
        "history.events=%u fields=0x%x numbers=%u categories=%u "
        "scale=%u windows.events=%u",
        h->events_max, h->fields, h->numbers, h->categoricals, h->amount_scale,
        w->events_max);
    assert(used < size);
    describe_lengths(" windows=", w->length_ms, w->count, out, size);
    used = strlen(out);
    (void)snprintf(out + used, size - used, " values=%u%s", w->values_max,
                   w->entity == ENTITY_ITEM ? " entity=item" : "");
    if (!w->has_labels) return;
    used = strlen(out);
    (void)snprintf(out + used, size - used, " delay=%llds",
                   (long long)w->label_delay_ms / 1000);
    describe_lengths(" labels=", w->label_length_ms, w->label_count, out, size);
}

/* An earlier version named the features in place of what comes after the
 * windows: they follow from the rest. */
bool shapes_agree(const char *made, const char *now)
{
    const char *features = strstr(made, " features="), *windows;
    size_t front = features ? (size_t)(features - made) : 0, back;
    if (!features) return strcmp(made, now) == 0;
    windows = strstr(features, " windows=");
    if (!windows || strncmp(made, now, front) != 0) return false;
    back = strlen(windows);
    return strncmp(windows, now + front, back) == 0 && now[front + back] == ' ';
}
