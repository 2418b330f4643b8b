/* codec_encode.c - from a tape to Avro bytes, in the shape of a schema.
 *
 * A tape may come from anywhere (another schema's decoder, a program's own
 * hand), so it is checked against the schema datum by datum. */
#include "schema_type.h"

#include <assert.h>

#include "varint.h"

struct writing {
    uint8_t *at, *end;
    const struct datum *in, *in_end;
    struct err *e;
};

static enum rc encode(struct writing *w, const struct schema_type *t,
                      uint32_t depth);

static enum rc full(struct writing *w)
{
    return ERR(w->e, RC_SKIP, "avro: the value does not fit its buffer");
}

static enum rc unfit(struct writing *w, const struct schema_type *t,
                     const char *what)
{
    return ERR(w->e, RC_SKIP,
               "avro: the value does not fit the schema: %s %s%s"
               "%.64s",
               what, datum_kind_name(t->kind), t->name ? " " : "",
               t->name ? t->name : "");
}

static enum rc put_varint(struct writing *w, int64_t value)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t len = varint_put(bytes, value);
    if (len > (size_t)(w->end - w->at)) return full(w);
    memcpy(w->at, bytes, len);
    w->at += len;
    return RC_OK;
}

static enum rc put_bytes(struct writing *w, struct slice s)
{
    if (s.len > (size_t)(w->end - w->at)) return full(w);
    if (s.len) memcpy(w->at, s.ptr, s.len);
    w->at += s.len;
    return RC_OK;
}

static enum rc put_bits(struct writing *w, uint64_t bits, uint32_t bytes)
{
    if (bytes > (size_t)(w->end - w->at)) return full(w);
    for (uint32_t i = 0; i < bytes; i++)
        *w->at++ = (uint8_t)(bits >> (8 * i));
    return RC_OK;
}

static enum rc put_float(struct writing *w, double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return put_bits(w, bits, 4);
}

static enum rc put_double(struct writing *w, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put_bits(w, bits, 8);
}

static enum rc put_items(struct writing *w, const struct schema_type *t,
                         uint32_t count, uint32_t depth)
{
    if (count > 0) TRY(put_varint(w, count));
    for (uint32_t i = 0; i < count; i++) {
        if (t->kind == DATUM_MAP) {
            if (w->in == w->in_end || w->in->kind != DATUM_STRING)
                return unfit(w, t, "a key is missing in a");
            TRY(put_varint(w, (int64_t)w->in->s.len));
            TRY(put_bytes(w, w->in->s));
            w->in++;
        }
        TRY(encode(w, t->item, depth));
    }
    return put_varint(w, 0);
}

static enum rc put_record(struct writing *w, const struct schema_type *t,
                          uint32_t count, uint32_t depth)
{
    if (count != t->count) return unfit(w, t, "fields are missing in a");
    for (uint32_t i = 0; i < t->count; i++)
        if (encode(w, t->fields[i].type, depth) != RC_OK)
            return err_context(w->e, "field '%.64s'", t->fields[i].name);
    return RC_OK;
}

static enum rc put_union(struct writing *w, const struct schema_type *t,
                         int64_t index, uint32_t depth)
{
    if (index < 0 || index >= t->count) return unfit(w, t, "no such branch of");
    TRY(put_varint(w, index));
    return encode(w, t->branches[index], depth);
}

static enum rc put_scalar(struct writing *w, const struct schema_type *t,
                          const struct datum *datum)
{
    switch (t->kind) {
    case DATUM_NULL:
        return RC_OK;
    case DATUM_BOOLEAN:
        return put_bits(w, datum->i != 0, 1);
    case DATUM_INT:
        if (datum->i < INT32_MIN || datum->i > INT32_MAX)
            return unfit(w, t, "out of range for an");
        return put_varint(w, datum->i);
    case DATUM_ENUM:
        if (datum->i < 0 || datum->i >= t->count)
            return unfit(w, t, "no such symbol of");
        return put_varint(w, datum->i);
    case DATUM_LONG:
        return put_varint(w, datum->i);
    case DATUM_FLOAT:
        return put_float(w, datum->d);
    case DATUM_DOUBLE:
        return put_double(w, datum->d);
    case DATUM_FIXED:
        if (datum->s.len != t->size) return unfit(w, t, "wrong size for");
        return put_bytes(w, datum->s);
    default:
        break;
    }
    assert(t->kind == DATUM_BYTES || t->kind == DATUM_STRING);
    TRY(put_varint(w, (int64_t)datum->s.len));
    return put_bytes(w, datum->s);
}

static enum rc encode(struct writing *w, const struct schema_type *t,
                      uint32_t depth)
{
    const struct datum *datum = w->in;
    if (datum == w->in_end) return unfit(w, t, "nothing is left for");
    if (datum->kind != t->kind) return unfit(w, t, "another kind than");
    if (depth == VALUE_DEPTH_MAX)
        return ERR(w->e, RC_SKIP, "avro: the value nests too deep");
    w->in++;
    switch (t->kind) {
    case DATUM_ARRAY:
    case DATUM_MAP:
        return put_items(w, t, datum->count, depth + 1);
    case DATUM_RECORD:
        return put_record(w, t, datum->count, depth + 1);
    case DATUM_UNION:
        return put_union(w, t, datum->i, depth + 1);
    default:
        return put_scalar(w, t, datum);
    }
}

enum rc encoder_encode(const struct schema *s, const struct tape *in,
                       uint8_t *out, size_t size, size_t *used, struct err *e)
{
    struct writing w = {.at = out,
                        .end = out + size,
                        .in = in->at,
                        .in_end = in->at + in->count,
                        .e = e};
    TRY(encode(&w, s->root, 0));
    if (w.in != w.in_end)
        return ERR(e, RC_SKIP, "avro: the value is longer than its schema");
    *used = (size_t)(w.at - out);
    return RC_OK;
}
