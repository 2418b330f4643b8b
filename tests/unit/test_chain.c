/* test_chain.c - goal: the items and users stages, one behind the other
 * through a topic, give the bytes that the two chained in memory give; each
 * gives its own bytes again from its recorded inputs, however it was stopped;
 * and where the topic between them has a user's events out of order, they are
 * counted.
 * Method: events and labels are merged by time once. That order goes through a
 * chained worker, and through an items worker whose messages become the log
 * of a users worker. Rewinds and batch sizes must change no byte. With four
 * partitions of items, of which one comes last, late events are counted by
 * hand. Of a log cut after event t, and the labels known by then, the last
 * score must be that of the whole log; labels that are known too early must
 * be seen to change it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "bytes.h"
#include "container.h"
#include "enrichment.h"
#include "hash.h"
#include "labels.h"
#include "outputs.h"
#include "partition.h"
#include "source_merge.h"
#include "spine_log.h"
#include "store.h"

enum {
    EVENTS = 600,
    USERS = 12,
    LABELS_MAX = 400,
    RECORDS_MAX = EVENTS + LABELS_MAX,
    STEP_MS = 600000,
    BYTES_MAX = 8 << 20,
    ITEM_PARTITIONS = 4,
    PARTS = 2 * ITEM_PARTITIONS,
    CUTS = 16,
};

static const char *const SETS[] = {
    "stages=items,users",    "labels.items.topic=li",
    "labels.users.topic=lu", "windows.item=2h,1d",
    "windows.labels=1d",     "labels.delay=1h",
    "batch.events.max=32",   NULL};
static const char *const SMALL[] = {
    "stages=items,users", "labels.items.topic=li", "labels.users.topic=lu",
    "windows.item=2h,1d", "windows.labels=1d",     "labels.delay=1h",
    "batch.events.max=5", "commit.interval=1ms",   NULL};

static struct spine_log events; /* one partition, in the order of time */
static struct labels *labels;
static uint32_t event_count = EVENTS; /* of them, in a chained run */
static uint32_t failing_send;         /* of the runs to come; 0: none */
static struct store *store;           /* of the runs to come; NULL: none */
static int64_t committed[STAGE_INPUTS] = {-1, -1}; /* before them */
static struct model *model;
static struct record merged[RECORDS_MAX]; /* both, as source_merge has them */
static uint32_t merged_count;
static struct arena kept;

static void ok(enum rc rc, const struct err *e)
{
    if (rc != RC_OK) fail_msg("%s", e->text);
}

/* --- the log ------------------------------------------------------------ */

static int64_t time_of(uint32_t i)
{
    return INT64_C(1600000000000) + (int64_t)i * STEP_MS;
}

static void make_events(void)
{
    spine_log_begin(&events, EVENTS);
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint64_t bits = draw(5, i, 0);
        spine_log_add(&events, &(struct spine_event){
                                   .user = (uint32_t)(bits % USERS),
                                   .item = (uint32_t)((bits >> 8) % 7),
                                   .id = i,
                                   .type = bits % 3 == 0 ? "buy" : "view",
                                   .time_ms = time_of(i),
                                   .cents = (int64_t)((bits >> 20) % 100000)});
        events.records[i].partition = 0;
        events.records[i].offset = i;
    }
}

static void put_label(struct container_writer *w, const struct schema *s,
                      const char *id, uint32_t i, bool fraud, int64_t at_ms)
{
    uint64_t bits = draw(5, i, 0);
    char user[32], item[32];
    uint8_t bytes[256];
    size_t used;
    struct err e;
    struct label l = {.event_id = slice_str(id),
                      .time_ms = time_of(i),
                      .labelled_at_ms = at_ms,
                      .fraud = fraud};
    (void)snprintf(user, sizeof user, "user-%u", (unsigned)(bits % USERS));
    (void)snprintf(item, sizeof item, "item-%u", (unsigned)((bits >> 8) % 7));
    l.user = slice_str(user);
    l.item = slice_str(item);
    ok(label_encode(s, &l, bytes, sizeof bytes, &used, &e), &e);
    ok(container_append(w, slice_of(bytes, used), &e), &e);
}

