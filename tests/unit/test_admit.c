/* test_admit.c - goal: late, repeated and expired events are what the
 * options say, and the same after a crash, in any batch and in a replay.
 * Method: a log in which users pause for longer than state.ttl, events come
 * days late and ids repeat, near and far. A few lines here say what must
 * become of each event, from the whole log at hand. That the others' scores
 * do not change is seen by a second run over a log from which everything
 * that must leave no trace was taken out beforehand: repeated and late
 * events, and users who come back under another name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "admit.h"
#include "hash.h"
#include "outputs.h"
#include "partition.h"
#include "spine_log.h"
#include "train.h"

enum {
    EVENTS = 3000,
    USERS = 24,
    KEPT = 32, /* history.events of spine_config */
    HOUR_MS = 3600000,
    STEP_MS = 20 * 60000,
    LATE_MS = 24 * HOUR_MS, /* time.lateness.max */
    TTL_MS = 72 * HOUR_MS,
    RENAMED = 1000, /* added to a user's number per life, in the clean log */
};
#define START_MS INT64_C(1600000000000)

enum fate { APPLIED, REPEATED, TOO_LATE };

struct seen { /* what a run made of an event */
    bool known, applied, scored, repeated, no_context, too_late, expired, bad;
    float fraud, anomaly;
};

static struct spine_event events[EVENTS];
static enum fate fates[EVENTS];
static uint32_t firsts[EVENTS], lives[EVENTS]; /* whom it repeats; its life */
static bool began[EVENTS];                     /* its user came back */
static uint32_t newer[EVENTS];                 /* applied since the first */
static uint32_t number_of[SPINE_PARTITIONS][EVENTS]; /* by offset */

/* --- the log, and what must become of it -------------------------------- */

/* Even users pause for 96 hours in every 288. */
static uint32_t user_at(uint32_t i)
{
    uint32_t user = (uint32_t)(draw(3, i, 0) % USERS);
    bool away = user % 4 < 2 && (i / 288 + user) % 3 == 0;
    return away ? 2 + user % 2 : user;
}

/* The number of an earlier event of this user, or i itself. */
static uint32_t earlier_of(uint32_t i, uint32_t back)
{
    for (uint32_t at = i; at-- > 0;)
        if (events[at].user == events[i].user && back-- == 0) return at;
    return i;
}

static void make_event(uint32_t i)
{
    uint64_t bits = draw(3, i, 1);
    int64_t late_ms = 0;
    struct spine_event *ev = &events[i];
    if (bits % 13 == 0) late_ms = 3 * HOUR_MS;
    if (bits % 17 == 0) late_ms = LATE_MS + 24 * HOUR_MS;
    *ev = (struct spine_event){.user = user_at(i),
                               .item = (uint32_t)(bits >> 8) % SPINE_ITEMS,
                               .id = i,
                               .type = "view",
                               .time_ms =
                                   START_MS + (int64_t)i * STEP_MS - late_ms,
                               .cents = (int64_t)(bits >> 20) % 100000,
                               .logged_ms = START_MS + (int64_t)i * STEP_MS};
    if (bits % 7 == 0) { /* most repeat at once, some what is long gone */
        uint32_t first =
            earlier_of(i, (bits >> 4) % 5 ? (uint32_t)(bits >> 40) % 3
                                          : (uint32_t)(bits >> 40) % 60);
        struct spine_event now = *ev;
        *ev = events[first];
        ev->logged_ms = now.logged_ms;
        if ((bits >> 3) % 2) ev->time_ms = now.time_ms; /* another body */
    }
}

/* One user's applied events in order, and the newest time. */
struct past {
    uint32_t at[EVENTS], count, life;
    int64_t newest_ms;
};

static void judge(struct past *u, uint32_t i, int64_t stream_ms)
{
    const struct spine_event *ev = &events[i];
    uint32_t from;
    if (u->count > 0 && stream_ms - u->newest_ms > TTL_MS) {
        *u = (struct past){.life = u->life + 1};
        began[i] = true;
    }
    lives[i] = u->life;
    from = u->count > KEPT ? u->count - KEPT : 0;
    for (uint32_t k = from; k < u->count; k++)
        if (events[u->at[k]].id == ev->id) {
            fates[i] = REPEATED;
            firsts[i] = u->at[k];
            newer[i] = u->count - 1 - k;
            return;
        }
    fates[i] = APPLIED;
    if (u->count > 0 && u->newest_ms - ev->time_ms > LATE_MS)
        fates[i] = TOO_LATE;
    if (fates[i] == TOO_LATE) return;
    u->at[u->count++] = i;
    if (u->count == 1 || ev->time_ms > u->newest_ms) u->newest_ms = ev->time_ms;
}

