/* Goal    The reasons of a fraud score add up to it, each is what reasons.h
 *         says, and none depends on anything but the event's own context.
 * Method  Random models and one that is trained. Features are compared with
 *         the integral of the gradient in 500 steps, in doubles and plain
 *         loops; past events with states that the scorer itself makes of
 *         shorter histories; bits across batches and caches. Leaving a part
 *         out must be seen by the same check that all pass. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hash.h"
#include "random_model.h"
#include "reasons.h"
#include "tiny_log.h"

enum {
    FEATURES = 7,
    PAST_MAX = 15,
    SEED = 5,
    STEPS = 500,
    EVENTS = 60, /* of each model */
    LIST_MAX = FEATURES + REASON_PARTS,
};

static const struct random_shape shapes[] = {
    {2, 32, 2, 64, 8, 200, FEATURES, true, true},
    {1, 24, 3, 40, 8, 33, FEATURES, true, false},
    {1, 16, 1, 24, 8, 70, FEATURES, false, false},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

struct subject {
    const struct random_shape *shape;
    struct model *model;
    struct scorer *scorer;
    struct explainer *explainer;
};

/* Nets that bend: with the weights of a start GELU is nearly a line. */
static void sharpen(struct model *m)
{
    const struct params *p = &m->params;
    const struct tensor *t = &p->tensor[p->fraud_hidden_weight];
    for (size_t i = 0; i < (size_t)t->rows * t->cols; i++)
        m->values[t->offset + i] *= 4;
    heads_refresh(m->heads);
}

static void open_subject(struct subject *s, const struct random_shape *shape,
                         size_t cache_bytes)
{
    struct scorer_limits limits = {cache_bytes, 64, 1};
    struct err e;
    s->shape = shape;
    s->model = random_model(*shape, SEED);
    sharpen(s->model);
    s->model->tables.calibration[0] = 0.7f;
    s->model->tables.calibration[1] = -2;
    assert_int_equal(scorer_new(&s->scorer, s->model, limits, &e), RC_OK);
    assert_int_equal(explainer_new(&s->explainer, s->model, &e), RC_OK);
    assert_non_null(s->explainer);
}

static void close_subject(struct subject *s)
{
    explainer_free(s->explainer);
    scorer_free(s->scorer);
    model_free(s->model);
}

/* An event with count - 1 before it: minutes apart at first, then hours, then
 * days, so that every group has some. */
static void make_events(const struct subject *s, uint64_t user, uint32_t count,
                        struct past_event *out)
{
    /* The hour, the day and the week just hold the last of theirs. */
    static const int64_t BACK_MS[] = {0,        300000,    1200000,
                                      3600000,  10800000,  36000000,
                                      86400000, 604800000, 864000000};
    enum { STEPS_BACK = sizeof BACK_MS / sizeof *BACK_MS };
    for (uint32_t i = 0; i < count; i++) {
        uint32_t back = count - 1 - i;
        out[i] = random_event(s->shape, SEED, user, i);
        out[i].time_ms =
            INT64_C(1600000000000) -
            (back < STEPS_BACK ? BACK_MS[back]
                               : BACK_MS[STEPS_BACK - 1] * (back - 6));
        if (!s->shape->has_time) out[i].flags |= PAST_NO_TIME;
    }
}

static void make_features(uint64_t user, float *out)
{
    for (uint32_t f = 0; f < FEATURES; f++)
        out[f] = draw_unit(draw(SEED, user, f)) * 40 - 8;
    out[user % FEATURES] = NAN;
}

struct shot {
    struct past_event events[PAST_MAX];
    uint32_t count;
    float features[FEATURES];
    float hidden[64], fraud;
    struct reasons reasons;
    struct reason at[LIST_MAX];
};

static void score(struct subject *s, struct scorer *scorer,
                  const struct past_event *events, uint32_t count,
                  const float *features, float *hidden, float *fraud)
{
    struct context *slot = NULL;
    struct score_request r = {.context = &slot,
                              .n = count - 1,
                              .events = events,
                              .event_count = count,
                              .features = features};
    struct score out;
    scorer_score(scorer, &r, &out, 1);
    memcpy(hidden, out.hidden, s->shape->width * sizeof *hidden);
    if (fraud) *fraud = out.fraud;
    scorer_forget(scorer, &slot);
}

static void explain_shot(struct subject *s, struct shot *shot,
                         uint32_t reasons_max)
{
    struct explain_request r = {.events = shot->events,
                                .event_count = shot->count,
                                .hidden = shot->hidden,
                                .features = shot->features,
                                .reasons_max = reasons_max};
    assert_true(explain(s->explainer, s->scorer, &r, &shot->reasons));
    assert_true(shot->reasons.count <= LIST_MAX);
    memcpy(shot->at, shot->reasons.at, shot->reasons.count * sizeof *shot->at);
    shot->reasons.at = shot->at;
}

static void shoot(struct subject *s, uint64_t user, struct shot *shot)
{
    *shot = (struct shot){.count = 1 + (uint32_t)(user % PAST_MAX)};
    make_events(s, user, shot->count, shot->events);
    make_features(user, shot->features);
    score(s, s->scorer, shot->events, shot->count, shot->features, shot->hidden,
          &shot->fraud);
    explain_shot(s, shot, 0);
}

/* --- the sum ------------------------------------------------------------ */

static double logit(double p)
{
    return log(p / (1 - p));
}

/* Within 1 % of logit(score) - base; a score next to 0 or 1 has few digits,
 * so there its log-odds, which are looked at too, stand for it. */
static bool adds_up(const struct shot *shot)
{
    const struct reasons *r = &shot->reasons;
    double p = (double)shot->fraud, sum = 0;
    double want = (double)r->log_odds - (double)r->base;
    for (uint32_t i = 0; i < r->count; i++)
        sum += (double)r->at[i].log_odds;
    if (p > 0.001 && p < 0.999 && fabs(logit(p) - (double)r->log_odds) > 1e-3)
        return false;
    return fabs(sum - want) <= 0.01 * fabs(want) + 1e-5;
}

static double worst_share(const struct shot *shot)
{
    double sum = 0;
    double want = (double)shot->reasons.log_odds - (double)shot->reasons.base;
    for (uint32_t i = 0; i < shot->reasons.count; i++)
        sum += (double)shot->at[i].log_odds;
    return fabs(sum - want) / fmax(1, fabs(want));
}

static void test_adds_up(void **state)
{
    double worst = 0;
    (void)state;
    for (uint32_t k = 0; k < SHAPES; k++) {
        struct subject s;
        open_subject(&s, &shapes[k], 16 << 20);
        for (uint64_t u = 0; u < EVENTS; u++) {
            struct shot shot;
            shoot(&s, u, &shot);
            assert_true(adds_up(&shot));
            worst = fmax(worst, worst_share(&shot));
        }
        close_subject(&s);
    }
    print_message("parts differ from the score by at most %.2g of it\n", worst);
    assert_true(worst < 1e-4);
}

/* Whatever part is left out, the sum shows it. */
static void test_a_part_left_out_is_seen(void **state)
{
    struct subject s;
    uint32_t seen = 0, left_out = 0;
    (void)state;
    open_subject(&s, &shapes[0], 16 << 20);
    for (uint64_t u = 0; u < EVENTS; u++) {
        struct shot shot;
        shoot(&s, u, &shot);
        for (uint32_t i = 0; i < shot.reasons.count; i++) {
            float kept = shot.at[i].log_odds;
            if (fabsf(kept) < 0.05f) continue;
            shot.at[i].log_odds = 0;
            left_out++;
            seen += !adds_up(&shot);
            shot.at[i].log_odds = kept;
        }
    }
    assert_true(left_out > EVENTS);
    assert_int_equal(seen, left_out);
    close_subject(&s);
}

static void test_short_lists_add_up(void **state)
{
    struct subject s;
    (void)state;
    open_subject(&s, &shapes[0], 16 << 20);
    for (uint64_t u = 0; u < EVENTS; u++)
        for (uint32_t max = 1; max <= 4; max++) {
            struct shot all, few;
            shoot(&s, u, &all);
            few = all;
            explain_shot(&s, &few, max);
            assert_true(adds_up(&few));
            assert_int_equal(few.reasons.count, max);
            assert_int_equal(few.at[max - 1].part, REASON_OTHER);
            assert_true(few.at[max - 1].value ==
                        (float)(all.reasons.count - max + 1));
            for (uint32_t i = 0; i + 1 < max; i++)
                assert_memory_equal(&few.at[i], &all.at[i], sizeof *all.at);
            for (uint32_t i = 1; i < all.reasons.count; i++)
                assert_true(fabsf(all.at[i].log_odds) <=
                            fabsf(all.at[i - 1].log_odds));
        }
    close_subject(&s);
}

/* --- features ----------------------------------------------------------- */

struct plain {
    uint32_t inputs, inner;
    double x0[256], x[256];
    double gradient[256]; /* mean along the line */
};

static double gelu_slope(double x)
{
    double k = 2 * sqrt(2 / 3.14159265358979323846);
    double p = 1 / (1 + exp(-k * (x + 0.044715 * x * x * x)));
    return p + x * p * (1 - p) * k * (1 + 3 * 0.044715 * x * x);
}

static void inputs_of(const struct model *m, const float *hidden,
                      const float *features, double *out)
{
    uint32_t d = m->params.config.width;
    real x[256];
    for (uint32_t k = 0; k < d; k++)
        x[k] = hidden[k];
    features_expand(heads_feature_layer(m->heads), features, x + d);
    for (uint32_t i = 0; i < fraud_inputs(&m->params.config); i++)
        out[i] = (double)x[i];
}

static void reference_of(const struct model *m, double *out)
{
    float features[FEATURES];
    const float *stored = m->tables.fraud_reference_features;
    for (uint32_t f = 0; f < FEATURES; f++)
        features[f] = stored[FEATURES + f] != 0 ? NAN : stored[f];
    inputs_of(m, m->tables.fraud_reference_hidden, features, out);
}

static void add_gradient(const struct fraud_layer *l, struct plain *p,
                         double share)
{
    for (uint32_t s = 0; s < p->inner; s++) {
        double u = (double)l->hidden_bias[s], slope;
        for (uint32_t i = 0; i < p->inputs; i++)
            u += (p->x0[i] + share * (p->x[i] - p->x0[i])) *
                 (double)l->hidden_weight[i * p->inner + s];
        slope = gelu_slope(u) * (double)l->output_weight[s] / l->members;
        for (uint32_t i = 0; i < p->inputs; i++)
            p->gradient[i] +=
                slope * (double)l->hidden_weight[i * p->inner + s] / STEPS;
    }
}

/* The integral as it stands in the paper, step by step. */
static void integrate(const struct subject *s, const struct shot *shot,
                      struct plain *p)
{
    const struct fraud_layer *l = heads_fraud_layer(s->model->heads);
    *p = (struct plain){.inputs = l->inputs, .inner = l->members * l->width};
    assert_true(p->inputs <= 256);
    reference_of(s->model, p->x0);
    inputs_of(s->model, shot->hidden, shot->features, p->x);
    for (uint32_t i = 0; i < STEPS; i++)
        add_gradient(l, p, (i + 0.5) / STEPS);
}

static double plain_feature(const struct subject *s, const struct plain *p,
                            uint32_t f)
{
    uint32_t d = s->shape->width, bins = d + 2 * FEATURES + f * BINS;
    double scale = (double)s->model->tables.calibration[0], sum = 0;
    for (uint32_t i = 0; i < p->inputs; i++)
        if (i == d + f || i == d + FEATURES + f ||
            (i >= bins && i < bins + BINS))
            sum += p->gradient[i] * (p->x[i] - p->x0[i]);
    return scale * sum;
}

static double explained_feature(const struct shot *shot, uint32_t f)
{
    for (uint32_t i = 0; i < shot->reasons.count; i++)
        if (shot->at[i].part == REASON_FEATURE && shot->at[i].feature == f)
            return (double)shot->at[i].log_odds;
    return 0;
}

static void test_features_exactly(void **state)
{
    double worst = 0;
    (void)state;
    for (uint32_t k = 0; k < SHAPES; k++) {
        struct subject s;
        open_subject(&s, &shapes[k], 16 << 20);
        for (uint64_t u = 0; u < 5; u++) {
            struct shot shot;
            struct plain p;
            shoot(&s, u, &shot);
            integrate(&s, &shot, &p);
            for (uint32_t f = 0; f < FEATURES; f++)
                worst = fmax(worst, fabs(plain_feature(&s, &p, f) -
                                         explained_feature(&shot, f)));
        }
        close_subject(&s);
    }
    print_message("features differ from the integral by %.2g\n", worst);
    assert_true(worst < 2e-5);
}

/* The value, and what is usual, are those of the event and the reference. */
static void test_feature_values(void **state)
{
    struct subject s;
    struct shot shot;
    uint32_t missing = 0, found = 0;
    (void)state;
    open_subject(&s, &shapes[0], 16 << 20);
    shoot(&s, 1, &shot);
    for (uint32_t i = 0; i < shot.reasons.count; i++) {
        const struct reason *r = &shot.at[i];
        const float *stored = s.model->tables.fraud_reference_features;
        if (r->part != REASON_FEATURE) continue;
        found++;
        missing += isnan(r->value);
        assert_memory_equal(&r->value, &shot.features[r->feature],
                            sizeof r->value);
        assert_int_equal(isnan(r->usual), r->feature % 3 == 2);
        if (!isnan(r->usual)) assert_true(r->usual == stored[r->feature]);
    }
    assert_true(found >= FEATURES - 1);
    assert_int_equal(missing, 1);
    close_subject(&s);
}

/* --- past events -------------------------------------------------------- */

static const struct reason *find(const struct shot *shot, enum reason_part part)
{
    for (uint32_t i = 0; i < shot->reasons.count; i++)
        if (shot->at[i].part == part) return &shot->at[i];
    return NULL;
}

/* Of the log-odds, from state to state along the plain gradient. */
static double plain_move(const struct subject *s, const struct plain *p,
                         const double *from, const double *to)
{
    double scale = (double)s->model->tables.calibration[0], sum = 0;
    for (uint32_t k = 0; k < s->shape->width; k++)
        sum += p->gradient[k] * (to[k] - from[k]);
    return scale * sum;
}

/* What each group should hold, with make_events. */
static void check_groups(struct subject *s, struct scorer *other,
                         const struct shot *shot)
{
    static const uint32_t HELD[] = {1, 1, 2, 3, 1};
    uint32_t start = shot->count;
    double from[64], to[64];
    float hidden[64];
    struct plain p;
    integrate(s, shot, &p);
    memcpy(from, p.x0, sizeof from);
    for (uint32_t part = REASON_EVENT; part <= REASON_OLDER; part++) {
        const struct reason *r = find(shot, (enum reason_part)part);
        uint32_t held =
            part == REASON_OLDER ? start : HELD[part - REASON_EVENT];
        if (held > start) held = start;
        if (held == 0) {
            assert_null(r);
            continue;
        }
        start -= held;
        score(s, other, shot->events + start, shot->count - start,
              shot->features, hidden, NULL);
        for (uint32_t k = 0; k < s->shape->width; k++)
            to[k] = (double)hidden[k];
        assert_non_null(r);
        assert_true(fabs(plain_move(s, &p, from, to) - (double)r->log_odds) <
                    2e-5);
        if (part == REASON_LAST_EVENT)
            assert_true(r->value == 300);
        else
            assert_true(r->value == (float)held);
        memcpy(from, to, sizeof from);
    }
    assert_int_equal(start, 0);
}

static void test_past_events(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 2; k++) {
        struct subject s;
        struct scorer *other;
        struct scorer_limits limits = {16 << 20, 1, 1};
        struct err e;
        open_subject(&s, &shapes[k], 16 << 20);
        assert_int_equal(scorer_new(&other, s.model, limits, &e), RC_OK);
        for (uint64_t u = 0; u < PAST_MAX; u++) {
            struct shot shot;
            shoot(&s, u, &shot);
            check_groups(&s, other, &shot);
        }
        scorer_free(other);
        close_subject(&s);
    }
}

