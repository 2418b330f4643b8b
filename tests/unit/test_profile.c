/* test_profile.c - goal: a profile is written with a user's first event in
 * each interval of event time, and says what the model says of the user then.
 * Method: the rule on times made here; then runs of the spine over one log,
 * in batches of one and of many, whose profiles are held against what an
 * observer saw of each event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec.h"
#include "decide.h"
#include "hash.h"
#include "model_dir.h"
#include "schemas.h"
#include "spine_log.h"

enum { EVENTS = 600, USERS = 12, HOUR_MS = 3600000, FRAME_BYTES = 5 };

static void test_first_of_an_interval(void **state)
{
    struct policy p = {.profile_ms = 1000};
    (void)state;
    assert_true(decide_profile(&p, INT64_MIN, 5));
    assert_false(decide_profile(&p, 5, 999));
    assert_true(decide_profile(&p, 5, 1000));
    assert_true(decide_profile(&p, 999, 1000));
    assert_false(decide_profile(&p, 1000, 999)); /* late */
    assert_false(decide_profile(&p, 1000, 1000));
    assert_false(decide_profile(&p, -1, -1000) ||
                 decide_profile(&p, -1000, -1)); /* before 1970 */
    assert_true(decide_profile(&p, -1, 0));
    assert_true(decide_profile(&p, INT64_MIN + 1, INT64_MAX));
    p.profile_ms = 0;
    assert_true(decide_profile(&p, 1000, 999));
}

/* What an observer saw of the event at a place in the log. */
struct sight {
    char user[24];
    int64_t time_ms;
    uint64_t n;
    int32_t segment;
    float hidden[64];
    bool due;
};
static struct sight sights[SPINE_PARTITIONS][EVENTS];
static struct spine_log the_log;

static enum rc look(void *user, const struct batch *b, struct err *e)
{
    uint32_t width = model_info(the_log.model)->width;
    (void)user;
    (void)e;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct record *r = &b->records[i];
        const struct outcome *o = &b->outcomes[i];
        struct sight *s = &sights[r->partition][r->offset];
        (void)snprintf(s->user, sizeof s->user, "%.*s",
                       (int)b->events[i].user.len,
                       (const char *)b->events[i].user.ptr);
        s->time_ms = b->events[i].time_ms;
        s->n = o->n;
        s->segment = o->segment;
        memcpy(s->hidden, o->hidden, width * sizeof *s->hidden);
    }
    return RC_OK;
}

/* By a plain walk: newer than all before of its user, in a later hour. */
static uint32_t mark_due(void)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < SPINE_PARTITIONS; p++)
        for (uint32_t i = 0; i < EVENTS; i++) {
            struct sight *s = &sights[p][i];
            int64_t newest = INT64_MIN;
            if (!s->user[0]) continue;
            for (uint32_t k = 0; k < i; k++)
                if (strcmp(sights[p][k].user, s->user) == 0 &&
                    sights[p][k].time_ms > newest)
                    newest = sights[p][k].time_ms;
            s->due = newest == INT64_MIN ||
                     (s->time_ms > newest &&
                      s->time_ms / HOUR_MS > newest / HOUR_MS);
            count += s->due;
        }
    return count;
}

static void check_profile(const struct spine_output *out,
                          const struct decoder *d)
{
    static struct datum at[128];
    struct tape t = {.at = at, .max = 128};
    struct slice value = out->message->value;
    const struct sight *s = &sights[out->partition][out->offset];
    uint32_t width = model_info(the_log.model)->width;
    struct err e;
    value = slice_of(value.ptr + FRAME_BYTES, value.len - FRAME_BYTES);
    if (decoder_decode(d, value, &t, &e) != RC_OK) fail_msg("%s", e.text);
    assert_true(s->due);
    assert_true(slice_equal(at[1].s, slice_str(s->user)));
    assert_true(slice_equal(out->message->key, slice_str(s->user)));
    assert_int_equal(at[3].i, s->time_ms);
    assert_int_equal(at[4].i, s->n + 1);
    assert_int_equal(at[6].i, s->segment);
    assert_int_equal(at[7].count, width);
    for (uint32_t k = 0; k < width; k++)
        assert_true((float)at[8 + k].d == s->hidden[k]);
}

/* Three segments around states that come up. */
static void make_segments(void)
{
    struct model *m = the_log.model;
    uint32_t width = m->params.config.width;
    segments_fini(&m->segments);
    assert_true(segments_init(&m->segments, 3, width));
    for (uint32_t i = 0; i < 3 * width; i++)
        m->segments.centroids[i] = draw_unit(draw(2, i, 0)) * 4 - 2;
    segments_ready(&m->segments);
    m->info.segments = 3;
}

static void test_profiles_of_a_run(void **state)
{
    static const char *const BATCHES[] = {"batch.events.max=1",
                                          "batch.events.max=64"};
    struct spine_run runs[2];
    struct spine_outputs outputs[2];
    struct decoder *d;
    struct schema *schema;
    uint32_t profiles = 0, due = 0;
    struct err e;
    (void)state;
    spine_log_make(&the_log, EVENTS, USERS, 21);
    make_segments();
    assert_int_equal(schema_parse(&schema, schemas_get("profile"), &e), RC_OK);
    assert_int_equal(decoder_compile(&d, schema, schema, &e), RC_OK);
    for (uint32_t i = 0; i < 2; i++) {
        const char *sets[] = {"output.profile.topic=profiles",
                              "profile.interval=1h", BATCHES[i], NULL};
        spine_run_open(&runs[i], &the_log, sets);
        runs[i].options.observe = i == 0 ? look : NULL;
        spine_run_start(&runs[i]);
        spine_run_to_end(&runs[i]);
        outputs[i] = spine_outputs_of(&runs[i], 1);
    }
    spine_outputs_same(&outputs[0], &outputs[1]);
    due = mark_due();
    for (uint32_t i = 0; i < outputs[0].count; i++) {
        if (outputs[0].at[i].message->output != OUTPUT_PROFILES) continue;
        check_profile(&outputs[0].at[i], d);
        profiles++;
    }
    assert_int_equal(profiles, due);
    assert_in_range(due, USERS + 1, EVENTS - 1);
    for (uint32_t i = 0; i < 2; i++) {
        spine_outputs_free(&outputs[i]);
        spine_run_close(&runs[i]);
    }
    decoder_free(d);
    schema_free(schema);
    spine_log_free(&the_log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_of_an_interval),
        cmocka_unit_test(test_profiles_of_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
