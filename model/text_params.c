#include "text_params.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    ALIGN_REALS = 16,
    VALUES_ALIGN = 64,
    GLOBALS_MAX = 16,
    NAME_BYTES = TEXT_NAME_BYTES + 16, /* with the prefix */
};

/* Where the parts of a layer are called what. */
static const struct {
    const char *prefix, *layers, *parts[LAYER_PARTS];
    const char *pooler, *masked, *masked_norm, *masked_bias;
} names[] = {
    [TEXT_BERT] = {"bert.",
                   "encoder.layer",
                   {"attention.self.query", "attention.self.key",
                    "attention.self.value", "attention.output.dense",
                    "attention.output.LayerNorm", "intermediate.dense",
                    "output.dense", "output.LayerNorm"},
                   "pooler.dense",
                   "cls.predictions.transform.dense",
                   "cls.predictions.transform.LayerNorm",
                   "cls.predictions.bias"},
    [TEXT_DISTILBERT] = {"distilbert.",
                         "transformer.layer",
                         {"attention.q_lin", "attention.k_lin",
                          "attention.v_lin", "attention.out_lin",
                          "sa_layer_norm", "ffn.lin1", "ffn.lin2",
                          "output_layer_norm"},
                         "pre_classifier",
                         "vocab_transform",
                         "vocab_layer_norm",
                         "vocab_projector.bias"},
};

/* Tensors that say nothing new: counters, weights tied to the words', and the
 * head of next-sentence prediction, which nothing here reads. */
static const char *const ignored[] = {
    "embeddings.position_ids",      "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias", "vocab_projector.weight",
    "cls.seq_relationship.weight",  "cls.seq_relationship.bias",
};

/* ---- the list -------------------------------------------------------- */

static uint32_t put(struct text_params *p, bool is_head, uint64_t rows,
                    uint64_t cols, const char *name)
{
    struct text_tensor *t = &p->at[p->count];
    size_t reals = (size_t)rows * (cols ? cols : 1);
    *t = (struct text_tensor){.is_head = is_head,
                              .dims = cols ? 2 : 1,
                              .shape = {rows, cols},
                              .offset = p->size};
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    p->size += (reals + ALIGN_REALS - 1) / ALIGN_REALS * ALIGN_REALS;
    return p->count++;
}

/* Weight (rows, cols), or (rows) of a norm, and bias (rows). */
static uint32_t put_pair(struct text_params *p, bool is_head, uint64_t rows,
                         uint64_t cols, const char *part)
{
    char name[TEXT_NAME_BYTES];
    uint32_t at;
    (void)snprintf(name, sizeof name, "%s.weight", part);
    at = put(p, is_head, rows, cols, name);
    (void)snprintf(name, sizeof name, "%s.bias", part);
    (void)put(p, is_head, rows, 0, name);
    return at;
}

static void put_layer(struct text_params *p, uint32_t layer)
{
    const struct text_config *c = &p->config;
    for (uint32_t i = 0; i < LAYER_PARTS; i++) {
        char part[TEXT_NAME_BYTES];
        bool is_norm = i == PART_NORM1 || i == PART_NORM2;
        (void)snprintf(part, sizeof part, "%s.%u.%s", names[c->layout].layers,
                       layer, names[c->layout].parts[i]);
        (void)put_pair(p, false, i == PART_UP ? c->ffn : c->width,
                       is_norm          ? 0
                       : i == PART_DOWN ? c->ffn
                                        : c->width,
                       part);
    }
}

static void put_heads(struct text_params *p)
{
    const struct text_config *c = &p->config;
    uint32_t l = c->layout, d = c->width;
    p->pooler = p->classifier = TEXT_TENSOR_NONE;
    p->masked = p->masked_norm = p->masked_bias = TEXT_TENSOR_NONE;
    /* DistilBERT's belongs to the head, BERT's to the model. */
    if (c->has_pooler)
        p->pooler = put_pair(p, l == TEXT_DISTILBERT, d, d, names[l].pooler);
    if (c->labels)
        p->classifier = put_pair(p, true, c->labels, d, "classifier");
    if (!c->has_masked) return;
    p->masked = put_pair(p, true, d, d, names[l].masked);
    p->masked_norm = put_pair(p, true, d, 0, names[l].masked_norm);
    p->masked_bias = put(p, true, c->ids, 0, names[l].masked_bias);
}