/* Without a clock there are the event, the one before it, and the rest. */
static void test_past_without_time(void **state)
{
    struct subject s;
    struct shot shot;
    (void)state;
    open_subject(&s, &shapes[2], 16 << 20);
    shoot(&s, PAST_MAX - 1, &shot);
    assert_non_null(find(&shot, REASON_EVENT));
    assert_true(isnan(find(&shot, REASON_LAST_EVENT)->value));
    assert_null(find(&shot, REASON_LAST_HOUR));
    assert_null(find(&shot, REASON_LAST_WEEK));
    assert_true(find(&shot, REASON_OLDER)->value == PAST_MAX - 2);
    close_subject(&s);
}

/* --- bits --------------------------------------------------------------- */

/* The cache is full of others' contexts, or nearly nothing; before and after
 * others are scored. */
static void test_same_bits(void **state)
{
    static const size_t CACHES[] = {16 << 20, 1};
    struct subject s[2];
    struct context *others[64] = {NULL};
    (void)state;
    for (uint32_t k = 0; k < 2; k++)
        open_subject(&s[k], &shapes[0], CACHES[k]);
    for (uint64_t u = 0; u < EVENTS; u++) {
        struct shot a, b;
        struct past_event first = random_event(&shapes[0], SEED, u + 900, 0);
        float features[FEATURES] = {0};
        struct score unused;
        struct score_request r = {.context = &others[u],
                                  .events = &first,
                                  .event_count = 1,
                                  .features = features};
        shoot(&s[0], u, &a);
        scorer_score(s[1].scorer, &r, &unused, 1);
        shoot(&s[1], EVENTS - u, &b);
        shoot(&s[1], u, &b);
        assert_int_equal(a.reasons.count, b.reasons.count);
        assert_memory_equal(a.at, b.at, a.reasons.count * sizeof *a.at);
        assert_memory_equal(&a.reasons.base, &b.reasons.base, sizeof(float));
        assert_memory_equal(&a.reasons.log_odds, &b.reasons.log_odds,
                            sizeof(float));
    }
    for (uint32_t k = 0; k < 2; k++)
        close_subject(&s[k]);
}

