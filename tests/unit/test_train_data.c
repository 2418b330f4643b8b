/* Goal    Every target is taken once, in the context in which it would be
 *         scored; nothing reads what must not be seen; labels count by rule.
 * Method  A made-up log is cut with several windows, and the pieces are held
 *         against the definition of the anchor; roles and labels against the
 *         options that make them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tiny_log.h"
#include "train_data.h"

struct cut {
    struct tiny_log tiny;
    struct train_options o;
    struct behaviour_config shape;
    struct tokeniser tokeniser;
    struct train_data *data;
};

static void cut_open(struct cut *c)
{
    struct err e;
    c->shape = (struct behaviour_config){0};
    c->tokeniser = (struct tokeniser){0};
    assert_int_equal(data_vocabularies(&c->tiny.log, &c->o, NULL, &c->shape,
                                       &c->tokeniser, &e),
                     RC_OK);
    assert_int_equal(data_new(&c->data, &c->tiny.log, &c->o, &c->tokeniser, &e),
                     RC_OK);
}

static void cut_close(struct cut *c)
{
    data_free(c->data);
    tokeniser_fini(&c->tokeniser);
}

static uint64_t anchor(uint64_t n, uint64_t window)
{
    return n / window ? (n / window - 1) * window : 0;
}

/* Marks the targets of a list, and checks each one's context. */
static void mark(const struct cut *c, const struct piece_list *list,
                 enum role role, uint8_t *seen)
{
    const struct train_data *d = c->data;
    for (uint32_t k = 0; k < list->count; k++) {
        const struct piece *p = &list->at[k];
        uint64_t start = c->tiny.user_start[p->user];
        assert_in_range(p->count, 1, 2 * c->o.window);
        assert_true(p->count + 1 >= p->target_until);
        for (uint32_t i = p->target_from; i < p->target_until; i++) {
            uint64_t row = p->row + i;
            if (!piece_wants(d, p, i, role)) continue;
            assert_int_equal(p->row - start, anchor(row - start, c->o.window));
            /* A labelled target's own token is read. */
            if (d->label[row] >= 0) assert_true(i < p->count);
            seen[row]++;
        }
    }
}

static void test_each_target_once(void **state)
{
    static const uint32_t windows[] = {1, 2, 3, 8, 25, 100};
    (void)state;
    for (uint32_t i = 0; i < 6; i++) {
        struct cut c;
        uint8_t *seen;
        tiny_log_init(&c.tiny, 40, 3);
        train_options_default(&c.o);
        c.o.window = windows[i];
        c.o.from_ms = 3 * TINY_HOUR_MS;
        c.o.validate_from_ms = 20 * TINY_HOUR_MS;
        c.o.until_ms = 40 * TINY_HOUR_MS;
        cut_open(&c);
        seen = calloc(c.tiny.log.rows, 1);
        mark(&c, &c.data->train, ROLE_TRAIN, seen);
        mark(&c, &c.data->validate, ROLE_VALIDATE, seen);
        for (uint64_t r = 0; r < c.tiny.log.rows; r++) {
            int64_t hour = c.tiny.events[r].time_ms / TINY_HOUR_MS;
            assert_int_equal(seen[r], hour >= 3 && hour < 40);
        }
        free(seen);
        cut_close(&c);
        tiny_log_fini(&c.tiny);
    }
}

/* The last event's token is in no piece; the one before it is only read to
 * be a target of validation. */
