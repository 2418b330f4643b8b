/* Goal    Scores carry their reasons as the options say: from the threshold
 *         on, at most so many in a second of event time, in a list that adds
 *         up; an event past the bound says so; old readers still read.
 * Method  One log through the spine with a model of random weights, outputs
 *         decoded again. The bound against a plain count per partition,
 *         second and lane; with any batch, any number of workers, after a
 *         failed batch. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <string.h>

#include "model_dir.h"
#include "outputs.h"
#include "schemas.h"
#include "spine_log.h"

enum { EVENTS = 600, USERS = 12, SEED = 4, DATUMS_MAX = 256 };

/* A few of the random scores are below, most are above. */
#define THRESHOLD "reasons.threshold=0.554"
/* About half of them are. */
#define MIDDLE 0.56

static struct spine_log the_log;
static struct decoder *decoder;

static void ok(enum rc rc, const struct err *e)
{
    if (rc != RC_OK) fail_msg("%s", e->text);
}

/* Users in bursts: sixteen events of some of them in each second. */
static void make_log(void)
{
    spine_log_begin(&the_log, EVENTS);
    for (uint32_t i = 0; i < EVENTS; i++) {
        const struct spine_event ev = {
            .user = (i * 7 + i / 16) % USERS,
            .item = i % 9,
            .id = i,
            .type = i % 3 ? "buy" : "view",
            .time_ms = INT64_C(1600000000000) + i / 16 * 1000 + i % 16 * 10,
            .cents = 100 + i * 37 % 9000,
        };
        spine_log_add(&the_log, &ev);
    }
    the_log.model = spine_model(SPINE_ITEMS, SPINE_MODEL_SEED);
}

static int start(void **state)
{
    struct schema *schemas[OUTPUTS];
    struct err e;
    (void)state;
    make_log();
    ok(outputs_parse_schemas(schemas, &e), &e);
    ok(decoder_compile(&decoder, schemas[OUTPUT_FRAUD], schemas[OUTPUT_FRAUD],
                       &e),
       &e);
    for (uint32_t k = 0; k < OUTPUTS; k++)
        schema_free(schemas[k]);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    decoder_free(decoder);
    spine_log_free(&the_log);
    return 0;
}

/* --- a score, decoded --------------------------------------------------- */

struct shown {
    int64_t time_ms;
    double probability, base, log_odds, sum;
    int64_t state;
    uint32_t count;
    char code[16][64], text[16][400];
    double contribution[16];
    char reference[32], user[64];
};

static void copy_text(char *out, size_t size, struct slice s)
{
    (void)snprintf(out, size, "%.*s", (int)s.len, (const char *)s.ptr);
}

/* What follows the state: reference, base, log-odds, list. A union takes two
 * datums. */
static void decode_reasons(const struct datum *at, struct shown *out)
{
    out->state = at[0].i;
    copy_text(out->reference, sizeof out->reference, at[1].s);
    out->base = at[2].i ? at[3].d : NAN;
    out->log_odds = at[4].i ? at[5].d : NAN;
    out->count = at[6].count;
    assert_true(out->count <= 16);
    for (uint32_t i = 0; i < out->count; i++) {
        const struct datum *r = &at[7 + 7 * i];
        copy_text(out->code[i], 64, r[1].s);
        copy_text(out->text[i], 400, r[2].s);
        out->contribution[i] = r[6].d;
        out->sum += r[6].d;
    }
}

static struct shown decode(const struct message *m)
{
    static struct datum at[DATUMS_MAX];
    struct tape t = {.at = at, .max = DATUMS_MAX};
    struct shown out = {.sum = 0};
    uint32_t k = 0;
    struct err e;
    ok(decoder_decode(decoder, slice_of(m->value.ptr + 5, m->value.len - 5), &t,
                      &e),
       &e);
    copy_text(out.user, sizeof out.user, at[2].s);
    out.time_ms = at[4].i;
    out.probability = at[6].d;
    while (at[k].kind != DATUM_ENUM)
        k++;
    decode_reasons(&at[k], &out);
    return out;
}

static void open_run(struct spine_run *r, const char *const *sets)
{
    spine_run_open(r, &the_log, sets);
    spine_run_start(r);
    spine_run_to_end(r);
}

