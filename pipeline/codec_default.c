/* codec_default.c - a field's default, from JSON to datums.
 *
 * The JSON of a default is that of the specification: bytes and fixed as
 * text whose code points are the bytes, a union as a value of its first
 * branch. Schemas in use break the last rule (["string", "null"] with null),
 * and newer versions of the specification lift it, so the first branch that
 * fits is taken. */
#include "codec_program.h"

#include <assert.h>
#include <math.h>

enum { WORK_MAX = 1 << 22 };

static enum rc work(struct decoder *d, size_t amount, struct err *e)
{
    if (amount > WORK_MAX - d->default_work)
        return ERR(e, RC_STOP, "the schema's defaults are too large");
    d->default_work += amount;
    return RC_OK;
}

static enum rc put(struct decoder *d, struct datum datum, struct err *e)
{
    TRY(decoder_grow(&d->constants, d->constant_count, &d->constant_max, 1,
                     sizeof *d->constants, e));
    d->constants[d->constant_count++] = datum;
    return RC_OK;
}

static enum rc unfit(const struct schema_type *t, struct err *e)
{
    return ERR(e, RC_STOP, "a default does not fit its type, %s",
               datum_kind_name(t->kind));
}

static enum rc put_text(struct decoder *d, const struct schema_type *t,
                        const json_t *value, struct err *e)
{
    size_t len = json_string_length(value);
    struct datum datum = {.kind = (uint8_t)t->kind, .span = 1};
    if (!json_is_string(value)) return unfit(t, e);
    datum.s = slice_of(
        memory_copy(&d->memory, json_string_value(value), len, e), len);
    return datum.s.ptr ? put(d, datum, e) : RC_STOP;
}

/* Code points 0 to 255, so one or two bytes of UTF-8 each. */
static enum rc put_bytes(struct decoder *d, const struct schema_type *t,
                         const json_t *value, struct err *e)
{
    const uint8_t *text = (const uint8_t *)json_string_value(value);
    size_t len = json_string_length(value), used = 0;
    struct datum datum = {.kind = (uint8_t)t->kind, .span = 1};
    uint8_t *bytes;
    if (!text) return unfit(t, e);
    bytes = memory_take(&d->memory, len + 1, 1, e);
    if (!bytes) return RC_STOP;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x80) {
            bytes[used++] = text[i];
        } else if (text[i] == 0xc2 || text[i] == 0xc3) {
            bytes[used++] = (uint8_t)(text[i] << 6) | (text[i + 1] & 0x3f);
            i++;
        } else {
            return unfit(t, e);
        }
    }
    if (t->kind == DATUM_FIXED && used != t->size) return unfit(t, e);
    datum.s = slice_of(bytes, used);
    return put(d, datum, e);
}

static enum rc put_number(struct decoder *d, const struct schema_type *t,
                          const json_t *value, struct err *e)
{
    struct datum datum = {.kind = (uint8_t)t->kind, .span = 1};
    if (t->kind == DATUM_FLOAT || t->kind == DATUM_DOUBLE) {
        if (!json_is_number(value)) return unfit(t, e);
        datum.d = json_number_value(value);
        if (t->kind == DATUM_FLOAT) datum.d = (float)datum.d;
        return put(d, datum, e);
    }
    if (!json_is_integer(value)) return unfit(t, e);
    datum.i = json_integer_value(value);
    if (t->kind == DATUM_INT && (datum.i < INT32_MIN || datum.i > INT32_MAX))
        return unfit(t, e);
    return put(d, datum, e);
}

static enum rc put_enum(struct decoder *d, const struct schema_type *t,
                        const json_t *value, struct err *e)
{
    struct datum datum = {.kind = DATUM_ENUM, .span = 1};
    struct slice name;
    if (!json_is_string(value)) return unfit(t, e);
    name = slice_str(json_string_value(value));
    for (uint32_t i = 0; i < t->count; i++) {
        if (!slice_equal(t->symbols[i], name)) continue;
        datum.i = i;
        datum.s =
            slice_of(memory_copy(&d->memory, name.ptr, name.len, e), name.len);
        return datum.s.ptr ? put(d, datum, e) : RC_STOP;
    }
    return unfit(t, e);
}

static enum rc put_items(struct decoder *d, const struct schema_type *t,
                         const json_t *value, uint32_t depth, struct err *e)
{
    for (size_t i = 0; i < json_array_size(value); i++)
        TRY(default_compile(d, t->item, json_array_get(value, i), depth, e));
    return RC_OK;
}

