#include "dlq_tally.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TIME_BYTES = 32 };

/* ------------------------------------------------------------- counting */

/* Whoever may write to the topic chose these bytes; they go to terminals. */
static void print_safely(struct slice name, char out[DLQ_NAME_BYTES])
{
    size_t len = name.len < DLQ_NAME_BYTES ? name.len : DLQ_NAME_BYTES - 1;
    for (size_t i = 0; i < len; i++) {
        bool plain = name.ptr[i] >= ' ' && name.ptr[i] <= '~';
        out[i] = plain ? (char)name.ptr[i] : '?';
    }
    out[len] = 0;
}

/* The row of that name, made if there is none; NULL: no memory. */
static struct dlq_row *row_of(struct dlq_rows *rows, struct slice name,
                              int32_t partition)
{
    char text[DLQ_NAME_BYTES];
    struct dlq_row *row;
    if (!rows->at) rows->at = calloc(DLQ_ROWS_MAX, sizeof *rows->at);
    if (!rows->at) return NULL;
    print_safely(name, text);
    for (row = rows->at; row < rows->at + rows->count; row++)
        if (row->partition == partition && strcmp(row->name, text) == 0)
            return row;
    if (rows->count == DLQ_ROWS_MAX) {
        row = &rows->at[DLQ_ROWS_MAX - 1];
        (void)snprintf(row->name, sizeof row->name, "(others)");
        return row;
    }
    *row = (struct dlq_row){
        .partition = partition, .first_offset = INT64_MAX, .last_offset = -1};
    memcpy(row->name, text, sizeof text);
    rows->count++;
    return row;
}

static void count(struct dlq_row *row, const struct dead_letter *d,
                  bool redriven)
{
    ++*(redriven ? &row->redriven : &row->waiting);
    if (d->offset < row->first_offset) row->first_offset = d->offset;
    if (d->offset > row->last_offset) row->last_offset = d->offset;
}

enum rc dlq_tally_add(struct dlq_tally *t, const struct dead_letter *d,
                      bool redriven, struct err *e)
{
    struct dlq_row *reason = row_of(&t->reasons, d->reason, -1);
    struct dlq_row *source = row_of(&t->sources, d->topic, d->partition);
    bool first = t->waiting + t->redriven == 0;
    if (!reason || !source) return ERR(e, RC_STOP, "dead letters: no memory");
    count(reason, d, redriven);
    count(source, d, redriven);
    ++*(redriven ? &t->redriven : &t->waiting);
    t->omitted += d->omitted;
    if (first || d->timestamp_ms < t->first_ms) t->first_ms = d->timestamp_ms;
    if (first || d->timestamp_ms > t->last_ms) t->last_ms = d->timestamp_ms;
    return RC_OK;
}

void dlq_tally_fini(struct dlq_tally *t)
{
    free(t->reasons.at);
    free(t->sources.at);
}

/* ------------------------------------------------------------- printing */

json_t *dlq_tally_json(const struct dlq_tally *t, const char *topic)
{
    json_t *reasons = json_array(), *sources = json_array();
    bool any = t->waiting + t->redriven > 0;
    for (uint32_t i = 0; i < t->reasons.count; i++) {
        const struct dlq_row *row = &t->reasons.at[i];
        (void)json_array_append_new(
            reasons, json_pack("{sssIsI}", "reason", row->name, "waiting",
                               (json_int_t)row->waiting, "redriven",
                               (json_int_t)row->redriven));
    }
    for (uint32_t i = 0; i < t->sources.count; i++) {
        const struct dlq_row *row = &t->sources.at[i];
        (void)json_array_append_new(
            sources,
            json_pack("{sssisIsIsIsI}", "topic", row->name, "partition",
                      (int)row->partition, "waiting", (json_int_t)row->waiting,
                      "redriven", (json_int_t)row->redriven, "first_offset",
                      (json_int_t)row->first_offset, "last_offset",
                      (json_int_t)row->last_offset));
    }
    return json_pack("{sssIsIsIsIsosososo}", "topic", topic, "waiting",
                     (json_int_t)t->waiting, "redriven",
                     (json_int_t)t->redriven, "omitted", (json_int_t)t->omitted,
                     "foreign", (json_int_t)t->foreign, "first_ms",
                     any ? json_integer(t->first_ms) : json_null(), "last_ms",
                     any ? json_integer(t->last_ms) : json_null(), "reasons",
                     reasons, "sources", sources);
}

static const char *time_text(int64_t ms, char out[TIME_BYTES])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm t;
    if (!gmtime_r(&seconds, &t) ||
        strftime(out, TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &t) == 0)
        (void)snprintf(out, TIME_BYTES, "%lld", (long long)ms);
    return out;
}

void dlq_tally_print(const struct dlq_tally *t, const char *topic)
{
    char first[TIME_BYTES], last[TIME_BYTES];
    (void)printf("%s: %llu waiting, %llu redriven", topic,
                 (unsigned long long)t->waiting,
                 (unsigned long long)t->redriven);
    if (t->waiting + t->redriven > 0)
        (void)printf(", from %s to %s", time_text(t->first_ms, first),
                     time_text(t->last_ms, last));
    (void)printf("\n");
    if (t->omitted > 0)
        (void)printf("%llu have no value, which was too large for the topic: "
                     "they cannot go back\n",
                     (unsigned long long)t->omitted);
    if (t->foreign > 0)
        (void)printf("%llu records are not of millrace\n",
                     (unsigned long long)t->foreign);
    if (t->reasons.count > 0)
        (void)printf("\n%-32s %10s %10s\n", "reason", "waiting", "redriven");
    for (uint32_t i = 0; i < t->reasons.count; i++)
        (void)printf("%-32s %10llu %10llu\n", t->reasons.at[i].name,
                     (unsigned long long)t->reasons.at[i].waiting,
                     (unsigned long long)t->reasons.at[i].redriven);
    if (t->sources.count > 0)
        (void)printf("\n%-26s %5s %10s %10s  %s\n", "source", "part.",
                     "waiting", "redriven", "offsets");
    for (uint32_t i = 0; i < t->sources.count; i++)
        (void)printf("%-26s %5d %10llu %10llu  %lld - %lld\n",
                     t->sources.at[i].name, t->sources.at[i].partition,
                     (unsigned long long)t->sources.at[i].waiting,
                     (unsigned long long)t->sources.at[i].redriven,
                     (long long)t->sources.at[i].first_offset,
                     (long long)t->sources.at[i].last_offset);
}
