#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>
#include <utf8proc.h>

#include "dir_files.h"
#include "tokenizer_tables.h"
#include "unicode.h"

enum {
    WORD_CHARS = 100, /* of a word, where the file does not say */
    OPTIONS_FILE_MAX = 1 << 20,
    NOT_AN_ID = UINT32_MAX,
};

static const char prefix[] = "##";
static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",
                                       "[MASK]"};

/* ---- filling --------------------------------------------------------- */

static bool is_utf8(struct slice text)
{
    size_t at = 0;
    while (at < text.len) {
        utf8proc_int32_t c;
        utf8proc_ssize_t used = utf8proc_iterate(
            text.ptr + at, (utf8proc_ssize_t)(text.len - at), &c);
        if (used <= 0) return false;
        at += (size_t)used;
    }
    return true;
}

static enum rc tokenizer_new(struct tokenizer **out, struct err *e)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return ERR(e, RC_STOP, "no memory for a tokenizer");
    if (byte_trie_init(&t->pieces, ROOTS, e) != RC_OK) {
        free(t);
        return e->rc;
    }
    t->word_max = WORD_CHARS;
    for (uint32_t c = 0; c < sizeof t->ascii; c++)
        t->ascii[c] = (uint8_t)unicode_class(c);
    *out = t;
    return RC_OK;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t) return;
    byte_trie_fini(&t->pieces);
    free(t);
}

static enum rc put_token(struct tokenizer *t, struct slice token, uint64_t id,
                         struct err *e)
{
    const size_t skip = sizeof prefix - 1;
    bool next =
        token.len > skip && memcmp(token.ptr, prefix, sizeof prefix - 1) == 0;
    if (id >= TOKENIZER_IDS_MAX)
        return ERR(e, RC_STOP, "id %llu, at most %d are read",
                   (unsigned long long)id, TOKENIZER_IDS_MAX);
    if (!is_utf8(token))
        return ERR(e, RC_STOP, "token %llu is not UTF-8",
                   (unsigned long long)id);
    if (id >= t->info.ids) t->info.ids = (uint32_t)id + 1;
    if (token.len == 0) return RC_OK; /* a blank line has its number too */
    if (next) token = slice_of(token.ptr + skip, token.len - skip);
    return byte_trie_put(&t->pieces, next ? ROOT_NEXT : ROOT_FIRST, token,
                         (uint32_t)id, e);
}

static enum rc find_token(const struct tokenizer *t, const char *token,
                          uint32_t *id, struct err *e)
{
    struct slice text = slice_str(token);
    if (text.len == 0 ||
        byte_trie_longest(&t->pieces, ROOT_FIRST, text, id) != text.len)
        return ERR(e, RC_STOP, "the vocabulary has no token %.64s", token);
    return RC_OK;
}

/* ---- vocab.txt ------------------------------------------------------- */

static enum rc put_lines(struct tokenizer *t, struct slice in, struct err *e)
{
    size_t at = 0;
    for (uint64_t id = 0; at < in.len; id++) {
        const uint8_t *end = memchr(in.ptr + at, '\n', in.len - at);
        size_t stop = end ? (size_t)(end - in.ptr) : in.len;
        struct slice line = slice_of(in.ptr + at, stop - at);
        while (line.len > 0 && strchr(" \t\r", line.ptr[line.len - 1]) &&
               line.ptr[line.len - 1])
            line.len--;
        TRY(put_token(t, line, id, e));
        at = stop + 1;
    }
    return RC_OK;
}

static enum rc put_specials(struct tokenizer *t, struct err *e)
{
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        uint32_t id;
        struct err absent;
        if (find_token(t, specials[i], &id, &absent) == RC_OK)
            TRY(byte_trie_put(&t->pieces, ROOT_SPECIAL, slice_str(specials[i]),
                              id, e));
    }
    TRY(find_token(t, "[UNK]", &t->info.unk, e));
    TRY(find_token(t, "[CLS]", &t->info.cls, e));
    return find_token(t, "[SEP]", &t->info.sep, e);
}

enum rc tokenizer_parse_lines(struct tokenizer **out, struct slice vocab,
                              struct tokenizer_options options, struct err *e)
{
    enum rc rc;
    TRY(tokenizer_new(out, e));
    (*out)->info.options = options;
    rc = put_lines(*out, vocab, e);
    if (rc == RC_OK) rc = put_specials(*out, e);
    if (rc == RC_OK) return RC_OK;
    tokenizer_free(*out);
    *out = NULL;
    return rc;
}