/* A context that is cached scores the same after an event was explained. */
static void test_scores_stay(void **state)
{
    struct subject s;
    struct past_event events[PAST_MAX];
    float features[FEATURES], hidden[2][64];
    (void)state;
    open_subject(&s, &shapes[0], 1);
    make_events(&s, 3, PAST_MAX, events);
    make_features(3, features);
    for (uint32_t with = 0; with < 2; with++) {
        struct context *slot = NULL;
        struct shot shot;
        struct score out;
        for (uint32_t n = 0; n < PAST_MAX; n++) {
            uint32_t needed = scorer_events_needed(s.scorer, slot, n);
            struct score_request r = {.context = &slot,
                                      .n = n,
                                      .events = events + n + 1 - needed,
                                      .event_count = needed,
                                      .features = features};
            scorer_score(s.scorer, &r, &out, 1);
            memcpy(hidden[with], out.hidden, sizeof(float) * 32);
            if (with) shoot(&s, n, &shot);
        }
        scorer_forget(s.scorer, &slot);
    }
    assert_memory_equal(hidden[0], hidden[1], sizeof(float) * 32);
    close_subject(&s);
}

/* --- models ------------------------------------------------------------- */

static void test_comes_back_from_disk(void **state)
{
    static const char dir[] = "test_reasons.tmp";
    struct subject s, back = {.shape = &shapes[0]};
    struct scorer_limits limits = {16 << 20, 64, 1};
    struct shot a, b;
    struct err e = {.text = ""};
    (void)state;
    open_subject(&s, &shapes[0], 16 << 20);
    shoot(&s, 7, &a);
    if (model_write(s.model, dir, "# card\n", &e) != RC_OK)
        fail_msg("%s", e.text);
    if (model_open(&back.model, dir, &e) != RC_OK) fail_msg("%s", e.text);
    assert_true(model_info(back.model)->reference[0] != 0);
    assert_string_equal(model_info(back.model)->reference,
                        model_info(s.model)->reference);
    assert_int_equal(scorer_new(&back.scorer, back.model, limits, &e), RC_OK);
    assert_int_equal(explainer_new(&back.explainer, back.model, &e), RC_OK);
    shoot(&back, 7, &b);
    assert_int_equal(a.reasons.count, b.reasons.count);
    assert_memory_equal(a.at, b.at, a.reasons.count * sizeof *a.at);
    close_subject(&back);
    close_subject(&s);
    assert_int_equal(system("rm -rf test_reasons.tmp"), 0);
}