enum rc text_params_init(struct text_params *p, const struct text_config *c,
                         struct err *e)
{
    uint32_t d = c->width;
    *p = (struct text_params){.config = *c};
    p->at = calloc(GLOBALS_MAX + (size_t)c->layers * 2 * LAYER_PARTS,
                   sizeof *p->at);
    if (!p->at) return ERR(e, RC_STOP, "no memory for %u layers", c->layers);
    p->words = put(p, false, c->ids, d, "embeddings.word_embeddings.weight");
    p->positions =
        put(p, false, c->positions, d, "embeddings.position_embeddings.weight");
    p->types = c->types ? put(p, false, c->types, d,
                              "embeddings.token_type_embeddings.weight")
                        : TEXT_TENSOR_NONE;
    p->norm = put_pair(p, false, d, 0, "embeddings.LayerNorm");
    p->layers = p->count;
    for (uint32_t l = 0; l < c->layers; l++)
        put_layer(p, l);
    put_heads(p);
    return RC_OK;
}

void text_params_fini(struct text_params *p)
{
    free(p->at);
    *p = (struct text_params){0};
}

/* ---- in a file ------------------------------------------------------- */

/* A norm's weight and bias are gamma and beta in older files. */
static const struct stored_tensor *find_old(const struct safetensors *file,
                                            const char *name)
{
    char old[NAME_BYTES];
    const char *dot = strrchr(name, '.');
    if (!dot || !strstr(name, "LayerNorm")) return NULL;
    (void)snprintf(old, sizeof old, "%.*s.%s", (int)(dot - name), name,
                   strcmp(dot, ".weight") == 0 ? "gamma" : "beta");
    return safetensors_find(file, old);
}

static const struct stored_tensor *find(const struct safetensors *file,
                                        const char *prefix, bool is_head,
                                        const char *name)
{
    char full[NAME_BYTES];
    const struct stored_tensor *found;
    (void)snprintf(full, sizeof full, "%s%s", is_head ? "" : prefix, name);
    found = safetensors_find(file, full);
    return found ? found : find_old(file, full);
}

void text_params_heads(struct text_config *c, const struct safetensors *file,
                       const char **prefix)
{
    uint32_t l = c->layout;
    const struct stored_tensor *classifier =
        safetensors_find(file, "classifier.weight");
    char name[TEXT_NAME_BYTES];

    *prefix = names[l].prefix;
    if (!find(file, *prefix, false, "embeddings.word_embeddings.weight"))
        *prefix = "";
    (void)snprintf(name, sizeof name, "%s.weight", names[l].pooler);
    c->has_pooler = find(file, *prefix, l == TEXT_DISTILBERT, name) != NULL;
    (void)snprintf(name, sizeof name, "%s.weight", names[l].masked);
    c->has_masked = safetensors_find(file, name) != NULL;
    /* Of another shape it is refused with all others. */
    c->labels = 0;
    if (classifier)
        c->labels =
            classifier->shape[0] >= 1 && classifier->shape[0] <= TEXT_LABELS_MAX
                ? (uint32_t)classifier->shape[0]
                : 1;
}

