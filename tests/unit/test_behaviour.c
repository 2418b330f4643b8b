/* Goal: a score is the same bits however it is made (I4, I5): one event at a
 * time or hundreds, cached or computed again, through any evictions, in any
 * interleaving of users, in every kernel family.
 * Method: a small random model with a short window, so that anchors move many
 * times; the first run scores event by event with room for all, the others
 * are compared with it in every bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hash.h"
#include "kernels.h"
#include "random_model.h"

#include <math.h>
#include <stdlib.h>

enum { USERS = 30, EVENTS_MAX = 45, SEED = 11, FEATURES = 3, K = 5 };

struct shot {
    float fraud, anomaly;
    float hidden[64];
    struct ranked list[K];
};

static const struct random_shape shapes[] = {
    {2, 32, 2, 64, 8, 200, FEATURES, true, true},
    {1, 24, 3, 40, 5, 33, FEATURES, true, false},
    {3, 16, 1, 24, 20, 70, 0, false, false},
};

static uint64_t events_of(uint64_t user)
{
    return 1 + draw(SEED, 77, user) % EVENTS_MAX;
}

/* The order of events over users: each user's own order stays. */
static uint32_t interleave(uint64_t seed, uint64_t *user, uint64_t *number)
{
    uint64_t next[USERS] = {0};
    uint32_t count = 0, left = USERS;
    for (uint64_t i = 0; left > 0; i++) {
        uint64_t u = draw(seed, 5, i) % USERS;
        if (next[u] == events_of(u)) continue;
        user[count] = u;
        number[count++] = next[u]++;
        if (next[u] == events_of(u)) left--;
    }
    return count;
}

struct run {
    struct scorer *s;
    const struct random_shape *shape;
    struct context *slot[USERS];
    struct past_event history[USERS][EVENTS_MAX];
    struct score_request request[512];
    struct score score[512];
    float features[512][FEATURES];
};

/* One call: events [from, from + count) of the order. */
static void score_batch(struct run *r, const uint64_t *user,
                        const uint64_t *number, uint32_t count,
                        struct shot (*out)[EVENTS_MAX])
{
    bool seen[USERS] = {false};
    struct top_k_request lists[512];
    for (uint32_t i = 0; i < count; i++) {
        uint64_t u = user[i], n = number[i];
        uint32_t needed = seen[u] ? (scorer_anchor_moves(r->s, n)
                                         ? scorer_events_needed(r->s, NULL, n)
                                         : 1)
                                  : scorer_events_needed(r->s, r->slot[u], n);
        seen[u] = true;
        for (uint32_t f = 0; f < FEATURES; f++)
            r->features[i][f] = draw_unit(draw(u, n, f)) * 8 - 4;
        if (n % 3 == 0) r->features[i][1] = NAN;
        r->request[i] = (struct score_request){
            .context = &r->slot[u],
            .n = n,
            .events = &r->history[u][n + 1 - needed],
            .event_count = needed,
            .features = r->features[i],
        };
    }
    scorer_score(r->s, r->request, r->score, count);
    for (uint32_t i = 0; i < count; i++)
        lists[i] = (struct top_k_request){.hidden = r->score[i].hidden,
                                          .out = out[user[i]][number[i]].list};
    scorer_top_k(r->s, lists, count, K);
    for (uint32_t i = 0; i < count; i++) {
        struct shot *shot = &out[user[i]][number[i]];
        shot->fraud = r->score[i].fraud;
        shot->anomaly = r->score[i].anomaly;
        memcpy(shot->hidden, r->score[i].hidden,
               r->shape->width * sizeof(float));
        assert_int_equal(lists[i].found, K);
    }
}

static struct scorer_stats run(const struct random_shape *shape,
                               const struct model *m, uint32_t batch,
                               size_t cache_bytes, uint64_t order,
                               struct shot (*out)[EVENTS_MAX])
{
    struct scorer_limits limits = {cache_bytes, batch, K};
    struct run *r = calloc(1, sizeof *r);
    uint64_t *user = calloc(USERS * EVENTS_MAX, sizeof *user);
    uint64_t *number = calloc(USERS * EVENTS_MAX, sizeof *number);
    struct scorer_stats stats;
    struct err e = {0};
    uint32_t count;