static void test_without_reference(void **state)
{
    struct random_shape no_head = shapes[0];
    struct model *m = random_model(shapes[0], SEED);
    struct explainer *x;
    struct err e;
    (void)state;
    m->tables.has_fraud_reference = false;
    assert_int_equal(explainer_new(&x, m, &e), RC_OK);
    assert_null(x);
    model_free(m);
    no_head.features = 0;
    m = random_model(no_head, SEED);
    assert_int_equal(explainer_new(&x, m, &e), RC_OK);
    assert_null(x);
    model_free(m);
}

/* Numbers beyond telling apart are not explained, and nothing stops. */
static void test_too_large(void **state)
{
    struct subject s;
    struct shot shot;
    struct explain_request r;
    (void)state;
    open_subject(&s, &shapes[0], 16 << 20);
    shoot(&s, 7, &shot);
    r = (struct explain_request){.events = shot.events,
                                 .event_count = shot.count,
                                 .hidden = shot.hidden,
                                 .features = shot.features};
    for (uint32_t k = 0; k < shapes[0].width; k++)
        shot.hidden[k] = 3e38f;
    assert_false(explain(s.explainer, s.scorer, &r, &shot.reasons));
    close_subject(&s);
}

/* --- a trained model ---------------------------------------------------- */

static const char trained_dir[] = "test_reasons_trained.tmp";

