/* Goal    The encoder's hidden states and logits are the original's; the same
 *         bits whatever else a call holds; what is saved is what was read; no
 *         directory that is wrong is opened.
 *         Nothing is allocated for a text.
 * Method  Golden directories (tests/golden/make_text.py): BERT in bf16 and
 *         DistilBERT in fp16, a thousand sentences each. Allocations are
 *         counted by the linker's wrappers (tests.cmake). Directories are
 *         spoiled one thing at a time, and each must be refused in words that
 *         name it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "dir_files.h"
#include "safetensors.h"
#include "text.h"

enum { SENTENCES = 1000, TOKENS_MAX = 64, BYTES_MAX = 1 << 22 };

static const double tolerance = 1e-4;
static const char bert[] = SOURCE_DIR "/tests/golden/text_bert";
static const char distilbert[] = SOURCE_DIR "/tests/golden/text_distilbert";

struct golden {
    struct safetensors *file;
    const int32_t *counts;
    const uint32_t *ids;
    const uint8_t *types;
    const float *first, *along, *direction, *logits;
    struct text_input in[SENTENCES];
    uint32_t tokens;
};

static const void *data_of(const struct golden *g, const char *name)
{
    const struct stored_tensor *t = safetensors_find(g->file, name);
    assert_non_null(t);
    return t->data;
}

static void golden_open(struct golden *g, const char *dir)
{
    char path[PATH_BYTES];
    struct err e;
    (void)snprintf(path, sizeof path, "%s/expected.safetensors", dir);
    if (safetensors_read(&g->file, path, &e) != RC_OK) fail_msg("%s", e.text);
    g->counts = data_of(g, "counts");
    g->ids = data_of(g, "ids");
    g->types = data_of(g, "types");
    g->first = data_of(g, "first");
    g->along = data_of(g, "along");
    g->direction = data_of(g, "direction");
    g->logits = data_of(g, "logits");
    g->tokens = 0;
    for (uint32_t i = 0; i < SENTENCES; i++) {
        g->in[i] = (struct text_input){.ids = g->ids + g->tokens,
                                       .types = g->types + g->tokens,
                                       .count = (uint32_t)g->counts[i]};
        g->tokens += (uint32_t)g->counts[i];
    }
}

static struct text_model *model_of(const char *dir)
{
    struct text_model *m;
    struct err e;
    if (text_open(&m, dir, &e) != RC_OK) fail_msg("%s", e.text);
    return m;
}

static struct text_encoder *encoder_of(const struct text_model *m,
                                       uint32_t tokens_max)
{
    struct text_encoder *t;
    struct err e;
    assert_int_equal(text_encoder_new(&t, m, tokens_max, &e), RC_OK);
    return t;
}

static double largest_difference(const float *a, const float *b, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)a[i] - b[i]));
    return most;
}

/* ---- the same as the original ---------------------------------------- */

static void compare(const char *dir)
{
    struct golden g;
    struct text_model *m = model_of(dir);
    const struct text_info *info = text_info(m);
    struct text_encoder *t = encoder_of(m, TOKENS_MAX);
    float *all, *first, *along, *logits;
    double worst[3];

    golden_open(&g, dir);
    all = calloc((size_t)g.tokens * info->width, sizeof *all);
    along = calloc(g.tokens, sizeof *along);
    first = calloc((size_t)SENTENCES * info->width, sizeof *first);
    logits = calloc((size_t)SENTENCES * info->labels, sizeof *logits);
    assert_true(all && along && first && logits);
    text_encode(t, g.in, SENTENCES, TEXT_ALL, all);
    for (uint32_t i = 0; i < g.tokens; i++)
        for (uint32_t d = 0; d < info->width; d++)
            along[i] += all[(size_t)i * info->width + d] * g.direction[d];
    text_encode(t, g.in, SENTENCES, TEXT_FIRST, first);
    text_classify(t, first, SENTENCES, logits);
    worst[0] = largest_difference(first, g.first, SENTENCES * info->width);
    worst[1] = largest_difference(along, g.along, g.tokens);
    worst[2] = largest_difference(logits, g.logits, SENTENCES * info->labels);
    print_message("first %.1e, along %.1e, logits %.1e\n", worst[0], worst[1],
                  worst[2]);
    for (int i = 0; i < 3; i++)
        assert_true(worst[i] < tolerance);
    /* The first row alone has the bits that it has among all. */
    for (uint32_t i = 0, at = 0; i < SENTENCES; at += g.in[i++].count)
        assert_memory_equal(first + (size_t)i * info->width,
                            all + (size_t)at * info->width,
                            info->width * sizeof *all);
    free(all), free(first), free(along), free(logits);
    safetensors_free(g.file);
    text_encoder_free(t);
    text_free(m);
}

static void test_bert(void **state)
{
    (void)state;
    compare(bert);
}

