#include "model_config.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"

static const char format_name[] = "millrace behaviour model";

static const char *const kind_names[] = {
    [FIELD_ITEM] = "item",
    [FIELD_TYPE] = "type",
    [FIELD_CATEGORY] = "category",
    [FIELD_CHANNEL] = "channel",
    [FIELD_AMOUNT_LEVEL] = "amount_level",
    [FIELD_AMOUNT_RATIO] = "amount_ratio",
    [FIELD_GAP] = "gap",
    [FIELD_HOUR] = "hour",
    [FIELD_WEEKDAY] = "weekday",
    [FIELD_LATE] = "late",
    [FIELD_CATEGORICAL] = "categorical",
    [FIELD_NUMBER] = "number",
};
enum { KINDS = sizeof kind_names / sizeof kind_names[0] };

/* The sizes, so that reading and writing cannot name them differently. */
#define SIZES(X)                                                               \
    X(layers)                                                                  \
    X(width)                                                                   \
    X(heads)                                                                   \
    X(ffn)                                                                     \
    X(window)                                                                  \
    X(items)                                                                   \
    X(item_buckets)                                                            \
    X(bins)                                                                    \
    X(fraud_heads)                                                             \
    X(fraud_width)

void model_config_fini(struct model_config *c)
{
    for (uint32_t i = 0; c->feature_names && i < c->shape.features; i++)
        free(c->feature_names[i]);
    free(c->feature_names);
    *c = (struct model_config){0};
}

uint64_t model_config_feature_hash(const struct model_config *c)
{
    uint64_t h = 0;
    for (uint32_t i = 0; i < c->shape.features; i++)
        h = hash_append(h, slice_str(c->feature_names[i]));
    return h;
}

static json_t *write_fields(const struct behaviour_config *c)
{
    json_t *fields = json_array();
    for (uint32_t f = 0; f < c->field_count; f++) {
        const struct behaviour_field *field = &c->field[f];
        (void)json_array_append_new(
            fields,
            json_pack("{s:s, s:s, s:i, s:i, s:b}", "name", field->name, "kind",
                      kind_names[field->kind], "extra", (int)field->extra,
                      "rows", (int)field->rows, "predicted", field->predicted));
    }
    return fields;
}

json_t *model_config_write(const struct model_config *c)
{
    json_t *out = json_object(), *names = json_array();
    char hash[17];
    (void)json_object_set_new(out, "format", json_string(format_name));
    (void)json_object_set_new(out, "version", json_integer(MODEL_VERSION));
#define WRITE(name)                                                            \
    (void)json_object_set_new(out, #name, json_integer(c->shape.name));
    SIZES(WRITE)
#undef WRITE
    (void)json_object_set_new(out, "has_time", json_boolean(c->shape.has_time));
    (void)json_object_set_new(out, "kv_bf16", json_boolean(c->shape.kv_bf16));
    (void)json_object_set_new(out, "amount_scale",
                              json_integer(c->amount_scale));
    (void)json_object_set_new(out, "reference_items",
                              json_integer(c->reference_count));
    (void)json_object_set_new(out, "segments", json_integer(c->segments));
    (void)json_object_set_new(out, "item_counts", json_boolean(c->item_counts));
    (void)json_object_set_new(out, "fields", write_fields(&c->shape));
    for (uint32_t i = 0; i < c->shape.features; i++)
        (void)json_array_append_new(names, json_string(c->feature_names[i]));
    (void)json_object_set_new(out, "features", names);
    (void)snprintf(hash, sizeof hash, "%016llx",
                   (unsigned long long)model_config_feature_hash(c));
    (void)json_object_set_new(out, "feature_hash", json_string(hash));
    return out;
}

static enum rc read_u32(const json_t *in, const char *key, uint32_t *out,
                        struct err *e)
{
    const json_t *value = json_object_get(in, key);
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value))
        return ERR(e, RC_STOP, "config.json: no number \"%s\"", key);
    if (n < 0 || n > UINT32_MAX)
        return ERR(e, RC_STOP, "config.json: \"%s\" is %lld", key,
                   (long long)n);
    *out = (uint32_t)n;
    return RC_OK;
}

static enum rc read_bool(const json_t *in, const char *key, bool *out,
                         struct err *e)
{
    const json_t *value = json_object_get(in, key);
    if (!json_is_boolean(value))
        return ERR(e, RC_STOP, "config.json: no true or false \"%s\"", key);
    *out = json_is_true(value);
    return RC_OK;
}

static enum rc read_text(const json_t *in, const char *key, const char **out,
                         struct err *e)
{
    *out = json_string_value(json_object_get(in, key));
    if (!*out) return ERR(e, RC_STOP, "config.json: no text \"%s\"", key);
    return RC_OK;
}

/* A name becomes part of a file's name, so it may not leave the directory. */
static bool name_is_plain(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < FIELD_NAME_BYTES && name[0] != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.") == length;
}

