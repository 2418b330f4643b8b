#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "dir_files.h"
#include "hash.h"
#include "text_model.h"

enum { CONFIG_BYTES_MAX = 1 << 20, COPY_BYTES_MAX = TOKENIZER_FILE_MAX };

static const char weights_file[] = "model.safetensors";
static const char config_file[] = "config.json";
static const char *const vocabulary_files[] = {"tokenizer.json", "vocab.txt",
                                               "tokenizer_config.json",
                                               "special_tokens_map.json"};
enum {
    VOCABULARY_FILES = sizeof vocabulary_files / sizeof vocabulary_files[0]
};

/* ---- opening --------------------------------------------------------- */

static enum rc read_labels(struct text_model *m, struct err *e)
{
    const json_t *names = json_object_get(m->config, "id2label");
    m->labels = calloc(m->info.labels + 1, sizeof *m->labels);
    for (uint32_t i = 0; m->labels && i < m->info.labels; i++) {
        char key[32];
        const char *name;
        (void)snprintf(key, sizeof key, "LABEL_%u", i);
        name =
            json_string_value(json_object_get(names, key + strlen("LABEL_")));
        m->labels[i] = strdup(name ? name : key);
        if (!m->labels[i]) return ERR(e, RC_STOP, "no memory for its labels");
    }
    return m->labels ? RC_OK : ERR(e, RC_STOP, "no memory for its labels");
}

static enum rc read_weights(struct text_model *m, struct text_config *c,
                            const char *path, struct err *e)
{
    struct safetensors *file;
    const char *prefix;
    enum rc rc;
    TRY(safetensors_read(&file, path, e));
    text_params_heads(c, file, &prefix);
    rc = text_params_init(&m->params, c, e);
    if (rc == RC_OK)
        rc = text_params_read(&m->params, file, prefix, &m->values, e);
    safetensors_free(file);
    return rc == RC_OK ? rc : err_context(e, "%s", weights_file);
}

/* Over the files that an output depends on. */
static enum rc set_hash(struct text_model *m, uint64_t config, struct err *e)
{
    char path[PATH_BYTES];
    uint64_t hash = hash_mix(config), part;
    for (int i = -1; i < VOCABULARY_FILES; i++) {
        const char *name = i < 0 ? weights_file : vocabulary_files[i];
        TRY(dir_path(path, m->dir, name, "", e));
        if (i >= 0 && access(path, F_OK) != 0) continue;
        TRY(dir_hash_file(path, &part, e));
        hash = hash_mix(hash ^ part);
    }
    (void)snprintf(m->info.hash, sizeof m->info.hash, "%016" PRIx64, hash);
    return RC_OK;
}

static void fill_info(struct text_model *m)
{
    const struct text_config *c = &m->params.config;
    m->info.family = matrix_family();
    m->info.layers = c->layers;
    m->info.width = c->width;
    m->info.ids = c->ids;
    m->info.ids_max = c->positions;
    m->info.types = c->types ? c->types : 1;
    m->info.labels = c->labels;
}

static enum rc check_parts(const struct text_model *m, struct err *e)
{
    const struct text_config *c = &m->params.config;
    uint32_t ids = tokenizer_info(m->tokenizer).ids;
    if (ids > c->ids)
        return ERR(e, RC_STOP,
                   "its vocabulary has %u ids, its word embeddings %u", ids,
                   c->ids);
    if (c->labels && !c->has_pooler)
        return ERR(e, RC_STOP,
                   "%s: a classifier without the dense layer before it",
                   weights_file);
    return RC_OK;
}

static enum rc open_parts(struct text_model *m, const char *dir, struct err *e)
{
    char path[PATH_BYTES];
    struct text_config c;
    uint64_t hash;
    m->dir = strdup(dir);
    if (!m->dir) return ERR(e, RC_STOP, "no memory");
    TRY(dir_path(path, dir, config_file, "", e));
    TRY(dir_read_json(path, CONFIG_BYTES_MAX, &m->config, &hash, e));
    if (text_config_read(&c, m->config, e) != RC_OK)
        return err_context(e, "%s", config_file);
    TRY(tokenizer_open(&m->tokenizer, dir, e));
    TRY(dir_path(path, dir, weights_file, "", e));
    TRY(read_weights(m, &c, path, e));
    fill_info(m);
    TRY(check_parts(m, e));
    TRY(read_labels(m, e));
    TRY(set_hash(m, hash, e));
    return text_pack(m, e);
}

