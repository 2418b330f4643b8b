/* Goal    Segments are those of k-means: the same for the same points, each
 *         centroid the mean of its users, and what training writes is what
 *         serving finds again.
 * Method  Points in clouds that are known; a trained model whose users are
 *         scored by the scorer that serves and averaged by a plain loop. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hash.h"
#include "model_dir.h"
#include "tiny_log.h"

enum { WIDTH = 8, CLOUDS = 4, EACH = 50 };
static const char dir[] = "test_segments.tmp";

/* Cloud c has (c + 1) EACH points around 10 c in every dimension. */
static uint32_t make_clouds(float *out)
{
    uint32_t n = 0;
    for (uint32_t c = 0; c < CLOUDS; c++)
        for (uint32_t i = 0; i < (c + 1) * EACH; i++, n++)
            for (uint32_t d = 0; d < WIDTH; d++)
                out[n * WIDTH + d] =
                    10 * (float)c + draw_unit(draw(c, i, d)) - 0.5f;
    return n;
}

static void test_clouds_are_found(void **state)
{
    float points[CLOUDS * (CLOUDS + 1) / 2 * EACH * WIDTH];
    uint32_t n = make_clouds(points);
    struct segments s;
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        assert_true(segments_find(&s, points, n, WIDTH, CLOUDS, seed));
        assert_int_equal(s.count, CLOUDS);
        /* The largest cloud, which is the last, is segment 0. */
        for (uint32_t c = 0; c < CLOUDS; c++) {
            float middle[WIDTH];
            for (uint32_t d = 0; d < WIDTH; d++)
                middle[d] = 10 * (float)c;
            assert_int_equal(segments_nearest(&s, middle), CLOUDS - 1 - c);
            assert_true(fabsf(s.centroids[(CLOUDS - 1 - c) * WIDTH] -
                              10 * (float)c) < 0.2f);
        }
        segments_fini(&s);
    }
}

static void test_same_points_same_bytes(void **state)
{
    float points[CLOUDS * (CLOUDS + 1) / 2 * EACH * WIDTH];
    uint32_t n = make_clouds(points);
    struct segments a, b, other;
    (void)state;
    assert_true(segments_find(&a, points, n, WIDTH, 7, 3));
    assert_true(segments_find(&b, points, n, WIDTH, 7, 3));
    assert_true(segments_find(&other, points, n, WIDTH, 7, 4));
    assert_int_equal(a.count, 7);
    assert_memory_equal(a.centroids, b.centroids,
                        7 * WIDTH * sizeof *a.centroids);
    assert_memory_not_equal(a.centroids, other.centroids,
                            7 * WIDTH * sizeof *a.centroids);
    segments_fini(&a);
    segments_fini(&b);
    segments_fini(&other);
}

static void test_points_that_are_alike(void **state)
{
    float points[6 * 2] = {1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 1, 1};
    const float between[2] = {1.5f, 1.5f};
    struct segments s;
    (void)state;
    assert_true(segments_find(&s, points, 6, 2, 5, 1));
    assert_int_equal(s.count, 2);
    assert_true(s.centroids[0] == 1 && s.centroids[2] == 2);
    assert_int_equal(segments_nearest(&s, between), 0); /* of equal ones */
    segments_fini(&s);
    assert_true(segments_find(&s, points, 0, 2, 5, 1));
    assert_int_equal(s.count, 0);
    segments_fini(&s);
}

/* --- of a model --------------------------------------------------------- */

static struct train_options small_options(void)
{
    struct train_options o;
    train_options_default(&o);
    o.layers = 1;
    o.width = 16;
    o.ffn = 32;
    o.window = 10;
    o.epochs_max = 2;
    o.patience = 0;
    o.batch_tokens = 512;
    o.fraud_width = 8;
    o.segments = 3;
    return o;
}

/* The hidden state after the newest event before until_ms. */
static const float *stand(const struct tiny_log *t, struct scorer *s,
                          uint32_t user, int64_t until_ms)
{
    static struct score out;
    struct context *slot = NULL;
    uint64_t row = t->user_start[user + 1] - 1;
    struct score_request in = {.context = &slot};
    while (t->events[row].time_ms >= until_ms)
        row--;
    in.n = row - t->user_start[user];
    in.event_count = scorer_events_needed(s, NULL, in.n);
    in.events = t->events + row + 1 - in.event_count;
    in.features = t->features + row * TINY_FEATURES;
    scorer_score(s, &in, &out, 1);
    scorer_forget(s, &slot);
    return out.hidden;
}

/* Each centroid is the mean of the states that are nearest to it. */
static void check_centroids(const struct tiny_log *t, const struct model *m,
                            int64_t until_ms)
{
    const struct scorer_limits limits = {
        .context_bytes_max = 1 << 20, .events_max = 1, .k_max = 1};
    uint32_t width = m->params.config.width, size[SEGMENTS_MAX] = {0};
    double *sum = calloc((size_t)SEGMENTS_MAX * width, sizeof *sum);
    struct scorer *s;
    struct err e;
    assert_non_null(sum);
    assert_int_equal(scorer_new(&s, m, limits, &e), RC_OK);
    for (uint32_t u = 0; u < t->log.users; u++) {
        const float *hidden = stand(t, s, u, until_ms);
        int32_t c = model_segment(m, hidden);
        assert_in_range(c, 0, m->segments.count - 1);
        size[c]++;
        for (uint32_t d = 0; d < width; d++)
            sum[(uint32_t)c * width + d] += (double)hidden[d];
    }
    for (uint32_t c = 0; c < m->segments.count; c++) {
        assert_true(size[c] > 0);
        assert_true(c == 0 || size[c] <= size[c - 1]);
        for (uint32_t d = 0; d < width; d++)
            assert_true(fabs(sum[c * width + d] / size[c] -
                             (double)m->segments.centroids[c * width + d]) <
                        1e-5);
    }
    scorer_free(s);
    free(sum);
}

static void test_a_model_has_those_of_its_users(void **state)
{
    struct train_options o = small_options();
    struct model *m;
    struct tiny_log t;
    struct err e = {.text = ""};
    double counted = 0;
    (void)state;
    tiny_log_init(&t, 60, 5);
    o.validate_from_ms = INT64_C(25) * TINY_HOUR_MS; /* cuts every user */
    if (train_behaviour(&t.log, &o, dir, NULL, NULL, &e) != RC_OK)
        fail_msg("%s", e.text);
    if (model_open(&m, dir, &e) != RC_OK) fail_msg("%s", e.text);
    assert_int_equal(model_info(m)->segments, 3);
    check_centroids(&t, m, o.validate_from_ms);
    for (uint32_t i = 0; i < model_info(m)->items; i++) {
        uint32_t item = model_item_rank(m, i);
        counted += (double)model_item_count(m, item);
        assert_true(i == 0 || model_item_count(m, model_item_rank(m, i - 1)) >=
                                  model_item_count(m, item));
    }
    for (uint64_t r = 0; r < t.log.rows; r++)
        counted -= t.events[r].time_ms < o.validate_from_ms;
    assert_true(counted == 0); /* every event once, none of validation */
    model_free(m);
    tiny_log_fini(&t);
}

static int remove_dir(void **state)
{
    (void)state;
    return system("rm -rf test_segments.tmp");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clouds_are_found),
        cmocka_unit_test(test_same_points_same_bytes),
        cmocka_unit_test(test_points_that_are_alike),
        cmocka_unit_test_teardown(test_a_model_has_those_of_its_users,
                                  remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