/* ---- tokenizer.json -------------------------------------------------- */

static enum rc check_type(const json_t *part, const char *name,
                          const char *wanted, struct err *e)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    if (!type || strcmp(type, wanted) != 0)
        return ERR(e, RC_STOP,
                   "%s is of type %.64s; only BERT's, %s, is read: take a "
                   "model whose tokenizer is BERT's",
                   name, type ? type : "none", wanted);
    return RC_OK;
}

/* A missing key or null is what the package takes for it. */
static enum rc read_bool(const json_t *in, const char *key, bool fallback,
                         bool *out, struct err *e)
{
    const json_t *value = json_object_get(in, key);
    *out = json_is_true(value) || ((!value || json_is_null(value)) && fallback);
    if (value && !json_is_boolean(value) && !json_is_null(value))
        return ERR(e, RC_STOP, "%s is neither true nor false", key);
    return RC_OK;
}

static enum rc read_normalizer(struct tokenizer *t, const json_t *in,
                               struct err *e)
{
    struct tokenizer_options *o = &t->info.options;
    TRY(check_type(in, "normalizer", "BertNormalizer", e));
    TRY(read_bool(in, "clean_text", true, &o->clean, e));
    TRY(read_bool(in, "handle_chinese_chars", true, &o->chinese, e));
    TRY(read_bool(in, "lowercase", true, &o->lower_case, e));
    return read_bool(in, "strip_accents", o->lower_case, &o->strip_accents, e);
}

static enum rc read_model(struct tokenizer *t, const json_t *in, struct err *e)
{
    const char *unk = json_string_value(json_object_get(in, "unk_token"));
    const char *next =
        json_string_value(json_object_get(in, "continuing_subword_prefix"));
    const json_t *chars = json_object_get(in, "max_input_chars_per_word");
    const json_t *id;
    const char *token;

    TRY(check_type(in, "model", "WordPiece", e));
    if (next && strcmp(next, prefix) != 0)
        return ERR(e, RC_STOP,
                   "continuing_subword_prefix is %.16s, only %s is read", next,
                   prefix);
    if (chars) {
        json_int_t most = json_integer_value(chars);
        if (most < 1 || most > TOKENIZER_WORD_MAX)
            return ERR(e, RC_STOP,
                       "max_input_chars_per_word must lie between 1 and %d",
                       TOKENIZER_WORD_MAX);
        t->word_max = (uint32_t)most;
    }
    if (!json_is_object(json_object_get(in, "vocab")))
        return ERR(e, RC_STOP, "the model has no vocab");
    json_object_foreach(json_object_get(in, "vocab"), token, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return ERR(e, RC_STOP, "token %.64s has no id", token);
        TRY(put_token(t, slice_str(token), (uint64_t)json_integer_value(id),
                      e));
    }
    return find_token(t, unk ? unk : "[UNK]", &t->info.unk, e);
}

static enum rc read_added_token(struct tokenizer *t, const json_t *in,
                                struct err *e)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip",
                                        "normalized"};
    const char *content = json_string_value(json_object_get(in, "content"));
    const json_t *id = json_object_get(in, "id");
    json_int_t number = json_integer_value(id);
    if (!content || !*content)
        return ERR(e, RC_STOP, "an added token without content");
    if (!json_is_integer(id) || number < 0 || number >= TOKENIZER_IDS_MAX)
        return ERR(e, RC_STOP, "added token %.64s has no id", content);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (json_is_true(json_object_get(in, flags[i])))
            return ERR(e, RC_STOP, "added token %.64s is %s, which is not read",
                       content, flags[i]);
    if ((uint32_t)number >= t->info.ids) t->info.ids = (uint32_t)number + 1;
    return byte_trie_put(&t->pieces, ROOT_SPECIAL, slice_str(content),
                         (uint32_t)number, e);
}

/* {"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]} */
static uint32_t bert_id(const json_t *in, const char *key)
{
    const json_t *id = json_array_get(json_object_get(in, key), 1);
    json_int_t number = json_integer_value(id);
    return json_is_integer(id) && number >= 0 && number < TOKENIZER_IDS_MAX
               ? (uint32_t)number
               : NOT_AN_ID;
}

