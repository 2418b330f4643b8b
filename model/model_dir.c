#include "model_dir.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "dir_files.h"
#include "hash.h"
#include "model_config.h"
#include "safetensors.h"

enum {
    VALUES_ALIGN = 64,
    TABLES = 14,
    CONFIG_BYTES_MAX = 1 << 20,
};

static const char weights_file[] = "model.safetensors";
static const char config_file[] = "config.json";
/* Models of older builds have none. */
static const char fraud_reference[] = "table.fraud_reference_hidden";
static const char baseline_weights[] = "baseline.regression";

/* --- in memory ---------------------------------------------------------- */

static enum rc take_tables(struct model *m, struct err *e)
{
    struct head_tables *t = &m->tables;
    size_t features = m->params.config.features;
    t->feature_mean = calloc(features + 1, sizeof(float));
    t->feature_scale = calloc(features + 1, sizeof(float));
    t->feature_border =
        calloc(features * (m->params.config.bins + 1) + 1, sizeof(float));
    t->fraud_reference_hidden = calloc(m->params.config.width, sizeof(float));
    t->fraud_reference_features = calloc(2 * features + 1, sizeof(float));
    m->baseline.weights = calloc(2 * features + 1, sizeof(float));
    m->baseline.shares =
        calloc(features * MODEL_FEATURE_BINS + 1, sizeof(float));
    if (!t->feature_mean || !t->feature_scale || !t->feature_border ||
        !t->fraud_reference_hidden || !t->fraud_reference_features ||
        !m->baseline.weights || !m->baseline.shares)
        return ERR(e, RC_STOP, "model: no memory for its tables");
    return RC_OK;
}

static enum rc take_items(struct model *m, struct err *e)
{
    uint32_t items = m->params.config.items;
    m->item_counts = calloc((size_t)items + 1, sizeof *m->item_counts);
    m->popular = calloc((size_t)items + 1, sizeof *m->popular);
    if (!m->item_counts || !m->popular)
        return ERR(e, RC_STOP, "model: no memory for %u items", items);
    model_rank_items(m);
    return RC_OK;
}

static enum rc take_values(struct model *m, struct err *e)
{
    size_t bytes = m->params.size * sizeof *m->values;
    m->values = aligned_alloc(VALUES_ALIGN, (bytes + VALUES_ALIGN) /
                                                VALUES_ALIGN * VALUES_ALIGN);
    if (!m->values)
        return ERR(e, RC_STOP, "model: no memory for %zu bytes of weights",
                   bytes);
    memset(m->values, 0, bytes);
    return RC_OK;
}

static enum rc copy_names(struct model *m, const char *const *names,
                          struct err *e)
{
    uint32_t count = m->params.config.features;
    m->feature_names = calloc(count + 1, sizeof *m->feature_names);
    for (uint32_t i = 0; m->feature_names && i < count; i++) {
        m->feature_names[i] = strdup(names[i]);
        if (!m->feature_names[i]) return ERR(e, RC_STOP, "model: no memory");
    }
    return m->feature_names ? RC_OK : ERR(e, RC_STOP, "model: no memory");
}

static struct model_config config_of(const struct model *m)
{
    return (struct model_config){
        .shape = m->params.config,
        .amount_scale = m->info.amount_scale,
        .reference_count = m->tables.reference_count,
        .segments = m->segments.count,
        .item_counts = m->params.config.items > 0,
        .feature_names = m->feature_names,
    };
}

static void fill_info(struct model *m, uint32_t amount_scale)
{
    const struct behaviour_config *c = &m->params.config;
    const struct model_config config = config_of(m);
    m->info = (struct model_info){
        .family = matrix_family(),
        .window = c->window,
        .width = c->width,
        .layers = c->layers,
        .items = c->items,
        .features = c->features,
        .feature_hash = model_config_feature_hash(&config),
        .amount_scale = amount_scale,
        .has_fraud = c->fraud_heads > 0,
    };
}

