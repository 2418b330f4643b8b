/* generate.h - a labelled synthetic stream of shoppers, merchants and fraud.
 *
 * Users    Each has tastes over hidden groups of items, a level and spread
 *          of amounts (log-normal), a channel, hours of the day, and comes
 *          in sessions. How active users are follows a Zipf law. Tastes
 *          drift: now and then a new group takes the place of an old one.
 * Items    Belong to a group; popularity within it follows a Zipf law. A
 *          group has a hidden order along which people move from one item
 *          to the next, so a model of sequences has something to find.
 * Fraud    Four kinds (enum fraud_kind), by thieves who act beside their
 *          victims. Episodes begin so that fraud_rate is kept.
 * Order    Event times never go back. About `days` pass in `events` events.
 * Bytes    The same options give the same events on every machine: exp and
 *          log are our own, everything else is exactly rounded.
 * Memory   Taken at new: some 100 bytes a user, 20 an item. None by events.
 * Threads  A generator belongs to one thread. */
#ifndef MILLRACE_GENERATE_H
#define MILLRACE_GENERATE_H

#include "err.h"
#include "slice.h"

struct generate_options {
    uint64_t events, seed;
    uint32_t users, items;
    uint32_t groups; /* of items; 0: one for every 50 items, at most 64 */
    double days;
    double fraud_rate; /* share of events that are fraud, 0 to 0.5 */
    double user_skew;  /* Zipf exponent of users' activity; 0: all alike */
    int64_t start_ms;
    int64_t label_delay_ms; /* from an event to its label */
};
void generate_options_default(struct generate_options *o);

enum fraud_kind {
    FRAUD_NONE,
    FRAUD_LARGE,    /* one large amount */
    FRAUD_TAKEOVER, /* days of odd amounts, items and hours in an account */
    FRAUD_MERCHANT, /* one merchant charges cards of many users for days */
    FRAUD_TESTING,  /* many small amounts in minutes, then a large one */
    FRAUD_KINDS
};
const char *fraud_kind_name(enum fraud_kind kind);

struct generated {
    uint64_t number; /* 0, 1, ... */
    int64_t time_ms;
    int64_t amount_cents;
    uint32_t user, item, group;
    uint8_t channel, type;
    enum fraud_kind fraud;
};

struct generator;
/* RC_STOP for options out of range, or no memory. */
enum rc generator_new(struct generator **out, const struct generate_options *o,
                      struct err *e) MUST_USE;
void generator_free(struct generator *g);
/* False after the last event. */
bool generator_next(struct generator *g, struct generated *out);

/* Labels are the same stream read again, later: every fraud, and some good
 * events that a customer confirmed. False at the end. */
struct generated_label {
    struct generated event;
    int64_t labelled_at_ms; /* never goes back */
    bool fraud;
};
bool generator_next_label(struct generator *g, struct generated_label *out);

#endif