/* Late, repeated, contradictory, and of events that never were; those that
 * are known by until_ms. at_once is the sabotage: it says of all of them that
 * they were known before anything happened. */
static struct labels *make_labels(int64_t until_ms, bool at_once)
{
    struct labels *made;
    char path[] = "/tmp/millrace-test-chain-XXXXXX";
    const char *const paths[] = {path};
    struct container_writer *w;
    struct schema *s;
    struct err e;
    char id[32];
    assert_true(close(mkstemp(path)) == 0);
    ok(label_schema(&s, &e), &e);
    ok(container_create(&w, path, s, "null", &e), &e);
    for (uint32_t i = 0; i < EVENTS; i += 3) {
        int64_t at_ms = time_of(i) + (int64_t)(draw(9, i, 0) % 40) * STEP_MS;
        if (at_ms >= until_ms) continue;
        if (at_once) at_ms = 0;
        (void)snprintf(id, sizeof id, "e%u", i);
        put_label(w, s, id, i, draw(9, i, 1) % 2, at_ms);
        if (i % 5 == 0) put_label(w, s, id, i, true, at_ms);
        if (i % 7 == 0) put_label(w, s, id, i, false, at_ms + STEP_MS);
        if (i % 9 == 0) put_label(w, s, "nobody", i, true, at_ms);
    }
    ok(container_finish(w, &e), &e);
    schema_free(s);
    ok(labels_read(&made, paths, 1, &e), &e);
    (void)unlink(path);
    return made;
}

static struct slice keep(struct slice s)
{
    struct slice copy;
    if (!s.ptr) return s;
    copy = arena_copy(&kept, s);
    assert_non_null(copy.ptr);
    return copy;
}

/* A source of all events, all labels between them. */
static struct source *open_merged(const struct config *c,
                                  struct committed *none)
{
    struct source_merge_options o = {.labels = labels,
                                     .events_max = c->batch_events_max};
    struct source *one, *all;
    struct err e;
    *none = (struct committed){.offset = -1};
    ok(source_memory_new(&one, events.records, event_count, none, 1, &e), &e);
    ok(mapping_new(&o.times, c, events.schema, NULL, &e), &e);
    o.events = &one;
    o.count = 1;
    ok(source_merge_open(&all, &o, &e), &e);
    return all;
}

static void merge(void)
{
    struct config *c = spine_config(SETS);
    struct committed none;
    struct source *s = open_merged(c, &none);
    struct source_change change;
    struct batch b;
    struct err e;
    ok(batch_init(&b, 17, &e), &e);
    ok(source_change(s, &change, &e), &e);
    change.positions[0].offset = 0;
    ok(source_assign(s, change.positions, change.count, &e), &e);
    while (!source_ended(s)) {
        batch_reset(&b);
        ok(source_poll(s, &b, 0, &e), &e);
        for (uint32_t i = 0; i < b.count; i++) {
            assert_true(merged_count < RECORDS_MAX);
            merged[merged_count] = b.records[i];
            merged[merged_count].key = keep(b.records[i].key);
            merged[merged_count++].value = keep(b.records[i].value);
        }
        source_release(s);
    }
    source_close(s);
    batch_fini(&b);
    config_free(c);
}

/* --- a run -------------------------------------------------------------- */

struct run {
    struct config *config;
    struct metrics *metrics;
    struct mapping *mapping;
    struct source *source;
    struct sink *sink;
    struct worker *worker;
    struct committed committed[PARTS];
    uint32_t parts;
};

/* inputs: of every partition. records NULL: chained. lost: after so many
 * records all is lost, and begins again from the last commit; 0: never. */
