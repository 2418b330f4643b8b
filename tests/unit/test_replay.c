/* test_replay.c - goal: a replay of files gives what the spine gives, in the
 * order of the log, however many workers and files there are; what it
 * measures is what a few plain lines measure; what is broken stops it.
 * Method: the log of spine_log.h in container files. Outputs are held
 * against a run in memory, rankings against full sorts in this file. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "container.h"
#include "hash.h"
#include "model_dir.h"
#include "replay.h"
#include "source_file.h"
#include "spine_log.h"

enum { EVENTS = 1800, USERS = 30, SEED = 31, FILES = 3, PATH = 128 };

static struct spine_log the_log;
static char dir[] = "/tmp/millrace-replay-XXXXXX";
static char file_paths[FILES + 1][PATH]; /* the parts, then the whole */

static void write_log(const char *path, uint32_t from, uint32_t until)
{
    struct container_writer *w;
    struct err e;
    assert_int_equal(container_create(&w, path, the_log.schema, "deflate", &e),
                     RC_OK);
    for (uint32_t i = from; i < until; i++)
        assert_int_equal(container_append(w, the_log.records[i].value, &e),
                         RC_OK);
    assert_int_equal(container_finish(w, &e), RC_OK);
}

/* A file is one partition. */
static int start(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    spine_log_make(&the_log, EVENTS, USERS, SEED);
    for (uint32_t i = 0; i < EVENTS; i++) {
        the_log.records[i].partition = 0;
        the_log.records[i].offset = i;
    }
    for (uint32_t f = 0; f <= FILES; f++)
        (void)snprintf(file_paths[f], PATH, "%s/log-%u.avro", dir, f);
    write_log(file_paths[0], 0, 700);
    write_log(file_paths[1], 700, 701);
    write_log(file_paths[2], 701, EVENTS);
    write_log(file_paths[3], 0, EVENTS);
    return 0;
}