enum rc model_new(struct model **out, const struct behaviour_config *c,
                  uint32_t amount_scale, const char *const *feature_names,
                  struct err *e)
{
    struct model *m = calloc(1, sizeof *m);
    enum rc rc;
    *out = NULL;
    if (!m) return ERR(e, RC_STOP, "model: no memory");
    params_init(&m->params, c);
    m->item_field = params_field(c, FIELD_ITEM, 0);
    m->tokeniser.field_count = c->field_count;
    m->tokeniser.item_buckets = c->item_buckets;
    memcpy(m->tokeniser.field, c->field, sizeof c->field);
    rc = take_values(m, e);
    if (rc == RC_OK) rc = take_tables(m, e);
    if (rc == RC_OK) rc = take_items(m, e);
    if (rc == RC_OK) rc = copy_names(m, feature_names, e);
    if (rc != RC_OK) {
        model_free(m);
        return rc;
    }
    fill_info(m, amount_scale);
    *out = m;
    return RC_OK;
}

void model_free(struct model *m)
{
    if (!m) return;
    heads_free(m->heads);
    top_k_index_free(m->items);
    behaviour_free(m->behaviour);
    tokeniser_fini(&m->tokeniser);
    for (uint32_t i = 0; m->feature_names && i < m->params.config.features; i++)
        free(m->feature_names[i]);
    free(m->feature_names);
    free(m->tables.feature_mean);
    free(m->tables.feature_scale);
    free(m->tables.feature_border);
    free(m->item_counts);
    free(m->popular);
    segments_fini(&m->segments);
    free(m->baseline.weights);
    free(m->baseline.shares);
    free(m->tables.fraud_reference_hidden);
    free(m->tables.fraud_reference_features);
    free(m->values);
    free(m);
}

/* Of the numbers of the reference. */
static void name_reference(struct model *m)
{
    const struct behaviour_config *c = &m->params.config;
    const struct head_tables *t = &m->tables;
    uint64_t hash =
        hash64(slice_of(t->fraud_reference_hidden, c->width * sizeof(float)));
    hash = hash_mix(hash ^
                    hash64(slice_of(t->fraud_reference_features,
                                    2 * (size_t)c->features * sizeof(float))));
    (void)snprintf(m->info.reference, sizeof m->info.reference,
                   "typical-good-%08x", (unsigned)(hash >> 32));
}

void model_set_reference(struct model *m, const real *hidden,
                         const float *features)
{
    const struct behaviour_config *c = &m->params.config;
    struct head_tables *t = &m->tables;
    for (uint32_t k = 0; k < c->width; k++)
        t->fraud_reference_hidden[k] = (float)hidden[k];
    for (uint32_t f = 0; f < c->features; f++) {
        bool missing = isnan(features[f]);
        t->fraud_reference_features[f] = missing ? 0 : features[f];
        t->fraud_reference_features[c->features + f] = missing;
    }
    t->has_fraud_reference = true;
    name_reference(m);
}

const char *model_feature_name(const struct model *m, uint32_t f)
{
    assert(f < m->info.features);
    return m->feature_names[f];
}

const struct model_info *model_info(const struct model *m)
{
    return &m->info;
}

/* --- what model.safetensors holds --------------------------------------- */

static struct stored_tensor floats(const char *name, uint64_t rows,
                                   uint64_t cols, const float *data)
{
    return (struct stored_tensor){.name = name,
                                  .type = TENSOR_F32,
                                  .dims = 2,
                                  .shape = {rows, cols},
                                  .data = data,
                                  .bytes = rows * cols * sizeof *data};
}

/* Every learned tensor, then the tables; data points into the model, which
 * is where reading puts it. Returns how many. */