static float float_of_half(uint16_t half)
{
    uint32_t exponent = half >> 10 & 0x1f, fraction = half & 0x3ffu;
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, bits;
    float x;
    if (exponent == 0) { /* denormal or zero */
        x = (float)fraction * 0x1p-24f;
        return sign ? -x : x;
    }
    bits = sign | (exponent + 112) << 23 | fraction << 13;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static enum rc convert(const struct stored_tensor *from, size_t count,
                       real *out, struct err *e)
{
    const uint16_t *half = from->data;
    switch (from->type) {
    case TENSOR_F32:
        memcpy(out, from->data, count * sizeof(float));
        return RC_OK;
    case TENSOR_F16:
        for (size_t i = 0; i < count; i++)
            out[i] = float_of_half(half[i]);
        return RC_OK;
    case TENSOR_BF16:
        for (size_t i = 0; i < count; i++) {
            uint32_t bits = (uint32_t)half[i] << 16;
            memcpy(&out[i], &bits, sizeof bits);
        }
        return RC_OK;
    default:
        return ERR(e, RC_STOP,
                   "tensor %s: neither fp32 nor fp16 nor bf16: convert it",
                   from->name);
    }
}

static size_t reals_of(const struct text_tensor *t)
{
    return (size_t)(t->shape[0] * (t->dims == 2 ? t->shape[1] : 1));
}

static enum rc check_tensor(const struct text_tensor *t,
                            const struct safetensors *file, const char *prefix,
                            struct err *e)
{
    const struct stored_tensor *from = find(file, prefix, t->is_head, t->name);
    if (!from)
        return ERR(e, RC_STOP, "no tensor %s%s, which config.json asks for",
                   t->is_head ? "" : prefix, t->name);
    if (from->dims != t->dims || from->shape[0] != t->shape[0] ||
        (t->dims == 2 && from->shape[1] != t->shape[1]))
        return ERR(e, RC_STOP,
                   "tensor %s: (%llu, %llu) in %u dimensions, config.json "
                   "asks for (%llu, %llu) in %u",
                   from->name, (unsigned long long)from->shape[0],
                   (unsigned long long)(from->dims > 1 ? from->shape[1] : 0),
                   from->dims, (unsigned long long)t->shape[0],
                   (unsigned long long)t->shape[1], t->dims);
    return RC_OK;
}

static bool is_ignored(const char *name, const char *prefix)
{
    size_t skip =
        strncmp(name, prefix, strlen(prefix)) == 0 ? strlen(prefix) : 0;
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        if (strcmp(name + skip, ignored[i]) == 0) return true;
    return false;
}

/* A tensor that nothing would read is a model that would not be computed. */
static enum rc check_all_known(const struct text_params *p,
                               const struct safetensors *file,
                               const char *prefix, struct err *e)
{
    uint32_t known = p->count;
    for (uint32_t i = 0; i < safetensors_count(file); i++)
        known += is_ignored(safetensors_at(file, i)->name, prefix);
    if (known == safetensors_count(file)) return RC_OK;
    for (uint32_t i = 0; i < safetensors_count(file); i++) {
        const struct stored_tensor *t = safetensors_at(file, i);
        bool found = is_ignored(t->name, prefix);
        for (uint32_t k = 0; k < p->count && !found; k++)
            found = find(file, prefix, p->at[k].is_head, p->at[k].name) == t;
        if (!found)
            return ERR(e, RC_STOP,
                       "tensor %s belongs to no part of a BERT encoder that "
                       "is read",
                       t->name);
    }
    return RC_OK;
}

enum rc text_params_read(const struct text_params *p,
                         const struct safetensors *file, const char *prefix,
                         real **values, struct err *e)
{
    enum rc rc = RC_OK;
    *values = NULL;
    for (uint32_t i = 0; i < p->count; i++)
        TRY(check_tensor(&p->at[i], file, prefix, e));
    TRY(check_all_known(p, file, prefix, e));
    *values = aligned_alloc(VALUES_ALIGN, p->size * sizeof **values);
    if (!*values) return ERR(e, RC_STOP, "no memory for %zu weights", p->size);
    for (uint32_t i = 0; i < p->count && rc == RC_OK; i++) {
        const struct text_tensor *t = &p->at[i];
        rc = convert(find(file, prefix, t->is_head, t->name), reals_of(t),
                     *values + t->offset, e);
    }
    if (rc == RC_OK) return RC_OK;
    free(*values);
    *values = NULL;
    return rc;
}

enum rc text_params_write(const struct text_params *p, const real *values,
                          const char *path, struct err *e)
{
    struct stored_tensor *out = calloc(p->count, sizeof *out);
    char(*full)[NAME_BYTES] = calloc(p->count, sizeof *full);
    enum rc rc;
    if (!out || !full) {
        free(out);
        free(full);
        return ERR(e, RC_STOP, "%s: no memory for its header", path);
    }
    for (uint32_t i = 0; i < p->count; i++) {
        const struct text_tensor *t = &p->at[i];
        (void)snprintf(full[i], sizeof full[i], "%s%s",
                       t->is_head ? "" : names[p->config.layout].prefix,
                       t->name);
        out[i] = (struct stored_tensor){.name = full[i],
                                        .type = TENSOR_F32,
                                        .dims = t->dims,
                                        .shape = {t->shape[0], t->shape[1]},
                                        .data = values + t->offset,
                                        .bytes = reals_of(t) * sizeof(float)};
    }
    rc = safetensors_write(path, out, p->count, e);
    free(out);
    free(full);
    return rc;
}