static void test_leave_one_out(void **state)
{
    struct cut c;
    (void)state;
    tiny_log_init(&c.tiny, 40, 3);
    train_options_default(&c.o);
    c.o.leave_one_out = true;
    c.o.window = 16;
    c.o.fraud_weight = 0;
    cut_open(&c);
    for (uint32_t k = 0; k < c.data->train.count; k++) {
        const struct piece *p = &c.data->train.at[k];
        uint64_t end = c.tiny.user_start[p->user + 1];
        assert_true(p->row + p->count <= end - 3);
        assert_true(p->row + p->target_until <= end - 2);
    }
    assert_int_equal(c.data->validate.count, 40);
    for (uint32_t k = 0; k < c.data->validate.count; k++) {
        const struct piece *p = &c.data->validate.at[k];
        uint64_t end = c.tiny.user_start[p->user + 1];
        assert_int_equal(p->row + p->target_until, end - 1);
        assert_true(p->row + p->count <= end - 2);
    }
    cut_close(&c);
    tiny_log_fini(&c.tiny);
}

/* By hand: t learned from, v validation, - the test, of users with so many
 * events; who has one has nothing before it, who has two no validation. */
static void test_leave_one_out_by_hand(void **state)
{
    static const char *const want[] = {"", "-", "t-", "tv-", "ttv-", "tttv-"};
    struct train_options o;
    uint64_t start[7] = {0};
    uint8_t role[15];
    struct train_log log = {.users = 6, .user_start = start};
    (void)state;
    train_options_default(&o);
    o.leave_one_out = true;
    for (uint32_t u = 0; u < 6; u++)
        log.rows = start[u + 1] = start[u] + u;
    data_roles(&log, &o, role);
    for (uint32_t u = 0; u < 6; u++)
        for (uint32_t i = 0; i < u; i++) {
            char is = "-tv"[role[start[u] + i]];
            assert_int_equal(is, want[u][i]);
        }
}

/* Vocabularies come from rows learned from alone. */
static void test_vocabulary_does_not_look_ahead(void **state)
{
    struct cut c;
    (void)state;
    tiny_log_init(&c.tiny, 40, 3);
    train_options_default(&c.o);
    c.o.validate_from_ms = 10 * TINY_HOUR_MS;
    for (uint64_t r = 0; r < c.tiny.log.rows; r++)
        if (c.tiny.events[r].time_ms < c.o.validate_from_ms)
            c.tiny.events[r].item = c.tiny.log.names[r % 5].hash;
    cut_open(&c);
    assert_int_equal(c.shape.items, 5);
    cut_close(&c);
    tiny_log_fini(&c.tiny);
}

static void test_silence_counts_after_the_delay(void **state)
{
    struct cut c;
    (void)state;
    tiny_log_init(&c.tiny, 40, 3);
    train_options_default(&c.o);
    c.o.validate_from_ms = 20 * TINY_HOUR_MS;
    c.o.until_ms = 30 * TINY_HOUR_MS;
    c.o.label_delay_ms = 6 * TINY_HOUR_MS;
    c.o.fraud_from_ms = 4 * TINY_HOUR_MS;
    for (uint64_t r = 0; r < c.tiny.log.rows; r++)
        if (r % 2) c.tiny.labels[r] = LABEL_UNKNOWN;
    cut_open(&c);
    for (uint64_t r = 0; r < c.tiny.log.rows; r++) {
        int64_t hour = c.tiny.events[r].time_ms / TINY_HOUR_MS;
        int8_t known = c.tiny.labels[r], want = known;
        if (known == LABEL_UNKNOWN)
            want = hour < 14 || (hour >= 20 && hour < 24) ? LABEL_GOOD : -1;
        if (hour < 4 || hour >= 30) want = -1;
        assert_int_equal(c.data->label[r], want);
    }
    cut_close(&c);
    tiny_log_fini(&c.tiny);
}