static void test_distilbert(void **state)
{
    (void)state;
    compare(distilbert);
}

/* I5: alone, among others, in chunks of any size. */
static void test_same_bits(void **state)
{
    static const uint32_t sizes[] = {1, 65, 200, 4000};
    struct golden g;
    struct text_model *m = model_of(bert);
    uint32_t d = text_info(m)->width, at = 0;
    struct text_encoder *one = encoder_of(m, 1);
    float *all, *again;

    (void)state;
    golden_open(&g, bert);
    all = calloc((size_t)g.tokens * d, sizeof *all);
    again = calloc((size_t)g.tokens * d, sizeof *again);
    assert_true(all && again);
    for (uint32_t i = 0; i < SENTENCES; at += g.in[i++].count)
        text_encode(one, &g.in[i], 1, TEXT_ALL, all + (size_t)at * d);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct text_encoder *t = encoder_of(m, sizes[s]);
        text_encode(t, g.in, SENTENCES, TEXT_ALL, again);
        assert_memory_equal(all, again, (size_t)g.tokens * d * sizeof *all);
        text_encoder_free(t);
    }
    free(all), free(again);
    safetensors_free(g.file);
    text_encoder_free(one);
    text_free(m);
}

/* ---- memory ---------------------------------------------------------- */

static size_t allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);

void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
    allocations++;
    return __real_realloc(ptr, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    allocations++;
    return __real_aligned_alloc(align, size);
}

static void test_no_malloc(void **state)
{
    static const char text[] = "F\xcc\x81 z, \xff\xe3\x80\xae [MASK] "
                               "\xed\x95\x9c\xe4\xb8\xad b1";
    struct text_model *m = model_of(bert);
    struct text_encoder *t = encoder_of(m, TOKENS_MAX);
    uint32_t ids[TOKENS_MAX], count;
    float hidden[32], logits[8];
    (void)state;
    assert_true(allocations > 0); /* they are counted */
    allocations = 0;
    (void)text_tokenize(m, slice_str(text), ids, text_info(m)->ids_max, &count);
    text_encode(t, &(struct text_input){.ids = ids, .count = count}, 1,
                TEXT_FIRST, hidden);
    text_classify(t, hidden, 1, logits);
    assert_int_equal(allocations, 0);
    text_encoder_free(t);
    text_free(m);
}

/* ---- saving ---------------------------------------------------------- */

static char scratch[] = "test_text.tmp-XXXXXX";

static void make_dir(char path[PATH_BYTES], const char *name)
{
    (void)snprintf(path, PATH_BYTES, "%s/%s", scratch, name);
}

static void test_save(void **state)
{
    const char *from[] = {bert, distilbert};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct text_model *m = model_of(from[i]), *saved;
        uint32_t ids[4], d = text_info(m)->width, count;
        struct text_input in = {.ids = ids};
        struct text_encoder *t = encoder_of(m, 1), *u;
        float a[4 * 32], b[4 * 32];
        char path[PATH_BYTES];
        struct err e;
        make_dir(path, i ? "saved_distilbert" : "saved_bert");
        if (text_save(m, path, &e) != RC_OK) fail_msg("%s", e.text);
        if (text_save(m, path, &e) != RC_OK) fail_msg("%s", e.text); /* over */
        saved = model_of(path);
        assert_string_equal(text_label(saved, 2), "good");
        assert_null(text_label(saved, 3));
        u = encoder_of(saved, 1);
        assert_false(text_tokenize(saved, slice_str("f z"), ids, 4, &count));
        in.count = count;
        assert_int_equal(in.count, 4);
        assert_int_equal(d, 32);
        text_encode(t, &in, 1, TEXT_ALL, a);
        text_encode(u, &in, 1, TEXT_ALL, b);
        assert_memory_equal(a, b, sizeof a);
        text_encoder_free(t), text_encoder_free(u);
        text_free(m), text_free(saved);
    }
}

/* ---- what is refused ------------------------------------------------- */

static void put_file(const char *dir, const char *name, struct slice bytes)
{
    char path[PATH_BYTES];
    struct err e;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    if (dir_write_bytes(path, bytes, &e) != RC_OK) fail_msg("%s", e.text);
}

static uint8_t *get_file(const char *name, size_t *size)
{
    char path[PATH_BYTES];
    uint8_t *bytes;
    struct err e;
    (void)snprintf(path, sizeof path, "%s/%s", bert, name);
    if (dir_read_file(path, BYTES_MAX, &bytes, size, &e) != RC_OK)
        fail_msg("%s", e.text);
    return bytes;
}

/* The golden directory with one file's text replaced at its first place;
 * expect stands in what is said. */
