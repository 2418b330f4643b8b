/* Goal    What workers counted is what Prometheus reads: right sums, right
 *         buckets, and a text that its parser takes.
 * Method  Histograms against sorted values; the page is read back line by
 *         line by a small strict parser of the text format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hash.h"
#include "metrics.h"

/* ------------------------------------------------------------ histograms */

static void test_bounds_ascend_finely(void **state)
{
    (void)state;
    assert_true(histogram_bound_ns(0) == 1024);
    assert_true(histogram_bound_ns(HISTOGRAM_BUCKETS - 2) == 1ull << 36);
    assert_true(histogram_bound_ns(HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
    for (uint32_t i = 1; i < HISTOGRAM_BUCKETS - 1; i++) {
        uint64_t low = histogram_bound_ns(i - 1), high = histogram_bound_ns(i);
        assert_true(high > low);
        assert_true((double)high <= (double)low * 1.126);
    }
}

/* Every bound, and its neighbours, fall where the bounds say. */
static void test_bucket_edges(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        struct histogram h = {0};
        histogram_add(&h, histogram_bound_ns(i));
        histogram_add(&h, histogram_bound_ns(i) + 1);
        histogram_add(&h, histogram_bound_ns(i) - 1);
        assert_true(h.counts[i] == 2);
        assert_true(h.counts[i + 1] == 1);
    }
    struct histogram h = {0};
    histogram_add(&h, 0);
    histogram_add(&h, UINT64_MAX / 2);
    assert_true(h.counts[0] == 1);
    assert_true(h.counts[HISTOGRAM_BUCKETS - 1] == 1);
    assert_true(histogram_count(&h) == 2);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void test_quantiles(void **state)
{
    enum { N = 5000 };
    static uint64_t values[N];
    static const double QS[] = {0, 0.01, 0.5, 0.9, 0.99, 0.999, 1};
    struct histogram h = {0}, merged = {0};
    (void)state;
    assert_true(histogram_quantile_ns(&h, 0.5) == 0);
    for (uint32_t i = 0; i < N; i++) {
        values[i] = draw(7, i, 0) >> (30 + draw(7, i, 1) % 20);
        histogram_add(&h, values[i]);
    }
    qsort(values, N, sizeof values[0], by_value);
    histogram_merge(&merged, &h);
    histogram_merge(&merged, &h);
    for (size_t i = 0; i < sizeof QS / sizeof QS[0]; i++) {
        uint32_t rank = (uint32_t)(QS[i] * N + 0.999999);
        double exact = (double)values[rank ? rank - 1 : 0];
        double got = (double)histogram_quantile_ns(&h, QS[i]);
        assert_true(got >= exact);
        assert_true(got <= 1024 || got <= exact * 1.126);
        assert_true(histogram_quantile_ns(&merged, QS[i]) == (uint64_t)got);
    }
}

/* -------------------------------------------------------------- the page */

static char *page_of(const struct metrics *m)
{
    char *page;
    size_t len;
    struct err e;
    assert_int_equal(metrics_write(m, &page, &len, &e), RC_OK);
    assert_int_equal(len, strlen(page));
    return page;
}

/* The value of the one series that is exactly this text. */
static double value_of(const char *page, const char *series)
{
    char line[512];
    const char *at;
    (void)snprintf(line, sizeof line, "\n%s ", series);
    at = strstr(page, line);
    if (!at) {
        fail_msg("no series %s", series);
        return 0;
    }
    if (strstr(at + strlen(line), line)) fail_msg("%s twice", series);
    return strtod(at + strlen(line), NULL);
}

static struct metrics *two_workers(void)
{
    struct metrics *m;
    struct err e;
    assert_int_equal(metrics_new(&m, 2, &e), RC_OK);
    return m;
}

static void test_counts_reach_the_page(void **state)
{
    struct metrics *m = two_workers();
    struct worker_metrics *a = metrics_worker(m, 0), *b = metrics_worker(m, 1);
    char *page;
    (void)state;
    metrics_add(a, COUNT_events, 5);
    metrics_add(a, COUNT_events, 2);
    metrics_total(b, COUNT_events, 100);
    metrics_gauge(b, GAUGE_lag_seconds, 1.5);
    metrics_add(a, COUNT_commits_aborted, 3);
    metrics_count(m, TOTAL_admin_refused);
    metrics_dead_letter(a, BAD_BYTES);
    metrics_dead_letter(b, BAD_BYTES);
    metrics_dead_letter(b, BAD_USER);
    page = page_of(m);
    assert_true(value_of(page, "millrace_events_total{worker=\"0\"}") == 7);
    assert_true(value_of(page, "millrace_events_total{worker=\"1\"}") == 100);
    assert_true(value_of(page, "millrace_lag_seconds{worker=\"1\"}") == 1.5);
    assert_true(value_of(page, "millrace_commits_total{result=\"aborted\","
                               "worker=\"0\"}") == 3);
    assert_true(
        value_of(page, "millrace_dead_letters_total{reason=\"bytes\"}") == 2);
    assert_true(
        value_of(page, "millrace_dead_letters_total{reason=\"user\"}") == 1);
    assert_true(value_of(page, "millrace_admin_refused_total") == 1);
    assert_true(value_of(page, "process_resident_memory_bytes") > 1e5);
    assert_true(value_of(page, "process_start_time_seconds") > 1.5e9);
    assert_null(strstr(page, "reason=\"none\""));
    assert_int_equal(metrics_sum(m, COUNT_events), 107);
    free(page);
    metrics_free(m);
}

static void test_steps_are_cumulative_seconds(void **state)
{
    struct metrics *m = two_workers();
    char *page;
    (void)state;
    histogram_add(&metrics_worker(m, 0)->steps[STEP_decode], 1024);
    histogram_add(&metrics_worker(m, 0)->steps[STEP_decode], 2000000);
    histogram_add(&metrics_worker(m, 1)->steps[STEP_decode], 1ull << 40);
    metrics_time(metrics_worker(m, 1), TIME_event_latency, 1u << 30);
    page = page_of(m);
#define BUCKET(le) "millrace_step_seconds_bucket{step=\"decode\",le=\"" le "\"}"
    assert_true(value_of(page, BUCKET("1.024e-06")) == 1);
    assert_true(value_of(page, BUCKET("0.001572864")) == 1);
    assert_true(value_of(page, BUCKET("0.002097152")) == 2);
    assert_true(value_of(page, BUCKET("68.7194767")) == 2);
    assert_true(value_of(page, BUCKET("+Inf")) == 3);
    assert_true(
        value_of(page, "millrace_step_seconds_count{step=\"decode\"}") == 3);
    assert_true(value_of(page, "millrace_step_seconds_sum{step=\"decode\"}") >=
                1099);
    assert_true(
        value_of(page, "millrace_event_latency_seconds_bucket{le=\"+Inf\"}") ==
        1);
    assert_true(value_of(page, "millrace_event_latency_seconds_count") == 1);
    free(page);
    metrics_free(m);
}

static void test_model_info_is_escaped(void **state)
{
    struct metrics *m = two_workers();
    struct model_info info = {.hash = "0123456789abcdef",
                              .family = "a\"b\\c\nd"};
    char *page = page_of(m);
    (void)state;
    assert_null(strstr(page, "millrace_model_info"));
    free(page);
    metrics_set_model(m, &info);
    page = page_of(m);
    assert_true(value_of(page, "millrace_model_info{hash=\"0123456789abcdef\","
                               "family=\"a\\\"b\\\\c\\nd\"}") == 1);
    free(page);
    metrics_free(m);
}

/* name{label="value",...} number: the end of the labels, or NULL. */
static const char *read_series(const char *line, char *name)
{
    size_t len = strspn(line, "abcdefghijklmnopqrstuvwxyz_");
    memcpy(name, line, len);
    name[len] = 0;
    line += len;
    if (len == 0) return NULL;
    if (*line != '{') return *line == ' ' ? line : NULL;
    do {
        line++;
        len = strspn(line, "abcdefghijklmnopqrstuvwxyz_");
        if (len == 0 || line[len] != '=' || line[len + 1] != '"') return NULL;
        for (line += len + 2; *line && *line != '"' && *line != '\n'; line++)
            if (*line == '\\') line++;
        if (*line++ != '"') return NULL;
    } while (*line == ',');
    return line[0] == '}' && line[1] == ' ' ? line + 1 : NULL;
}

/* Every line is HELP, TYPE or a number of the family announced last; each
 * family is announced once and counters end in _total. */
static void test_page_parses(void **state)
{
    struct metrics *m = two_workers();
    char *page = page_of(m), family[128] = "", type[32] = "", name[128], *end;
    char families[8192] = " ";
    uint32_t numbers = 0;
    (void)state;
    for (char *line = strtok(page, "\n"); line; line = strtok(NULL, "\n")) {
        if (sscanf(line, "# HELP %127s", family) == 1) {
            char marked[160];
            (void)snprintf(marked, sizeof marked, " %s ", family);
            assert_null(strstr(families, marked));
            assert_true(strlen(families) + 130 < sizeof families);
            strcat(families, marked + 1);
            assert_true(strlen(line) > strlen(family) + 20);
            continue;
        }
        if (sscanf(line, "# TYPE %127s %31s", name, type) == 2) {
            assert_string_equal(name, family);
            assert_true(strcmp(type, "counter") != 0 ||
                        strcmp(name + strlen(name) - 6, "_total") == 0);
            continue;
        }
        const char *value = read_series(line, name);
        if (!value) fail_msg("not a series: %s", line);
        assert_int_equal(strncmp(name, family, strlen(family)), 0);
        assert_true(strcmp(name, family) == 0 ||
                    strcmp(type, "histogram") == 0);
        (void)strtod(value + 1, &end);
        assert_true(end > value + 1 && *end == 0);
        numbers++;
    }
    assert_true(numbers > 500);
    free(page);
    metrics_free(m);
}

static void test_health(void **state)
{
    struct metrics *m = two_workers();
    struct worker_health h;
    (void)state;
    assert_int_equal(metrics_health(m, 1).phase, PHASE_STARTING);
    metrics_phase(metrics_worker(m, 1), PHASE_FOLDING);
    metrics_gauge(metrics_worker(m, 1), GAUGE_partitions, 4);
    metrics_gauge(metrics_worker(m, 1), GAUGE_partitions_folding, 1);
    metrics_gauge(metrics_worker(m, 1), GAUGE_partitions_held, 2);
    h = metrics_health(m, 1);
    assert_int_equal(h.partitions_held, 2);
    assert_int_equal(h.phase, PHASE_FOLDING);
    assert_int_equal(h.partitions, 4);
    assert_int_equal(h.partitions_folding, 1);
    assert_true(h.quiet_seconds >= 0 && h.quiet_seconds < 5);
    metrics_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds_ascend_finely),
        cmocka_unit_test(test_bucket_edges),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_counts_reach_the_page),
        cmocka_unit_test(test_steps_are_cumulative_seconds),
        cmocka_unit_test(test_model_info_is_escaped),
        cmocka_unit_test(test_page_parses),
        cmocka_unit_test(test_health),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