/* Fraud scores in the order of the log. */
static struct shown *scores_of(const struct spine_run *r)
{
    struct spine_outputs got = spine_outputs_of(r, 1);
    struct shown *out = calloc(EVENTS, sizeof *out);
    uint32_t count = 0;
    assert_non_null(out);
    for (uint32_t i = 0; i < got.count; i++)
        if (got.at[i].message->output == OUTPUT_FRAUD)
            out[count++] = decode(got.at[i].message);
    assert_int_equal(count, EVENTS);
    spine_outputs_free(&got);
    return out;
}

/* --- what a score says -------------------------------------------------- */

static void test_threshold_and_sum(void **state)
{
    const char *sets[] = {"reasons.per_second=65535", "reasons.threshold=0.56",
                          NULL};
    uint32_t given = 0;
    struct spine_run r;
    struct shown *all;
    (void)state;
    open_run(&r, sets);
    all = scores_of(&r);
    for (uint32_t i = 0; i < EVENTS; i++) {
        const struct shown *s = &all[i];
        double logit = log(s->probability / (1 - s->probability));
        if (s->probability < MIDDLE) {
            assert_int_equal(s->state, REASONS_NONE);
            assert_int_equal(s->count, 0);
            assert_true(isnan(s->base) && !*s->reference);
            continue;
        }
        given++;
        assert_int_equal(s->state, REASONS_GIVEN);
        assert_string_equal(s->reference, model_info(the_log.model)->reference);
        assert_in_range(s->count, 2, 8);
        assert_true(fabs(logit - s->log_odds) < 1e-4);
        assert_true(fabs(s->sum - (logit - s->base)) <=
                    0.01 * fabs(logit - s->base) + 1e-5);
        for (uint32_t k = 0; k < s->count; k++)
            assert_true(*s->code[k] && *s->text[k]);
    }
    assert_in_range(given, EVENTS / 10, EVENTS * 9 / 10);
    assert_int_equal(given, spine_run_count(&r, COUNT_reasons_given));
    free(all);
    spine_run_close(&r);
}

static void test_short_lists(void **state)
{
    const char *sets[] = {"reasons.per_second=65535", THRESHOLD,
                          "reasons.count=3", NULL};
    struct spine_run r;
    struct shown *all;
    (void)state;
    open_run(&r, sets);
    all = scores_of(&r);
    for (uint32_t i = 0; i < EVENTS; i++) {
        const struct shown *s = &all[i];
        if (s->state != REASONS_GIVEN) continue;
        assert_int_equal(s->count, 3);
        assert_string_equal(s->code[2], "OTHER");
        assert_true(fabs(s->contribution[0]) >= fabs(s->contribution[1]));
        assert_true(fabs(s->sum - (s->log_odds - s->base)) < 1e-4);
    }
    free(all);
    spine_run_close(&r);
}

/* --- the bound ---------------------------------------------------------- */

/* A plain count: of each partition, second and lane. */
static void check_bound(const struct shown *all, uint32_t per_second)
{
    uint32_t used[REASON_LANES_MAX], lanes = reason_lanes(per_second);
    uint32_t past = 0, of_second = 0;
    int64_t second = -1;
    for (uint32_t i = 0; i < EVENTS; i++) {
        const struct shown *s = &all[i];
        uint32_t lane = reason_lane(slice_str(s->user), lanes);
        uint32_t most = per_second / lanes + (lane < per_second % lanes);
        /* In the order of partitions: time goes back between the two. */
        if (s->time_ms / 1000 != second) {
            memset(used, 0, sizeof used);
            second = s->time_ms / 1000;
            of_second = 0;
        }
        if (s->state == REASONS_NONE) continue;
        if (used[lane] < most) {
            assert_int_equal(s->state, REASONS_GIVEN);
            assert_true(++of_second <= per_second);
            used[lane]++;
        } else {
            assert_int_equal(s->state, REASONS_PAST_BOUND);
            assert_int_equal(s->count, 0);
            past++;
        }
    }
    assert_true(past > EVENTS / 20);
}

