/* Goal    The page of a replay has the numbers of its JSON, needs nothing
 *         from outside, runs nothing, and tells no secret.
 * Method  A small stream and a model trained on it, by the commands; the page
 *         read back as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "capture.h"
#include "cli.h"
#include "hash.h"

enum { PAGE_BYTES = 1 << 20 };

static struct captured got;
static char dir[64], line[1024], page[PAGE_BYTES];

static const char ROLES[] =
    "--set role.user=user_id --set role.item=item_id --set role.time=time "
    "--set role.amount=amount --set role.event_id=event_id "
    "--set history.events=16";

static void run(int (*command)(int argc, char **argv), const char *format, ...)
{
    va_list args;
    va_start(args, format);
    assert_true(vsnprintf(line, sizeof line, format, args) < (int)sizeof line);
    va_end(args);
    capture(&got, command, line);
}

static int make_model(void **state)
{
    (void)state;
    (void)strcpy(dir, "/tmp/millrace-test-report-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    run(command_generate,
        "generate --events 6000 --users 300 --items 50 --fraud-rate 0.05 --to "
        "%s/e.avro --labels-to %s/l.avro",
        dir, dir);
    if (got.status != EXIT_OK) return -1;
    run(command_train,
        "train behaviour %s/e.avro --labels %s/l.avro --out %s/m --epochs 1 "
        "--width 16 --layers 1 --window 8 --until 2026-02-10 %s",
        dir, dir, dir, ROLES);
    return got.status == EXIT_OK ? 0 : -1;
}

static int remove_dir(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static void read_page(const char *name)
{
    char path[128];
    FILE *f;
    size_t len;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "r");
    assert_non_null(f);
    len = fread(page, 1, sizeof page - 1, f);
    assert_true(len > 0 && len < sizeof page - 1);
    page[len] = 0;
    (void)fclose(f);
}

static void expect_number(json_t *object, const char *key, const char *format)
{
    json_t *value = json_object_get(object, key);
    char text[64];
    assert_true(json_is_real(value));
    (void)snprintf(text, sizeof text, format, json_real_value(value));
    if (!strstr(page, text)) fail_msg("%s %s is not on the page", key, text);
}

/* Of a file that was read: its size and what its bytes hash to. */
static void expect_hash(const char *name)
{
    static uint8_t bytes[PAGE_BYTES];
    char path[128], text[64];
    size_t len;
    FILE *f;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "r");
    assert_non_null(f);
    len = fread(bytes, 1, sizeof bytes, f);
    (void)fclose(f);
    (void)snprintf(text, sizeof text, "<td>%zu</td><td>%016llx</td>", len,
                   (unsigned long long)hash64(slice_of(bytes, len)));
    if (!strstr(page, text)) fail_msg("%s: %s is not on the page", name, text);
}

static void expect_ranking(json_t *ranking)
{
    static const char *const WAYS[] = {"popularity", "co_occurrence"};
    json_t *part = json_object_get(ranking, "by_popularity");
    expect_number(ranking, "ndcg_at_10", "<td>%.4f</td>");
    expect_number(ranking, "mrr_at_5", "<td>%.4f</td>");
    expect_number(ranking, "novelty_at_10", "%.2f bits");
    expect_number(ranking, "hr_at_10_low", "HR@10 %.4f to");
    for (int i = 0; i < 2; i++)
        expect_number(json_object_get(ranking, WAYS[i]), "hr_at_10",
                      "<td>%.4f</td>");
    expect_number(json_object_get(part, "0.5"), "ndcg_at_10", "<td>%.4f</td>");
    part = json_object_get(ranking, "by_history");
    expect_number(json_object_get(part, "20"), "hr_at_10", "<td>%.4f</td>");
}

static void test_numbers_are_those_of_the_json(void **state)
{
    json_error_t fault;
    json_t *root, *part;
    (void)state;
    run(command_replay,
        "replay %s/e.avro --labels %s/l.avro --set model.dir=%s/m "
        "--evaluate-from 2026-02-10 --leave-one-out --baselines --workers 1 "
        "--report %s/r.html --json %s",
        dir, dir, dir, dir, ROLES);
    assert_int_equal(got.status, EXIT_OK);
    root = json_loads(got.out, 0, &fault);
    assert_non_null(root);
    read_page("r.html");
    for (int i = 0; i < 5; i++) {
        static const char *const SCORES[] = {"fraud", "anomaly", "amount",
                                             "regression", "head_alone"};
        json_t *scores = json_object_get(root, SCORES[i]);
        expect_number(scores, "average_precision", "<td>%.4f ");
        expect_number(scores, "auc_roc", "<td>%.4f ");
        expect_number(scores, "card_precision_at_100", "<td>%.4f</td>");
        expect_number(scores, "recall_at_fpr_0.01", "<td>%.4f</td>");
        expect_number(scores, "precision_at_fpr_0.01", "<td>%.4f</td>");
        expect_number(scores, "value_found_at_100_cards_a_day",
                      "<td>%.4f</td>");
        expect_number(scores, "value_found_at_100_a_day", "<td>%.4f</td>");
        expect_number(scores, "average_precision_low", "%.3f&ndash;");
    }
    expect_number(json_object_get(root, "fraud"), "observed_over_expected",
                  "<td>%.3f</td>");
    expect_number(json_object_get(root, "next_item"), "hr_at_10",
                  "<td>%.4f</td>");
    expect_ranking(json_object_get(root, "leave_one_out"));
    part = json_object_get(root, "drift");
    expect_number(json_object_get(part, "scores"), "fraud", "<td>%.4f</td>");
    expect_number(json_object_get(part, "features"), "events_total",
                  "<td>%.4f</td>");
    assert_non_null(
        strstr(page, json_string_value(json_object_get(root, "model_hash"))));
    expect_hash("e.avro");
    expect_hash("l.avro");
    json_decref(root);
}