static int start(void **state)
{
    static struct past users[USERS];
    int64_t stream_ms[SPINE_PARTITIONS] = {0};
    uint32_t counts[4] = {0};
    (void)state;
    for (uint32_t i = 0; i < EVENTS; i++)
        make_event(i);
    for (uint32_t i = 0; i < EVENTS; i++) {
        int64_t *newest = &stream_ms[events[i].user % SPINE_PARTITIONS];
        if (events[i].time_ms > *newest) *newest = events[i].time_ms;
        judge(&users[events[i].user], i, *newest);
        counts[fates[i]]++;
        counts[3] += began[i];
    }
    assert_true(counts[REPEATED] > 100 && counts[TOO_LATE] > 50);
    assert_true(counts[3] > 20);
    return 0;
}

/* --- runs --------------------------------------------------------------- */

static void make_log(struct spine_log *log)
{
    spine_log_begin(log, EVENTS);
    for (uint32_t i = 0; i < EVENTS; i++) {
        spine_log_add(log, &events[i]);
        number_of[log->records[i].partition][log->records[i].offset] = i;
    }
}

/* Only what is applied, each life under a name of its own; offsets stay. */
static void make_clean_log(struct spine_log *log)
{
    uint32_t kept = 0;
    spine_log_begin(log, EVENTS);
    for (uint32_t i = 0; i < EVENTS; i++) {
        struct spine_event ev = events[i];
        ev.user += lives[i] * RENAMED;
        spine_log_add(log, &ev);
        if (fates[i] == APPLIED) log->records[kept++] = log->records[i];
    }
    log->count = kept;
}

static enum rc see(void *user, const struct batch *b, struct err *e)
{
    struct seen *seen = user;
    (void)e;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct outcome *o = &b->outcomes[i];
        const struct record *r = &b->records[i];
        struct seen *s = &seen[number_of[r->partition][r->offset]];
        if (b->events[i].fold) continue;
        *s = (struct seen){.known = true,
                           .applied = o->applied,
                           .scored = o->scored,
                           .repeated = o->repeated,
                           .no_context = o->no_context,
                           .too_late = o->too_late,
                           .expired = o->expired,
                           .bad = b->events[i].bad != BAD_NONE,
                           .fraud = o->fraud,
                           .anomaly = o->anomaly};
    }
    return RC_OK;
}

static const char *const SKIP[] = {
    "time.lateness.max=1d", "time.late.policy=skip", "repeat.policy=skip",
    "state.ttl=3d",         "time.future.max=1d",    NULL};

static void run_open(struct spine_run *r, const struct spine_log *log,
                     const char *const *sets, struct seen *seen)
{
    spine_run_open(r, log, sets);
    r->options.observe = see;
    r->options.observer = seen;
    spine_run_start(r);
}

/* Events on another partition than murmur2 gives to their user. */
static uint64_t misplaced_of(const struct spine_log *log)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < EVENTS; i++) {
        char user[32];
        (void)snprintf(user, sizeof user, "user-%u", events[i].user);
        count += partition_of(slice_str(user), SPINE_PARTITIONS) !=
                 log->records[i].partition;
    }
    return count;
}

/* --- tests -------------------------------------------------------------- */

/* What is left out leaves no trace: the scores of all others are those of a
 * log in which it never was. */