    assert_non_null(r);
    r->shape = shape;
    if (scorer_new(&r->s, m, limits, &e) != RC_OK) fail_msg("%s", e.text);
    for (uint64_t u = 0; u < USERS; u++)
        for (uint64_t n = 0; n < EVENTS_MAX; n++)
            r->history[u][n] = random_event(shape, SEED, u, n);
    memset(out, 0, USERS * sizeof *out);
    count = interleave(order, user, number);
    for (uint32_t i = 0; i < count; i += batch)
        score_batch(r, user + i, number + i,
                    count - i < batch ? count - i : batch, out);
    stats = scorer_stats(r->s);
    for (uint64_t u = 0; u < USERS; u++)
        scorer_forget(r->s, &r->slot[u]);
    assert_int_equal(scorer_stats(r->s).contexts, 0);
    assert_int_equal(scorer_stats(r->s).context_bytes, 0);
    scorer_free(r->s);
    free(r);
    free(user);
    free(number);
    return stats;
}

static void test_same_bits(void **state)
{
    static const struct {
        uint32_t batch;
        size_t cache_bytes;
        uint64_t order;
    } runs[] = {
        {1, 0, 1},         {7, 64 << 20, 1},   {7, 0, 1},
        {64, 64 << 20, 1}, {64, 40000, 1},     {256, 64 << 20, 1},
        {256, 0, 1},       {500, 64 << 20, 2}, {13, 100000, 3},
    };
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct model *m = random_model(shapes[s], SEED);
        struct shot(*first)[EVENTS_MAX] = calloc(USERS, sizeof *first);
        struct shot(*again)[EVENTS_MAX] = calloc(USERS, sizeof *again);
        struct scorer_stats plenty = run(&shapes[s], m, 1, 64 << 20, 1, first);
        assert_int_equal(plenty.evictions_total, 0);
        assert_true(plenty.hits_total > plenty.misses_total);
        for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
            struct scorer_stats stats =
                run(&shapes[s], m, runs[i].batch, runs[i].cache_bytes,
                    runs[i].order, again);
            assert_memory_equal(first, again, USERS * sizeof *first);
            if (runs[i].cache_bytes == 0)
                assert_true(stats.evictions_total > 0);
        }
        free(first);
        free(again);
        model_free(m);
    }
}

/* Training reads the same hidden states: all contexts of all users as one
 * shard, against the first run's. */
static void test_training_forward(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct random_shape *shape = &shapes[i];
        uint32_t w = shape->window, sequences = 0, wanted = 0, at = 0;
        size_t bytes = shape->width * sizeof(float);
        struct model *m = random_model(*shape, SEED);
        struct shot(*first)[EVENTS_MAX] = calloc(USERS, sizeof *first);
        struct sequence *in = calloc(USERS * EVENTS_MAX, sizeof *in);
        struct token *tokens = calloc(USERS * EVENTS_MAX, sizeof *tokens);
        struct trainer *t = trainer_new(m->behaviour, 2 * USERS * EVENTS_MAX,
                                        USERS * EVENTS_MAX);
        const real *hidden;

        (void)run(shape, m, 64, 64 << 20, 1, first);
        for (uint64_t u = 0; u < USERS; u++) {
            uint64_t events = events_of(u), from = 0, until;
            struct token *token = tokens + u * EVENTS_MAX;
            for (uint64_t n = 0; n < events; n++) {
                struct past_event ev = random_event(shape, SEED, u, n);
                tokenise(&m->tokeniser, &ev, &token[n]);
            }
            /* Contexts start at 0, W, 2 W, ...; each event is wanted once. */
            for (uint64_t anchor = 0; from < events; anchor += w) {
                until = anchor + 2 * w < events ? anchor + 2 * w : events;
                in[sequences++] =
                    (struct sequence){.tokens = token + anchor,
                                      .count = (uint32_t)(until - anchor),
                                      .wanted_from = (uint32_t)(from - anchor)};
                from = until;
            }
        }
        hidden = trainer_forward(t, in, sequences, (struct dropout){0});
        for (uint64_t u = 0, s = 0; u < USERS; u++)
            for (uint64_t n = 0; n < events_of(u); n++, wanted++) {
                while (at == in[s].count - in[s].wanted_from)
                    at = 0, s++;
                at++;
                assert_memory_equal(hidden + (size_t)wanted * shape->width,
                                    first[u][n].hidden, bytes);
            }
        trainer_free(t);
        free(in);
        free(tokens);
        free(first);
        model_free(m);
    }
}

/* Sabotage: another history must give other bits, or the test above would
 * pass for a model that reads nothing. */
