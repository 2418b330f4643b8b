/* windows_inside.h - what the windows_*.c share. */
#ifndef MILLRACE_WINDOWS_INSIDE_H
#define MILLRACE_WINDOWS_INSIDE_H

#include "windows.h"

/* --- sums --------------------------------------------------------------- */

/* Of the events in one window. Integers: the same in any order of adding. */
struct aggregate {
    uint64_t count;
    uint64_t amount_count;     /* those with an amount */
    __int128 sum;              /* of scaled amounts */
    unsigned __int128 squares; /* of the same */
};
/* No sum is larger: 2^64 events of PAST_AMOUNT_MAX. */
#define AGGREGATE_MAX ((__int128)1 << 117)

struct window_sum {
    struct aggregate all;    /* tiles included */
    struct aggregate frauds; /* of the exact ones, those known as fraud */
    uint64_t distinct;       /* other ends of the exact ones */
};

/* Of the newest values_max events before the event. */
struct value_sum {
    struct aggregate all;
    __int128 median_twice; /* the two in the middle */
};

/* Of the mature events. */
struct label_sum {
    struct {
        uint64_t count, frauds;
    } window[WINDOWS_MAX];
    uint32_t latest_count, latest_frauds; /* of the latest three at most */
    bool latest_is_fraud;
    uint64_t run_length;
    int64_t run_start_ms;      /* where run_length > 0 */
    bool has_fraud;            /* in the longest window */
    int64_t first_ms, last_ms; /* of the frauds in it */
    uint64_t good_since_last;
};

/* All that the features of an event are made of. */
struct reading {
    struct window_sum window[WINDOWS_MAX];
    struct value_sum values;
    struct label_sum labels;
};

/* The features of ev from what was read, ev included. */
void windows_fill(const struct windows_shape *s, const struct past_event *ev,
                  uint64_t events_total, const struct reading *r, float *out);

/* --- the row ------------------------------------------------------------ */

enum {
    TILES_MAX = WINDOW_TILES + 2, /* a stretch of the longest touches one more;
                                     one more before the oldest leaves */
};
#define NO_AMOUNT INT64_MIN

struct point {
    int64_t time_ms;
    int64_t amount; /* NO_AMOUNT: none */
    uint32_t later; /* how far on is the next with the same other end; 0:
                       there is none, this one is its last */
    bool fraud;     /* by the labels */
};

struct tile {
    int64_t index; /* covers [index, index + 1) x tile length */
    struct aggregate sum;
    uint64_t frauds; /* labels of fraud in it that name no exact event; at
                        most sum.count */
};

struct label {
    int64_t time_ms;
    uint64_t event_id;
    int64_t known_ms;
    bool fraud;
};

struct window {
    struct window_sum running; /* of the exact ones */
    uint32_t cursor;           /* its first point */
};

struct label_window {
    uint32_t cursor;
    uint32_t frauds; /* between the cursor and `mature` */
};

struct windows {
    uint64_t events_total;
    int64_t newest_time_ms;          /* INT64_MIN: no event yet */
    int64_t label_offset;            /* of the newest label; -1: none */
    uint32_t first, count, capacity; /* points [first, first + count) */
    uint32_t tile_count;
    uint32_t label_total, label_capacity;
    uint32_t mature; /* the first point whose label does not count yet */
    uint32_t first_fraud, last_fraud; /* between the longest label window's
                                         cursor and mature; NO_POINT: none */
    uint32_t own_bytes;
    struct point *points;
    uint64_t *others, *ids; /* (capacity); NULL where the shape has none */
    uint8_t *marks;         /* (capacity) a byte of each other end's hash */
    struct label *labels;   /* (label_capacity) by time, then id */
    struct tile *tiles;     /* (TILES_MAX) by index; NULL until needed */
    struct label_window *of_labels; /* (label windows), behind at */
    struct window at[];             /* (windows) */
};
#define NO_POINT UINT32_MAX

uint32_t windows_count(const struct windows_shape *s);
uint32_t windows_label_count(const struct windows_shape *s);

/* An event at or before this is outside (now - length, now]. */
int64_t windows_horizon(int64_t now_ms, int64_t length_ms);
/* How far back any window reaches. */
int64_t windows_keep_ms(const struct windows_shape *s);
/* So many stay however old they are: the newest, and the values before it. */
static inline uint32_t windows_stay(const struct windows_shape *s)
{
    return s->values_max + 1;
}
/* Labels of events at or before this have left. */
int64_t windows_labels_gone(const struct windows_shape *s,
                            const struct windows *w);
int64_t windows_tile_index(const struct windows_shape *s, int64_t time_ms);
/* The last millisecond of a tile. */
int64_t windows_tile_end(const struct windows_shape *s, int64_t index);

static inline uint32_t windows_end(const struct windows *w)
{
    return w->first + w->count;
}
/* The first of [from, to) that is newer than at_ms. */
uint32_t windows_newer(const struct windows *w, uint32_t from, uint32_t to,
                       int64_t at_ms);

void windows_set_empty(const struct windows_shape *s, struct windows *w);
void windows_release(const struct windows_shape *s, struct windows *w);
/* An empty row gets room. */
void windows_set_capacity(const struct windows_shape *s, struct windows *w,
                          uint32_t capacity);
void windows_set_label_capacity(const struct windows_shape *s,
                                struct windows *w, uint32_t capacity);

void windows_set_other(struct windows *w, uint32_t at, uint64_t other);

/* Puts a point in its place in time, drops what has left. Returns its index,
 * which is below w->first where it has left itself or is in a tile. */
uint32_t windows_insert(const struct windows_shape *s, struct windows *w,
                        const struct past_event *ev);

/* From the points alone: how far on is the next of the same other end. */
void windows_link(const struct windows_shape *s, struct windows *w);
/* From the points and labels: which points are frauds. */
void windows_mark(struct windows *w);
/* From marked and linked points: cursors and sums. */
void windows_sum(const struct windows_shape *s, struct windows *w);
/* From labels and points: frauds of the tiles. */
void windows_count_tile_frauds(const struct windows_shape *s,
                               struct windows *w);

void windows_add(struct aggregate *a, const struct point *p);
void windows_remove(struct aggregate *a, const struct point *p);

/* --- labels ------------------------------------------------------------- */

/* Is it known of an event that is still to come into the row? */
bool windows_is_fraud(const struct windows *w, const struct past_event *ev);
/* Those of events that have left. */
void windows_drop_labels(const struct windows_shape *s, struct windows *w);

/* --- reading ------------------------------------------------------------ */

/* What windows hold that end at now_ms, of the points before `end`; has_own:
 * the last of them is the event itself. */
void windows_read(const struct windows_shape *s, const struct windows *w,
                  uint32_t end, bool has_own, int64_t now_ms,
                  struct reading *out);

#endif