/* Of 20 hours less 6 of delay, the newest 5 are learned. */
static void test_a_span_of_labels(void **state)
{
    struct cut c;
    (void)state;
    tiny_log_init(&c.tiny, 40, 3);
    train_options_default(&c.o);
    c.o.validate_from_ms = 20 * TINY_HOUR_MS;
    c.o.label_delay_ms = 6 * TINY_HOUR_MS;
    c.o.fraud_span_ms = 5 * TINY_HOUR_MS;
    for (uint64_t r = 0; r < c.tiny.log.rows; r++)
        if (c.tiny.events[r].time_ms >= 14 * TINY_HOUR_MS)
            c.tiny.labels[r] = LABEL_UNKNOWN;
    cut_open(&c);
    for (uint64_t r = 0; r < c.tiny.log.rows; r++) {
        int64_t hour = c.tiny.events[r].time_ms / TINY_HOUR_MS;
        if (hour < 20)
            assert_int_equal(c.data->label[r] >= 0, hour >= 9 && hour < 14);
    }
    cut_close(&c);
    tiny_log_fini(&c.tiny);
}

/* What a prediction has to beat: the rows' shares of training, each counted
 * once more than it came. */
static void test_marginals(void **state)
{
    struct cut c;
    int gap;
    (void)state;
    tiny_log_init(&c.tiny, 40, 3);
    train_options_default(&c.o);
    c.o.validate_from_ms = 20 * TINY_HOUR_MS;
    cut_open(&c);
    gap = params_field(&c.shape, FIELD_GAP, 0);
    assert_true(gap > 0 && c.data->marginal[gap]);
    assert_null(c.data->marginal[params_field(&c.shape, FIELD_ITEM, 0)]);
    for (uint32_t row = 0; row < GAP_ROWS; row++) {
        uint64_t came = 0, all = 0;
        for (uint64_t r = 0; r < c.tiny.log.rows; r++) {
            bool learned = c.data->role[r] == ROLE_TRAIN;
            all += learned;
            came += learned && c.data->tokens[r].row[gap] == row;
        }
        assert_true(fabs((double)c.data->marginal[gap][row] +
                         log((double)(came + 1) / (double)(all + GAP_ROWS))) <
                    1e-5);
    }
    cut_close(&c);
    tiny_log_fini(&c.tiny);
}

static bool known_before(const struct tiny_log *t, uint64_t user, int64_t from,
                         int64_t until)
{
    for (uint64_t r = t->user_start[user]; r < t->user_start[user + 1]; r++) {
        int64_t hour = t->events[r].time_ms / TINY_HOUR_MS;
        if (t->labels[r] == LABEL_FRAUD && hour >= from && hour < until)
            return true;
    }
    return false;
}

/* The day that begins at hour 24 knows frauds up to hour 18, those since hour
 * 12 count; hours 20 to 23 are of the day that knows none. */
static void test_known_users_left_out(void **state)
{
    struct cut c;
    uint32_t left_out = 0;
    (void)state;
    tiny_log_init(&c.tiny, 60, 3);
    train_options_default(&c.o);
    c.o.validate_from_ms = 20 * TINY_HOUR_MS;
    c.o.label_delay_ms = 6 * TINY_HOUR_MS;
    c.o.known_span_ms = 8 * TINY_HOUR_MS;
    cut_open(&c);
    for (uint32_t u = 0; u < c.tiny.log.users; u++)
        for (uint64_t r = c.tiny.user_start[u]; r < c.tiny.user_start[u + 1];
             r++) {
            int64_t hour = c.tiny.events[r].time_ms / TINY_HOUR_MS;
            bool known =
                hour >= 24 && hour < 48 && known_before(&c.tiny, u, 12, 18);
            if (hour < 20 || hour >= 48) continue;
            left_out += known;
            assert_int_equal(c.data->label[r], known ? -1 : c.tiny.labels[r]);
        }
    assert_true(left_out > 50);
    cut_close(&c);
    tiny_log_fini(&c.tiny);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_target_once),
        cmocka_unit_test(test_leave_one_out),
        cmocka_unit_test(test_leave_one_out_by_hand),
        cmocka_unit_test(test_vocabulary_does_not_look_ahead),
        cmocka_unit_test(test_silence_counts_after_the_delay),
        cmocka_unit_test(test_a_span_of_labels),
        cmocka_unit_test(test_known_users_left_out),
        cmocka_unit_test(test_marginals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