static uint32_t list_tensors(const struct model *m, bool has_counts,
                             struct stored_tensor out[TENSORS_MAX + TABLES])
{
    const struct params *p = &m->params;
    const struct head_tables *t = &m->tables;
    uint32_t n = 0, features = p->config.features;
    for (; n < p->count; n++)
        out[n] = floats(p->tensor[n].name, p->tensor[n].rows, p->tensor[n].cols,
                        params_of(p, m->values, n));
    out[n++] = floats("table.feature_mean", 1, features, t->feature_mean);
    out[n++] = floats("table.feature_scale", 1, features, t->feature_scale);
    out[n++] = floats("table.feature_border", features, p->config.bins + 1,
                      t->feature_border);
    out[n++] = floats("table.number_border", FIELDS_MAX, NUMBER_BINS - 1,
                      &m->tokeniser.border[0][0]);
    out[n++] = floats("table.calibration", 1, 2, t->calibration);
    out[n++] = floats("table.anomaly_depth", 1, 1, &t->depth);
    out[n++] = floats("table.anomaly_field", FIELDS_MAX, QUANTILE_POINTS,
                      &t->field_quantile[0][0]);
    out[n++] = floats("table.anomaly_own", OWN_MEASURES, QUANTILE_POINTS,
                      &t->own_quantile[0][0]);
    out[n++] =
        floats("table.anomaly_total", 1, QUANTILE_POINTS, t->total_quantile);
    if (m->segments.count > 0)
        out[n++] = floats("segments.centroids", m->segments.count,
                          p->config.width, m->segments.centroids);
    if (has_counts)
        out[n++] =
            floats("table.item_counts", 1, p->config.items, m->item_counts);
    if (m->baseline.there) {
        out[n++] = floats(baseline_weights, 1, 2 * (uint64_t)features + 1,
                          m->baseline.weights);
        out[n++] = floats("baseline.feature_shares", features,
                          MODEL_FEATURE_BINS, m->baseline.shares);
    }
    if (!t->has_fraud_reference) return n;
    out[n++] =
        floats(fraud_reference, 1, p->config.width, t->fraud_reference_hidden);
    out[n++] = floats("table.fraud_reference_features", 2, features,
                      t->fraud_reference_features);
    return n;
}

static struct stored_tensor reference_tensor(const struct head_tables *t)
{
    return (struct stored_tensor){.name = "table.reference_items",
                                  .type = TENSOR_I32,
                                  .dims = 2,
                                  .shape = {1, t->reference_count},
                                  .data = t->reference,
                                  .bytes = t->reference_count * 4u};
}

static enum rc read_tensor(const struct safetensors *file,
                           const struct stored_tensor *want, void *to,
                           struct err *e)
{
    const struct stored_tensor *got = safetensors_find(file, want->name);
    if (!got)
        return ERR(e, RC_STOP, "%s: no tensor %s", weights_file, want->name);
    if (got->type != want->type || got->dims != 2 ||
        got->shape[0] != want->shape[0] || got->shape[1] != want->shape[1])
        return ERR(e, RC_STOP,
                   "%s: tensor %s has not the shape (%" PRIu64 ", %" PRIu64
                   ") that %s gives it",
                   weights_file, want->name, want->shape[0], want->shape[1],
                   config_file);
    memcpy(to, got->data, got->bytes);
    return RC_OK;
}

static enum rc check_reference(const struct model *m, struct err *e)
{
    const struct head_tables *t = &m->tables;
    for (uint32_t i = 0; i < t->reference_count; i++)
        if (t->reference[i] >= m->params.config.items)
            return ERR(e, RC_STOP, "%s: reference item %u of %u", weights_file,
                       t->reference[i], m->params.config.items);
    return RC_OK;
}

static enum rc check_fraud_reference(struct model *m, struct err *e)
{
    const struct head_tables *t = &m->tables;
    uint32_t features = m->params.config.features;
    const float *missing = t->fraud_reference_features + features;
    if (!t->has_fraud_reference) return RC_OK;
    for (uint32_t f = 0; f < features; f++)
        if (missing[f] != 0 && missing[f] != 1)
            return ERR(e, RC_STOP,
                       "%s: feature %u of the reference is missing by %g, must "
                       "be 0 or 1",
                       weights_file, f, (double)missing[f]);
    name_reference(m);
    return RC_OK;
}

