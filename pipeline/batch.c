#include "batch.h"

#include "hash.h"

static const char *const REASONS[BAD_REASONS] = {
    [BAD_NONE] = "none",           [BAD_TOO_LARGE] = "too_large",
    [BAD_SCHEMA_ID] = "schema_id", [BAD_BYTES] = "bytes",
    [BAD_USER] = "user",           [BAD_TIME] = "time",
    [BAD_AMOUNT] = "amount",       [BAD_TEXT] = "text",
    [BAD_LATE] = "late",           [BAD_ITEM] = "item",
};

const char *list_source_name(enum list_source source)
{
    return source == LIST_MODEL ? "model" : "popularity";
}

const char *bad_reason_name(enum bad_reason reason)
{
    assert(reason < BAD_REASONS);
    return REASONS[reason];
}

enum rc batch_init(struct batch *b, uint32_t events_max, struct err *e)
{
    assert(events_max > 0);
    *b = (struct batch){.events_max = events_max};
    b->records = calloc(events_max, sizeof *b->records);
    b->events = calloc(events_max, sizeof *b->events);
    b->users = calloc(events_max, sizeof(struct user_state *));
    b->partitions = calloc(events_max, sizeof(struct partition *));
    b->outcomes = calloc(events_max, sizeof *b->outcomes);
    if (b->records && b->events && b->users && b->partitions && b->outcomes)
        return RC_OK;
    batch_fini(b);
    return ERR(e, RC_STOP,
               "batch: no memory for %u events; lower batch.events.max",
               events_max);
}

void batch_fini(struct batch *b)
{
    free(b->records);
    free(b->events);
    free(b->users);
    free(b->partitions);
    free(b->outcomes);
    *b = (struct batch){0};
}

void batch_reset(struct batch *b)
{
    /* Only what the last batch used can hold anything. */
    memset(b->records, 0, b->count * sizeof *b->records);
    memset(b->events, 0, b->count * sizeof *b->events);
    memset(b->users, 0, b->count * sizeof(struct user_state *));
    memset(b->partitions, 0, b->count * sizeof(struct partition *));
    memset(b->outcomes, 0, b->count * sizeof *b->outcomes);
    b->count = 0;
}

uint64_t record_hash(const struct record *r)
{
    uint64_t hash = hash_append(hash_mix((uint64_t)r->timestamp_ms), r->key);
    hash = hash_append(hash, r->value);
    return hash ? hash : 1;
}

void batch_mark(struct batch *b, uint32_t i, enum bad_reason reason,
                const char *detail)
{
    assert(i < b->count && reason != BAD_NONE);
    if (b->events[i].bad != BAD_NONE) return;
    b->events[i].bad = reason;
    b->events[i].detail = detail ? detail : "";
}