static int stop(void **state)
{
    char command[PATH];
    (void)state;
    spine_log_free(&the_log);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

/* --- outputs ------------------------------------------------------------ */

struct replayed {
    struct config *config;
    struct metrics *metrics;
    struct replay *replay;
    char fraud[PATH], lists[PATH];
};

static enum rc start_replay(struct replayed *r, bool parts, uint32_t workers,
                            const struct watch_options *watch, struct err *e)
{
    static const char *const SETS[] = {"input.topic=events", NULL};
    const char *paths[FILES] = {file_paths[0], file_paths[1], file_paths[2]};
    const char *const whole[] = {file_paths[3]};
    struct replay_options o = {.model = the_log.model,
                               .paths = parts ? paths : whole,
                               .path_count = parts ? FILES : 1,
                               .workers = workers,
                               .codec = "null",
                               .watch = watch};
    enum rc rc;
    *r = (struct replayed){.config = spine_config(SETS)};
    (void)snprintf(r->fraud, PATH, "%s/fraud.avro", dir);
    (void)snprintf(r->lists, PATH, "%s/lists.avro", dir);
    if (metrics_new(&r->metrics, workers, e) != RC_OK) fail_msg("%s", e->text);
    o.config = r->config;
    o.metrics = r->metrics;
    o.fraud_path = r->fraud;
    o.recommendations_path = r->lists;
    rc = replay_start(&r->replay, &o, e);
    return rc == RC_OK ? replay_join(r->replay, e) : rc;
}

static void stop_replay(struct replayed *r)
{
    replay_free(r->replay);
    metrics_free(r->metrics);
    config_free(r->config);
}

/* The file holds exactly the committed messages of one output. */
static void check_file(const char *path, const struct spine_outputs *expected,
                       enum output output)
{
    struct container_reader *r;
    struct slice value;
    struct err e;
    bool ended = false;
    assert_int_equal(container_open(&r, path, &e), RC_OK);
    for (uint32_t i = 0; i < expected->count; i++) {
        const struct message *m = expected->at[i].message;
        if (m->output != output) continue;
        assert_int_equal(container_next(r, &value, &ended, &e), RC_OK);
        assert_false(ended);
        assert_int_equal(value.len, m->value.len - 5);
        assert_memory_equal(value.ptr, m->value.ptr + 5, value.len);
    }
    assert_int_equal(container_next(r, &value, &ended, &e), RC_OK);
    assert_true(ended);
    container_close(r);
}

static void test_files_equal_memory(void **state)
{
    struct spine_run run;
    struct spine_outputs expected;
    (void)state;
    spine_run_open(&run, &the_log, NULL);
    spine_run_start(&run);
    spine_run_to_end(&run);
    expected = spine_outputs_of(&run, 1);
    for (uint32_t workers = 1; workers <= 3; workers++)
        for (int parts = 0; parts < 2; parts++) {
            struct replayed r;
            struct err e;
            if (start_replay(&r, parts, workers, NULL, &e) != RC_OK)
                fail_msg("%s", e.text);
            assert_int_equal(metrics_sum(r.metrics, COUNT_events), EVENTS);
            stop_replay(&r);
            check_file(r.fraud, &expected, OUTPUT_FRAUD);
            check_file(r.lists, &expected, OUTPUT_RECOMMENDATIONS);
            assert_int_equal(unlink(r.fraud), 0);
            assert_int_equal(unlink(r.lists), 0);
        }
    spine_outputs_free(&expected);
    spine_run_close(&run);
}

/* The design: a score that is not finite fails the run, and no file is left
 * that looks whole. */
static void test_not_finite(void **state)
{
    const struct params *p = &the_log.model->params;
    float *bias = &the_log.model->values[p->tensor[p->norm_bias].offset];
    float kept = *bias;
    (void)state;
    *bias = NAN;
    for (uint32_t workers = 1; workers <= 2; workers++) {
        struct replayed r;
        struct err e;
        assert_int_equal(start_replay(&r, false, workers, NULL, &e), RC_STOP);
        assert_non_null(strstr(e.text, "not finite"));
        stop_replay(&r);
        assert_int_equal(access(r.fraud, F_OK), -1);
    }
    *bias = kept;
}

/* --- the file source ---------------------------------------------------- */

static void test_seek(void **state)
{
    const char *paths[FILES] = {file_paths[0], file_paths[1], file_paths[2]};
    struct source *s;
    struct batch b;
    struct err e;
    (void)state;
    assert_int_equal(batch_init(&b, 64, &e), RC_OK);
    assert_int_equal(source_file_open(&s, paths, FILES, &e), RC_OK);
    for (uint32_t i = 0; i < 60; i++) {
        int64_t at = (int64_t)(draw(3, i, 0) % (EVENTS + 1));
        const struct source_position to = {.offset = at};
        if (i == 0)
            assert_int_equal(source_assign(s, &to, 1, &e), RC_OK);
        else
            assert_int_equal(source_seek(s, &to, 1, &e), RC_OK);
        batch_reset(&b);
        assert_int_equal(source_poll(s, &b, 0, &e), RC_OK);
        assert_int_equal(b.count, EVENTS - at < 64 ? EVENTS - at : 64);
        for (uint32_t k = 0; k < b.count; k++) {
            assert_int_equal(b.records[k].offset, at + k);
            assert_true(
                slice_equal(b.records[k].value, the_log.records[at + k].value));
        }
        assert_int_equal(source_ended(s), at + 64 > EVENTS);
        source_release(s);
    }
    source_close(s);
    batch_fini(&b);
}

/* Reads all; the rc with which that ends. */
static enum rc drain(const char *const *paths, uint32_t count, struct err *e)
{
    const struct source_position from = {0};
    struct source *s;
    struct batch b;
    enum rc rc;
    if (source_file_open(&s, paths, count, e) != RC_OK) return e->rc;
    assert_int_equal(batch_init(&b, 64, e), RC_OK);
    rc = source_assign(s, &from, 1, e);
    while (rc == RC_OK && !source_ended(s)) {
        batch_reset(&b);
        rc = source_poll(s, &b, 0, e);
        source_release(s);
    }
    source_close(s);
    batch_fini(&b);
    return rc;
}

static void test_broken_files(void **state)
{
    char cut[PATH], other[PATH];
    const char *paths[] = {cut};
    const char *mixed[] = {file_paths[0], other};
    const char *absent[] = {"/nowhere.avro"};
    struct container_writer *w;
    struct schema *s;
    struct err e;
    (void)state;
    (void)snprintf(cut, sizeof cut, "%s/cut.avro", dir);
    (void)snprintf(other, sizeof other, "%s/other.avro", dir);
    write_log(cut, 0, 500);
    assert_int_equal(truncate(cut, 6000), 0);
    assert_int_equal(drain(paths, 1, &e), RC_STOP);
    assert_non_null(strstr(e.text, "cut.avro"));
    assert_int_equal(drain(absent, 1, &e), RC_STOP);
    assert_non_null(strstr(e.text, "/nowhere.avro"));
    assert_int_equal(schema_parse(&s, slice_str("\"string\""), &e), RC_OK);
    assert_int_equal(container_create(&w, other, s, "null", &e), RC_OK);
    assert_int_equal(container_finish(w, &e), RC_OK);
    schema_free(s);
    assert_int_equal(drain(mixed, 2, &e), RC_STOP);
    assert_non_null(strstr(e.text, "schema differs"));
}

/* --- rankings ----------------------------------------------------------- */

/* Everything of every user, kept plainly. */
struct plain {
    struct {
        int32_t item[EVENTS];
        uint32_t count;
        uint32_t list[5], list_count;
        float hidden[2][64];
        uint64_t hits, asked;
    } user[USERS];
    uint64_t times[SPINE_ITEMS]; /* how often an item was somebody's not last */
    struct scorer *scorer;       /* NULL: next items are not ranked */
    struct ranking next;         /* among all items */
};

static uint32_t plain_rank(const struct plain *p, uint32_t u,
                           const double *scores);

/* The newest event of u as foreseen by the state after the one before. */
static void rank_next(struct plain *p, uint32_t u, const float *hidden)
{
    float logits[SPINE_ITEMS];
    double scores[SPINE_ITEMS];
    scorer_item_logits(p->scorer, &hidden, 1, logits);
    for (uint32_t i = 0; i < SPINE_ITEMS; i++)
        scores[i] = (double)logits[i];
    ranking_add(&p->next, plain_rank(p, u, scores));
}

static enum rc see(void *user, const struct batch *b, struct err *e)
{
    struct plain *p = user;
    uint32_t width = model_info(the_log.model)->width;
    (void)e;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct outcome *o = &b->outcomes[i];
        int u = atoi((const char *)b->events[i].user.ptr + 5);
        int32_t item = model_item_index(the_log.model, b->events[i].past.item);
        if (p->user[u].list_count > 0) {
            p->user[u].asked++;
            for (uint32_t k = 0; k < p->user[u].list_count; k++)
                p->user[u].hits += (int32_t)p->user[u].list[k] == item;
        }
        if (p->user[u].count > 0) {
            int32_t last = p->user[u].item[p->user[u].count - 1];
            if (last >= 0) p->times[last]++;
        }
        p->user[u].item[p->user[u].count++] = item;
        if (p->scorer && p->user[u].count > 1)
            rank_next(p, (uint32_t)u, p->user[u].hidden[1]);
        p->user[u].list_count = o->list_count;
        for (uint32_t k = 0; k < o->list_count; k++)
            p->user[u].list[k] = o->list[k].index;
        memcpy(p->user[u].hidden[0], p->user[u].hidden[1],
               width * sizeof(float));
        memcpy(p->user[u].hidden[1], o->hidden, width * sizeof(float));
    }
    return RC_OK;
}

