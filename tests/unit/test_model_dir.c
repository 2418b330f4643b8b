/* Goal    A model directory comes back as it was written, an old one is
 *         replaced by a whole new one only, and nothing damaged is opened.
 * Method  A random model is written; then each file is truncated, each kind
 *         of damage is done to a copy of it, and the text of the refusal is
 *         looked at: it must say what is wrong. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hash.h"
#include "random_model.h"

static const char dir[] = "test_model_dir.tmp";

static const struct random_shape shape = {.layers = 1,
                                          .width = 16,
                                          .heads = 2,
                                          .ffn = 32,
                                          .window = 8,
                                          .items = 20,
                                          .features = 3,
                                          .has_time = true,
                                          .kv_bf16 = true};

static void remove_tree(void)
{
    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf %s %s.tmp-*", dir, dir);
    assert_int_equal(system(command), 0);
}

static struct model *written(void)
{
    struct model *m = random_model(shape, 7);
    struct err e = {.text = ""};
    remove_tree();
    if (model_write(m, dir, "# card\n", &e) != RC_OK) fail_msg("%s", e.text);
    return m;
}

static void path_of(char path[256], const char *name)
{
    (void)snprintf(path, 256, "%s/%s", dir, name);
}

static uint8_t *read_all(const char *name, size_t *size)
{
    char path[256];
    FILE *file;
    uint8_t *bytes;
    path_of(path, name);
    file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *size = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    bytes[*size] = 0;
    (void)fclose(file);
    return bytes;
}

static void write_all(const char *name, const uint8_t *bytes, size_t size)
{
    char path[256];
    FILE *file;
    path_of(path, name);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void refuses(const char *says)
{
    struct model *m;
    struct err e = {.text = ""};
    assert_int_equal(model_open(&m, dir, &e), RC_STOP);
    assert_null(m);
    if (!strstr(e.text, says) || !strstr(e.text, dir))
        fail_msg("wanted \"%s\", got \"%s\"", says, e.text);
}

static void test_round_trip(void **state)
{
    struct model *m = written(), *back;
    struct err e;
    (void)state;
    assert_int_equal(model_open(&back, dir, &e), RC_OK);
    assert_string_equal(model_info(back)->hash, m->info.hash);
    assert_int_equal(model_info(back)->items, shape.items);
    assert_int_equal(model_info(back)->window, shape.window);
    assert_int_equal(model_info(back)->feature_hash, m->info.feature_hash);
    assert_int_equal(model_info(back)->features, shape.features);
    assert_true(model_info(back)->has_fraud);
    assert_memory_equal(back->values, m->values,
                        m->params.size * sizeof *m->values);
    assert_memory_equal(back->tables.field_quantile, m->tables.field_quantile,
                        sizeof m->tables.field_quantile);
    assert_memory_equal(back->tables.own_quantile, m->tables.own_quantile,
                        sizeof m->tables.own_quantile);
    for (uint32_t i = 0; i < shape.items; i++) {
        struct slice name = model_item_name(m, i);
        assert_true(slice_equal(model_item_name(back, i), name));
        assert_int_equal(model_item_index(back, hash64(name)), i);
    }
    assert_int_equal(model_item_index(back, hash64(slice_str("no such"))), -1);
    model_free(back);
    model_free(m);
}

static void test_same_model_same_bytes(void **state)
{
    struct model *m = written();
    char first[17];
    struct err e;
    (void)state;
    memcpy(first, m->info.hash, sizeof first);
    assert_int_equal(model_write(m, dir, "# another card\n", &e), RC_OK);
    assert_string_equal(m->info.hash, first);
    model_free(m);
}

static void test_replaces_a_model_only(void **state)
{
    struct model *m = written();
    struct err e = {.text = ""};
    size_t size;
    uint8_t *card;
    char path[256];
    (void)state;
    m->values[0] += 1;
    assert_int_equal(model_write(m, dir, "# second\n", &e), RC_OK);
    card = read_all("model_card.md", &size);
    assert_string_equal((char *)card, "# second\n");
    free(card);
    path_of(path, "config.json");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(model_write(m, dir, "# third\n", &e), RC_STOP);
    assert_non_null(strstr(e.text, "no model directory"));
    model_free(m);
}

/* Nothing is left beside the directory, whether writing worked or not. */
static void test_leaves_nothing_behind(void **state)
{
    struct model *m = written();
    struct err e;
    (void)state;
    assert_int_equal(model_write(m, "no/such/place", "", &e), RC_STOP);
    assert_int_equal(model_write(m, dir, "", &e), RC_OK);
    assert_int_not_equal(
        system("ls -d test_model_dir.tmp.tmp-* >/dev/null 2>&1"), 0);
    model_free(m);
}

