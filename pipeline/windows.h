/* windows.h - exact sliding windows of one user, and the feature row that
 * the fraud head reads.
 *
 * Exact    Over (now - W, now] for each W, now being the event's own time,
 *          the event included: count, sum, mean, deviation of amounts.
 *          Aggregates are integers (scaled amounts, squares in 128 bits);
 *          means and deviations are computed when read, so running,
 *          recovered and from-scratch values are the same bits.
 * Order    Of events at the same time those applied before count, those
 *          applied after do not.
 * Late     An event lands in its place in time: it counts for windows of
 *          later events that cover its time, and its own windows end at its
 *          own time. Expiry is judged from the newest time in the row: what
 *          is as old as newest - longest is gone, also for late events.
 * Limit    More than windows.events events inside the longest window: the
 *          oldest fall into tiles of longest / WINDOW_TILES. A tile counts
 *          whole, until its last millisecond leaves the window.
 * Features windows_features.c has the list of them.
 * Threads  One struct windows belongs to one thread. */
#ifndef MILLRACE_WINDOWS_H
#define MILLRACE_WINDOWS_H

#include "err.h"
#include "past_event.h"
#include "pool.h"
#include "slice.h"

enum { WINDOWS_MAX = 8, WINDOW_TILES = 64, FEATURES_MAX = 96 };

struct windows_shape {
    uint32_t count;                 /* windows */
    int64_t length_ms[WINDOWS_MAX]; /* ascending */
    uint32_t events_max;            /* windows.events */
    uint32_t amount_scale;
    bool has_amount, has_time; /* without a time there are no windows */
    uint32_t numbers;          /* extra numeric features, passed through */
    const char *number_names[EXTRA_MAX];
    struct pool *pool; /* where blocks come from; NULL: malloc */
};

struct windows; /* of one user; grows by doubling */
struct windows *windows_new(const struct windows_shape *s);
void windows_free(const struct windows_shape *s, struct windows *w);
size_t windows_bytes(const struct windows *w); /* memory in use */

/* Applies an event (already stored in the history, so its gap, ratio and
 * flags are final) and writes its feature row. out: (features), NaN missing.
 * Returns true if the entity is on tiles. */
bool windows_apply(const struct windows_shape *s, struct windows *w,
                   const struct past_event *ev, float *out);

/* The feature row of an event that was applied before as number events_total
 * (from 1), as windows that end at its time hold it now: what it was then,
 * unless events of that time or earlier were applied since, or it has left
 * the exact ones. Changes nothing. */
void windows_recall(const struct windows_shape *s, const struct windows *w,
                    const struct past_event *ev, uint64_t events_total,
                    float *out);

/* Names of the features in order, e.g. "amount", "amount_mean_7d". The hash
 * of their list (hash_append of each in order) goes into the model. */
uint32_t windows_features(const struct windows_shape *s);
const char *windows_feature_name(const struct windows_shape *s, uint32_t f,
                                 char *buffer, size_t size);
/* "7d", "12h", "90s": as in the names. */
const char *windows_length_name(int64_t length_ms, char *buffer, size_t size);
uint64_t windows_feature_hash(const struct windows_shape *s);

/* What the windows hold now, for inspect. */
struct windows_view {
    uint64_t events_total; /* ever applied */
    int64_t newest_time_ms;
    uint32_t kept, tiles; /* exact events; tiles beyond them */
    struct {
        uint64_t count, amount_count;
        double amount_sum; /* whole units */
    } window[WINDOWS_MAX]; /* (s->count), ending at newest_time_ms */
};
void windows_look(const struct windows_shape *s, const struct windows *w,
                  struct windows_view *out);

/* Stored bytes; the layout is in windows.c. Damaged or newer bytes: RC_STOP,
 * and *w is empty. */
size_t windows_bytes_max(const struct windows_shape *s); /* encoded */
size_t windows_encoded_size(const struct windows_shape *s,
                            const struct windows *w);
size_t windows_encode(const struct windows_shape *s, const struct windows *w,
                      uint8_t *out);
enum rc windows_decode(const struct windows_shape *s, struct windows *w,
                       struct slice in, struct err *e) MUST_USE;

#endif
