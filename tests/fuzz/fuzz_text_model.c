/* Any bytes are an encoder's configuration and weights, whose outputs then are
 * the same bits twice, or are refused. The first line is config.json, the rest
 * is model.safetensors. */
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TOKENS = 3 };

static void encode(const struct text_model *m)
{
    const uint32_t ids[TOKENS] = {0, m->info.ids - 1, 0};
    struct text_input in = {.ids = ids, .count = 2};
    struct text_encoder *t;
    size_t reals = (size_t)in.count * m->info.width;
    float *a = calloc(2 * reals, sizeof *a);
    struct err e;
    if (a && text_encoder_new(&t, m, TOKENS, &e) == RC_OK) {
        text_encode(t, &in, 1, TEXT_ALL, a);
        text_encode(t, &in, 1, TEXT_ALL, a + reals);
        assert(memcmp(a, a + reals, reals * sizeof *a) == 0);
        text_encoder_free(t);
    }
    free(a);
}

static void try_weights(struct text_config *c, const struct safetensors *file)
{
    struct text_model m = {0};
    const char *prefix;
    struct err e;
    text_params_heads(c, file, &prefix);
    if (text_params_init(&m.params, c, &e) != RC_OK) return;
    if (text_params_read(&m.params, file, prefix, &m.values, &e) == RC_OK &&
        text_pack(&m, &e) == RC_OK) {
        m.info.ids = c->ids;
        m.info.width = c->width;
        m.info.ids_max = c->positions;
        m.info.types = c->types ? c->types : 1;
        encode(&m);
    }
    free(m.layer);
    free(m.block);
    free(m.values);
    text_params_fini(&m.params);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
    struct safetensors *file;
    struct text_config c;
    json_t *config;
    struct err e;
    if (!end) return 0;
    config = json_loadb((const char *)data, (size_t)(end - data),
                        JSON_REJECT_DUPLICATES, NULL);
    if (config && text_config_read(&c, config, &e) == RC_OK &&
        safetensors_parse(&file,
                          slice_of(end + 1, size - (size_t)(end - data) - 1),
                          &e) == RC_OK) {
        try_weights(&c, file);
        safetensors_free(file);
    }
    json_decref(config);
    return 0;
}
