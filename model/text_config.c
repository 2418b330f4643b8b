#include <math.h>
#include <string.h>

#include "text_params.h"

/* The keys of each layout. NULL: it has no such key. */
static const struct {
    const char *type, *layers, *width, *heads, *ffn, *types, *act;
} keys[] = {
    [TEXT_BERT] = {"bert", "num_hidden_layers", "hidden_size",
                   "num_attention_heads", "intermediate_size",
                   "type_vocab_size", "hidden_act"},
    [TEXT_DISTILBERT] = {"distilbert", "n_layers", "dim", "n_heads",
                         "hidden_dim", NULL, "activation"},
};
enum { LAYOUTS = sizeof keys / sizeof keys[0], VEC_REALS = 8 };

static const double epsilon_default = 1e-12;

static enum rc read_size(const json_t *in, const char *key, uint32_t most,
                         uint32_t *out, struct err *e)
{
    const json_t *value = json_object_get(in, key);
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 1 || n > most)
        return ERR(e, RC_STOP, "%s must be a whole number from 1 to %u", key,
                   most);
    *out = (uint32_t)n;
    return RC_OK;
}

static enum rc read_layout(struct text_config *c, const json_t *in,
                           struct err *e)
{
    const char *type = json_string_value(json_object_get(in, "model_type"));
    for (int i = 0; type && i < LAYOUTS; i++) {
        if (strcmp(type, keys[i].type) != 0) continue;
        c->layout = (enum text_layout)i;
        return RC_OK;
    }
    return ERR(e, RC_STOP,
               "model_type is %.64s; bert and distilbert are read: take a "
               "model of one of these",
               type ? type : "not there");
}

static enum rc read_act(struct text_config *c, const json_t *in, struct err *e)
{
    const char *act =
        json_string_value(json_object_get(in, keys[c->layout].act));
    if (!act || strcmp(act, "gelu") == 0)
        c->act = TEXT_GELU;
    else if (strcmp(act, "gelu_new") == 0 ||
             strcmp(act, "gelu_pytorch_tanh") == 0)
        c->act = TEXT_GELU_TANH;
    else
        return ERR(e, RC_STOP, "%s is %.64s; gelu and gelu_new are read",
                   keys[c->layout].act, act);
    return RC_OK;
}

static enum rc read_epsilon(struct text_config *c, const json_t *in,
                            struct err *e)
{
    const json_t *value = json_object_get(in, "layer_norm_eps");
    double epsilon = value ? json_number_value(value) : epsilon_default;
    if (!(epsilon > 0 && epsilon <= 1))
        return ERR(e, RC_STOP, "layer_norm_eps must lie between 0 and 1");
    c->epsilon = (real)epsilon;
    return RC_OK;
}

static enum rc check_positions(const json_t *in, struct err *e)
{
    const char *kind =
        json_string_value(json_object_get(in, "position_embedding_type"));
    if (kind && strcmp(kind, "absolute") != 0)
        return ERR(e, RC_STOP,
                   "position_embedding_type is %.64s; absolute is read", kind);
    if (json_is_true(json_object_get(in, "sinusoidal_pos_embds")) ||
        json_is_true(json_object_get(in, "is_decoder")))
        return ERR(e, RC_STOP,
                   "sinusoidal_pos_embds or is_decoder is set; an encoder "
                   "with learned positions is read");
    return RC_OK;
}

enum rc text_config_read(struct text_config *c, const json_t *in, struct err *e)
{
    *c = (struct text_config){0};
    TRY(read_layout(c, in, e));
    TRY(read_size(in, keys[c->layout].layers, TEXT_LAYERS_MAX, &c->layers, e));
    TRY(read_size(in, keys[c->layout].width, TEXT_WIDTH_MAX, &c->width, e));
    TRY(read_size(in, keys[c->layout].heads, TEXT_HEADS_MAX, &c->heads, e));
    TRY(read_size(in, keys[c->layout].ffn, TEXT_FFN_MAX, &c->ffn, e));
    TRY(read_size(in, "vocab_size", TEXT_IDS_MAX, &c->ids, e));
    TRY(read_size(in, "max_position_embeddings", TEXT_POSITIONS_MAX,
                  &c->positions, e));
    if (keys[c->layout].types)
        TRY(read_size(in, keys[c->layout].types, TEXT_TYPES_MAX, &c->types, e));
    if (c->width % (c->heads * VEC_REALS) != 0)
        return ERR(e, RC_STOP,
                   "a width of %u over %u heads is read only where a head has "
                   "a multiple of %d columns",
                   c->width, c->heads, VEC_REALS);
    if (c->positions < 2)
        return ERR(e, RC_STOP, "max_position_embeddings must be 2 or more");
    TRY(read_act(c, in, e));
    TRY(read_epsilon(c, in, e));
    return check_positions(in, e);
}
