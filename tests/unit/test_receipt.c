/* test_receipt.c - goal: a receipt of forget is read back as it was made,
 * names the user to nobody who does not know the id, and is refused when it
 * is not one.
 * Method: receipts written to a file, whole, changed and cut short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "receipt.h"

static char g_path[] = "/tmp/millrace-receipt-XXXXXX";
static struct err g_e;

static struct receipt sample(const char *user)
{
    struct receipt r = {.topic = "events",
                        .group = "millrace",
                        .partition = 3,
                        .offset = 12345678901,
                        .time_ms = 1700000000000};
    assert_int_equal(receipt_seal(&r, slice_str(user), &g_e), RC_OK);
    return r;
}

static void write_text(const char *text, size_t len)
{
    FILE *file = fopen(g_path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static char *text_of(const struct receipt *r)
{
    json_t *json = receipt_json(r);
    char *text = json_dumps(json, 0);
    json_decref(json);
    assert_non_null(text);
    return text;
}

static void test_round_trip(void **state)
{
    struct receipt r = sample("anna"), back;
    char *text = text_of(&r);
    (void)state;
    write_text(text, strlen(text));
    assert_int_equal(receipt_read(&back, g_path, &g_e), RC_OK);
    assert_memory_equal(&back, &r, sizeof r);
    assert_true(receipt_is_of(&back, slice_str("anna")));
    assert_false(receipt_is_of(&back, slice_str("anne")));
    assert_false(receipt_is_of(&back, slice_str("")));
    assert_null(strstr(text, "anna"));
    free(text);
}

/* HMAC-SHA-256, so that others can check a receipt: test case 2 of RFC 4231,
 * whose key is four letters. */
static void test_known_hash(void **state)
{
    struct receipt r = {
        .key = "Jefe",
        .user_hash =
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"};
    (void)state;
    assert_true(receipt_is_of(&r, slice_str("what do ya want for nothing?")));
}

/* The same user twice: nobody sees that it is the same. */
static void test_keys_differ(void **state)
{
    struct receipt a = sample("anna"), b = sample("anna");
    (void)state;
    assert_string_not_equal(a.key, b.key);
    assert_string_not_equal(a.user_hash, b.user_hash);
}

static void refused(const char *text, size_t len, const char *words)
{
    struct receipt r;
    write_text(text, len);
    assert_int_equal(receipt_read(&r, g_path, &g_e), RC_STOP);
    assert_non_null(strstr(g_e.text, g_path));
    if (!strstr(g_e.text, words))
        fail_msg("'%s' is not in: %s", words, g_e.text);
}

static void test_refused(void **state)
{
    struct receipt r = sample("anna");
    char *text = text_of(&r), *newer;
    (void)state;
    for (size_t len = 0; len < strlen(text); len += 7)
        refused(text, len, "");
    refused("{}", 2, "no receipt");
    refused("[1]", 3, "no receipt");
    newer = strstr(text, "\"millrace_receipt\": 1");
    assert_non_null(newer);
    newer[20] = '2';
    refused(text, strlen(text), "version 2");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_known_hash),
        cmocka_unit_test(test_keys_differ),
        cmocka_unit_test(test_refused),
    };
    int fd = mkstemp(g_path), failed;
    if (fd < 0 || close(fd) != 0) return 1;
    failed = cmocka_run_group_tests_name("receipt", tests, NULL, NULL);
    (void)unlink(g_path);
    return failed;
}
