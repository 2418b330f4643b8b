#include "row.h"

#include <assert.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

struct layout {
    struct row_field about;
    const json_t *symbols; /* of an enum; borrowed from the row's json */
    uint32_t at;           /* of the value on the tape */
    int64_t value_branch, null_branch;
};

struct row {
    const struct schema *schema;
    json_t *json;
    uint32_t count;
    uint32_t datums;
    uint32_t missing; /* fields that hold no value */
    struct layout fields[ROW_FIELDS_MAX];
    bool unset[ROW_FIELDS_MAX], unset_cleared[ROW_FIELDS_MAX];
    struct datum tape[2 * ROW_FIELDS_MAX + 1];
    struct datum cleared[2 * ROW_FIELDS_MAX + 1];
    uint32_t missing_cleared;
    uint8_t *bytes; /* ROW_BYTES_MAX */
};

static const struct {
    const char *name;
    enum datum_kind kind;
} KINDS[] = {
    {"boolean", DATUM_BOOLEAN}, {"int", DATUM_INT},
    {"long", DATUM_LONG},       {"float", DATUM_FLOAT},
    {"double", DATUM_DOUBLE},   {"string", DATUM_STRING},
    {"bytes", DATUM_BYTES},     {"enum", DATUM_ENUM},
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* The definition behind a name used a second time in the same record. */
static const json_t *find_named(const json_t *fields, const char *name)
{
    size_t i;
    json_t *field;
    const char *dot = strrchr(name, '.');
    json_array_foreach(fields, i, field)
    {
        const json_t *type = json_object_get(field, "type");
        const json_t *one =
            json_is_array(type) ? json_array_get(type, 0) : type;
        for (size_t k = 0; one; one = json_array_get(type, ++k)) {
            if (json_is_object(one) &&
                strcmp(text_of(one, "name"), dot ? dot + 1 : name) == 0)
                return one;
            if (!json_is_array(type)) break;
        }
    }
    return NULL;
}

/* True if type is one that a row can hold; fills in f. */
static bool read_value_type(struct layout *f, const json_t *fields,
                            const json_t *type)
{
    const char *name = json_string_value(type);
    f->about.logical_type = "";
    if (json_is_object(type)) {
        name = text_of(type, "type");
        f->about.logical_type = text_of(type, "logicalType");
        f->symbols = json_object_get(type, "symbols");
    }
    for (size_t i = 0; name && i < sizeof KINDS / sizeof *KINDS; i++)
        if (strcmp(name, KINDS[i].name) == 0) {
            f->about.kind = KINDS[i].kind;
            return f->about.kind != DATUM_ENUM || json_is_array(f->symbols);
        }
    type = json_is_string(type) ? find_named(fields, name) : NULL;
    return type && read_value_type(f, fields, type);
}

static bool is_null_type(const json_t *type)
{
    return json_is_string(type) && strcmp(json_string_value(type), "null") == 0;
}

static bool read_type(struct layout *f, const json_t *fields,
                      const json_t *type)
{
    if (!json_is_array(type)) return read_value_type(f, fields, type);
    if (json_array_size(type) != 2) return false;
    f->about.nullable = true;
    f->null_branch = is_null_type(json_array_get(type, 0)) ? 0 : 1;
    f->value_branch = 1 - f->null_branch;
    return is_null_type(json_array_get(type, (size_t)f->null_branch)) &&
           read_value_type(f, fields,
                           json_array_get(type, (size_t)f->value_branch));
}

/* The default of a field, as far as flat values go. */
static void put_default(struct row *r, uint32_t i, const json_t *value)
{
    bool fits = false;
    if (json_is_null(value))
        fits = row_put_null(r, i);
    else if (json_is_string(value))
        fits = row_put_text(r, i, slice_str(json_string_value(value)));
    else if (json_is_integer(value))
        fits = row_put_long(r, i, json_integer_value(value));
    else if (json_is_real(value))
        fits = row_put_double(r, i, json_real_value(value));
    else if (json_is_boolean(value))
        fits = row_put_long(r, i, json_is_true(value));
    else if (!value)
        fits = row_put_null(r, i);
    r->fields[i].about.has_default = value && fits;
}

static enum rc add_field(struct row *r, const json_t *fields,
                         const json_t *field, struct err *e)
{
    uint32_t i = r->count;
    struct layout *f = &r->fields[i];
    f->about.name = text_of(field, "name");
    if (!read_type(f, fields, json_object_get(field, "type")))
        return ERR(e, RC_STOP,
                   "field '%s' is not a boolean, number, text, bytes or enum, "
                   "nor a union of one with null; only flat records can be "
                   "filled from columns",
                   f->about.name);
    if (f->about.nullable)
        r->tape[r->datums++] =
            (struct datum){.kind = DATUM_UNION, .count = 1, .span = 2};
    f->at = r->datums;
    r->tape[r->datums++] =
        (struct datum){.kind = (uint8_t)f->about.kind, .span = 1};
    r->unset[i] = true;
    r->missing++;
    r->count++;
    put_default(r, i, json_object_get(field, "default"));
    return RC_OK;
}

static enum rc read_layout(struct row *r, struct err *e)
{
    struct slice text = schema_json(r->schema);
    const json_t *fields;
    size_t i;
    json_t *field;
    r->json = json_loadb((const char *)text.ptr, text.len, 0, NULL);
    fields = json_object_get(r->json, "fields");
    if (!json_is_array(fields))
        return ERR(e, RC_STOP, "the schema is not a record");
    if (json_array_size(fields) > ROW_FIELDS_MAX)
        return ERR(e, RC_STOP,
                   "the record has %zu fields, at most %d can be "
                   "filled",
                   json_array_size(fields), ROW_FIELDS_MAX);
    r->datums = 1;
    json_array_foreach(fields, i, field) TRY(add_field(r, fields, field, e));
    r->tape[0] = (struct datum){
        .kind = DATUM_RECORD, .count = r->count, .span = r->datums};
    memcpy(r->cleared, r->tape, sizeof r->tape);
    memcpy(r->unset_cleared, r->unset, sizeof r->unset);
    r->missing_cleared = r->missing;
    return RC_OK;
}

enum rc row_new(struct row **out, const struct schema *s, struct err *e)
{
    enum rc rc = RC_STOP;
    struct row *r = calloc(1, sizeof *r);
    if (r) r->bytes = malloc(ROW_BYTES_MAX);
    if (!r || !r->bytes)
        (void)ERR(e, RC_STOP, "no memory for a row of %d bytes", ROW_BYTES_MAX);
    else {
        r->schema = s;
        rc = read_layout(r, e);
    }
    if (rc != RC_OK) {
        row_free(r);
        return rc;
    }
    *out = r;
    return RC_OK;
}

void row_free(struct row *r)
{
    if (!r) return;
    json_decref(r->json);
    free(r->bytes);
    free(r);
}

uint32_t row_field_count(const struct row *r)
{
    return r->count;
}

const struct row_field *row_field(const struct row *r, uint32_t index)
{
    assert(index < r->count);
    return &r->fields[index].about;
}

int32_t row_find(const struct row *r, const char *name)
{
    for (uint32_t i = 0; i < r->count; i++)
        if (strcmp(r->fields[i].about.name, name) == 0) return (int32_t)i;
    return -1;
}

void row_clear(struct row *r)
{
    memcpy(r->tape, r->cleared, r->datums * sizeof *r->tape);
    memcpy(r->unset, r->unset_cleared, sizeof r->unset);
    r->missing = r->missing_cleared;
}

static struct datum *fill(struct row *r, uint32_t field)
{
    struct layout *f = &r->fields[field];
    struct datum *d = &r->tape[f->at];
    if (f->about.nullable) d[-1].i = f->value_branch;
    d->kind = (uint8_t)f->about.kind;
    if (r->unset[field]) r->missing--;
    r->unset[field] = false;
    return d;
}

bool row_put_null(struct row *r, uint32_t field)
{
    struct datum *d;
    assert(field < r->count);
    if (!r->fields[field].about.nullable) return false;
    d = fill(r, field);
    d->kind = DATUM_NULL;
    d[-1].i = r->fields[field].null_branch;
    return true;
}

bool row_put_long(struct row *r, uint32_t field, int64_t value)
{
    assert(field < r->count);
    switch (r->fields[field].about.kind) {
    case DATUM_BOOLEAN:
        if (value != 0 && value != 1) return false;
        break;
    case DATUM_INT:
        if (value < INT32_MIN || value > INT32_MAX) return false;
        break;
    case DATUM_LONG:
        break;
    case DATUM_FLOAT:
    case DATUM_DOUBLE:
        return row_put_double(r, field, (double)value);
    default:
        return false;
    }
    fill(r, field)->i = value;
    return true;
}

bool row_put_double(struct row *r, uint32_t field, double value)
{
    assert(field < r->count);
    switch (r->fields[field].about.kind) {
    case DATUM_FLOAT:
        fill(r, field)->d = (double)(float)value;
        return true;
    case DATUM_DOUBLE:
        fill(r, field)->d = value;
        return true;
    default: /* whole numbers, if it is one: 0x1p63 is the first too large */
        return value >= -0x1p63 && value < 0x1p63 && floor(value) == value &&
               row_put_long(r, field, (int64_t)value);
    }
}

static int64_t find_symbol(const json_t *symbols, struct slice text)
{
    for (size_t i = 0; i < json_array_size(symbols); i++) {
        const json_t *symbol = json_array_get(symbols, i);
        if (slice_equal(text, slice_of(json_string_value(symbol),
                                       json_string_length(symbol))))
            return (int64_t)i;
    }
    return -1;
}

bool row_put_text(struct row *r, uint32_t field, struct slice value)
{
    struct datum *d;
    int64_t symbol = 0;
    assert(field < r->count);
    switch (r->fields[field].about.kind) {
    case DATUM_ENUM:
        symbol = find_symbol(r->fields[field].symbols, value);
        if (symbol < 0) return false;
        break;
    case DATUM_STRING:
    case DATUM_BYTES:
        break;
    default:
        return false;
    }
    d = fill(r, field);
    d->i = symbol;
    d->s = value;
    return true;
}

bool row_get_text(const struct row *r, uint32_t field, struct slice *out)
{
    const struct datum *d = &r->tape[r->fields[field].at];
    assert(field < r->count);
    if (r->unset[field] || d->kind != DATUM_STRING) return false;
    *out = d->s;
    return true;
}

bool row_get_long(const struct row *r, uint32_t field, int64_t *out)
{
    const struct datum *d = &r->tape[r->fields[field].at];
    assert(field < r->count);
    if (r->unset[field] || (d->kind != DATUM_INT && d->kind != DATUM_LONG))
        return false;
    *out = d->i;
    return true;
}

enum rc row_encode(struct row *r, struct slice *out, struct err *e)
{
    size_t used = 0;
    struct tape tape = {.at = r->tape, .max = r->datums, .count = r->datums};
    for (uint32_t i = 0; r->missing > 0 && i < r->count; i++)
        if (r->unset[i])
            return ERR(e, RC_SKIP, "field '%s' has no value",
                       r->fields[i].about.name);
    TRY(encoder_encode(r->schema, &tape, r->bytes, ROW_BYTES_MAX, &used, e));
    *out = slice_of(r->bytes, used);
    return RC_OK;
}