static void go(struct run *r, enum stage_id stage, const char *const *sets,
               const struct record *records, uint32_t count,
               uint32_t partitions, uint32_t lost)
{
    const atomic_bool stop = false;
    struct worker_options o = {.context_bytes_max = 4 << 20,
                               .cache_bytes = 4 << 20,
                               .finite = true,
                               .share_count = 1,
                               .pause_ms_max = 1,
                               .stage = stage,
                               .topic = "events"};
    struct err e;
    *r = (struct run){.config = spine_config(sets)};
    for (uint32_t input = 0; input < STAGE_INPUTS; input++)
        for (uint32_t p = 0; p < partitions; p++)
            r->committed[r->parts++] =
                (struct committed){.input = input,
                                   .partition = (int32_t)p,
                                   .offset = committed[input]};
    ok(metrics_new(&r->metrics, 1, &e), &e);
    ok(mapping_new(&r->mapping, r->config, events.schema, NULL, &e), &e);
    ok(mapping_read_labels(r->mapping, true, NULL, &e), &e);
    ok(sink_memory_new(&r->sink, 8 * RECORDS_MAX, 8 * BYTES_MAX, r->committed,
                       r->parts, &e),
       &e);
    o.chained = o.merged = !records;
    if (records)
        ok(source_memory_new(&r->source, records, count, r->committed, r->parts,
                             &e),
           &e);
    else
        r->source = open_merged(r->config, r->committed);
    sink_memory_fail(r->sink, failing_send, 0);
    for (uint32_t at = lost; lost > 0 && at < count; at += lost)
        source_memory_change(r->source, SOURCE_LOST, at);
    o.config = r->config;
    o.store = store;
    o.model = stage == STAGE_USERS ? model : NULL;
    o.metrics = metrics_worker(r->metrics, 0);
    o.mapping = r->mapping;
    o.source = r->source;
    o.sink = r->sink;
    ok(worker_new(&r->worker, &o, &e), &e);
    ok(worker_run(r->worker, &stop, &e), &e);
}

static void end(struct run *r)
{
    worker_free(r->worker);
    source_close(r->source);
    sink_close(r->sink);
    mapping_free(r->mapping);
    metrics_free(r->metrics);
    config_free(r->config);
}

static void assert_slices(struct slice a, struct slice b)
{
    assert_int_equal(a.len, b.len);
    if (a.len > 0) assert_memory_equal(a.ptr, b.ptr, a.len);
}

static void assert_same(const struct run *a, const struct run *b)
{
    assert_int_equal(sink_memory_count(a->sink), sink_memory_count(b->sink));
    for (uint32_t i = 0; i < sink_memory_count(a->sink); i++) {
        const struct message *x = sink_memory_at(a->sink, i);
        const struct message *y = sink_memory_at(b->sink, i);
        assert_int_equal(x->output, y->output);
        assert_int_equal(x->timestamp_ms, y->timestamp_ms);
        assert_slices(x->key, y->key);
        assert_slices(x->value, y->value);
        assert_int_equal(x->header_count, y->header_count);
        for (uint32_t h = 0; h < x->header_count; h++)
            assert_slices(x->headers[h].value, y->headers[h].value);
    }
}

/* The messages of an items run as the log of a users run, labels between
 * them as they came. Users are in one partition. */
static uint32_t enriched_log(const struct run *items,
                             const struct record *before, uint32_t count,
                             struct record *out)
{
    uint32_t message = 0, label = 0;
    for (uint32_t i = 0; i < count; i++) {
        out[i] = before[i];
        out[i].partition = 0;
        if (before[i].input == INPUT_LABELS) {
            out[i].offset = label++;
            continue;
        }
        const struct message *m = sink_memory_at(items->sink, message);
        assert_int_equal(m->output, OUTPUT_PASSED);
        out[i].offset = message++;
        out[i].key = m->key;
        out[i].value = m->value;
        out[i].headers = m->headers;
        out[i].header_count = m->header_count;
    }
    assert_int_equal(message, sink_memory_count(items->sink));
    return count;
}

/* --- the tests ---------------------------------------------------------- */