static void refuse(const char *file, const char *what, const char *with,
                   const char *expect)
{
    static const char *const files[] = {"config.json", "vocab.txt",
                                        "model.safetensors"};
    char path[PATH_BYTES];
    struct text_model *m;
    struct err e;
    make_dir(path, "spoiled");
    (void)mkdir(path, 0755);
    for (int i = 0; i < 3; i++) {
        size_t size, cut = strlen(what);
        uint8_t *bytes = get_file(files[i], &size);
        uint8_t *at =
            strcmp(files[i], file) == 0 ? memmem(bytes, size, what, cut) : NULL;
        uint8_t *made = malloc(size + strlen(with) + 1);
        size_t head = at ? (size_t)(at - bytes) : size;
        assert_true(at || strcmp(files[i], file) != 0);
        assert_non_null(made);
        memcpy(made, bytes, head);
        if (at) {
            memcpy(made + head, with, strlen(with));
            memcpy(made + head + strlen(with), at + cut, size - head - cut);
            size += strlen(with) - cut;
        }
        put_file(path, files[i], slice_of(made, size));
        free(bytes), free(made);
    }
    assert_int_equal(text_open(&m, path, &e), RC_STOP);
    assert_null(m);
    if (!strstr(e.text, expect)) fail_msg("%s: lacks %s", e.text, expect);
}

static void test_bad_config(void **state)
{
    (void)state;
    refuse("config.json", "\"bert\"", "\"gpt2\"", "model_type is gpt2");
    refuse("config.json", "\"hidden_size\": 32", "\"hidden_size\": 0",
           "hidden_size");
    refuse("config.json", "\"hidden_size\": 32", "\"hidden_size\": 36",
           "multiple of 8");
    refuse("config.json", "\"vocab_size\": 120", "\"vocab_size\": 1e99",
           "vocab_size");
    /* Larger than any memory, and never asked for. */
    refuse("config.json", "\"vocab_size\": 120", "\"vocab_size\": 1048576",
           "word_embeddings.weight: (120, 32)");
    refuse("config.json", "\"num_hidden_layers\": 2",
           "\"num_hidden_layers\": 3", "no tensor bert.encoder.layer.2");
    refuse("config.json", "\"num_hidden_layers\": 2",
           "\"num_hidden_layers\": 1", "belongs to no part");
    refuse("config.json", "\"gelu\"", "\"silu\"", "hidden_act is silu");
    refuse("config.json", "1e-12", "-1", "layer_norm_eps");
    refuse("config.json", "{", "{\"is_decoder\": true,", "is_decoder");
    refuse("config.json", "{",
           "{\"position_embedding_type\": \"relative_key\",", "relative_key");
    refuse("config.json", "{", "", "config.json");
}

static void test_bad_weights(void **state)
{
    (void)state;
    refuse("model.safetensors", "[32, 64]", "[64, 32]", "output.dense.weight");
    refuse("model.safetensors", "\"BF16\"", "\"I16\" ", "neither fp32 nor");
    refuse("model.safetensors", "classifier.bias", "classifier.bios",
           "no tensor classifier.bias");
    refuse("model.safetensors", "\"classifier.weight", "\"klassifier.weight",
           "belongs to no part");
    refuse("model.safetensors", "\"data_offsets\": [0, ",
           "\"data_offsets\": [2, ", "model.safetensors");
    refuse("vocab.txt", "[SEP]", "[SOP]", "[SEP]");
    refuse("vocab.txt", "[PAD]\n", "[PAD]\nmore\n", "121 ids");
}

/* A weight that is not a number, and a file cut short. */
static void test_damaged(void **state)
{
    static const uint8_t nan_bf16[2] = {0xc0, 0x7f};
    char path[PATH_BYTES];
    struct text_model *m;
    struct err e;
    size_t size;
    uint8_t *bytes;
    (void)state;
    refuse("vocab.txt", "[CLS]", "[CSL]", "[CLS]"); /* fills the folder */
    make_dir(path, "spoiled");
    bytes = get_file("vocab.txt", &size);
    put_file(path, "vocab.txt", slice_of(bytes, size));
    free(bytes);
    bytes = get_file("model.safetensors", &size);
    put_file(path, "model.safetensors", slice_of(bytes, size - 1));
    assert_int_equal(text_open(&m, path, &e), RC_STOP);
    memcpy(bytes + size - 2, nan_bf16, 2);
    put_file(path, "model.safetensors", slice_of(bytes, size));
    assert_int_equal(text_open(&m, path, &e), RC_STOP);
    if (!strstr(e.text, "not finite")) fail_msg("%s", e.text);
    free(bytes);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[64];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bert),        cmocka_unit_test(test_distilbert),
        cmocka_unit_test(test_same_bits),   cmocka_unit_test(test_no_malloc),
        cmocka_unit_test(test_save),        cmocka_unit_test(test_bad_config),
        cmocka_unit_test(test_bad_weights), cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