static enum rc read_weights(struct model *m, bool has_counts, const char *path,
                            struct err *e)
{
    struct stored_tensor want[TENSORS_MAX + TABLES], reference;
    struct safetensors *file;
    uint32_t count;
    enum rc rc;
    TRY(safetensors_read(&file, path, e));
    m->tables.has_fraud_reference =
        safetensors_find(file, fraud_reference) != NULL;
    m->baseline.there = safetensors_find(file, baseline_weights) != NULL;
    count = list_tensors(m, has_counts, want);
    reference = reference_tensor(&m->tables);
    rc = read_tensor(file, &reference, m->tables.reference, e);
    for (uint32_t i = 0; rc == RC_OK && i < count; i++)
        /* list_tensors points into *m, which is ours to fill. */
        rc = read_tensor(file, &want[i], (void *)(uintptr_t)want[i].data, e);
    if (rc == RC_OK && safetensors_count(file) != count + 1)
        rc = ERR(e, RC_STOP, "%s: %u tensors, this build knows %u",
                 weights_file, safetensors_count(file), count + 1);
    safetensors_free(file);
    if (rc == RC_OK) rc = check_reference(m, e);
    return rc == RC_OK ? check_fraud_reference(m, e) : rc;
}

/* --- opening ------------------------------------------------------------ */

/* The file's bytes are those that config.json was written with. */
static enum rc check_sum(const json_t *config, const char *dir,
                         const char *name, const char *suffix, struct err *e)
{
    char path[PATH_BYTES], key[PATH_BYTES], hash[17];
    const char *text;
    uint64_t sum;
    (void)snprintf(key, sizeof key, "%s%s", name, suffix);
    text = json_string_value(
        json_object_get(json_object_get(config, "checksums"), key));
    if (!text)
        return ERR(e, RC_STOP, "%s: no checksum of %s", config_file, key);
    TRY(dir_path(path, dir, name, suffix, e));
    TRY(dir_hash_file(path, &sum, e));
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, sum);
    if (strcmp(hash, text) != 0)
        return ERR(e, RC_STOP,
                   "%s is damaged: its checksum is %s, %s says %.16s", key,
                   hash, config_file, text);
    return RC_OK;
}

static enum rc read_vocabulary(struct model *m, uint32_t f, const char *dir,
                               struct err *e)
{
    const struct behaviour_field *field = &m->params.config.field[f];
    struct vocabulary *v = &m->tokeniser.vocabulary[f];
    char path[PATH_BYTES];
    uint8_t *bytes;
    size_t size;
    enum rc rc;
    TRY(dir_path(path, dir, field->name, ".ids", e));
    TRY(dir_read_file(path, SIZE_MAX / 2, &bytes, &size, e));
    rc = vocabulary_parse(v, slice_of(bytes, size), e);
    free(bytes);
    if (rc != RC_OK) return err_context(e, "%s.ids", field->name);
    if (field_rows(field->kind, v->count, m->params.config.item_buckets) !=
        field->rows)
        return ERR(e, RC_STOP, "%s.ids: %u ids do not make the %u rows of %s",
                   field->name, v->count, field->rows, config_file);
    return RC_OK;
}

static enum rc read_config(const char *dir, json_t **out, uint64_t *hash,
                           struct err *e)
{
    char path[PATH_BYTES];
    TRY(dir_path(path, dir, config_file, "", e));
    return dir_read_json(path, CONFIG_BYTES_MAX, out, hash, e);
}

static void set_hash(struct model *m, uint64_t weights, uint64_t config)
{
    (void)snprintf(m->info.hash, sizeof m->info.hash, "%016" PRIx64,
                   hash_mix(hash_mix(weights) ^ config));
}

