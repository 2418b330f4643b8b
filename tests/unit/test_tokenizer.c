/* Goal    The ids of a text, by hand; what a tokenizer file may not say; and
 *         that no text, however broken, costs memory or runs past its end.
 * Method  A vocabulary of a few tokens, once as lines and once as JSON. Each
 *         rule of tokenizer.h has a text. Equality with the package on many
 *         texts is oracle_tokenizer's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tokenizer.h"
#include "unicode.h"

enum { ROOM = 16, CLS = 2, SEP = 3, UNK = 1, MASK = 4 };

/*                       0      1      2      3      4       5      6     */
static const char vocab[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n"
                            /* 7      8   9  10   11      12      13 */
                            "##able\ncafe\n,\n\n##\xe0\xb8\x81\nA\n\xe4\xb8\xad"
                            /* 14      15         16  17 */
                            "\n##a\r\ncaf\xc3\xa9\na\nun";

static const struct tokenizer_options uncased = {true, true, true, true};
static const struct tokenizer_options cased = {true, true, false, false};

static struct tokenizer *tokenizer_of(struct tokenizer_options options)
{
    struct tokenizer *t;
    struct err e;
    assert_int_equal(tokenizer_parse_lines(&t, slice_str(vocab), options, &e),
                     RC_OK);
    assert_int_equal(tokenizer_info(t).ids, 18);
    return t;
}

static void expect(const struct tokenizer *t, const char *text,
                   const uint32_t *ids, uint32_t count)
{
    uint32_t got[ROOM];
    struct encoded made = tokenizer_encode(t, slice_str(text), got, ROOM);
    assert_false(made.truncated);
    assert_int_equal(made.count, count + 2);
    assert_int_equal(got[0], CLS);
    assert_memory_equal(got + 1, ids, count * sizeof *ids);
    assert_int_equal(got[count + 1], SEP);
}

#define EXPECT(t, text, ...)                                                   \
    do {                                                                       \
        const uint32_t ids_[] = {__VA_ARGS__};                                 \
        expect(t, text, ids_, sizeof ids_ / sizeof ids_[0]);                   \
    } while (0)

static void test_rules(void **state)
{
    struct tokenizer *t = tokenizer_of(uncased), *c = tokenizer_of(cased);
    (void)state;
    expect(t, "", NULL, 0);
    expect(t, " \t\n\xc2\xa0", NULL, 0);
    EXPECT(t, "unaffable", 17, 6, 7);        /* of equal lines the last */
    EXPECT(t, "UNaffABLE", 17, 6, 7);        /* case */
    EXPECT(c, "UNaffABLE", UNK);             /* kept */
    EXPECT(t, "un affable", 17, UNK);        /* "##aff" begins no word */
    EXPECT(t, "unx", UNK);                   /* no part of a word is kept */
    EXPECT(t, "cafe\xcc\x81,cafe", 8, 9, 8); /* accents, punctuation */
    EXPECT(t, "caf\xc3\xa9", 8);
    EXPECT(c, "caf\xc3\xa9", 15);
    EXPECT(t,
           "a\xe4\xb8\xad"
           "a",
           16, 13, 16); /* ideographs alone */
    EXPECT(t,
           "c\x01"
           "af\xe2\x80\x8b"
           "e",
           8);                           /* controls go */
    EXPECT(t, "a[MASK]a", 16, MASK, 16); /* special */
    EXPECT(t, "[mask]", UNK, UNK, UNK);  /* not special */
    EXPECT(t, "##aff", UNK, UNK, UNK);
    tokenizer_free(t);
    tokenizer_free(c);
}

static void test_broken(void **state)
{
    struct tokenizer *t = tokenizer_of(uncased);
    (void)state;
    EXPECT(t,
           "caf\xff"
           "e",
           8);                 /* no cut, no token */
    EXPECT(t, "caf\xc3", UNK); /* no "caf" in it */
    expect(t, "\xed\xa0\x80", NULL, 0);
    tokenizer_free(t);
}

static void test_replacement(void **state)
{
    static const struct {
        const char *text;
        uint32_t expected; /* how many U+FFFD, and nothing else */
    } cases[] = {
        {"\xff", 1},         {"\xc0\x80", 2},         {"\xe2\x82", 1},
        {"\xed\xa0\x80", 3}, {"\xf0\x9f\x98", 1},     {"\xf4\x90\x80\x80", 4},
        {"\x80\x80", 2},     {"\xf0\x80\x80\x80", 4}, {"\xe0\x9f\xbf", 3},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice text = slice_str(cases[i].text);
        size_t at = 0;
        uint32_t count = 0;
        for (; at < text.len; count++)
            assert_int_equal(unicode_next(text, &at), UNICODE_REPLACEMENT);
        assert_int_equal(count, cases[i].expected);
    }
}

static void test_truncation(void **state)
{
    struct tokenizer *t = tokenizer_of(uncased);
    uint32_t ids[6] = {0, 0, 0, 0, 0, 99};
    struct encoded made;
    (void)state;
    made = tokenizer_encode(t, slice_str("unaffable"), ids, 5);
    assert_false(made.truncated); /* exactly full */
    assert_int_equal(made.count, 5);
    made = tokenizer_encode(t, slice_str("unaffable a"), ids, 5);
    assert_true(made.truncated);
    assert_int_equal(made.count, 5);
    assert_int_equal(ids[3], 7);
    assert_int_equal(ids[4], SEP);
    made = tokenizer_encode(t, slice_str("unaffable"), ids, 4); /* in a word */
    assert_true(made.truncated);
    assert_int_equal(ids[2], 6);
    assert_int_equal(ids[3], SEP);
    made = tokenizer_encode(t, slice_str("a"), ids, 2);
    assert_true(made.truncated);
    assert_int_equal(made.count, 2);
    assert_int_equal(ids[5], 99);
    tokenizer_free(t);
}

/* A word of 100 code points has pieces, one of 101 is [UNK], and so is one of
 * a million. */
static void test_long_words(void **state)
{
    enum { MANY = 1 << 20 };
    struct tokenizer *t = tokenizer_of(uncased);
    char *text = malloc(MANY + 1);
    uint32_t ids[128];
    struct encoded made;
    (void)state;
    assert_non_null(text);
    memset(text, 'a', MANY);
    made = tokenizer_encode(t, slice_of(text, 100), ids, 128);
    assert_int_equal(made.count, 102);
    assert_int_equal(ids[1], 16);
    assert_int_equal(ids[100], 14);
    made = tokenizer_encode(t, slice_of(text, 101), ids, 128);
    assert_int_equal(made.count, 3);
    assert_int_equal(ids[1], UNK);
    made = tokenizer_encode(t, slice_of(text, MANY), ids, 128);
    assert_int_equal(made.count, 3);
    for (size_t i = 0; i + 3 <= MANY; i += 3)
        memcpy(text + i, "\xe3\x80\xae", 3); /* waits to be sorted */
    made = tokenizer_encode(t, slice_of(text, MANY / 3 * 3), ids, 128);
    assert_int_equal(made.count, 3);
    assert_int_equal(ids[1], UNK);
    free(text);
    tokenizer_free(t);
}

static void test_bad_lines(void **state)
{
    static const char *const cases[][2] = {
        {"", "[UNK]"},
        {"[UNK]\n[CLS]\na\n", "[SEP]"},
        {"[CLS]\n[SEP]\n", "[UNK]"},
        {"[UNK]\n[CLS]\n[SEP]\n\xff\n", "token 3 is not UTF-8"},
    };
    struct tokenizer *t;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(
            tokenizer_parse_lines(&t, slice_str(cases[i][0]), uncased, &e),
            RC_STOP);
        assert_null(t);
        if (!strstr(e.text, cases[i][1]))
            fail_msg("%s: lacks %s", e.text, cases[i][1]);
    }
    assert_int_equal(tokenizer_open(&t, "no/such/dir", &e), RC_STOP);
    assert_non_null(strstr(e.text, "no/such/dir/vocab.txt"));
}

