/* test_collect.c - goal: training reads the log that the spine folded, every
 * user's events from the first on, and no label before it was known.
 * Method: the log of spine_log.h through a worker without a model; rows are
 * held against what an observer of this file saw, labels against their
 * definition in labels.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "codec.h"
#include "collect.h"
#include "container.h"
#include "hash.h"
#include "schemas.h"
#include "shapes.h"
#include "spine_log.h"

enum { EVENTS = 1300, USERS = 20, SEED = 51, PATH = 64 };
static const int64_t START_MS = INT64_C(1600000000000);
static const int64_t STEP_MS = 600000; /* from one event to the next */

static struct spine_log the_log;

static int start(void **state)
{
    (void)state;
    spine_log_make(&the_log, EVENTS, USERS, SEED);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    spine_log_free(&the_log);
    return 0;
}

/* --- a run that collects and remembers ---------------------------------- */

struct seen {
    struct collect *collect;
    uint32_t count;
    uint32_t features;
    struct {
        uint64_t user;
        struct past_event past;
        float feature[FEATURES_MAX];
    } row[EVENTS];
};

static enum rc see(void *user, const struct batch *b, struct err *e)
{
    struct seen *s = user;
    for (uint32_t i = 0; i < b->count; i++) {
        s->row[s->count].user = hash64(b->events[i].user);
        s->row[s->count].past = b->events[i].past;
        memcpy(s->row[s->count].feature, b->outcomes[i].features,
               s->features * sizeof(float));
        s->count++;
    }
    return collect_batch(s->collect, b, e);
}

static void collect_log(struct seen *s, struct collect_options o,
                        struct train_log *log)
{
    struct spine_run r;
    struct history_shape history;
    static struct feature_shape features;
    struct err e;
    spine_run_open(&r, &the_log, NULL);
    shapes_init(&history, &features, r.config, mapping_fields(r.mapping));
    o.features = &features;
    *s = (struct seen){.features = feature_row_count(&features)};
    assert_int_equal(collect_new(&s->collect, &o, &e), RC_OK);
    r.options.model = NULL;
    r.options.observe = see;
    r.options.observer = s;
    spine_run_start(&r);
    spine_run_to_end(&r);
    spine_run_close(&r);
    *log = (struct train_log){0};
    assert_int_equal(collect_finish(s->collect, log, &e), RC_OK);
}

static const struct collect_options ALL = {.until_ms = INT64_MAX,
                                           .known_ms = INT64_MAX,
                                           .names_max = 1000,
                                           .bytes_max = 64 << 20};

/* Every row is a row that went by, and those of a user are in its order. */
static void check_rows(const struct seen *s, const struct train_log *log)
{
    uint64_t rows = 0;
    for (uint32_t u = 0; u < log->users; u++) {
        uint32_t at = 0;
        uint64_t user = 0;
        for (uint64_t r = log->user_start[u]; r < log->user_start[u + 1];
             r++, rows++) {
            while (at < s->count &&
                   ((user && s->row[at].user != user) ||
                    s->row[at].past.event_id != log->events[r].event_id)) {
                /* A row of the same user passed over is a gap. */
                assert_true(!user || s->row[at].user != user);
                at++;
            }
            assert_true(at < s->count);
            user = s->row[at].user;
            assert_memory_equal(&s->row[at].past, &log->events[r],
                                sizeof *log->events);
            assert_memory_equal(s->row[at].feature,
                                log->feature_rows + r * s->features,
                                s->features * sizeof(float));
            if (r == log->user_start[u])
                assert_int_equal(log->events[r].gap_ms, -1);
            at++;
        }
    }
    assert_int_equal(rows, log->rows);
}

static void test_rows(void **state)
{
    static struct seen s;
    struct train_log log;
    (void)state;
    collect_log(&s, ALL, &log);
    assert_int_equal(log.rows, EVENTS);
    assert_int_equal(log.features, s.features);
    assert_string_equal(log.feature_names[0], "amount");
    assert_null(log.labels); /* there are none */
    check_rows(&s, &log);
    for (size_t n = 0; n < log.name_count; n++)
        assert_true(hash64(log.names[n].text) == log.names[n].hash);
    assert_in_range(log.name_count, SPINE_ITEMS, SPINE_ITEMS + 5);
    collect_free(s.collect);
}