static void test_stands_alone(void **state)
{
    static const char *const NEVER[] = {
        "<script", "http:", "https:", "src=", "@import", "url(", "nan", "inf<"};
    (void)state;
    read_page("r.html");
    for (size_t i = 0; i < sizeof NEVER / sizeof *NEVER; i++)
        if (strstr(page, NEVER[i])) fail_msg("the page has %s", NEVER[i]);
    assert_non_null(strstr(page, "prefers-color-scheme:dark"));
    assert_non_null(strstr(page, "</body></html>"));
}

/* A model against itself, and against one trained for longer. */
static void test_compare(void **state)
{
    json_error_t fault;
    json_t *root, *other, *difference;
    (void)state;
    run(command_replay,
        "replay %s/e.avro --labels %s/l.avro --set model.dir=%s/m --compare "
        "%s/m --json %s",
        dir, dir, dir, dir, ROLES);
    assert_int_equal(got.status, EXIT_OK);
    root = json_loads(got.out, 0, &fault);
    other = json_object_get(root, "compare");
    assert_true(json_equal(json_object_get(root, "fraud"),
                           json_object_get(other, "fraud")));
    difference = json_object_get(other, "fraud_difference");
    assert_true(
        json_real_value(json_object_get(difference, "auc_roc_low")) == 0 &&
        json_real_value(json_object_get(difference, "auc_roc_high")) == 0);
    json_decref(root);
    run(command_train,
        "train behaviour %s/e.avro --labels %s/l.avro --out %s/n --epochs 2 "
        "--seed 2 --width 16 --layers 1 --window 8 --until 2026-02-10 %s",
        dir, dir, dir, ROLES);
    assert_int_equal(got.status, EXIT_OK);
    run(command_replay,
        "replay %s/e.avro --labels %s/l.avro --set model.dir=%s/m --compare "
        "%s/n --json --report %s/c.html %s",
        dir, dir, dir, dir, dir, ROLES);
    assert_int_equal(got.status, EXIT_OK);
    root = json_loads(got.out, 0, &fault);
    other = json_object_get(root, "compare");
    difference = json_object_get(other, "fraud_difference");
    read_page("c.html");
    expect_number(json_object_get(other, "fraud"), "average_precision",
                  "<td>%.4f</td>");
    expect_number(difference, "average_precision", "<td>%+.4f ");
    expect_number(difference, "auc_roc_high", "to %+.4f");
    assert_non_null(strstr(page, "Against model"));
    json_decref(root);
}

/* What comes from files and from the command line is text. */
static void test_hostile_words(void **state)
{
    char path[128];
    FILE *f;
    (void)state;
    (void)snprintf(path, sizeof path, "%s/m/model_card.md", dir);
    f = fopen(path, "a");
    assert_non_null(f);
    (void)fputs("\n</pre><script>alert(1)</script> & more\n", f);
    (void)fclose(f);
    run(command_replay,
        "replay %s/e.avro --set model.dir=%s/m --report %s/h.html --set "
        "kafka.sasl.password=hunter2 --set group.id=<b>x</b> %s",
        dir, dir, dir, ROLES);
    assert_int_equal(got.status, EXIT_OK);
    read_page("h.html");
    assert_null(strstr(page, "<script"));
    assert_non_null(strstr(page, "&lt;script&gt;alert(1)"));
    assert_null(strstr(page, "hunter2"));
    assert_null(strstr(page, "<b>x</b>"));
    assert_non_null(strstr(page, "&lt;b&gt;x"));
    assert_non_null(strstr(page, "no labels of both kinds"));
}

static void test_where_it_cannot_be_written(void **state)
{
    (void)state;
    run(command_replay,
        "replay %s/e.avro --set model.dir=%s/m --report %s/none/r.html %s", dir,
        dir, dir, ROLES);
    assert_int_equal(got.status, EXIT_FAILED);
    assert_non_null(strstr(got.err, "none/r.html"));
    assert_int_equal(got.out[0], 0);
}

/* What a model would see, before there is one. */
static void test_features_without_a_model(void **state)
{
    char path[300];
    (void)state;
    run(command_replay, "replay %s/e.avro --features %s/f.avro --json %s", dir,
        dir, ROLES);
    assert_int_equal(got.status, EXIT_OK);
    assert_null(strstr(got.out, "auc_roc"));
    (void)snprintf(path, sizeof path, "%s/f.avro", dir);
    assert_int_equal(access(path, R_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_those_of_the_json),
        cmocka_unit_test(test_stands_alone),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_hostile_words),
        cmocka_unit_test(test_where_it_cannot_be_written),
        cmocka_unit_test(test_features_without_a_model),
    };
    return cmocka_run_group_tests(tests, make_model, remove_dir);
}