#define NORMALIZER "\"normalizer\": {\"type\": \"BertNormalizer\"}"
#define WORDS      "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}"
#define MODEL(more)                                                            \
    "\"model\": {\"type\": \"WordPiece\"" more                                 \
    ", \"vocab\": {\"[UNK]\": 0, \"[CLS]\": 1, \"[SEP]\": 2, \"a\": 3}}"
#define ENDS(cls)                                                              \
    "\"post_processor\": {\"type\": \"BertProcessing\", \"sep\": "             \
    "[\"[SEP]\", 2], \"cls\": [\"[CLS]\", " cls "]}"

static void test_json(void **state)
{
    static const char good[] =
        "{" NORMALIZER "," WORDS "," MODEL("") "," ENDS("1") "}";
    struct tokenizer *t;
    struct err e;
    uint32_t ids[8];
    (void)state;
    assert_int_equal(tokenizer_parse_json(&t, slice_str(good), &e), RC_OK);
    assert_true(tokenizer_info(t).options.strip_accents);
    assert_int_equal(tokenizer_encode(t, slice_str("\xc3\x80 b"), ids, 8).count,
                     4);
    assert_int_equal(ids[1], 3);
    assert_int_equal(ids[2], 0);
    tokenizer_free(t);
    for (size_t cut = 0; cut < sizeof good - 1; cut++) {
        assert_int_equal(tokenizer_parse_json(&t, slice_of(good, cut), &e),
                         RC_STOP);
        assert_null(t);
    }
}