static void test_until(void **state)
{
    static struct seen s;
    struct collect_options o = ALL;
    struct train_log log;
    (void)state;
    o.until_ms = START_MS + 500 * STEP_MS;
    collect_log(&s, o, &log);
    assert_in_range(log.rows, 400, 510);
    for (uint64_t r = 0; r < log.rows; r++)
        assert_true(log.events[r].time_ms < o.until_ms);
    check_rows(&s, &log);
    collect_free(s.collect);
}

static void test_limits(void **state)
{
    static struct seen s;
    struct collect_options o = ALL;
    struct spine_run r;
    struct history_shape history;
    struct feature_shape features;
    struct train_log log;
    const atomic_bool never = false;
    struct err e;
    (void)state;
    o.names_max = 7;
    collect_log(&s, o, &log);
    assert_int_equal(log.name_count, 7);
    assert_true(collect_unnamed(s.collect) > 0);
    collect_free(s.collect);

    o.bytes_max = 64 << 10;
    spine_run_open(&r, &the_log, NULL);
    shapes_init(&history, &features, r.config, mapping_fields(r.mapping));
    o.features = &features;
    assert_int_equal(collect_new(&s.collect, &o, &e), RC_OK);
    r.options.model = NULL;
    r.options.observe = collect_batch;
    r.options.observer = s.collect;
    spine_run_start(&r);
    assert_int_equal(worker_run(r.worker, &never, &e), RC_STOP);
    assert_non_null(strstr(e.text, "--memory"));
    spine_run_close(&r);
    collect_free(s.collect);
}

/* --- labels ------------------------------------------------------------- */

/* Event e<i> is fraud where i % 10 == 0, known 100 events later. */
static bool is_fraud(uint32_t i)
{
    return i % 10 == 0;
}

static int64_t known_at(uint32_t i)
{
    return START_MS + ((int64_t)i + 100) * STEP_MS;
}

static void write_labels(const char *path)
{
    struct datum at[7];
    struct tape tape = {.at = at, .max = 7, .count = 7};
    struct container_writer *w;
    struct schema *s;
    struct err e;
    uint8_t bytes[256];
    size_t used;
    char id[16];
    assert_int_equal(schema_parse(&s, schemas_get("label"), &e), RC_OK);
    assert_int_equal(container_create(&w, path, s, "deflate", &e), RC_OK);
    for (uint32_t i = 0; i < EVENTS; i++) {
        if (!is_fraud(i)) continue;
        (void)snprintf(id, sizeof id, "e%u", i);
        at[0] = (struct datum){.kind = DATUM_RECORD, .count = 6, .span = 7};
        for (uint32_t f = 1; f <= 3; f++)
            at[f] = (struct datum){.kind = DATUM_STRING, .span = 1};
        at[1].s = slice_str(id);
        at[2].s = at[3].s = slice_str("x");
        at[4] = (struct datum){.kind = DATUM_LONG, .span = 1};
        at[5] = (struct datum){.kind = DATUM_INT, .span = 1, .i = 1};
        at[6] = (struct datum){.kind = DATUM_LONG, .span = 1, .i = known_at(i)};
        assert_int_equal(
            encoder_encode(s, &tape, bytes, sizeof bytes, &used, &e), RC_OK);
        assert_int_equal(container_append(w, slice_of(bytes, used), &e), RC_OK);
    }
    assert_int_equal(container_finish(w, &e), RC_OK);
    schema_free(s);
}

static struct labels *read_labels(void)
{
    char path[] = "/tmp/millrace-labels-XXXXXX";
    const char *paths[] = {path};
    struct labels *l;
    struct err e;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    write_labels(path);
    if (labels_read(&l, paths, 1, &e) != RC_OK) fail_msg("%s", e.text);
    assert_int_equal(unlink(path), 0);
    return l;
}