/* A label comes before the first event that is not before it was known. */
static void test_merged_by_time(void **state)
{
    int64_t newest_ms = INT64_MIN;
    uint32_t label = 0, event = 0, between = 0;
    (void)state;
    for (uint32_t i = 0; i < merged_count; i++) {
        const struct record *r = &merged[i];
        if (r->input == INPUT_LABELS) {
            int64_t known_ms = labels_in_order(labels, label)->labelled_at_ms;
            assert_int_equal(r->offset, label++);
            assert_true(event == EVENTS || known_ms <= time_of(event));
            assert_true(known_ms > newest_ms || event == 0);
            between += event > 0 && event < EVENTS;
        } else {
            assert_int_equal(r->offset, event);
            newest_ms = time_of(event++);
        }
    }
    assert_int_equal(event, EVENTS);
    assert_int_equal(label, labels_read_count(labels));
    assert_true(between > EVENTS / 4);
}

static void test_stage_by_stage_is_chained(void **state)
{
    static struct record log[RECORDS_MAX];
    struct run chained, items, users;
    (void)state;
    go(&chained, STAGE_USERS, SETS, NULL, 0, 1, 0);
    go(&items, STAGE_ITEMS, SETS, merged, merged_count, 1, 0);
    assert_int_equal(sink_memory_count(items.sink), EVENTS);
    go(&users, STAGE_USERS, SETS, log,
       enriched_log(&items, merged, merged_count, log), 1, 0);
    assert_int_equal(metrics_sum(chained.metrics, COUNT_events_scored), EVENTS);
    assert_same(&chained, &users);
    assert_int_equal(metrics_sum(users.metrics, COUNT_events_reordered), 0);
    end(&users);
    end(&items);
    end(&chained);
}

/* Sends that fail: rows are dropped and folded again, with their labels. */
static void expect_same_after_failures(const struct run *calm,
                                       enum stage_id stage,
                                       const struct record *records,
                                       uint32_t count)
{
    struct run again;
    for (failing_send = 40; failing_send < 120; failing_send += 30) {
        go(&again, stage, SMALL, records, count, 1, 0);
        assert_int_equal(metrics_sum(again.metrics, COUNT_rewinds), 1);
        assert_same(calm, &again);
        end(&again);
    }
    failing_send = 0;
}

/* Batches of another size, and ten crashes of every stage. */
static void test_each_stage_again(void **state)
{
    static struct record log[RECORDS_MAX];
    struct run items, users, again;
    uint32_t count;
    (void)state;
    go(&items, STAGE_ITEMS, SETS, merged, merged_count, 1, 0);
    go(&again, STAGE_ITEMS, SMALL, merged, merged_count, 1, merged_count / 10);
    assert_true(metrics_sum(again.metrics, COUNT_labels) >
                metrics_sum(items.metrics, COUNT_labels));
    assert_same(&items, &again);
    end(&again);
    expect_same_after_failures(&items, STAGE_ITEMS, merged, merged_count);
    count = enriched_log(&items, merged, merged_count, log);
    go(&users, STAGE_USERS, SETS, log, count, 1, 0);
    go(&again, STAGE_USERS, SMALL, log, count, 1, count / 10);
    assert_same(&users, &again);
    end(&again);
    expect_same_after_failures(&users, STAGE_USERS, log, count);
    end(&users);
    end(&items);
}

/* The first life ends in the middle; the second finds its rows, and labels in
 * them, in the store. Together they give what one life gives. */
