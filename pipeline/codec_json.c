/* codec_json.c - a tape as one line of JSON. */
#include "schema_type.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "utf8.h"

struct printing {
    const struct datum *in, *end;
    enum json_style style;
    FILE *to;
    struct err *e;
};

static enum rc print(struct printing *p, const struct schema_type *t,
                     uint32_t depth);

static void print_char(FILE *to, uint8_t c)
{
    switch (c) {
    case '"':
        (void)fputs("\\\"", to);
        break;
    case '\\':
        (void)fputs("\\\\", to);
        break;
    case '\n':
        (void)fputs("\\n", to);
        break;
    case '\r':
        (void)fputs("\\r", to);
        break;
    case '\t':
        (void)fputs("\\t", to);
        break;
    default:
        if (c < 0x20 || c == 0x7f)
            (void)fprintf(to, "\\u%04x", c);
        else
            (void)fputc(c, to);
    }
}

/* What is not UTF-8 becomes U+FFFD, so that the line stays JSON. */
void json_text_write(struct slice s, FILE *to)
{
    const uint8_t *p = s.ptr, *end = s.len ? p + s.len : p;
    (void)fputc('"', to);
    while (p != end) {
        size_t len = utf8_sequence(p, end);
        if (len == 0) {
            (void)fputs("\\ufffd", to);
            len = 1;
        } else if (len == 1) {
            print_char(to, *p);
        } else {
            (void)fwrite(p, 1, len, to);
        }
        p += len;
    }
    (void)fputc('"', to);
}

/* Avro's own way: each byte is the code point of the same number. */
static void print_bytes(FILE *to, struct slice s)
{
    (void)fputc('"', to);
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < 0x80)
            print_char(to, s.ptr[i]);
        else
            (void)fprintf(to, "\\u%04x", s.ptr[i]);
    }
    (void)fputc('"', to);
}

/* The shortest digits that read back as the same number. */
static void print_number(struct printing *p, double value, bool single)
{
    char text[40];
    if (!isfinite(value)) {
        const char *name = isnan(value) ? "\"NaN\""
                           : value > 0  ? "\"Infinity\""
                                        : "\"-Infinity\"";
        (void)fputs(p->style == JSON_AVRO ? name : "null", p->to);
        return;
    }
    for (int digits = single ? 6 : 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (single ? strtof(text, NULL) == (float)value
                   : strtod(text, NULL) == value)
            break;
    }
    (void)fputs(text, p->to);
    if (!strpbrk(text, ".e")) (void)fputs(".0", p->to);
}

static enum rc print_items(struct printing *p, const struct schema_type *t,
                           uint32_t count, uint32_t depth)
{
    (void)fputc(t->kind == DATUM_ARRAY ? '[' : '{', p->to);
    for (uint32_t i = 0; i < count; i++) {
        if (i) (void)fputc(',', p->to);
        if (t->kind == DATUM_MAP) {
            if (p->in == p->end || p->in->kind != DATUM_STRING)
                return ERR(p->e, RC_SKIP, "json: a map without key");
            json_text_write(p->in->s, p->to);
            (void)fputc(':', p->to);
            p->in++;
        }
        TRY(print(p, t->item, depth));
    }
    (void)fputc(t->kind == DATUM_ARRAY ? ']' : '}', p->to);
    return RC_OK;
}

static enum rc print_record(struct printing *p, const struct schema_type *t,
                            uint32_t depth)
{
    (void)fputc('{', p->to);
    for (uint32_t i = 0; i < t->count; i++) {
        if (i) (void)fputc(',', p->to);
        (void)fprintf(p->to, "\"%s\":", t->fields[i].name);
        TRY(print(p, t->fields[i].type, depth));
    }
    (void)fputc('}', p->to);
    return RC_OK;
}

static enum rc print_union(struct printing *p, const struct schema_type *t,
                           int64_t index, uint32_t depth)
{
    const struct schema_type *chosen;
    if (index < 0 || index >= t->count)
        return ERR(p->e, RC_SKIP, "json: a union has no branch %" PRId64,
                   index);
    chosen = t->branches[index];
    if (p->style == JSON_PLAIN || chosen->kind == DATUM_NULL)
        return print(p, chosen, depth);
    (void)fprintf(p->to, "{\"%s\":",
                  chosen->name ? chosen->name : datum_kind_name(chosen->kind));
    TRY(print(p, chosen, depth));
    (void)fputc('}', p->to);
    return RC_OK;
}

static enum rc print_enum(struct printing *p, const struct schema_type *t,
                          int64_t index)
{
    if (index < 0 || index >= t->count)
        return ERR(p->e, RC_SKIP, "json: an enum has no symbol %" PRId64,
                   index);
    json_text_write(t->symbols[index], p->to);
    return RC_OK;
}

static void print_scalar(struct printing *p, const struct datum *datum)
{
    switch ((enum datum_kind)datum->kind) {
    case DATUM_NULL:
        (void)fputs("null", p->to);
        break;
    case DATUM_BOOLEAN:
        (void)fputs(datum->i ? "true" : "false", p->to);
        break;
    case DATUM_FLOAT:
        print_number(p, datum->d, true);
        break;
    case DATUM_DOUBLE:
        print_number(p, datum->d, false);
        break;
    case DATUM_STRING:
        json_text_write(datum->s, p->to);
        break;
    case DATUM_BYTES:
    case DATUM_FIXED:
        if (p->style == JSON_PLAIN && utf8_valid(datum->s))
            json_text_write(datum->s, p->to);
        else
            print_bytes(p->to, datum->s);
        break;
    default:
        (void)fprintf(p->to, "%" PRId64, datum->i);
        break;
    }
}

static enum rc print(struct printing *p, const struct schema_type *t,
                     uint32_t depth)
{
    const struct datum *datum = p->in;
    if (datum == p->end || datum->kind != t->kind)
        return ERR(p->e, RC_SKIP,
                   "json: the value does not fit its schema: %s "
                   "expected",
                   datum_kind_name(t->kind));
    if (depth == VALUE_DEPTH_MAX)
        return ERR(p->e, RC_SKIP, "json: the value nests too deep");
    p->in++;
    switch (t->kind) {
    case DATUM_ARRAY:
    case DATUM_MAP:
        return print_items(p, t, datum->count, depth + 1);
    case DATUM_RECORD:
        return print_record(p, t, depth + 1);
    case DATUM_ENUM:
        return print_enum(p, t, datum->i);
    case DATUM_UNION:
        return print_union(p, t, datum->i, depth + 1);
    default:
        print_scalar(p, datum);
        return RC_OK;
    }
}

enum rc tape_write_json(const struct schema *s, const struct tape *t,
                        enum json_style style, FILE *to, struct err *e)
{
    struct printing p = {
        .in = t->at, .end = t->at + t->count, .style = style, .to = to, .e = e};
    TRY(print(&p, s->root, 0));
    if (ferror(to)) return ERR(e, RC_STOP, "json: cannot write the line");
    return RC_OK;
}