static void test_bad_json(void **state)
{
    static const char *const cases[][2] = {
        {"[]", "normalizer"},
        {"{\"normalizer\": {\"type\": \"NFC\"}}", "type NFC"},
        {"{" NORMALIZER ", \"pre_tokenizer\": {\"type\": \"Metaspace\"}}",
         "Metaspace"},
        {"{" NORMALIZER "," WORDS ", \"model\": {\"type\": \"BPE\"}}", "BPE"},
        {"{" NORMALIZER "," WORDS "," MODEL("") "}", "post_processor"},
        {"{" NORMALIZER "," WORDS "," MODEL("") "," ENDS("4") "}",
         "post_processor"},
        {"{" NORMALIZER "," WORDS "," MODEL("") "," ENDS("-1") "}",
         "post_processor"},
        {"{" NORMALIZER "," WORDS
         "," MODEL(", \"max_input_chars_per_word\": 100000") "," ENDS("1") "}",
         "max_input_chars_per_word"},
        {"{" NORMALIZER "," WORDS
         "," MODEL(", \"continuing_subword_prefix\": \"@@\"") "," ENDS("1") "}",
         "@@"},
        {"{" NORMALIZER "," WORDS
         "," MODEL(", \"unk_token\": \"<unk>\"") "," ENDS("1") "}",
         "<unk>"},
        {"{" NORMALIZER "," WORDS "," MODEL("") "," ENDS(
             "1") ", \"added_tokens\": [{\"id\": 9, \"content\": \"<x>\", "
                  "\"lstrip\": true}]}",
         "<x> is lstrip"},
        {"{" NORMALIZER "," WORDS
         "," MODEL("") "," ENDS("1") ", \"added_tokens\": [{\"id\": "
                                     "4000000000, \"content\": \"<x>\"}]}",
         "<x> has no id"},
    };
    struct tokenizer *t;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(tokenizer_parse_json(&t, slice_str(cases[i][0]), &e),
                         RC_STOP);
        assert_null(t);
        if (!strstr(e.text, cases[i][1]))
            fail_msg("%s: lacks %s", e.text, cases[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),       cmocka_unit_test(test_broken),
        cmocka_unit_test(test_replacement), cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_long_words),  cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_json),        cmocka_unit_test(test_bad_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