static void train(const struct tiny_log *t, const struct random_shape *shape)
{
    struct train_options o;
    struct err e = {.text = ""};
    train_options_default(&o);
    o.layers = shape->layers;
    o.width = shape->width;
    o.ffn = shape->ffn;
    o.window = shape->window;
    o.epochs_max = 3;
    o.batch_tokens = 512;
    o.learning_rate = 5e-3f;
    o.fraud_width = 16;
    o.threads = 1;
    if (train_behaviour(&t->log, &o, trained_dir, NULL, NULL, &e) != RC_OK)
        fail_msg("%s", e.text);
}

/* Explains event n of a user of the log. */
static void shoot_row(struct subject *s, const struct tiny_log *t,
                      uint64_t first, uint32_t n, struct shot *shot)
{
    const float *features = t->features + (first + n) * TINY_FEATURES;
    *shot = (struct shot){.count = n + 1};
    memcpy(shot->events, t->events + first, (n + 1) * sizeof *shot->events);
    memcpy(shot->features, features, TINY_FEATURES * sizeof *features);
    score(s, s->scorer, shot->events, n + 1, shot->features, shot->hidden,
          &shot->fraud);
    explain_shot(s, shot, 0);
}

/* Frauds of the tiny log are payments far above the user's own; the reference
 * is a good one. */