enum rc text_open(struct text_model **out, const char *dir, struct err *e)
{
    struct text_model *m = calloc(1, sizeof *m);
    enum rc rc = m ? open_parts(m, dir, e) : ERR(e, RC_STOP, "no memory");
    *out = m;
    if (rc == RC_OK) return RC_OK;
    text_free(m);
    *out = NULL;
    return err_context(e, "opening text model %s", dir);
}

void text_free(struct text_model *m)
{
    if (!m) return;
    for (uint32_t i = 0; m->labels && i < m->info.labels; i++)
        free(m->labels[i]);
    free(m->labels);
    free(m->dir);
    free(m->layer);
    free(m->block);
    free(m->values);
    text_params_fini(&m->params);
    tokenizer_free(m->tokenizer);
    json_decref(m->config);
    free(m);
}

const struct text_info *text_info(const struct text_model *m)
{
    return &m->info;
}

const char *text_label(const struct text_model *m, uint32_t label)
{
    return label < m->info.labels ? m->labels[label] : NULL;
}

/* ---- writing --------------------------------------------------------- */

/* What other programs take a directory of this layout and these heads for. */
static const char *architecture(const struct text_config *c)
{
    static const char *const of[][3] = {
        [TEXT_BERT] = {"BertModel", "BertForMaskedLM",
                       "BertForSequenceClassification"},
        [TEXT_DISTILBERT] = {"DistilBertModel", "DistilBertForMaskedLM",
                             "DistilBertForSequenceClassification"},
    };
    return of[c->layout][c->labels ? 2 : c->has_masked ? 1 : 0];
}

static enum rc write_config(const struct text_model *m, const char *path,
                            struct err *e)
{
    json_t *out = json_deep_copy(m->config);
    char *text = NULL;
    enum rc rc = RC_OK;
    (void)json_object_set_new(
        out, "architectures",
        json_pack("[s]", architecture(&m->params.config)));
    (void)json_object_set_new(out, "torch_dtype", json_string("float32"));
    if (out) text = json_dumps(out, JSON_INDENT(2));
    if (!text) rc = ERR(e, RC_STOP, "%s: no memory for it", path);
    if (rc == RC_OK) rc = dir_write_text(path, text, e);
    free(text);
    json_decref(out);
    return rc;
}

static enum rc copy_file(const char *from, const char *to, struct err *e)
{
    uint8_t *bytes;
    size_t size;
    enum rc rc;
    TRY(dir_read_file(from, COPY_BYTES_MAX, &bytes, &size, e));
    rc = dir_write_bytes(to, slice_of(bytes, size), e);
    free(bytes);
    return rc;
}

static enum rc write_files(const struct text_model *m, const char *dir,
                           struct err *e)
{
    char path[PATH_BYTES], from[PATH_BYTES];
    TRY(dir_path(path, dir, weights_file, "", e));
    TRY(text_params_write(&m->params, m->values, path, e));
    for (int i = 0; i < VOCABULARY_FILES; i++) {
        TRY(dir_path(from, m->dir, vocabulary_files[i], "", e));
        TRY(dir_path(path, dir, vocabulary_files[i], "", e));
        if (access(from, F_OK) == 0) TRY(copy_file(from, path, e));
    }
    TRY(dir_path(path, dir, config_file, "", e));
    return write_config(m, path, e);
}

enum rc text_save(const struct text_model *m, const char *dir, struct err *e)
{
    char made[PATH_BYTES];
    enum rc rc = dir_begin(made, dir, e);
    if (rc == RC_OK) rc = dir_finish(made, dir, write_files(m, made, e), e);
    return rc == RC_OK ? rc : err_context(e, "writing text model %s", dir);
}