static void expect_two_lives(enum stage_id stage, const struct record *records,
                             uint32_t count, const char *dir)
{
    const struct store_options o = {.dir = dir, .memory_bytes = 8 << 20};
    struct run whole, first, second;
    uint32_t half = count / 2, n;
    struct err e;
    go(&whole, stage, SETS, records, count, 1, 0);
    ok(store_open(&store, &o, &e), &e);
    go(&first, stage, SETS, records, half, 1, 0);
    n = sink_memory_count(first.sink);
    for (uint32_t k = 0; k < STAGE_INPUTS; k++) {
        committed[k] = first.committed[k].offset;
        assert_true(committed[k] > 0);
    }
    worker_free(first.worker);
    first.worker = NULL;
    store_close(store);
    ok(store_open(&store, &o, &e), &e);
    go(&second, stage, SETS, records, count, 1, 0);
    assert_int_equal(metrics_sum(second.metrics, COUNT_events_folded), 0);
    assert_int_equal(metrics_sum(first.metrics, COUNT_labels) +
                         metrics_sum(second.metrics, COUNT_labels),
                     metrics_sum(whole.metrics, COUNT_labels));
    assert_int_equal(n + sink_memory_count(second.sink),
                     sink_memory_count(whole.sink));
    for (uint32_t i = 0; i < sink_memory_count(whole.sink); i++) {
        const struct message *x = sink_memory_at(whole.sink, i);
        const struct message *y = i < n ? sink_memory_at(first.sink, i)
                                        : sink_memory_at(second.sink, i - n);
        assert_slices(x->value, y->value);
        assert_slices(x->headers[0].value, y->headers[0].value);
    }
    committed[0] = committed[1] = -1;
    end(&second);
    end(&first);
    end(&whole);
    store_close(store);
    store = NULL;
}

static void test_two_lives(void **state)
{
    static struct record log[RECORDS_MAX];
    char dir[] = "/tmp/millrace-test-chain-XXXXXX", of[64];
    struct run items;
    uint32_t count;
    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(of, sizeof of, "%s/items", dir);
    expect_two_lives(STAGE_ITEMS, merged, merged_count, of);
    go(&items, STAGE_ITEMS, SETS, merged, merged_count, 1, 0);
    count = enriched_log(&items, merged, merged_count, log);
    (void)snprintf(of, sizeof of, "%s/users", dir);
    expect_two_lives(STAGE_USERS, log, count, of);
    end(&items);
    (void)snprintf(of, sizeof of, "rm -rf '%s'", dir);
    assert_int_equal(system(of), 0);
}

/* Read again, events come before the labels that they knew: those that nobody
 * has scored wait for them. */
static void test_events_wait_for_labels(void **state)
{
    static struct record apart[RECORDS_MAX];
    struct run r;
    uint32_t n = 0;
    int64_t known;
    (void)state;
    for (uint32_t input = 0; input < STAGE_INPUTS; input++)
        for (uint32_t i = 0; i < merged_count; i++)
            if (merged[i].input == input) apart[n++] = merged[i];
    committed[INPUT_EVENTS] = EVENTS / 2;
    committed[INPUT_LABELS] = known = (int64_t)labels_read_count(labels) / 2;
    go(&r, STAGE_ITEMS, SMALL, apart, merged_count, 1, 0);
    committed[0] = committed[1] = -1;
    assert_int_equal(sink_memory_count(r.sink), EVENTS - EVENTS / 2);
    for (uint32_t i = 0; i < sink_memory_count(r.sink); i++) {
        const uint8_t *header = sink_memory_at(r.sink, i)->headers[0].value.ptr;
        assert_true((int64_t)get_u64(header + 8) >= known - 1);
    }
    end(&r);
}

/* Without labels an item's features, and so the scores, are others. */
static void test_labels_matter(void **state)
{
    struct record few[RECORDS_MAX];
    struct run with, without;
    uint32_t count = 0, differ = 0;
    (void)state;
    for (uint32_t i = 0; i < merged_count; i++)
        if (merged[i].input == INPUT_EVENTS) few[count++] = merged[i];
    go(&with, STAGE_ITEMS, SETS, merged, merged_count, 1, 0);
    go(&without, STAGE_ITEMS, SETS, few, count, 1, 0);
    for (uint32_t i = 0; i < EVENTS; i++) {
        const struct header *a = sink_memory_at(with.sink, i)->headers;
        const struct header *b = sink_memory_at(without.sink, i)->headers;
        size_t head = enrichment_bytes(0);
        assert_int_equal(a->value.len, b->value.len);
        differ += memcmp(a->value.ptr + head, b->value.ptr + head,
                         a->value.len - head) != 0;
    }
    assert_true(differ > EVENTS / 2);
    end(&without);
    end(&with);
}

