/* windows.h - exact sliding windows of one user, and the feature row that
 * the fraud head reads.
 *
 * Exact    Over (now - W, now] for each W, the current event included:
 *          count, sum, mean, deviation of amounts. Aggregates are integers
 *          (scaled amounts, squares in 128 bits); means and deviations are
 *          computed when read, so running, recovered and from-scratch values
 *          are the same bits.
 * Late     An event lands in its place in time: it counts for windows of
 *          later events that cover its time. Expiry is judged from the
 *          newest time in the row.
 * Limit    More than windows.events events inside the longest window: the
 *          oldest fall into tiles of longest / WINDOW_TILES, a counter says so.
 * Threads  One struct windows belongs to one thread. */
#ifndef MILLRACE_WINDOWS_H
#define MILLRACE_WINDOWS_H

#include "err.h"
#include "past_event.h"
#include "slice.h"

enum { WINDOWS_MAX = 8, WINDOW_TILES = 64, FEATURES_MAX = 96 };

struct windows_shape {
    uint32_t count;                 /* windows */
    int64_t length_ms[WINDOWS_MAX]; /* ascending */
    uint32_t events_max;            /* windows.events */
    uint32_t amount_scale;
    bool has_amount, has_time;
    uint32_t numbers;               /* extra numeric features, passed through */
    const char *number_names[EXTRA_MAX];
};

struct windows; /* heap, grows by doubling */
struct windows *windows_new(void);
void windows_free(struct windows *w);
size_t windows_bytes(const struct windows *w); /* memory in use */

/* Applies an event (already stored in the history, so its gap, ratio and
 * flags are final) and writes its feature row. out: (features), NaN missing.
 * Returns true if the entity is on tiles. */
bool windows_apply(const struct windows_shape *s, struct windows *w,
                   const struct past_event *ev, float *out);

/* Names of the features in order, e.g. "amount", "amount_mean_7d". The hash
 * of their list goes into the model directory. */
uint32_t windows_features(const struct windows_shape *s);
const char *windows_feature_name(const struct windows_shape *s, uint32_t f,
                                 char *buffer, size_t size);
uint64_t windows_feature_hash(const struct windows_shape *s);

size_t windows_encoded_size(const struct windows_shape *s, const struct windows *w);
size_t windows_encode(const struct windows_shape *s, const struct windows *w,
                      uint8_t *out);
enum rc windows_decode(const struct windows_shape *s, struct windows *w,
                       struct slice in, struct err *e) MUST_USE;

#endif
