#include "feature_file.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include <jansson.h>

#include "container.h"
#include "train.h"

enum {
    FIXED_FIELDS = 8,
    NAME_BYTES = 128,
    DATUMS_PER_FIELD = 2, /* a union and its branch */
    TEXTS_BYTES = 8192,   /* both ids at their longest, and more */
};

struct feature_file {
    struct container_writer *writer;
    struct schema *schema;
    uint32_t features;
    struct tape tape;
    uint8_t *bytes;
    size_t bytes_max;
};

/* --- the schema ---------------------------------------------------------- */

static void add_field(json_t *fields, const char *name, json_t *type)
{
    (void)json_array_append_new(
        fields, json_pack("{s:s, s:o}", "name", name, "type", type));
}

static json_t *or_null(const char *type)
{
    return json_pack("[s, s]", "null", type);
}

static void clean_name(char *name)
{
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c)) *c = '_';
    if (isdigit((unsigned char)*name)) *name = '_';
}

/* Two features whose names become the same are told apart by their place. */
static void add_feature(json_t *fields, json_t *names, const char *name,
                        uint32_t place)
{
    char other[NAME_BYTES + 16];
    (void)snprintf(other, sizeof other, "%s", name);
    if (json_object_get(names, name))
        (void)snprintf(other, sizeof other, "%s_%u", name, place);
    (void)json_object_set_new(names, other, json_true());
    add_field(fields, other, or_null("float"));
}

static json_t *make_fields(const struct feature_shape *features)
{
    json_t *fields = json_array(), *names = json_object();
    char name[NAME_BYTES];
    add_field(fields, "event_id", json_string("string"));
    add_field(fields, "user_id", json_string("string"));
    add_field(fields, "partition", json_string("int"));
    add_field(fields, "offset", json_string("long"));
    add_field(fields, "time",
              json_pack("{s:s, s:s}", "type", "long", "logicalType",
                        "timestamp-millis"));
    add_field(fields, "label", or_null("boolean"));
    add_field(fields, "probability", or_null("float"));
    add_field(fields, "anomaly", or_null("float"));
    for (size_t i = 0; i < json_array_size(fields); i++)
        (void)json_object_set_new(names,
                                  json_string_value(json_object_get(
                                      json_array_get(fields, i), "name")),
                                  json_true());
    for (uint32_t f = 0; f < feature_row_count(features); f++) {
        (void)feature_row_name(features, f, name, sizeof name);
        clean_name(name);
        add_feature(fields, names, name, f);
    }
    json_decref(names);
    return fields;
}

static enum rc make_schema(struct feature_file *f,
                           const struct feature_shape *features, struct err *e)
{
    json_t *root = json_pack("{s:s, s:s, s:s, s:o}", "type", "record", "name",
                             "FeatureRow", "namespace", "millrace", "fields",
                             make_fields(features));
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    enum rc rc = text ? schema_parse(&f->schema, slice_str(text), e)
                      : ERR(e, RC_STOP, "features: no memory for a schema");
    free(text);
    json_decref(root);
    return rc;
}

/* --- rows ---------------------------------------------------------------- */

static struct datum *put(struct tape *t, enum datum_kind kind)
{
    assert(t->count < t->max);
    t->at[t->count] = (struct datum){.kind = (uint8_t)kind, .span = 1};
    return &t->at[t->count++];
}

static struct datum *put_known(struct tape *t, bool known, enum datum_kind kind)
{
    struct datum *branch = put(t, DATUM_UNION);
    branch->i = known;
    branch->span = 2;
    return put(t, known ? kind : DATUM_NULL);
}

static void put_float(struct tape *t, bool known, float value)
{
    bool there = known && !isnan(value);
    struct datum *d = put_known(t, there, DATUM_FLOAT);
    if (there) d->d = (double)value;
}

enum rc feature_file_add(struct feature_file *f, const struct record *r,
                         const struct event *ev, const struct outcome *o,
                         int8_t label, struct err *e)
{
    struct tape *t = &f->tape;
    bool known = label != LABEL_UNKNOWN;
    struct datum *truth;
    size_t used;

    t->count = 0;
    (void)put(t, DATUM_RECORD);
    put(t, DATUM_STRING)->s = ev->event_id;
    put(t, DATUM_STRING)->s = ev->user;
    put(t, DATUM_INT)->i = r->partition;
    put(t, DATUM_LONG)->i = r->offset;
    put(t, DATUM_LONG)->i = ev->time_ms;
    truth = put_known(t, known, DATUM_BOOLEAN);
    if (known) truth->i = label == LABEL_FRAUD;
    put_float(t, o->scored, o->fraud);
    put_float(t, o->scored, o->anomaly);
    for (uint32_t i = 0; i < f->features; i++)
        put_float(t, true, o->features[i]);
    t->at[0].count = FIXED_FIELDS + f->features;
    t->at[0].span = t->count;
    if (encoder_encode(f->schema, t, f->bytes, f->bytes_max, &used, e) != RC_OK)
        return ERR(e, RC_STOP, "features: partition %d, offset %lld: %s",
                   r->partition, (long long)r->offset, e->text);
    return container_append(f->writer, slice_of(f->bytes, used), e);
}

/* --- open and close ------------------------------------------------------ */

enum rc feature_file_create(struct feature_file **out, const char *path,
                            const char *codec,
                            const struct feature_shape *features, struct err *e)
{
    struct feature_file *f = calloc(1, sizeof *f);
    enum rc rc = RC_OK;

    if (!f) return ERR(e, RC_STOP, "features: no memory");
    f->features = feature_row_count(features);
    f->tape.max = 1 + DATUMS_PER_FIELD * (FIXED_FIELDS + f->features);
    f->tape.at = calloc(f->tape.max, sizeof *f->tape.at);
    f->bytes_max = TEXTS_BYTES + (size_t)10 * f->tape.max;
    f->bytes = malloc(f->bytes_max);
    if (!f->tape.at || !f->bytes) rc = ERR(e, RC_STOP, "features: no memory");
    if (rc == RC_OK) rc = make_schema(f, features, e);
    if (rc == RC_OK)
        rc = container_create(&f->writer, path, f->schema, codec, e);
    if (rc != RC_OK) {
        feature_file_close(f);
        return rc;
    }
    *out = f;
    return RC_OK;
}

enum rc feature_file_finish(struct feature_file *f, struct err *e)
{
    struct container_writer *writer = f->writer;
    f->writer = NULL;
    return container_finish(writer, e);
}

void feature_file_close(struct feature_file *f)
{
    if (!f) return;
    if (f->writer) container_abandon(f->writer);
    schema_free(f->schema);
    free(f->tape.at);
    free(f->bytes);
    free(f);
}