static void test_skip(void **state)
{
    static struct seen got[EVENTS], clean[EVENTS];
    struct spine_log log, clean_log;
    struct spine_run r, c;
    (void)state;
    make_log(&log);
    make_clean_log(&clean_log);
    run_open(&r, &log, SKIP, got);
    spine_run_to_end(&r);
    run_open(&c, &clean_log, NULL, clean);
    spine_run_to_end(&c);
    assert_in_range(misplaced_of(&log), 1, EVENTS - 1);
    assert_int_equal(spine_run_count(&r, COUNT_events_misplaced),
                     misplaced_of(&log));
    for (uint32_t i = 0; i < EVENTS; i++) {
        assert_true(got[i].known);
        assert_int_equal(got[i].applied, fates[i] == APPLIED);
        assert_int_equal(got[i].scored, fates[i] == APPLIED);
        assert_int_equal(got[i].repeated, fates[i] == REPEATED);
        assert_int_equal(got[i].too_late, fates[i] == TOO_LATE);
        assert_int_equal(got[i].expired, began[i]);
        if (fates[i] != APPLIED) continue;
        assert_memory_equal(&got[i].fraud, &clean[i].fraud, sizeof(float));
        assert_memory_equal(&got[i].anomaly, &clean[i].anomaly, sizeof(float));
    }
    spine_run_close(&r);
    spine_run_close(&c);
    spine_log_free(&log);
    spine_log_free(&clean_log);
}

static void check_repeat(const struct seen *got, uint32_t i, uint32_t *same)
{
    const struct seen *first = &got[firsts[i]];
    assert_true(got[i].scored != got[i].no_context);
    /* W = 8: 2 W - 1 events before the first are enough. */
    if (newer[i] + 16 <= KEPT) assert_true(got[i].scored);
    if (newer[i] > 0) return;
    assert_memory_equal(&got[i].fraud, &first->fraud, sizeof(float));
    assert_memory_equal(&got[i].anomaly, &first->anomaly, sizeof(float));
    ++*same;
}

/* Scored again: in the place of the first, with its bits where nothing was
 * applied since that could have changed its windows. No other score is
 * changed by it. */
static void test_again(void **state)
{
    static struct seen got[EVENTS], skipped[EVENTS];
    const char *const again[] = {"time.late.policy=skip", "state.ttl=3d",
                                 "time.future.max=1d", "repeat.policy=again",
                                 NULL};
    struct spine_log log;
    struct spine_run r, s;
    uint32_t same = 0, no_context = 0;
    (void)state;
    make_log(&log);
    run_open(&r, &log, again, got);
    spine_run_to_end(&r);
    run_open(&s, &log, SKIP, skipped);
    spine_run_to_end(&s);
    for (uint32_t i = 0; i < EVENTS; i++) {
        if (fates[i] == REPEATED) {
            check_repeat(got, i, &same);
            no_context += got[i].no_context;
            continue;
        }
        assert_int_equal(got[i].scored, skipped[i].scored);
        assert_memory_equal(&got[i].fraud, &skipped[i].fraud, sizeof(float));
    }
    assert_true(same > 50 && no_context > 0);
    assert_int_equal(spine_run_count(&r, COUNT_ids_repeated_no_context),
                     no_context);
    spine_run_close(&r);
    spine_run_close(&s);
    spine_log_free(&log);
}

/* The scores of both policies are the same; those of reemit carry a header,
 * and neither makes a list. */
static void test_reemit(void **state)
{
    const char *const again[] = {"state.ttl=3d", "time.future.max=1d",
                                 "repeat.policy=again", NULL};
    const char *const reemit[] = {"state.ttl=3d", "time.future.max=1d",
                                  "repeat.policy=reemit", NULL};
    struct spine_log log;
    struct spine_run r, s;
    struct spine_outputs a, b;
    uint64_t marked = 0;
    (void)state;
    make_log(&log);
    spine_run_open(&r, &log, again);
    spine_run_start(&r);
    spine_run_to_end(&r);
    spine_run_open(&s, &log, reemit);
    spine_run_start(&s);
    spine_run_to_end(&s);
    a = spine_outputs_of(&r, 1);
    b = spine_outputs_of(&s, 1);
    assert_int_equal(a.count, b.count);
    for (uint32_t i = 0; i < a.count; i++) {
        const struct message *x = a.at[i].message, *y = b.at[i].message;
        assert_true(slice_equal(x->value, y->value));
        assert_int_equal(x->header_count, 1);
        if (y->header_count == 1) continue;
        assert_int_equal(y->output, OUTPUT_FRAUD);
        assert_true(
            slice_equal(y->headers[0].name, slice_str(REPEATED_HEADER)));
        assert_true(slice_equal(y->headers[1].name, slice_str("trace")));
        marked++;
        if (i + 1 < b.count)
            assert_false(b.at[i + 1].offset == b.at[i].offset &&
                         b.at[i + 1].partition == b.at[i].partition);
    }
    assert_true(marked > 100);
    assert_int_equal(marked, spine_run_count(&s, COUNT_ids_repeated));
    spine_outputs_free(&a);
    spine_outputs_free(&b);
    spine_run_close(&r);
    spine_run_close(&s);
    spine_log_free(&log);
}