static void test_bound(void **state)
{
    static const uint32_t BOUNDS[] = {1, 2, 5};
    (void)state;
    for (uint32_t i = 0; i < sizeof BOUNDS / sizeof *BOUNDS; i++) {
        char bound[64];
        const char *sets[] = {bound, THRESHOLD, NULL};
        struct spine_run r;
        struct shown *all;
        (void)snprintf(bound, sizeof bound, "reasons.per_second=%u", BOUNDS[i]);
        open_run(&r, sets);
        all = scores_of(&r);
        check_bound(all, BOUNDS[i]);
        assert_true(spine_run_count(&r, COUNT_reasons_past_bound) > 0);
        free(all);
        spine_run_close(&r);
    }
}

static void test_off(void **state)
{
    const char *sets[] = {"reasons.per_second=0", "reasons.threshold=0", NULL};
    struct spine_run r;
    struct shown *all;
    (void)state;
    open_run(&r, sets);
    all = scores_of(&r);
    for (uint32_t i = 0; i < EVENTS; i++)
        assert_int_equal(all[i].state, REASONS_NONE);
    free(all);
    spine_run_close(&r);
}

/* Batches, caches and shares of users do not move the bound. */
static void test_bound_in_any_batch(void **state)
{
    static const char *const BATCHES[] = {"batch.events.max=1",
                                          "batch.events.max=64"};
    struct spine_run first;
    struct spine_outputs expected;
    (void)state;
    for (uint32_t k = 0; k < 2; k++)
        for (uint32_t workers = 1; workers <= 3; workers++) {
            const char *sets[] = {BATCHES[k], "reasons.per_second=6", THRESHOLD,
                                  NULL};
            struct spine_run runs[3];
            struct spine_outputs got;
            for (uint32_t w = 0; w < workers; w++) {
                spine_run_open(&runs[w], &the_log, sets);
                runs[w].options.share_index = w;
                runs[w].options.share_count = workers;
                runs[w].options.context_bytes_max = k ? 1 : 4 << 20;
                spine_run_start(&runs[w]);
                spine_run_to_end(&runs[w]);
            }
            if (k == 0 && workers == 1) {
                first = runs[0];
                expected = spine_outputs_of(&first, 1);
                continue;
            }
            got = spine_outputs_of(runs, workers);
            spine_outputs_same(&expected, &got);
            spine_outputs_free(&got);
            for (uint32_t w = 0; w < workers; w++)
                spine_run_close(&runs[w]);
        }
    spine_outputs_free(&expected);
    spine_run_close(&first);
}

/* What a failed batch used of the bound is given back with it. */
static void test_bound_after_failures(void **state)
{
    static const char *const SETS[] = {"batch.events.max=7",
                                       "reasons.per_second=6", THRESHOLD,
                                       "commit.interval=1ms", NULL};
    struct spine_run calm, r;
    struct spine_outputs expected, got;
    struct err e;
    (void)state;
    open_run(&calm, SETS);
    expected = spine_outputs_of(&calm, 1);
    spine_run_open(&r, &the_log, SETS);
    spine_run_start(&r);
    for (uint32_t i = 0; i < 60; i++) {
        if (i % 5 == 0) sink_memory_fail(r.sink, i % 3 + 1, i % 2);
        ok(worker_step(r.worker, &e), &e);
    }
    sink_memory_fail(r.sink, 0, 0);
    spine_run_to_end(&r);
    assert_true(spine_run_count(&r, COUNT_rewinds) > 5);
    got = spine_outputs_of(&r, 1);
    spine_outputs_same(&expected, &got);
    spine_outputs_free(&got);
    spine_outputs_free(&expected);
    spine_run_close(&r);
    spine_run_close(&calm);
}

/* --- models without ----------------------------------------------------- */

static void test_unavailable(void **state)
{
    const char *sets[] = {"reasons.per_second=100", THRESHOLD, NULL};
    struct model *kept = the_log.model;
    struct spine_run r;
    struct shown *all;
    uint64_t unavailable = 0;
    (void)state;
    the_log.model = spine_model(SPINE_ITEMS, SPINE_MODEL_SEED);
    the_log.model->tables.has_fraud_reference = false;
    the_log.model->info.reference[0] = 0;
    open_run(&r, sets);
    all = scores_of(&r);
    for (uint32_t i = 0; i < EVENTS; i++) {
        unavailable += all[i].state == REASONS_UNAVAILABLE;
        assert_true(all[i].state == REASONS_UNAVAILABLE ||
                    all[i].state == REASONS_NONE);
        assert_int_equal(all[i].count, 0);
    }
    assert_true(unavailable > EVENTS / 10);
    assert_int_equal(unavailable,
                     spine_run_count(&r, COUNT_reasons_unavailable));
    free(all);
    spine_run_close(&r);
    model_free(the_log.model);
    the_log.model = kept;
}