/* The rank by scores, items of earlier events left out; 0 where the target
 * is unknown or was had before. */
static uint32_t plain_rank(const struct plain *p, uint32_t u,
                           const double *scores)
{
    bool seen[SPINE_ITEMS] = {false};
    int32_t target = p->user[u].item[p->user[u].count - 1];
    uint32_t rank = 1;
    for (uint32_t i = 0; i + 1 < p->user[u].count; i++)
        if (p->user[u].item[i] >= 0) seen[p->user[u].item[i]] = true;
    if (target < 0 || seen[target]) return 0;
    for (int32_t i = 0; i < SPINE_ITEMS; i++)
        rank += i != target && !seen[i] && scores[i] >= scores[target];
    return rank;
}

static void rank_plainly(const struct plain *p, struct watch_ranking *out)
{
    const struct scorer_limits limits = {1 << 20, 1, 1};
    struct scorer *s;
    struct err e;
    assert_int_equal(scorer_new(&s, the_log.model, limits, &e), RC_OK);
    for (uint32_t u = 0; u < USERS; u++) {
        const float *hidden = p->user[u].hidden[0];
        float logits[SPINE_ITEMS];
        double scores[SPINE_ITEMS], popular[SPINE_ITEMS];
        if (p->user[u].count < 2) continue;
        scorer_item_logits(s, &hidden, 1, logits);
        for (uint32_t i = 0; i < SPINE_ITEMS; i++) {
            scores[i] = (double)logits[i];
            popular[i] = (double)p->times[i];
        }
        ranking_add(&out->model, plain_rank(p, u, scores));
        ranking_add(&out->popular, plain_rank(p, u, popular));
    }
    scorer_free(s);
}