/* score: applied as any late event, and counted. dead_letter: gone with its
 * reason, as is seen in the outputs. */
static void test_late_policies(void **state)
{
    const char *const letters[] = {"time.late.policy=dead_letter",
                                   "repeat.policy=skip", "state.ttl=3d",
                                   "time.future.max=1d", NULL};
    static struct seen got[EVENTS], scored[EVENTS];
    struct spine_log log;
    struct spine_run r, s;
    struct spine_outputs out;
    uint64_t found = 0, expected = 0;
    (void)state;
    make_log(&log);
    run_open(&r, &log, letters, got);
    spine_run_to_end(&r);
    out = spine_outputs_of(&r, 1);
    for (uint32_t i = 0; i < out.count; i++) {
        const struct message *m = out.at[i].message;
        if (m->output != OUTPUT_DEAD_LETTERS) continue;
        assert_true(
            slice_equal(m->headers[0].name, slice_str(DEAD_LETTER_REASON)));
        assert_true(slice_equal(m->headers[0].value, slice_str("late")));
        found++;
    }
    for (uint32_t i = 0; i < EVENTS; i++) {
        expected += fates[i] == TOO_LATE;
        assert_int_equal(got[i].bad, fates[i] == TOO_LATE);
        assert_int_equal(got[i].applied, fates[i] == APPLIED);
    }
    assert_int_equal(found, expected);
    assert_int_equal(spine_run_count(&r, COUNT_events_too_late), expected);
    run_open(&s, &log, NULL, scored);
    spine_run_to_end(&s);
    for (uint32_t i = 0; i < EVENTS; i++)
        if (scored[i].too_late) assert_true(scored[i].scored);
    assert_true(spine_run_count(&s, COUNT_events_too_late) > 0);
    spine_outputs_free(&out);
    spine_run_close(&r);
    spine_run_close(&s);
    spine_log_free(&log);
}

/* All at once, in batches of 1 and of 64, with failures, and with crashes on
 * a real store: the bytes of a calm run. */