/* Four partitions of items; the worker of one stands still until the others
 * have done. Events of a user that come after newer ones are counted. */
static void test_reordered_are_counted(void **state)
{
    static struct record parted[RECORDS_MAX], log[RECORDS_MAX];
    struct run items, users;
    int64_t next[ITEM_PARTITIONS] = {0}, newest_ms[USERS] = {0};
    uint32_t count = 0, late = 0, order[EVENTS];
    (void)state;
    for (int32_t last = 0; last < 2; last++)
        for (uint32_t i = 0; i < EVENTS; i++) {
            char item[32];
            int32_t p;
            (void)snprintf(item, sizeof item, "item-%u",
                           (unsigned)((draw(5, i, 0) >> 8) % 7));
            p = partition_of(slice_str(item), ITEM_PARTITIONS);
            if ((p == partition_of(slice_str("item-3"), ITEM_PARTITIONS)) !=
                (last == 1))
                continue;
            order[count] = i;
            parted[count] = events.records[i];
            parted[count].partition = p;
            parted[count++].offset = next[p]++;
        }
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint32_t user = (uint32_t)(draw(5, order[i], 0) % USERS);
        late += time_of(order[i]) < newest_ms[user];
        if (time_of(order[i]) > newest_ms[user])
            newest_ms[user] = time_of(order[i]);
    }
    go(&items, STAGE_ITEMS, SETS, parted, count, ITEM_PARTITIONS, 0);
    go(&users, STAGE_USERS, SETS, log, enriched_log(&items, parted, count, log),
       1, 0);
    assert_true(late > 20);
    assert_int_equal(metrics_sum(users.metrics, COUNT_events_reordered), late);
    end(&users);
    end(&items);
}

/* A header that is missing, cut, of other features or infinite is bad; its
 * neighbours are scored. */
static void test_hostile_headers(void **state)
{
    static struct record log[RECORDS_MAX];
    static uint8_t bytes[4][1024];
    struct header headers[4];
    struct run items, users;
    uint32_t count = 0, n = 0;
    (void)state;
    go(&items, STAGE_ITEMS, SETS, events.records, EVENTS, 1, 0);
    count = enriched_log(&items, events.records, EVENTS, log);
    for (uint32_t k = 0; k < 4; k++) {
        struct slice whole = log[k].headers[0].value;
        memcpy(bytes[k], whole.ptr, whole.len);
        headers[k] = log[k].headers[0];
        headers[k].value = slice_of(bytes[k], whole.len - (k == 0));
        log[k].headers = &headers[k];
        log[k].header_count = k == 3 ? 0 : 1;
    }
    bytes[1][16] ^= 1;                                         /* other names */
    memcpy(bytes[2] + enrichment_bytes(0), "\0\0\x80\x7f", 4); /* infinite */
    go(&users, STAGE_USERS, SETS, log, count, 1, 0);
    for (uint32_t i = 0; i < sink_memory_count(users.sink); i++)
        n += sink_memory_at(users.sink, i)->output == OUTPUT_DEAD_LETTERS;
    assert_int_equal(n, 4);
    assert_int_equal(metrics_sum(users.metrics, COUNT_events_scored),
                     EVENTS - 4);
    end(&users);
    end(&items);
}