/* A field whose rows are fixed by its kind has just those, and what the
 * tables of heads.h are made for stands in the config. */
static enum rc check_shape(const struct model_config *c, struct err *e)
{
    for (uint32_t f = 0; f < c->shape.field_count; f++) {
        const struct behaviour_field *field = &c->shape.field[f];
        if (field_has_vocabulary(field->kind)) continue;
        if (field->rows != field_rows(field->kind, 0, 0))
            return ERR(e, RC_STOP,
                       "%s: field %s has %u rows, this build "
                       "makes %u",
                       config_file, field->name, field->rows,
                       field_rows(field->kind, 0, 0));
    }
    if (c->shape.bins != BINS)
        return ERR(e, RC_STOP, "%s: %u bins, this build makes %d", config_file,
                   c->shape.bins, BINS);
    if (c->reference_count > REFERENCE_ITEMS ||
        c->reference_count > c->shape.items)
        return ERR(e, RC_STOP, "%s: %u reference items", config_file,
                   c->reference_count);
    if (c->segments > SEGMENTS_MAX)
        return ERR(e, RC_STOP, "%s: %u segments, this build knows %d",
                   config_file, c->segments, SEGMENTS_MAX);
    if (c->amount_scale == 0)
        return ERR(e, RC_STOP, "%s: amount_scale is 0", config_file);
    return RC_OK;
}

static enum rc read_parts(struct model *m, bool has_counts,
                          const json_t *config, const char *dir, struct err *e)
{
    const struct behaviour_config *c = &m->params.config;
    char path[PATH_BYTES];
    TRY(dir_path(path, dir, weights_file, "", e));
    TRY(read_weights(m, has_counts, path, e));
    TRY(check_sum(config, dir, weights_file, "", e));
    segments_ready(&m->segments);
    model_rank_items(m);
    for (uint32_t f = 0; f < c->field_count; f++) {
        if (!field_has_vocabulary(c->field[f].kind)) continue;
        TRY(read_vocabulary(m, f, dir, e));
        TRY(check_sum(config, dir, c->field[f].name, ".ids", e));
    }
    m->behaviour = behaviour_new(&m->params, m->values);
    m->heads = heads_new(&m->params, m->values, &m->tables);
    if (m->item_field >= 0) {
        uint32_t table = m->params.embedding[m->item_field];
        m->items = top_k_index_new(params_of(&m->params, m->values, table),
                                   c->items, c->width);
    }
    if (!m->behaviour || !m->heads || (m->item_field >= 0 && !m->items))
        return ERR(e, RC_STOP, "no memory for packed weights");
    return RC_OK;
}

static enum rc open_parts(struct model **out, const json_t *json,
                          const char *dir, struct err *e)
{
    struct model_config config;
    struct model *m = NULL;
    enum rc rc = model_config_read(&config, json, e);
    if (rc == RC_OK) rc = check_shape(&config, e);
    if (rc == RC_OK)
        rc = model_new(&m, &config.shape, config.amount_scale,
                       (const char *const *)config.feature_names, e);
    if (rc == RC_OK &&
        !segments_init(&m->segments, config.segments, config.shape.width))
        rc = ERR(e, RC_STOP, "no memory for %u segments", config.segments);
    if (rc == RC_OK) {
        m->info.segments = config.segments;
        m->tables.reference_count = config.reference_count;
        rc = read_parts(m, config.item_counts && config.shape.items > 0, json,
                        dir, e);
    }
    model_config_fini(&config);
    if (rc == RC_OK)
        *out = m;
    else
        model_free(m);
    return rc;
}