static void run_with_crashes(const struct spine_log *log,
                             const char *const *sets, struct spine_run *r)
{
    char dir[] = "/tmp/millrace-admit-XXXXXX", command[64];
    const struct store_options o = {.dir = dir, .memory_bytes = 8 << 20};
    struct store *store;
    struct err e;
    assert_non_null(mkdtemp(dir));
    spine_run_open(r, log, sets);
    for (uint32_t crash = 0; crash <= 8; crash++) {
        assert_int_equal(store_open(&store, &o, &e), RC_OK);
        r->options.store = store;
        if (crash == 0)
            spine_run_start(r);
        else
            spine_run_again(r, log);
        if (crash == 8) break;
        for (uint32_t s = 0; s < 15 + crash; s++) {
            if (s % 6 == 5) sink_memory_fail(r->sink, 1, crash % 2);
            assert_int_equal(worker_step(r->worker, &e), RC_OK);
        }
        spine_run_crash(r);
        store_close(store);
    }
    spine_run_to_end(r);
    worker_free(r->worker);
    r->worker = NULL;
    source_close(r->source);
    mapping_free(r->mapping);
    store_close(store);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static void test_same_whatever_happens(void **state)
{
#define POLICIES                                                               \
    "time.late.policy=dead_letter", "repeat.policy=reemit", "state.ttl=3d",    \
        "time.future.max=1d"
    const char *const calm[] = {POLICIES, NULL};
    const char *const one[] = {POLICIES, "batch.events.max=1", NULL};
    const char *const large[] = {POLICIES, "batch.events.max=512", NULL};
    const char *const often[] = {POLICIES, "commit.interval=1ms", NULL};
#undef POLICIES
    struct spine_log log;
    struct spine_run runs[4];
    struct spine_outputs outputs[4];
    (void)state;
    make_log(&log);
    spine_run_open(&runs[0], &log, calm);
    spine_run_open(&runs[1], &log, one);
    spine_run_open(&runs[2], &log, large);
    for (uint32_t i = 0; i < 3; i++) {
        spine_run_start(&runs[i]);
        spine_run_to_end(&runs[i]);
    }
    run_with_crashes(&log, often, &runs[3]);
    for (uint32_t i = 0; i < 4; i++)
        outputs[i] = spine_outputs_of(&runs[i], 1);
    for (uint32_t i = 1; i < 4; i++)
        spine_outputs_same(&outputs[0], &outputs[i]);
    assert_true(spine_run_count(&runs[3], COUNT_events_folded) > 0);
    assert_true(spine_run_count(&runs[3], COUNT_rewinds) > 0);
    for (uint32_t i = 0; i < 4; i++) {
        spine_outputs_free(&outputs[i]);
        spine_run_close(&runs[i]);
    }
    spine_log_free(&log);
}

/* An event beyond time.future.max goes to the dead letters; all others are
 * what they are in a log in which it never was, and nobody expires by it. */
static void test_future_moves_nothing(void **state)
{
    const uint32_t at = 700;
    struct spine_event before = events[at];
    struct spine_log log, good;
    struct spine_run r, g;
    struct spine_outputs a, b;
    uint32_t others = 0;
    (void)state;
    events[at].time_ms = events[at].logged_ms + TTL_MS;
    make_log(&log);
    make_log(&good);
    good.count--;
    memmove(&good.records[at], &good.records[at + 1],
            (good.count - at) * sizeof *good.records);
    spine_run_open(&r, &log, SKIP);
    spine_run_start(&r);
    spine_run_to_end(&r);
    spine_run_open(&g, &good, SKIP);
    spine_run_start(&g);
    spine_run_to_end(&g);
    a = spine_outputs_of(&r, 1);
    b = spine_outputs_of(&g, 1);
    assert_int_equal(a.count, b.count + 1);
    for (uint32_t i = 0; i < a.count; i++) {
        const struct message *m = a.at[i].message;
        if (m->output != OUTPUT_DEAD_LETTERS)
            assert_true(slice_equal(m->value, b.at[others++].message->value));
    }
    assert_int_equal(others, b.count);
    assert_int_equal(spine_run_count(&r, COUNT_users_expired),
                     spine_run_count(&g, COUNT_users_expired));
    spine_outputs_free(&a);
    spine_outputs_free(&b);
    spine_run_close(&r);
    spine_run_close(&g);
    spine_log_free(&log);
    spine_log_free(&good);
    events[at] = before;
}

/* Options that contradict each other are refused with both names. */
static void test_contradictions(void **state)
{
    static const char *const bad[] = {"time.future.max=0", "time.future.max=3d",
                                      "time.future.max=4d"};
    struct admit a;
    struct err e;
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        const char *const sets[] = {"state.ttl=3d", bad[i], NULL};
        struct config *c = spine_config(sets);
        assert_int_equal(admit_init(&a, c, TRAIN_TIME, &e), RC_STOP);
        assert_non_null(strstr(e.text, "time.future.max"));
        config_free(c);
    }
    {
        const char *const sets[] = {"state.ttl=3d", "time.future.max=1d", NULL};
        struct config *c = spine_config(sets);
        assert_int_equal(admit_init(&a, c, 0, &e), RC_STOP);
        assert_non_null(strstr(e.text, "role.time"));
        assert_int_equal(admit_init(&a, c, TRAIN_TIME, &e), RC_OK);
        config_free(c);
    }
}

/* At the limit and one beyond; far apart without an overflow. */
static void test_limits(void **state)
{
    const struct admit a = {.lateness_ms = 10, .ttl_ms = 10};
    struct past_event ev = {.time_ms = 90};
    (void)state;
    assert_false(admit_expired(&a, 90, 100));
    assert_true(admit_expired(&a, 90, 101));
    assert_false(admit_expired(&a, INT64_MIN, INT64_MAX)); /* never seen */
    assert_true(admit_expired(&a, INT64_MIN + 1, INT64_MAX));
    assert_false(admit_too_late(&a, 100, &ev));
    assert_true(admit_too_late(&a, 101, &ev));
    assert_false(admit_too_late(&a, INT64_MIN, &ev));
    ev.time_ms = INT64_MIN;
    assert_true(admit_too_late(&a, INT64_MAX, &ev));
    ev.flags = PAST_NO_TIME;
    assert_false(admit_too_late(&a, INT64_MAX, &ev));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_reemit),
        cmocka_unit_test(test_late_policies),
        cmocka_unit_test(test_future_moves_nothing),
        cmocka_unit_test(test_same_whatever_happens),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