static void check_ranking(const struct ranking *a, const struct ranking *b)
{
    assert_int_equal(a->events, b->events);
    for (uint32_t k = 0; k < RANKING_KS; k++) {
        assert_int_equal(a->hits[k], b->hits[k]);
        assert_true(fabs(a->ndcg_sum[k] - b->ndcg_sum[k]) < 1e-9);
        assert_true(fabs(a->mrr_sum[k] - b->mrr_sum[k]) < 1e-9);
    }
}

/* Long lists of seen items make most targets seen: few users, so that the
 * misses are there, and short logs, so that the hits are. */
static void test_rankings(void **state)
{
    static struct plain plain;
    struct watch_options watch = {.model = the_log.model,
                                  .from_ms = INT64_MIN,
                                  .until_ms = INT64_MAX,
                                  .leave_one_out = true,
                                  .popularity = true};
    struct watch_ranking expected = {0}, got = {0}, next = {0};
    uint64_t hits = 0, asked = 0;
    struct spine_run run;
    struct spine_log shorter = the_log;
    struct watch *w;
    struct err e;
    (void)state;
    shorter.count = 260;
    spine_run_open(&run, &shorter, NULL);
    run.options.observe = see;
    run.options.observer = &plain;
    spine_run_start(&run);
    spine_run_to_end(&run);
    spine_run_close(&run);
    rank_plainly(&plain, &expected);

    assert_int_equal(watch_new(&w, &watch, &e), RC_OK);
    spine_run_open(&run, &shorter, NULL);
    run.options.observe = watch_batch;
    run.options.observer = w;
    spine_run_start(&run);
    spine_run_to_end(&run);
    spine_run_close(&run);
    assert_int_equal(watch_leave_one_out(&w, 1, &got, &e), RC_OK);
    assert_true(got.model.events > USERS / 2);
    assert_true(got.model.hits[RANKING_KS - 1] > 0);
    assert_true(got.model.hits[RANKING_KS - 1] < got.model.events);
    check_ranking(&got.model, &expected.model);
    check_ranking(&got.popular, &expected.popular);

    assert_int_equal(watch_next(&w, 1, &next, &e), RC_OK);
    for (uint32_t u = 0; u < USERS; u++) {
        hits += plain.user[u].hits;
        asked += plain.user[u].asked;
    }
    assert_int_equal(next.model.events, asked);
    assert_int_equal(next.model.hits[1], hits); /* RANKING_K[1] is 5 */
    assert_true(hits > 0 && hits < asked);
    watch_free(w);
}

/* Next items among all: what is unknown or was had before is a miss, and
 * stays in the denominator. */