enum rc model_open(struct model **out, const char *dir, struct err *e)
{
    char path[PATH_BYTES];
    json_t *json;
    uint64_t config_hash = 0, weights_hash = 0;
    enum rc rc;
    *out = NULL;
    rc = read_config(dir, &json, &config_hash, e);
    if (rc == RC_OK) {
        rc = open_parts(out, json, dir, e);
        json_decref(json);
    }
    if (rc == RC_OK) rc = dir_path(path, dir, weights_file, "", e);
    if (rc == RC_OK) rc = dir_hash_file(path, &weights_hash, e);
    if (rc == RC_OK) {
        set_hash(*out, weights_hash, config_hash);
        return RC_OK;
    }
    model_free(*out);
    *out = NULL;
    return err_context(e, "opening model %s", dir);
}

/* --- writing ------------------------------------------------------------ */

static enum rc put_sum(json_t *sums, const char *dir, const char *name,
                       const char *suffix, struct err *e)
{
    char path[PATH_BYTES], text[17];
    uint64_t hash;
    TRY(dir_path(path, dir, name, suffix, e));
    TRY(dir_hash_file(path, &hash, e));
    (void)snprintf(text, sizeof text, "%016" PRIx64, hash);
    (void)json_object_set_new(sums, strrchr(path, '/') + 1, json_string(text));
    return RC_OK;
}

static enum rc write_vocabularies(const struct model *m, const char *dir,
                                  json_t *sums, struct err *e)
{
    const struct behaviour_config *c = &m->params.config;
    char path[PATH_BYTES];
    for (uint32_t f = 0; f < c->field_count; f++) {
        if (!field_has_vocabulary(c->field[f].kind)) continue;
        TRY(dir_path(path, dir, c->field[f].name, ".ids", e));
        TRY(vocabulary_write(&m->tokeniser.vocabulary[f], path, e));
        TRY(put_sum(sums, dir, c->field[f].name, ".ids", e));
    }
    return RC_OK;
}

static enum rc write_config(struct model *m, const char *dir, json_t *sums,
                            struct err *e)
{
    const struct model_config config = config_of(m);
    json_t *json = model_config_write(&config);
    char path[PATH_BYTES], *text;
    uint64_t weights = 0;
    enum rc rc;
    (void)json_object_set(json, "checksums", sums);
    text = json_dumps(json, JSON_INDENT(2));
    json_decref(json);
    if (!text) return ERR(e, RC_STOP, "%s: no memory", config_file);
    rc = dir_path(path, dir, config_file, "", e);
    if (rc == RC_OK) rc = dir_write_text(path, text, e);
    if (rc == RC_OK) rc = dir_path(path, dir, weights_file, "", e);
    if (rc == RC_OK) rc = dir_hash_file(path, &weights, e);
    if (rc == RC_OK) set_hash(m, weights, hash64(slice_str(text)));
    free(text);
    return rc;
}

static enum rc write_files(struct model *m, const char *dir, const char *card,
                           json_t *sums, struct err *e)
{
    struct stored_tensor tensors[TENSORS_MAX + TABLES + 1];
    uint32_t count = list_tensors(m, m->params.config.items > 0, tensors);
    char path[PATH_BYTES];
    tensors[count++] = reference_tensor(&m->tables);
    TRY(dir_path(path, dir, weights_file, "", e));
    TRY(safetensors_write(path, tensors, count, e));
    TRY(put_sum(sums, dir, weights_file, "", e));
    TRY(write_vocabularies(m, dir, sums, e));
    TRY(dir_path(path, dir, "model_card", ".md", e));
    TRY(dir_write_text(path, card, e));
    return write_config(m, dir, sums, e);
}

enum rc model_write(struct model *m, const char *dir, const char *card,
                    struct err *e)
{
    char made[PATH_BYTES];
    json_t *sums;
    enum rc rc = dir_begin(made, dir, e);
    if (rc == RC_OK) {
        sums = json_object();
        rc = write_files(m, made, card, sums, e);
        json_decref(sums);
        rc = dir_finish(made, dir, rc, e);
    }
    return rc == RC_OK ? rc : err_context(e, "writing model %s", dir);
}