static enum rc put_pairs(struct decoder *d, const struct schema_type *t,
                         const json_t *value, uint32_t depth, struct err *e)
{
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        size_t len = strlen(key);
        struct datum datum = {.kind = DATUM_STRING, .span = 1};
        TRY(work(d, len, e));
        datum.s = slice_of(memory_copy(&d->memory, key, len, e), len);
        if (!datum.s.ptr) return RC_STOP;
        TRY(put(d, datum, e));
        TRY(default_compile(d, t->item, item, depth, e));
    }
    return RC_OK;
}

static enum rc put_fields(struct decoder *d, const struct schema_type *t,
                          const json_t *value, uint32_t depth, struct err *e)
{
    for (uint32_t i = 0; i < t->count; i++) {
        const struct schema_member *f = &t->fields[i];
        const json_t *given = json_object_get(value, f->name);
        if (!given) given = f->value;
        if (!given)
            return ERR(e, RC_STOP, "a default lacks field '%.64s' of '%.64s'",
                       f->name, t->name);
        TRY(default_compile(d, f->type, given, depth, e));
    }
    return RC_OK;
}

/* A container's head, its content, then how far it spans. */
static enum rc put_container(struct decoder *d, const struct schema_type *t,
                             const json_t *value, uint32_t depth, struct err *e)
{
    uint32_t at = d->constant_count;
    bool list = t->kind == DATUM_ARRAY;
    struct datum datum = {.kind = (uint8_t)t->kind};
    if (list ? !json_is_array(value) : !json_is_object(value))
        return unfit(t, e);
    datum.count = (uint32_t)(list                   ? json_array_size(value)
                             : t->kind == DATUM_MAP ? json_object_size(value)
                                                    : t->count);
    TRY(put(d, datum, e));
    switch (t->kind) {
    case DATUM_ARRAY:
        TRY(put_items(d, t, value, depth, e));
        break;
    case DATUM_MAP:
        TRY(put_pairs(d, t, value, depth, e));
        break;
    default:
        TRY(put_fields(d, t, value, depth, e));
        break;
    }
    d->constants[at].span = d->constant_count - at;
    return RC_OK;
}

static enum rc put_union(struct decoder *d, const struct schema_type *t,
                         const json_t *value, uint32_t depth, struct err *e)
{
    uint32_t at = d->constant_count;
    for (uint32_t i = 0; i < t->count; i++) {
        struct datum datum = {.kind = DATUM_UNION, .i = i};
        TRY(put(d, datum, e));
        if (default_compile(d, t->branches[i], value, depth, e) == RC_OK) {
            d->constants[at].span = d->constant_count - at;
            return RC_OK;
        }
        d->constant_count = at;
    }
    return unfit(t, e);
}

enum rc default_compile(struct decoder *d, const struct schema_type *t,
                        const json_t *value, uint32_t depth, struct err *e)
{
    struct datum datum = {.kind = (uint8_t)t->kind, .span = 1};
    TRY(work(d, 1 + json_string_length(value), e));
    if (depth == VALUE_DEPTH_MAX)
        return ERR(e, RC_STOP, "a default nests deeper than %d",
                   VALUE_DEPTH_MAX);
    switch (t->kind) {
    case DATUM_NULL:
        return json_is_null(value) ? put(d, datum, e) : unfit(t, e);
    case DATUM_BOOLEAN:
        datum.i = json_is_true(value);
        return json_is_boolean(value) ? put(d, datum, e) : unfit(t, e);
    case DATUM_INT:
    case DATUM_LONG:
    case DATUM_FLOAT:
    case DATUM_DOUBLE:
        return put_number(d, t, value, e);
    case DATUM_STRING:
        return put_text(d, t, value, e);
    case DATUM_BYTES:
    case DATUM_FIXED:
        return put_bytes(d, t, value, e);
    case DATUM_ENUM:
        return put_enum(d, t, value, e);
    case DATUM_ARRAY:
    case DATUM_MAP:
    case DATUM_RECORD:
        return put_container(d, t, value, depth + 1, e);
    case DATUM_UNION:
        return put_union(d, t, value, depth + 1, e);
    }
    assert(!"a datum kind of no schema");
    return RC_STOP;
}