static void test_trained(void **state)
{
    static const struct random_shape shape = {
        .layers = 1, .width = 32, .heads = 2, .ffn = 32, .window = 8};
    struct scorer_limits limits = {16 << 20, 64, 1};
    struct subject s = {.shape = &shape};
    struct tiny_log t;
    struct err e = {.text = ""};
    uint32_t frauds = 0, raised = 0;
    (void)state;
    tiny_log_init(&t, 60, 3);
    train(&t, &shape);
    if (model_open(&s.model, trained_dir, &e) != RC_OK) fail_msg("%s", e.text);
    assert_int_equal(scorer_new(&s.scorer, s.model, limits, &e), RC_OK);
    assert_int_equal(explainer_new(&s.explainer, s.model, &e), RC_OK);
    assert_non_null(s.explainer);
    for (uint32_t u = 0; u < t.log.users; u++)
        for (uint32_t n = 0; n < PAST_MAX; n++) {
            uint64_t first = t.user_start[u];
            struct shot shot;
            if (first + n >= t.user_start[u + 1]) break;
            shoot_row(&s, &t, first, n, &shot);
            assert_true(adds_up(&shot));
            if (t.labels[first + n] != LABEL_FRAUD) continue;
            frauds++;
            raised += shot.reasons.log_odds > shot.reasons.base;
        }
    print_message("%u of %u frauds above the reference\n", raised, frauds);
    assert_true(frauds > 20);
    assert_true(raised * 10 > frauds * 9);
    close_subject(&s);
    tiny_log_fini(&t);
    assert_int_equal(system("rm -rf test_reasons_trained.tmp"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adds_up),
        cmocka_unit_test(test_a_part_left_out_is_seen),
        cmocka_unit_test(test_short_lists_add_up),
        cmocka_unit_test(test_features_exactly),
        cmocka_unit_test(test_feature_values),
        cmocka_unit_test(test_past_events),
        cmocka_unit_test(test_past_without_time),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_scores_stay),
        cmocka_unit_test(test_comes_back_from_disk),
        cmocka_unit_test(test_without_reference),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_trained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
