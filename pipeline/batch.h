/* batch.h - what moves through the spine together: up to events_max records,
 * and what each step made of them.
 *
 * Order    records[i] and events[i] are the same message. Records of one
 *          partition stand in offset order (I4).
 * Memory   Arrays are taken at start. Slices point into the source's
 *          messages or into the module that made them, and die with the
 *          next batch.
 * Threads  One batch belongs to one worker thread. */
#ifndef MILLRACE_BATCH_H
#define MILLRACE_BATCH_H

#include "arena.h"
#include "err.h"
#include "model.h"
#include "past_event.h"
#include "reasons.h"
#include "slice.h"

struct user_state;
struct partition;

struct header {
    struct slice name, value;
};

/* A raw message, as the source lends it. */
struct record {
    uint32_t input; /* which of the stage's inputs; 0 is the events */
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms; /* of the log; -1: none */
    struct slice key, value;
    const struct header *headers;
    uint32_t header_count;
};

/* Of its key, value and time; never 0. By it a log is known again. */
uint64_t record_hash(const struct record *r);

/* Why a record is bad. Names of these go into the dead letter's headers. */
enum bad_reason {
    BAD_NONE,
    BAD_TOO_LARGE,
    BAD_SCHEMA_ID, /* names no schema, or none that can be had */
    BAD_BYTES,     /* truncated, trailing, out of range, too deep */
    BAD_USER,      /* no user, or longer than the limit */
    BAD_TIME,      /* not a time, or too far ahead */
    BAD_AMOUNT,    /* not finite, or outside the scaled range */
    BAD_TEXT,      /* not UTF-8 where UTF-8 is promised */
    BAD_LATE,      /* by time.late.policy */
    BAD_ITEM,      /* without the item's features, which it should have */
    BAD_REASONS
};
const char *bad_reason_name(enum bad_reason reason);

/* A place in the logs of a partition: the next offset of each input, and the
 * newest event time before it (INT64_MIN: none). */
struct log_place {
    int64_t offset, stream_ms, labels;
};

/* A decoded event, in the roles of the configuration. */
struct event {
    enum bad_reason bad;
    const char *detail; /* lent text; NULL when not bad */
    bool fold;          /* already committed: apply it, give no output */
    bool forget;        /* a null value: the user named by the key goes; only
                           user is set */
    bool waits;         /* its schema is still to come: no event yet */
    bool is_label;      /* what became known of an event later: its event_id,
                           user, item, time_ms and past.event_id, label and
                           labelled_at_ms are set; it is no event */
    bool text_cut;      /* to text.bytes.max */
    bool recommend;     /* policy: make a list for this event */
    bool profile;       /* policy: make a profile of its user */
    struct slice user, item, event_id, text;
    int64_t time_ms;        /* position when past.flags has PAST_NO_TIME */
    struct log_place place; /* of its partition: where what it changes was not
                               changed yet; stream_ms is with it */
    struct past_event past; /* all but gap_ms, amount_log_ratio, PAST_LATE,
                               which the history knows when it applies it */
    int8_t label;           /* enum train_label; no feature code reads it */
    int64_t labelled_at_ms; /* when a label became known */
    /* What the items stage found; NULL: there is none. Lent. */
    const float *item_features;
    int64_t item_label_offset; /* newest label that it could know; -1: none */
};

/* By what the items of a list were put in order. */
enum list_source { LIST_MODEL, LIST_POPULARITY };
const char *list_source_name(enum list_source source);

struct recommendation {
    struct slice item; /* lent by the model */
    uint32_t index;    /* in the model's vocabulary */
    float score;       /* logit, or how often training saw the item */
    double propensity; /* chance of it in its place, given those above it */
};

/* Symbols of the same order in schemas/fraud_score.avsc. */
enum reasons_state {
    REASONS_NONE, /* below reasons.threshold */
    REASONS_GIVEN,
    REASONS_PAST_BOUND,  /* reasons.per_second were given already */
    REASONS_UNAVAILABLE, /* the model has no reference */
};

/* What the heads and the policy made of an event. */
struct outcome {
    bool applied;    /* changed its user's row: neither bad, redelivered,
                        repeated nor too late; n and features are set */
    bool scored;     /* applied or repeated, not folded; there is a model */
    bool repeated;   /* its event id is in the user's history */
    bool no_context; /* repeated, but its place has left the history */
    bool too_late;   /* by time.lateness.max */
    bool expired;    /* by state.ttl: it begins its user's row anew */
    float fraud, anomaly;
    bool flagged; /* fraud >= fraud.threshold */
    enum reasons_state reasons_state;
    const struct reasons *reasons; /* where they are given */
    bool tiled;            /* its user has more events in the longest window
                              than windows.events */
    uint64_t n;            /* event number of this user */
    int64_t label_offset;  /* newest label of its partition before it; -1 */
    const float *features; /* (F) */
    const float *hidden;   /* (D) */
    int32_t segment;       /* of the user; -1: the model has none */
    const struct recommendation *list;
    uint32_t list_count;
    enum list_source list_source;
    int64_t catalogue_offset; /* newest record of the catalogue that the list
                                 saw; -1: none */
};

struct batch {
    uint32_t events_max, count;
    struct record *records;        /* (events_max) */
    struct event *events;          /* (events_max) */
    struct user_state **users;     /* (events_max) NULL for a bad event */
    struct partition **partitions; /* (events_max) owner of the record */
    struct outcome *outcomes;      /* (events_max) */
};

enum rc batch_init(struct batch *b, uint32_t events_max,
                   struct err *e) MUST_USE;
void batch_fini(struct batch *b);
void batch_reset(struct batch *b);

/* Mark event i as bad (I6); the first reason stays. detail may be NULL. */
void batch_mark(struct batch *b, uint32_t i, enum bad_reason reason,
                const char *detail);

#endif