/* --- old readers -------------------------------------------------------- */

/* FraudScore as it was before there were reasons. */
static const char BEFORE[] =
    "{\"type\":\"record\",\"name\":\"FraudScore\",\"namespace\":\"millrace\","
    "\"fields\":[{\"name\":\"event_id\",\"type\":\"string\"},"
    "{\"name\":\"user_id\",\"type\":\"string\"},"
    "{\"name\":\"item_id\",\"type\":\"string\"},"
    "{\"name\":\"time\",\"type\":\"long\"},"
    "{\"name\":\"probability\",\"type\":[\"null\",\"float\"]},"
    "{\"name\":\"anomaly\",\"type\":\"float\"},"
    "{\"name\":\"flagged\",\"type\":\"boolean\"},"
    "{\"name\":\"threshold\",\"type\":\"double\"},"
    "{\"name\":\"model_hash\",\"type\":\"string\"},"
    "{\"name\":\"kernel_family\",\"type\":\"string\"},"
    "{\"name\":\"policy_hash\",\"type\":\"string\",\"default\":\"\"},"
    "{\"name\":\"source_topic\",\"type\":\"string\"},"
    "{\"name\":\"source_partition\",\"type\":\"int\"},"
    "{\"name\":\"source_offset\",\"type\":\"long\"}]}";

/* An old reader of new scores sees what it saw; a new reader of old scores
 * sees no reasons. */
static void test_old_readers(void **state)
{
    const char *sets[] = {"reasons.per_second=65535", THRESHOLD, NULL};
    struct schema *old, *fresh;
    struct decoder *of_new, *of_old;
    struct datum at[DATUMS_MAX], again[DATUMS_MAX];
    struct tape t = {.at = at, .max = DATUMS_MAX},
                u = {.at = again, .max = DATUMS_MAX};
    uint8_t bytes[4096];
    struct spine_run r;
    struct spine_outputs got;
    size_t used;
    struct err e;
    (void)state;
    ok(schema_parse(&old, slice_str(BEFORE), &e), &e);
    ok(schema_parse(&fresh, schemas_get("fraud_score"), &e), &e);
    ok(decoder_compile(&of_new, fresh, old, &e), &e);
    ok(decoder_compile(&of_old, old, fresh, &e), &e);
    open_run(&r, sets);
    got = spine_outputs_of(&r, 1);
    for (uint32_t i = 0; i < got.count; i++) {
        const struct message *m = got.at[i].message;
        struct shown s;
        uint32_t k = 0;
        if (m->output != OUTPUT_FRAUD) continue;
        s = decode(m);
        ok(decoder_decode(of_new, slice_of(m->value.ptr + 5, m->value.len - 5),
                          &t, &e),
           &e);
        assert_true(at[6].d == s.probability);
        assert_int_equal(at[t.count - 1].i, got.at[i].offset);
        ok(encoder_encode(old, &t, bytes, sizeof bytes, &used, &e), &e);
        ok(decoder_decode(of_old, slice_of(bytes, used), &u, &e), &e);
        while (again[k].kind != DATUM_ENUM)
            k++;
        memset(&s, 0, sizeof s);
        decode_reasons(&again[k], &s);
        assert_int_equal(s.state, REASONS_NONE);
        assert_int_equal(s.count, 0);
        assert_true(isnan(s.base));
    }
    spine_outputs_free(&got);
    spine_run_close(&r);
    decoder_free(of_new);
    decoder_free(of_old);
    schema_free(old);
    schema_free(fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threshold_and_sum),
        cmocka_unit_test(test_short_lists),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_bound_in_any_batch),
        cmocka_unit_test(test_bound_after_failures),
        cmocka_unit_test(test_unavailable),
        cmocka_unit_test(test_old_readers),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
