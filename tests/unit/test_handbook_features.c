/* test_handbook_features.c - goal: the features that config/handbook.conf
 * declares are those of the book, for every transaction of its train and test
 * week, and the book's logistic regression on them scores as in the book.
 * Method: all transactions up to then go through the rows of their users and
 * terminals in their order, the label of each fraud right behind its event;
 * that it counts only a week later is the windows' doing. Needs the published
 * files (MILLRACE_DATA).
 *
 * The book sorts by second alone, and in ten places two transactions of one
 * second stand the other way round than in the file: so many rows may differ.
 */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "config.h"
#include "shapes.h"
#include "train.h"

enum {
    CUSTOMERS = 5000,
    TERMINALS = 10000,
    BOOK_ROWS = 1303778,
    GOLDEN_ROWS = 125504,
    BOOK_FEATURES = 15,
    SWAPS_MAX = 20, /* ten pairs */
    PATH_BYTES = 1200,
};

/* In the book's order. */
static const char *const NAMES[BOOK_FEATURES] = {
    "amount",
    "is_weekend",
    "is_night",
    "count_1d",
    "amount_mean_1d",
    "count_7d",
    "amount_mean_7d",
    "count_30d",
    "amount_mean_30d",
    "item_fraud_mature_1d",
    "item_fraud_rate_1d",
    "item_fraud_mature_7d",
    "item_fraud_rate_7d",
    "item_fraud_mature_30d",
    "item_fraud_rate_30d",
};

struct book_row {
    bool known;
    float at[BOOK_FEATURES];
    double score;
};

struct transaction {
    uint32_t id, customer, terminal;
    long second;
    int64_t amount;
    int fraud;
};

static struct {
    const char *folder;
    struct config *config;
    struct history_shape history;
    struct feature_shape shape;
    uint32_t place[BOOK_FEATURES]; /* in our row */
    double mean[BOOK_FEATURES], scale[BOOK_FEATURES], coef[BOOK_FEATURES];
    double intercept;
    struct book_row *book;
    struct windows *users[CUSTOMERS], *items[TERMINALS];
    uint32_t compared, differ, scores_differ;
} run;

/* --- the book ----------------------------------------------------------- */

static FILE *open_xz(const char *name)
{
    char command[PATH_BYTES];
    (void)snprintf(command, sizeof command, "xz -dc '%s/fraud_handbook/%s'",
                   run.folder, name);
    return popen(command, "r");
}

static void read_book(void)
{
    FILE *in = open_xz("golden_features_ch3.csv.xz");
    char line[1024];
    uint32_t count = 0;
    run.book = calloc(BOOK_ROWS, sizeof *run.book);
    assert_non_null(run.book);
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    for (; fgets(line, sizeof line, in); count++) {
        char *at = line;
        unsigned long id = strtoul(at, &at, 10);
        struct book_row *r = &run.book[id];
        assert_true(id < BOOK_ROWS);
        for (int comma = 0; comma < 3; at++) /* set, label */
            comma += *at == ',';
        for (int f = 0; f < BOOK_FEATURES; f++) {
            r->at[f] = strtof(at, &at);
            assert_true(*at == ',');
            at++;
        }
        r->score = strtod(at, NULL);
        r->known = true;
    }
    assert_int_equal(pclose(in), 0);
    assert_int_equal(count, GOLDEN_ROWS);
}

static void read_numbers(const json_t *root, const char *key, double *out)
{
    const json_t *list = json_object_get(root, key);
    assert_int_equal(json_array_size(list), BOOK_FEATURES);
    for (size_t f = 0; f < BOOK_FEATURES; f++)
        out[f] = json_number_value(json_array_get(list, f));
}

static void read_regression(void)
{
    char path[PATH_BYTES];
    json_t *root;
    (void)snprintf(path, sizeof path, "%s/fraud_handbook/lr_ch3.json",
                   run.folder);
    root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    read_numbers(root, "mean", run.mean);
    read_numbers(root, "scale", run.scale);
    read_numbers(root, "coef", run.coef);
    run.intercept = json_number_value(json_object_get(root, "intercept"));
    json_decref(root);
}

/* --- ours --------------------------------------------------------------- */

static uint32_t find_feature(const char *name)
{
    for (uint32_t f = 0; f < feature_row_count(&run.shape); f++) {
        char buffer[FEATURE_NAME_BYTES];
        if (strcmp(feature_row_name(&run.shape, f, buffer, sizeof buffer),
                   name) == 0)
            return f;
    }
    fail_msg("config/handbook.conf gives no feature %s", name);
    return 0;
}

