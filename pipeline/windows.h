/* windows.h - exact sliding windows of one entity, a user or an item: its
 * recent events in time order, the labels that are known of them, and the
 * features that are made of both.
 *
 * Exact    Over (now - W, now] for each W, now being the event's own time,
 *          the event included: count, distinct other ends, sum, mean and
 *          deviation of amounts. Aggregates are integers (scaled amounts,
 *          squares in 128 bits); means and deviations are computed when
 *          read, so running, recovered and from-scratch values are the same
 *          bits.
 * Entity   An item's row sees an event from its side: in what it is given
 *          the event's `item` is the user, and gap and ratio are its own.
 * Order    Of events at the same time those applied before count, those
 *          applied after do not.
 * Late     An event lands in its place in time: it counts for windows of
 *          later events that cover its time, and its own windows end at its
 *          own time.
 * Kept     Events as long as a window can reach them, judged from the newest
 *          time in the row, and at least the newest and the values_max
 *          before it. A pure function of the events that came, whatever
 *          their order.
 * Values   Mean, deviation and median of the newest values_max events before
 *          the event in time order, known frauds left out.
 * Labels   Kept apart from the events and matched by time and id, so the two
 *          commute: a label may come before its event. Of several the one
 *          that became known last counts, of equals the one applied later.
 *          One that names no event changes nothing. At most events_max, the
 *          newest by event time.
 * Mature   A label counts at t if its event's time + label_delay_ms <= t.
 *          The delay is at least 1 ms, so no event ever sees its own label,
 *          nor that of another at its time. An event as old as that without
 *          a label of fraud is good: silence is good.
 * Limit    More than events_max events inside what is kept: the oldest fall
 *          into tiles of a WINDOW_TILES-th of it. A tile counts whole, until
 *          its last millisecond leaves the window; it knows no other ends
 *          and no order, so distinct counts, values and runs are those of
 *          the exact events alone.
 * Features windows_features.c has the list of them; feature_row.h makes the row
 *          of them that a model reads.
 * Threads  One struct windows belongs to one thread. */
#ifndef MILLRACE_WINDOWS_H
#define MILLRACE_WINDOWS_H

#include "err.h"
#include "past_event.h"
#include "pool.h"
#include "slice.h"

enum {
    WINDOWS_MAX = 8,
    WINDOW_TILES = 64,
    VALUES_MAX = 256,
    WINDOW_FEATURES_MAX = 128, /* of one entity */
};

enum windows_entity { ENTITY_USER, ENTITY_ITEM };

struct windows_shape {
    enum windows_entity entity;
    uint32_t count;                 /* windows */
    int64_t length_ms[WINDOWS_MAX]; /* ascending */
    uint32_t events_max;            /* windows.events */
    uint32_t values_max;            /* windows.values, <= VALUES_MAX */
    uint32_t amount_scale;
    bool has_amount, has_time; /* without a time there are no windows */
    bool has_other;            /* events have a user and an item */
    bool has_labels;           /* labels come, and events have an id */
    int64_t label_delay_ms;    /* >= 1 where has_labels */
    uint32_t label_count;      /* windows over mature labels; items only */
    int64_t label_length_ms[WINDOWS_MAX]; /* ascending */
    struct pool *pool; /* where blocks come from; NULL: malloc */
};

struct windows; /* of one entity; grows by doubling */
struct windows *windows_new(const struct windows_shape *s);
void windows_free(const struct windows_shape *s, struct windows *w);
size_t windows_bytes(const struct windows *w); /* memory in use */

/* Applies an event (already stored in the history, so its gap, ratio and
 * flags are final) and writes its features. out: (features), NaN missing.
 * Returns true if the entity is on tiles. */
bool windows_apply(const struct windows_shape *s, struct windows *w,
                   const struct past_event *ev, float *out);

/* The features of an event that was applied before as number events_total
 * (from 1), as windows that end at it hold them now: what they were then,
 * unless earlier events or labels were applied since, or it has left the
 * exact ones. Changes nothing. */
void windows_recall(const struct windows_shape *s, const struct windows *w,
                    const struct past_event *ev, uint64_t events_total,
                    float *out);

struct window_label {
    uint64_t event_id; /* hash64 */
    int64_t time_ms;   /* of the labelled event */
    int64_t known_ms;  /* since when it is known */
    bool fraud;        /* or confirmed as good */
};

/* Applies a label, which is number `offset` of its input. False, and nothing
 * changes, for a redelivery. */
bool windows_label(const struct windows_shape *s, struct windows *w,
                   int64_t offset, const struct window_label *l);
/* Of the newest label applied; -1: none yet. */
int64_t windows_label_offset(const struct windows *w);

/* Names of the features in order, e.g. "amount", "amount_mean_7d"; those of
 * an item begin with "item_". */
uint32_t windows_features(const struct windows_shape *s);
const char *windows_feature_name(const struct windows_shape *s, uint32_t f,
                                 char *buffer, size_t size);
/* "7d", "12h", "90s": as in the names. */
const char *windows_length_name(int64_t length_ms, char *buffer, size_t size);

/* What the windows hold now, for inspect. */
struct windows_view {
    uint64_t events_total; /* ever applied */
    int64_t newest_time_ms;
    uint32_t kept, tiles;    /* exact events; tiles beyond them */
    uint32_t labels, frauds; /* labels kept; exact events known as fraud */
    struct {
        uint64_t count, amount_count, distinct;
        double amount_sum; /* whole units */
    } window[WINDOWS_MAX]; /* (s->count), ending at newest_time_ms */
};
void windows_look(const struct windows_shape *s, const struct windows *w,
                  struct windows_view *out);

/* Stored bytes; the layout is in windows_bytes.c. Those of an older version
 * are read as well. Damaged or newer bytes: RC_STOP, and *w is empty. */
size_t windows_bytes_max(const struct windows_shape *s); /* encoded */
size_t windows_encoded_size(const struct windows_shape *s,
                            const struct windows *w);
size_t windows_encode(const struct windows_shape *s, const struct windows *w,
                      uint8_t *out);
enum rc windows_decode(const struct windows_shape *s, struct windows *w,
                       struct slice in, struct err *e) MUST_USE;
/* Bytes of a version that knew neither other ends nor ids of events? What is
 * known of them still, the newest last, is filled in after decoding. */
bool windows_lack_ends(struct slice in);
void windows_fill_in(const struct windows_shape *s, struct windows *w,
                     const struct past_event *known, uint32_t count);

#endif