/* Route: by item, by user where there is none; labels twice. */
static void test_route(void **state)
{
    static const char *const ROUTED[] = {
        "stages=route,items,users", "items.topic=items",
        "labels.topic=labels",      "labels.items.topic=li",
        "labels.users.topic=lu",    NULL};
    struct run r;
    uint32_t n = 0;
    (void)state;
    go(&r, STAGE_ROUTE, ROUTED, merged, merged_count, 1, merged_count / 3);
    for (uint32_t i = 0; i < merged_count; i++) {
        const struct message *m = sink_memory_at(r.sink, n++);
        bool is_label = merged[i].input == INPUT_LABELS;
        assert_int_equal(m->output,
                         is_label ? OUTPUT_ITEM_LABELS : OUTPUT_PASSED);
        assert_memory_equal(m->key.ptr, "item-", 5);
        assert_slices(m->value, merged[i].value);
        if (!is_label) continue;
        m = sink_memory_at(r.sink, n++);
        assert_int_equal(m->output, OUTPUT_USER_LABELS);
        assert_memory_equal(m->key.ptr, "user-", 5);
    }
    assert_int_equal(n, sink_memory_count(r.sink));
    end(&r);
}

/* Of a fraud score in Confluent's framing. */
static double probability(struct slice value)
{
    enum { PROBABILITY = 6 }; /* behind a record, four fields, a union */
    struct schema *schemas[OUTPUTS];
    struct decoder *d;
    struct datum at[64];
    struct tape tape = {.at = at, .max = 64};
    struct err e;
    ok(outputs_parse_schemas(schemas, &e), &e);
    ok(decoder_compile(&d, schemas[OUTPUT_FRAUD], schemas[OUTPUT_FRAUD], &e),
       &e);
    ok(decoder_decode(d, slice_of(value.ptr + 5, value.len - 5), &tape, &e),
       &e);
    assert_int_equal(at[PROBABILITY].kind, DATUM_FLOAT);
    decoder_free(d);
    for (uint32_t k = 0; k < OUTPUTS; k++)
        schema_free(schemas[k]);
    return at[PROBABILITY].d;
}

/* How many of the scores of the last event of a cut log are others than those
 * of the whole log: in any byte, or in their probability. Both know of labels
 * what was known by then. */
static uint32_t changed_by_cuts(bool sabotage)
{
    struct labels *all = labels, *of_all = make_labels(INT64_MAX, sabotage);
    struct run whole, cut;
    uint32_t changed = 0;
    labels = of_all;
    go(&whole, STAGE_USERS, SETS, NULL, 0, 1, 0);
    for (uint32_t i = 0; i < CUTS; i++) {
        uint32_t t = (uint32_t)(draw(23, i, 0) % EVENTS), at = 0;
        struct slice a, b;
        event_count = t + 1;
        labels = make_labels(time_of(t) + 1, sabotage);
        go(&cut, STAGE_USERS, SETS, NULL, 0, 1, 0);
        for (uint32_t m = 0; m < sink_memory_count(cut.sink); m++)
            if (sink_memory_at(cut.sink, m)->output == OUTPUT_FRAUD) at = m;
        a = sink_memory_at(cut.sink, at)->value;
        b = sink_memory_at(whole.sink, at)->value;
        changed +=
            sabotage ? probability(a) != probability(b) : !slice_equal(a, b);
        end(&cut);
        labels_free(labels);
    }
    event_count = EVENTS;
    labels = all;
    end(&whole);
    labels_free(of_all);
    return changed;
}

static void test_nothing_of_the_future(void **state)
{
    (void)state;
    assert_int_equal(changed_by_cuts(false), 0);
    assert_true(changed_by_cuts(true) > CUTS / 4);
}

static int start(void **state)
{
    (void)state;
    assert_true(arena_init(&kept, BYTES_MAX));
    make_events();
    labels = make_labels(INT64_MAX, false);
    model = spine_model_of(SETS, SPINE_ITEMS, SPINE_MODEL_SEED);
    merge();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    model_free(model);
    labels_free(labels);
    spine_log_free(&events);
    arena_fini(&kept);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merged_by_time),
        cmocka_unit_test(test_stage_by_stage_is_chained),
        cmocka_unit_test(test_each_stage_again),
        cmocka_unit_test(test_two_lives),
        cmocka_unit_test(test_events_wait_for_labels),
        cmocka_unit_test(test_labels_matter),
        cmocka_unit_test(test_reordered_are_counted),
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_route),
        cmocka_unit_test(test_nothing_of_the_future),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