static void read_config(void)
{
    struct err e;
    if (config_load(&run.config, SOURCE_DIR "/config/handbook.conf", NULL, 0,
                    &e) != RC_OK)
        fail_msg("%s", e.text);
    shapes_init(&run.history, &run.shape, run.config,
                TRAIN_ITEM | TRAIN_AMOUNT | TRAIN_TIME);
    for (int f = 0; f < BOOK_FEATURES; f++)
        run.place[f] = find_feature(NAMES[f]);
}

static void make_row(const struct transaction *t, float *row)
{
    struct windows **user = &run.users[t->customer];
    struct windows **item = &run.items[t->terminal];
    float of_item[WINDOW_FEATURES_MAX];
    struct past_event ev = {
        .time_ms = (INT64_C(1522540800) + t->second) * 1000,
        .event_id = t->id + 1,
        .item = t->terminal + 1,
        .amount = t->amount,
    };
    struct past_event seen = ev; /* from the terminal's side */
    const struct window_label label = {.event_id = ev.event_id,
                                       .time_ms = ev.time_ms,
                                       .known_ms = ev.time_ms,
                                       .fraud = true};
    seen.item = t->customer + 1;
    if (!*item) *item = windows_new(&run.shape.item);
    if (!*user) *user = windows_new(&run.shape.user);
    assert_false(windows_apply(&run.shape.item, *item, &seen, of_item));
    assert_false(windows_apply(&run.shape.user, *user, &ev, row));
    feature_row_complete(&run.shape, &ev, of_item, row);
    if (!t->fraud) return; /* silence is good */
    assert_true(windows_label(&run.shape.item, *item, t->id, &label));
    assert_true(windows_label(&run.shape.user, *user, t->id, &label));
}

/* What the book has as 0 is missing with us: the rate of no events. */
static double value(const float *row, int f)
{
    float v = row[run.place[f]];
    return isnan(v) ? 0 : (double)v;
}

static bool features_agree(const float *row, const struct book_row *book)
{
    for (int f = 0; f < BOOK_FEATURES; f++) {
        double ours = value(row, f);
        if (!(fabs(ours - (double)book->at[f]) <= 2e-6 + 1e-6 * fabs(ours)))
            return false;
    }
    return true;
}

static bool score_agrees(const float *row, const struct book_row *book)
{
    double logit = run.intercept, ours;
    for (int f = 0; f < BOOK_FEATURES; f++)
        logit += run.coef[f] * (value(row, f) - run.mean[f]) / run.scale[f];
    ours = 1 / (1 + exp(-logit));
    return fabs(ours - book->score) <= 2e-8 + 2e-5 * book->score;
}

static void compare(const struct transaction *t, const float *row)
{
    const struct book_row *book = &run.book[t->id];
    if (!book->known) return;
    run.compared++;
    if (features_agree(row, book)) {
        run.scores_differ += !score_agrees(row, book);
        return;
    }
    run.differ++;
}

static void test_features(void **state)
{
    char line[256];
    FILE *in;
    (void)state;
    run.folder = getenv("MILLRACE_DATA");
    if (!run.folder) {
        print_message("MILLRACE_DATA is not set: the handbook's features are "
                      "not compared\n");
        skip();
    }
    read_config();
    read_book();
    read_regression();
    in = open_xz("transactions_to_2018-08-14.csv.xz");
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    while (fgets(line, sizeof line, in)) {
        float row[FEATURES_MAX];
        struct transaction t;
        assert_int_equal(sscanf(line,
                                "%" SCNu32 ",%ld,%" SCNu32 ",%" SCNu32
                                ",%" SCNd64 ",%d",
                                &t.id, &t.second, &t.customer, &t.terminal,
                                &t.amount, &t.fraud),
                         6);
        assert_true(t.customer < CUSTOMERS && t.terminal < TERMINALS &&
                    t.id < BOOK_ROWS);
        make_row(&t, row);
        compare(&t, row);
    }
    assert_int_equal(pclose(in), 0);
    print_message("handbook: %u rows compared, %u differ; of the others %u "
                  "scores differ\n",
                  run.compared, run.differ, run.scores_differ);
    assert_int_equal(run.compared, GOLDEN_ROWS);
    assert_true(run.differ <= SWAPS_MAX);
    assert_int_equal(run.scores_differ, 0);
}

static int stop(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < CUSTOMERS; i++)
        windows_free(&run.shape.user, run.users[i]);
    for (uint32_t i = 0; i < TERMINALS; i++)
        windows_free(&run.shape.item, run.items[i]);
    free(run.book);
    config_free(run.config);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features),
    };
    return cmocka_run_group_tests_name("handbook features", tests, NULL, stop);
}
