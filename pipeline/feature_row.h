/* feature_row.h - the feature row of an event, which the fraud head reads: the
 * one place that says which numbers stand in it and in which order.
 *
 * Order    The user's features (windows.h), the configuration's own numbers
 *          (feature.numbers), and where there is an items stage the item's
 *          features. Missing is NaN, never 0.
 * Names    Hashed into the model directory: changing a meaning needs a new
 *          name.
 * Threads  No shared state. */
#ifndef MILLRACE_FEATURE_ROW_H
#define MILLRACE_FEATURE_ROW_H

#include "windows.h"

enum {
    FEATURES_MAX = 2 * WINDOW_FEATURES_MAX + EXTRA_MAX,
    FEATURE_NAME_BYTES = 256,
};

struct feature_shape {
    struct windows_shape user;
    struct windows_shape item; /* of the items stage */
    bool has_items;            /* there is one */
    uint32_t numbers;
    const char *number_names[EXTRA_MAX]; /* lent */
};

uint32_t feature_row_count(const struct feature_shape *s);
/* Where the item's features begin, and how many they are: 0 without an items
 * stage. */
uint32_t feature_row_item_at(const struct feature_shape *s);
uint32_t feature_row_item_count(const struct feature_shape *s);

/* Completes the row of ev, whose front windows_apply or windows_recall has
 * written. item: (feature_row_item_count); NULL: all missing. */
void feature_row_complete(const struct feature_shape *s,
                          const struct past_event *ev, const float *item,
                          float *row);

const char *feature_row_name(const struct feature_shape *s, uint32_t f,
                             char *buffer, size_t size);
/* Of the list of names: hash_append of each in order. */
uint64_t feature_row_hash(const struct feature_shape *s);

#endif