static void test_find(void **state)
{
    struct labels *l = read_labels();
    const int64_t delay_ms = 100 * STEP_MS;
    uint64_t fraud = hash64(slice_str("e500")),
             good = hash64(slice_str("e501"));
    int64_t time_ms = START_MS + 500 * STEP_MS;
    (void)state;
    assert_int_equal(labels_count(l), EVENTS / 10);
    /* A fraud is known from its label on, not before. */
    assert_int_equal(labels_find(l, fraud, time_ms, INT64_MAX, delay_ms),
                     LABEL_FRAUD);
    assert_int_equal(
        labels_find(l, fraud, time_ms, known_at(500) + 1, delay_ms),
        LABEL_FRAUD);
    assert_int_equal(labels_find(l, fraud, time_ms, known_at(500), delay_ms),
                     LABEL_UNKNOWN);
    /* Silence is good once the delay has passed by the time of asking ... */
    assert_int_equal(labels_find(l, good, time_ms, INT64_MAX, delay_ms),
                     LABEL_GOOD);
    assert_int_equal(
        labels_find(l, good, time_ms, time_ms + delay_ms, delay_ms),
        LABEL_GOOD);
    assert_int_equal(
        labels_find(l, good, time_ms, time_ms + delay_ms - 1, delay_ms),
        LABEL_UNKNOWN);
    /* ... and by the newest label. */
    assert_int_equal(
        labels_find(l, good, known_at(EVENTS), INT64_MAX, delay_ms),
        LABEL_UNKNOWN);
    assert_int_equal(labels_find(l, 0, time_ms, INT64_MAX, delay_ms),
                     LABEL_UNKNOWN);
    assert_int_equal(labels_find(NULL, fraud, time_ms, INT64_MAX, delay_ms),
                     LABEL_UNKNOWN);
    labels_free(l);
}

/* Rows before the cut know only what was known at the cut. */
static void test_labels_of_rows(void **state)
{
    static struct seen s;
    struct labels *l = read_labels();
    struct collect_options o = ALL;
    struct train_log log;
    uint32_t counts[2][3] = {{0}}; /* before the cut or not; label + 1 */
    (void)state;
    o.labels = l;
    o.known_ms = START_MS + 600 * STEP_MS;
    o.label_delay_ms = 100 * STEP_MS;
    collect_log(&s, o, &log);
    assert_non_null(log.labels);
    for (uint64_t r = 0; r < log.rows; r++) {
        int64_t time_ms = log.events[r].time_ms;
        bool learned = time_ms < o.known_ms;
        int8_t label = log.labels[r];
        counts[learned][label + 1]++;
        assert_int_equal(label, labels_find(l, log.events[r].event_id, time_ms,
                                            learned ? o.known_ms : INT64_MAX,
                                            o.label_delay_ms));
        /* Late events stand before their time, so not all lie exactly. */
        if (learned && time_ms >= o.known_ms - 95 * STEP_MS)
            assert_int_equal(label, LABEL_UNKNOWN);
    }
    for (int learned = 0; learned < 2; learned++)
        for (int label = 0; label < 3; label++)
            assert_true(counts[learned][label] > 10 ||
                        (!learned && label == 0));
    assert_int_equal(collect_labelled(s.collect),
                     log.rows - counts[0][0] - counts[1][0]);
    collect_free(s.collect);
    labels_free(l);
}

static void test_not_labels(void **state)
{
    char path[] = "/tmp/millrace-labels-XXXXXX";
    const char *paths[] = {path}, *absent[] = {"/nowhere.avro"};
    struct container_writer *w;
    struct labels *l;
    struct err e;
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(container_create(&w, path, the_log.schema, "null", &e),
                     RC_OK);
    assert_int_equal(container_append(w, the_log.records[0].value, &e), RC_OK);
    assert_int_equal(container_finish(w, &e), RC_OK);
    assert_int_equal(labels_read(&l, paths, 1, &e), RC_STOP);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(labels_read(&l, absent, 1, &e), RC_STOP);
    assert_non_null(strstr(e.text, "/nowhere.avro"));
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_until),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_labels_of_rows),
        cmocka_unit_test(test_not_labels),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