static void test_rank_all(void **state)
{
    static struct plain plain;
    const struct scorer_limits limits = {1 << 20, 1, 1};
    struct watch_options watch = {.model = the_log.model,
                                  .from_ms = INT64_MIN,
                                  .until_ms = INT64_MAX,
                                  .rank_all = true};
    struct spine_log shorter = the_log;
    struct watch_ranking got;
    struct spine_run run;
    struct watch *w;
    struct err e;
    (void)state;
    shorter.count = 260;
    assert_int_equal(scorer_new(&plain.scorer, the_log.model, limits, &e),
                     RC_OK);
    assert_int_equal(watch_new(&w, &watch, &e), RC_OK);
    for (uint32_t i = 0; i < 2; i++) {
        spine_run_open(&run, &shorter, NULL);
        run.options.observe = i ? watch_batch : see;
        run.options.observer = i ? (void *)w : &plain;
        spine_run_start(&run);
        spine_run_to_end(&run);
        spine_run_close(&run);
    }
    assert_int_equal(watch_next(&w, 1, &got, &e), RC_OK);
    assert_true(got.model.hits[0] > 0);
    assert_true(got.model.hits[RANKING_KS - 1] < got.model.events);
    check_ranking(&got.model, &plain.next);
    scorer_free(plain.scorer);
    watch_free(w);
}

/* An item whose score is no number: nothing can be said of any rank. */
static void test_item_not_finite(void **state)
{
    const struct params *p = &the_log.model->params;
    uint32_t table = p->embedding[the_log.model->item_field];
    struct top_k_index *kept = the_log.model->items, *broken;
    size_t values = (size_t)SPINE_ITEMS * p->config.width;
    struct watch_options watch = {.model = the_log.model,
                                  .from_ms = INT64_MIN,
                                  .until_ms = INT64_MAX,
                                  .leave_one_out = true};
    static struct watch_ranking out;
    float *rows = malloc(values * sizeof *rows);
    struct replayed r;
    struct err e;
    (void)state;
    assert_non_null(rows);
    memcpy(rows, params_of(p, the_log.model->values, table),
           values * sizeof *rows);
    for (uint32_t d = 1; d <= p->config.width; d++)
        rows[values - d] = 3e38f; /* finite, but its products are not */
    broken = top_k_index_new(rows, SPINE_ITEMS, p->config.width);
    assert_non_null(broken);
    assert_int_equal(start_replay(&r, false, 1, &watch, &e), RC_OK);
    the_log.model->items = broken;
    assert_int_equal(watch_leave_one_out(replay_watches(r.replay), 1, &out, &e),
                     RC_STOP);
    the_log.model->items = kept;
    assert_non_null(strstr(e.text, "not finite"));
    stop_replay(&r);
    top_k_index_free(broken);
    free(rows);
}

/* Several workers measure what one does. */
static void test_rankings_of_workers(void **state)
{
    struct watch_options watch = {.model = the_log.model,
                                  .from_ms = INT64_MIN,
                                  .until_ms = INT64_MAX,
                                  .leave_one_out = true};
    static struct watch_ranking all[2], next[2];
    uint64_t rows[2] = {0};
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t workers = i ? 3 : 1;
        struct replayed r;
        struct watch *const *watches;
        struct err e;
        if (start_replay(&r, true, workers, &watch, &e) != RC_OK)
            fail_msg("%s", e.text);
        watches = replay_watches(r.replay);
        assert_int_equal(watch_leave_one_out(watches, workers, &all[i], &e),
                         RC_OK);
        assert_int_equal(watch_next(watches, workers, &next[i], &e), RC_OK);
        for (uint32_t w = 0; w < workers; w++)
            rows[i] += evaluate_rows(watch_scores(watches[w]));
        stop_replay(&r);
    }
    assert_int_equal(rows[0], EVENTS);
    assert_int_equal(rows[1], EVENTS);
    check_ranking(&all[0].model, &all[1].model);
    check_ranking(&all[0].popular, &all[1].popular);
    check_ranking(&next[0].model, &next[1].model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_equal_memory),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_rankings),
        cmocka_unit_test(test_rank_all),
        cmocka_unit_test(test_item_not_finite),
        cmocka_unit_test(test_rankings_of_workers),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