static void test_history_matters(void **state)
{
    const struct random_shape *shape = &shapes[0];
    struct model *m = random_model(*shape, SEED);
    struct scorer *s;
    struct scorer_limits limits = {0, 1, K};
    struct past_event ev[2] = {random_event(shape, SEED, 1, 0),
                               random_event(shape, SEED, 1, 1)};
    float features[FEATURES] = {0}, first[64];
    struct context *slot = NULL;
    struct score score;
    struct score_request r = {&slot, 1, ev, 2, features};
    struct err e;
    (void)state;

    assert_int_equal(scorer_new(&s, m, limits, &e), RC_OK);
    scorer_score(s, &r, &score, 1);
    memcpy(first, score.hidden, shape->width * sizeof *first);
    scorer_forget(s, &slot);
    ev[0].amount = 5;
    scorer_score(s, &r, &score, 1);
    assert_memory_not_equal(first, score.hidden, shape->width * sizeof *first);
    scorer_forget(s, &slot);
    ev[0] = random_event(shape, SEED, 1, 0);
    ev[0].time_ms -= 86400000;
    scorer_score(s, &r, &score, 1);
    assert_memory_not_equal(first, score.hidden, shape->width * sizeof *first);
    scorer_free(s);
    model_free(m);
}

static void score_one(struct scorer *s, const struct random_shape *shape,
                      struct context **slot, uint64_t n, struct score *out)
{
    static const float features[FEATURES];
    uint32_t count = scorer_events_needed(s, *slot, n);
    struct past_event *events = calloc(count, sizeof *events);
    struct score_request r = {slot, n, events, count, features};
    for (uint32_t i = 0; i < count; i++)
        events[i] = random_event(shape, SEED, 1, n + 1 - count + i);
    scorer_score(s, &r, out, 1);
    free(events);
}

/* A context that lags behind its user takes only what it lacks, and gives the
 * bits of one made anew; also from another slot. */
static void test_lagging_context(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct random_shape *shape = &shapes[i];
        struct model *m = random_model(*shape, SEED);
        struct scorer_limits limits = {64 << 20, 4, K};
        struct scorer *s, *anew;
        struct context *slot = NULL, *other = NULL;
        uint64_t last = 0, shorter = 0;
        struct err e;
        assert_int_equal(scorer_new(&s, m, limits, &e), RC_OK);
        assert_int_equal(scorer_new(&anew, m, limits, &e), RC_OK);
        for (uint64_t n = 0; n < 5 * shape->window; n += 1 + n % 4) {
            struct context *none = NULL, **at = n % 2 ? &other : &slot;
            struct context **from = n % 2 ? &slot : &other;
            uint64_t tokens = scorer_stats(s).tokens_total;
            uint32_t needed;
            struct score got, expected;
            if (*from) scorer_move(from, at);
            needed = scorer_events_needed(s, *at, n);
            if (*at && needed == n - last && needed > 1) shorter++;
            score_one(s, shape, at, n, &got);
            assert_int_equal(scorer_stats(s).tokens_total - tokens, needed);
            score_one(anew, shape, &none, n, &expected);
            assert_memory_equal(got.hidden, expected.hidden,
                                shape->width * sizeof(float));
            assert_memory_equal(&got.anomaly, &expected.anomaly, sizeof(float));
            scorer_forget(anew, &none);
            last = n;
        }
        assert_true(shorter > shape->window / 2);
        scorer_forget_all(s);
        assert_null(slot);
        assert_null(other);
        assert_int_equal(scorer_stats(s).contexts, 0);
        scorer_free(s);
        scorer_free(anew);
        model_free(m);
    }
}

static void test_events_needed(void **state)
{
    struct model *m = random_model(shapes[0], SEED);
    uint32_t w = shapes[0].window;
    struct scorer_limits limits = {0, 4, K};
    struct scorer *s;
    struct err e;
    (void)state;
    assert_int_equal(scorer_new(&s, m, limits, &e), RC_OK);
    assert_int_equal(scorer_events_needed(s, NULL, 0), 1);
    assert_int_equal(scorer_events_needed(s, NULL, w), w + 1);
    assert_int_equal(scorer_events_needed(s, NULL, 2 * w - 1), 2 * w);
    assert_int_equal(scorer_events_needed(s, NULL, 2 * w), w + 1);
    assert_int_equal(scorer_events_needed(s, NULL, 7 * w + 3), w + 4);
    assert_false(scorer_anchor_moves(s, 0));
    assert_false(scorer_anchor_moves(s, w));
    assert_true(scorer_anchor_moves(s, 2 * w));
    assert_false(scorer_anchor_moves(s, 2 * w + 1));
    scorer_free(s);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_needed),
        cmocka_unit_test(test_history_matters),
        cmocka_unit_test(test_lagging_context),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_training_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
