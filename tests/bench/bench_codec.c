/* bench_codec - ns per event of what the decode step does.
 *
 * Transactions of 8 fields and about 109 bytes (as NUMBERS' spine bench has
 * them), each different, so that neither the branch predictor nor the cache
 * knows the next one by heart. Prints CSV: what, bytes per event, ns per
 * event; the best of several rounds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "codec.h"
#include "hash.h"
#include "mapping.h"

enum { EVENTS = 4096, BYTES = 256, ROUNDS = 9, TAPE_MAX = 64, BATCH = 256 };

#define FIELD(name, type) "{\"name\":\"" name "\",\"type\":" type "}"
#define MILLIS            "{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}"
static const char SCHEMA[] =
    "{\"type\":\"record\",\"name\":\"T\",\"fields\":[" FIELD(
        "event_id",
        "\"str"
        "ing"
        "\"") "," FIELD("user_id",
                        "\"string\"") "," FIELD("item_id",
                                                "\"string\"") "," FIELD("time",
                                                                        MILLIS) "," FIELD("amount",
                                                                                          "\"double\"") "," FIELD("cate"
                                                                                                                  "gor"
                                                                                                                  "y",
                                                                                                                  "\"st"
                                                                                                                  "ring"
                                                                                                                  "\"") "," FIELD("channel",
                                                                                                                                  "[\"null\",\"string\"]") "," FIELD("type",
                                                                                                                                                                     "\"string\"") "]}";
/* Two fields the other way round, two not wanted, one with a default. */
static const char READER[] =
    "{\"type\":\"record\",\"name\":\"T\",\"fields\":[" FIELD(
        "user_id",
        "\"stri"
        "ng\"") "," FIELD("event_id",
                          "\"string\"") "," FIELD("item_id",
                                                  "\"string\"") "," FIELD("tim"
                                                                          "e",
                                                                          MILLIS) "," FIELD("amou"
                                                                                            "nt",
                                                                                            "\"do"
                                                                                            "uble"
                                                                                            "\"") "," FIELD("category",
                                                                                                            "\"string\"") ","
                                                                                                                          "{\"name\":\"country\",\"type\":\"string\",\"default\":\"\"}]}";

static uint8_t g_bytes[EVENTS][BYTES];
static struct slice g_messages[EVENTS];
static struct datum g_datums[TAPE_MAX];
static struct err g_e;

static void need(enum rc rc)
{
    if (rc == RC_OK) return;
    (void)fprintf(stderr, "bench_codec: %s\n", g_e.text);
    exit(1);
}

static void put_text(struct tape *t, const char *text)
{
    t->at[t->count++] =
        (struct datum){.kind = DATUM_STRING, .span = 1, .s = slice_str(text)};
}

static void message_make(const struct schema *s, uint32_t i)
{
    char id[48], user[24], item[24];
    struct tape t = {g_datums, TAPE_MAX, 0};
    size_t used;
    uint64_t r = draw(1, i, 0);
    (void)snprintf(id, sizeof id, "%016llx-%016llx-%04x", (unsigned long long)r,
                   (unsigned long long)draw(1, i, 1), i);
    (void)snprintf(user, sizeof user, "user-%06u", (unsigned)(r % 10000));
    (void)snprintf(item, sizeof item, "merchant-%u",
                   (unsigned)(r >> 40) % 2000);
    t.at[t.count++] = (struct datum){.kind = DATUM_RECORD, .count = 8};
    put_text(&t, id);
    put_text(&t, user);
    put_text(&t, item);
    t.at[t.count++] = (struct datum){
        .kind = DATUM_LONG, .span = 1, .i = 1522540800000 + i * 1000};
    t.at[t.count++] = (struct datum){
        .kind = DATUM_DOUBLE, .span = 1, .d = (double)(r % 100000) / 100};
    put_text(&t, i % 3 ? "grocery" : "electronics");
    t.at[t.count++] = (struct datum){.kind = DATUM_UNION, .span = 2, .i = 1};
    put_text(&t, i % 2 ? "web" : "chip");
    put_text(&t, "buy");
    need(encoder_encode(s, &t, g_bytes[i], BYTES, &used, &g_e));
    g_messages[i] = slice_of(g_bytes[i], used);
}

static double now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void report(const char *what, double best_ns)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < EVENTS; i++)
        bytes += g_messages[i].len;
    (void)printf("%s,%.0f,%.1f\n", what, (double)bytes / EVENTS,
                 best_ns / EVENTS);
}

static void bench_decode(const char *what, const struct schema *writer,
                         const struct schema *reader)
{
    struct decoder *d;
    double best = 1e18;
    need(decoder_compile(&d, writer, reader, &g_e));
    for (uint32_t round = 0; round < ROUNDS; round++) {
        double start = now_ns(), took;
        for (uint32_t i = 0; i < EVENTS; i++) {
            struct tape t = {g_datums, TAPE_MAX, 0};
            need(decoder_decode(d, g_messages[i], &t, &g_e));
        }
        took = now_ns() - start;
        if (took < best) best = took;
    }
    report(what, best);
    decoder_free(d);
}

static void bench_measure(const struct schema *s)
{
    struct decoder *d;
    double best = 1e18;
    need(decoder_compile(&d, s, s, &g_e));
    for (uint32_t round = 0; round < ROUNDS; round++) {
        double start = now_ns(), took;
        for (uint32_t i = 0; i < EVENTS; i++) {
            size_t used;
            need(decoder_measure(d, g_messages[i], &used, &g_e));
        }
        took = now_ns() - start;
        if (took < best) best = took;
    }
    report("measure", best);
    decoder_free(d);
}

/* One round of event_decode over all messages, in batches. */
static double events_round_ns(struct mapping *m, struct batch *b)
{
    double took = 0, start;
    for (uint32_t i = 0; i < EVENTS; i += BATCH) {
        batch_reset(b);
        for (b->count = 0; b->count < BATCH; b->count++)
            b->records[b->count] = (struct record){
                .timestamp_ms = -1, .value = g_messages[i + b->count]};
        start = now_ns();
        event_decode(m, b);
        took += now_ns() - start;
        for (uint32_t k = 0; k < BATCH; k++)
            if (b->events[k].bad) exit(1);
    }
    return took;
}

static void bench_events(const struct schema *s)
{
    struct config c = {.role_user = "user_id",
                       .role_event_id = "event_id",
                       .role_item = "item_id",
                       .role_time = "time",
                       .role_amount = "amount",
                       .role_amount_scale = 100,
                       .role_category = "category",
                       .role_channel = "channel",
                       .role_type = "type",
                       .record_bytes_max = 1 << 20,
                       .user_bytes_max = 256,
                       .batch_events_max = BATCH};
    struct mapping *m;
    struct batch b;
    double best = 1e18;
    need(mapping_new(&m, &c, s, NULL, &g_e));
    need(batch_init(&b, BATCH, &g_e));
    for (uint32_t round = 0; round < ROUNDS; round++) {
        double took = events_round_ns(m, &b);
        if (took < best) best = took;
    }
    report("event_decode", best);
    batch_fini(&b);
    mapping_free(m);
}

int main(void)
{
    struct schema *s, *reader;
    need(schema_parse(&s, slice_str(SCHEMA), &g_e));
    need(schema_parse(&reader, slice_str(READER), &g_e));
    for (uint32_t i = 0; i < EVENTS; i++)
        message_make(s, i);
    (void)printf("what,bytes,ns_per_event\n");
    bench_decode("decode", s, s);
    bench_decode("decode_resolved", s, reader);
    bench_measure(s);
    bench_events(s);
    schema_free(s);
    schema_free(reader);
    return 0;
}
