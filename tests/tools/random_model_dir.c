/* random_model_dir - a model directory of random weights that fits a
 * configuration: for benches of speed and end-to-end tests of bits, where
 * the scores need only be the same everywhere.
 *
 *   random_model_dir DIR LAYERS WIDTH HEADS FFN WINDOW ITEMS KEY=VALUE... */
#include <stdio.h>
#include <stdlib.h>

#include "config.h"
#include "mapping.h"
#include "random_model.h"
#include "shapes.h"

enum { FIRST_SET = 8 };

static void check(enum rc rc, const struct err *e)
{
    if (rc == RC_OK) return;
    (void)fprintf(stderr, "random_model_dir: %s\n", e->text);
    exit(1);
}

static uint32_t number(const char *text)
{
    return (uint32_t)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
    struct random_shape shape = {.has_time = true};
    static char names[FEATURES_MAX][FEATURE_NAME_BYTES];
    const char *list[FEATURES_MAX];
    struct history_shape history;
    struct feature_shape features;
    struct config *c;
    struct schema *schema;
    struct mapping *mapping;
    struct model *m;
    struct err e;

    if (argc < FIRST_SET) return 2;
    check(config_load(&c, NULL, (const char *const *)argv + FIRST_SET,
                      (uint32_t)(argc - FIRST_SET), &e),
          &e);
    check(schema_read(&schema, c->input_schema, &e), &e);
    check(mapping_new(&mapping, c, schema, NULL, &e), &e);
    shapes_init(&history, &features, c, mapping_fields(mapping));
    shape.layers = number(argv[2]);
    shape.width = number(argv[3]);
    shape.heads = number(argv[4]);
    shape.ffn = number(argv[5]);
    shape.window = number(argv[6]);
    shape.items = number(argv[7]);
    shape.features = feature_row_count(&features);
    for (uint32_t f = 0; f < shape.features; f++)
        list[f] = feature_row_name(&features, f, names[f], FEATURE_NAME_BYTES);
    m = random_model_named(
        shape, (struct random_names){.features = list, .generated_items = true},
        1);
    check(model_write(m, argv[1], "Random weights, for tests.\n", &e), &e);
    model_free(m);
    mapping_free(mapping);
    schema_free(schema);
    config_free(c);
    return 0;
}