static void test_truncated(void **state)
{
    static const char *const names[] = {"model.safetensors", "config.json",
                                        "item.ids"};
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct model *m = written();
        size_t size;
        uint8_t *bytes = read_all(names[i], &size);
        write_all(names[i], bytes, size - size / 3);
        refuses(i == 2 ? "item.ids" : names[i]);
        write_all(names[i], bytes, 0);
        refuses(names[i]);
        free(bytes);
        model_free(m);
    }
}

static void test_missing(void **state)
{
    static const char *const names[] = {"model.safetensors", "config.json",
                                        "item.ids"};
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct model *m = written();
        char path[256];
        path_of(path, names[i]);
        assert_int_equal(unlink(path), 0);
        refuses(names[i]);
        model_free(m);
    }
    remove_tree();
    refuses("cannot open");
}

/* One bit of a weight: the shape is right, the checksum is not. */
static void test_flipped_bit(void **state)
{
    struct model *m = written();
    size_t size;
    uint8_t *bytes = read_all("model.safetensors", &size);
    (void)state;
    bytes[size - 200] ^= 1; /* in a table of quantiles */
    write_all("model.safetensors", bytes, size);
    refuses("model.safetensors is damaged");
    free(bytes);
    model_free(m);
}

static void test_not_finite(void **state)
{
    struct model *m = random_model(shape, 7);
    struct err e;
    (void)state;
    remove_tree();
    m->values[3] = NAN;
    assert_int_equal(model_write(m, dir, "", &e), RC_OK);
    refuses("not finite");
    model_free(m);
}

/* Each edit of config.json, and what the refusal says. */
static void test_config_edits(void **state)
{
    static const struct {
        const char *from, *to, *says;
    } edits[] = {
        {"\"width\": 16", "\"width\": 32", "has not the shape"},
        {"\"width\": 16", "\"width\": 17", "width 17"},
        {"\"width\": 16", "\"width\": \"x\"", "no number \"width\""},
        {"\"window\": 8", "\"window\": 4", "has not the shape"},
        {"\"window\": 8", "\"window\": 0", "window 0"},
        {"\"items\": 20", "\"items\": 19", "item table"},
        {"\"version\": 1", "\"version\": 2", "this build reads 1"},
        {"millrace behaviour model", "something else", "\"format\" is"},
        {"\"kind\": \"item\"", "\"kind\": \"brand\"", "unknown kind"},
        {"\"name\": \"item\"", "\"name\": \"../x\"", "a field named"},
        {"\"amount_scale\"", "\"amount_skale\"", "amount_scale"},
        {"\"feature_hash\": \"", "\"feature_hash\": \"0", "feature_hash"},
        {"\"checksums\"", "\"checksome\"", "no checksum"},
        {"\"layers\": 1", "\"layers\": 2", "no tensor layers.1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        struct model *m = written();
        size_t size, from = strlen(edits[i].from);
        uint8_t *bytes = read_all("config.json", &size);
        char *at = strstr((char *)bytes, edits[i].from), *made;
        if (!at) fail_msg("config.json has no %s", edits[i].from);
        made = malloc(size + 64);
        assert_non_null(made);
        (void)snprintf(made, size + 64, "%.*s%s%s", (int)(at - (char *)bytes),
                       (char *)bytes, edits[i].to, at + from);
        write_all("config.json", (uint8_t *)made, strlen(made));
        refuses(edits[i].says);
        free(made);
        free(bytes);
        model_free(m);
    }
}

static int finish(void **state)
{
    (void)state;
    remove_tree();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_same_model_same_bytes),
        cmocka_unit_test(test_replaces_a_model_only),
        cmocka_unit_test(test_leaves_nothing_behind),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_flipped_bit),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_config_edits),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