/* Position of "single" in a template; its id stands in "special_tokens". */
static uint32_t template_id(const json_t *in, size_t position)
{
    const json_t *part =
        json_array_get(json_object_get(in, "single"), position);
    const char *name = json_string_value(
        json_object_get(json_object_get(part, "SpecialToken"), "id"));
    const json_t *ids =
        json_object_get(json_object_get(json_object_get(in, "special_tokens"),
                                        name ? name : ""),
                        "ids");
    json_int_t number = json_integer_value(json_array_get(ids, 0));
    return json_array_size(ids) == 1 &&
                   json_is_integer(json_array_get(ids, 0)) && number >= 0 &&
                   number < TOKENIZER_IDS_MAX
               ? (uint32_t)number
               : NOT_AN_ID;
}

static enum rc read_ends(struct tokenizer *t, const json_t *in, struct err *e)
{
    const char *type = json_string_value(json_object_get(in, "type"));
    uint32_t cls = NOT_AN_ID, sep = NOT_AN_ID;
    if (type && strcmp(type, "BertProcessing") == 0) {
        cls = bert_id(in, "cls");
        sep = bert_id(in, "sep");
    } else if (type && strcmp(type, "TemplateProcessing") == 0 &&
               json_array_size(json_object_get(in, "single")) == 3) {
        cls = template_id(in, 0);
        sep = template_id(in, 2);
    }
    if (cls >= t->info.ids || sep >= t->info.ids)
        return ERR(e, RC_STOP,
                   "post_processor does not put one known token before the "
                   "text and one behind it, as BERT's does");
    t->info.cls = cls;
    t->info.sep = sep;
    return RC_OK;
}

static enum rc read_json(struct tokenizer *t, const json_t *in, struct err *e)
{
    size_t i;
    const json_t *added;
    TRY(read_normalizer(t, json_object_get(in, "normalizer"), e));
    TRY(check_type(json_object_get(in, "pre_tokenizer"), "pre_tokenizer",
                   "BertPreTokenizer", e));
    TRY(read_model(t, json_object_get(in, "model"), e));
    json_array_foreach(json_object_get(in, "added_tokens"), i, added)
        TRY(read_added_token(t, added, e));
    return read_ends(t, json_object_get(in, "post_processor"), e);
}

enum rc tokenizer_parse_json(struct tokenizer **out, struct slice json,
                             struct err *e)
{
    json_error_t fault;
    json_t *in;
    enum rc rc;
    TRY(tokenizer_new(out, e));
    in = json_loadb((const char *)json.ptr, json.len, JSON_REJECT_DUPLICATES,
                    &fault);
    rc = in ? read_json(*out, in, e)
            : ERR(e, RC_STOP, "line %d: %s", fault.line, fault.text);
    json_decref(in);
    if (rc == RC_OK) return RC_OK;
    tokenizer_free(*out);
    *out = NULL;
    return rc;
}

/* ---- a directory ----------------------------------------------------- */

static enum rc read_options(const char *dir, struct tokenizer_options *o,
                            struct err *e)
{
    char path[PATH_BYTES];
    json_t *in = NULL;
    enum rc rc;
    *o = (struct tokenizer_options){true, true, true, true};
    TRY(dir_path(path, dir, "tokenizer_config.json", "", e));
    if (access(path, F_OK) != 0) return RC_OK;
    TRY(dir_read_json(path, OPTIONS_FILE_MAX, &in, NULL, e));
    rc = read_bool(in, "do_lower_case", true, &o->lower_case, e);
    if (rc == RC_OK)
        rc = read_bool(in, "tokenize_chinese_chars", true, &o->chinese, e);
    if (rc == RC_OK)
        rc =
            read_bool(in, "strip_accents", o->lower_case, &o->strip_accents, e);
    json_decref(in);
    return rc == RC_OK ? rc : err_context(e, "%s", path);
}

enum rc tokenizer_open(struct tokenizer **out, const char *dir, struct err *e)
{
    char path[PATH_BYTES];
    struct tokenizer_options options;
    uint8_t *bytes;
    size_t size;
    bool json;
    enum rc rc;

    *out = NULL;
    TRY(dir_path(path, dir, "tokenizer.json", "", e));
    json = access(path, F_OK) == 0;
    if (!json) {
        TRY(read_options(dir, &options, e));
        TRY(dir_path(path, dir, "vocab.txt", "", e));
    }
    TRY(dir_read_file(path, TOKENIZER_FILE_MAX, &bytes, &size, e));
    rc = json ? tokenizer_parse_json(out, slice_of(bytes, size), e)
              : tokenizer_parse_lines(out, slice_of(bytes, size), options, e);
    free(bytes);
    return rc == RC_OK ? rc : err_context(e, "%s", path);
}