static enum rc read_field(const json_t *in, struct behaviour_field *field,
                          struct err *e)
{
    const char *name, *kind;
    TRY(read_text(in, "name", &name, e));
    TRY(read_text(in, "kind", &kind, e));
    TRY(read_u32(in, "extra", &field->extra, e));
    TRY(read_u32(in, "rows", &field->rows, e));
    TRY(read_bool(in, "predicted", &field->predicted, e));
    if (!name_is_plain(name))
        return ERR(e, RC_STOP, "config.json: a field named \"%.40s\"", name);
    (void)snprintf(field->name, sizeof field->name, "%s", name);
    for (uint32_t k = 0; k < KINDS; k++) {
        if (strcmp(kind, kind_names[k]) == 0) {
            field->kind = (enum field_kind)k;
            return RC_OK;
        }
    }
    return ERR(e, RC_STOP, "config.json: unknown kind of field \"%.40s\"",
               kind);
}

static enum rc read_fields(const json_t *in, struct behaviour_config *c,
                           struct err *e)
{
    const json_t *fields = json_object_get(in, "fields");
    if (!json_is_array(fields) || json_array_size(fields) > FIELDS_MAX)
        return ERR(e, RC_STOP, "config.json: no list \"fields\" of at most %d",
                   FIELDS_MAX);
    c->field_count = (uint32_t)json_array_size(fields);
    for (uint32_t f = 0; f < c->field_count; f++) {
        TRY(read_field(json_array_get(fields, f), &c->field[f], e));
        for (uint32_t g = 0; g < f; g++)
            if (strcmp(c->field[g].name, c->field[f].name) == 0)
                return ERR(e, RC_STOP, "config.json: two fields named %s",
                           c->field[f].name);
    }
    return RC_OK;
}

static enum rc read_features(const json_t *in, struct model_config *c,
                             struct err *e)
{
    const json_t *names = json_object_get(in, "features");
    size_t count = json_array_size(names);
    if (!json_is_array(names) || count > FEATURES_MAX_READ)
        return ERR(e, RC_STOP,
                   "config.json: no list \"features\" of at most %d",
                   FEATURES_MAX_READ);
    c->feature_names = calloc(count + 1, sizeof *c->feature_names);
    if (!c->feature_names) return ERR(e, RC_STOP, "config.json: no memory");
    c->shape.features = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (!name)
            return ERR(e, RC_STOP, "config.json: feature %zu has no name", i);
        c->feature_names[i] = strdup(name);
        if (!c->feature_names[i])
            return ERR(e, RC_STOP, "config.json: no memory");
    }
    return RC_OK;
}

static enum rc check_format(const json_t *in, struct err *e)
{
    const char *format;
    uint32_t version;
    TRY(read_text(in, "format", &format, e));
    if (strcmp(format, format_name) != 0)
        return ERR(e, RC_STOP,
                   "config.json: \"format\" is \"%.60s\", not \"%s\"", format,
                   format_name);
    TRY(read_u32(in, "version", &version, e));
    if (version != MODEL_VERSION)
        return ERR(e, RC_STOP,
                   "config.json: version %u, this build reads %d; train the "
                   "model again or use the build that made it",
                   version, MODEL_VERSION);
    return RC_OK;
}

static enum rc check_feature_hash(const json_t *in,
                                  const struct model_config *c, struct err *e)
{
    const char *text;
    char hash[17];
    TRY(read_text(in, "feature_hash", &text, e));
    (void)snprintf(hash, sizeof hash, "%016llx",
                   (unsigned long long)model_config_feature_hash(c));
    if (strcmp(text, hash) != 0)
        return ERR(e, RC_STOP,
                   "config.json: \"feature_hash\" is not that of \"features\"");
    return RC_OK;
}

enum rc model_config_read(struct model_config *c, const json_t *in,
                          struct err *e)
{
    *c = (struct model_config){0};
    TRY(check_format(in, e));
#define READ(name) TRY(read_u32(in, #name, &c->shape.name, e));
    SIZES(READ)
#undef READ
    TRY(read_bool(in, "has_time", &c->shape.has_time, e));
    TRY(read_bool(in, "kv_bf16", &c->shape.kv_bf16, e));
    TRY(read_u32(in, "amount_scale", &c->amount_scale, e));
    TRY(read_u32(in, "reference_items", &c->reference_count, e));
    /* Models from before there were any do not name them. */
    if (json_object_get(in, "segments"))
        TRY(read_u32(in, "segments", &c->segments, e));
    if (json_object_get(in, "item_counts"))
        TRY(read_bool(in, "item_counts", &c->item_counts, e));
    TRY(read_fields(in, &c->shape, e));
    TRY(read_features(in, c, e));
    TRY(check_feature_hash(in, c, e));
    return behaviour_config_check(&c->shape, e);
}
