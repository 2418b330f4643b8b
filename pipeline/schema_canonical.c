#include "schema_canonical.h"

#include "schema_type.h"

/* The fingerprint of no bytes, and the polynomial: the specification's. */
static const uint64_t EMPTY = 0xc15d213aa4d7a795;

/* A page under way; a named type is written out where it first stands. */
struct page {
    FILE *to;
    const struct schema_type *known[SCHEMA_NAMED_MAX];
    uint32_t known_count;
};

static void put_type(struct page *p, const struct schema_type *t);

static bool known(struct page *p, const struct schema_type *t)
{
    for (uint32_t i = 0; i < p->known_count; i++)
        if (p->known[i] == t) return true;
    p->known[p->known_count++] = t; /* a schema has no more than the array */
    return false;
}

static void put_fields(struct page *p, const struct schema_type *t)
{
    (void)fputs(",\"fields\":[", p->to);
    for (uint32_t i = 0; i < t->count; i++) {
        (void)fprintf(p->to, "%s{\"name\":\"%s\",\"type\":", i ? "," : "",
                      t->fields[i].name);
        put_type(p, t->fields[i].type);
        (void)fputc('}', p->to);
    }
    (void)fputc(']', p->to);
}

static void put_symbols(struct page *p, const struct schema_type *t)
{
    (void)fputs(",\"symbols\":[", p->to);
    for (uint32_t i = 0; i < t->count; i++)
        (void)fprintf(p->to, "%s\"%.*s\"", i ? "," : "", (int)t->symbols[i].len,
                      (const char *)t->symbols[i].ptr);
    (void)fputc(']', p->to);
}

/* Names and symbols hold letters, digits and underscores: nothing to
 * escape. */
static void put_named(struct page *p, const struct schema_type *t)
{
    if (known(p, t)) {
        (void)fprintf(p->to, "\"%s\"", t->name);
        return;
    }
    (void)fprintf(p->to, "{\"name\":\"%s\",\"type\":\"%s\"", t->name,
                  datum_kind_name(t->kind));
    if (t->kind == DATUM_RECORD)
        put_fields(p, t);
    else if (t->kind == DATUM_ENUM)
        put_symbols(p, t);
    else
        (void)fprintf(p->to, ",\"size\":%u", t->size);
    (void)fputc('}', p->to);
}

static void put_union(struct page *p, const struct schema_type *t)
{
    (void)fputc('[', p->to);
    for (uint32_t i = 0; i < t->count; i++) {
        if (i) (void)fputc(',', p->to);
        put_type(p, t->branches[i]);
    }
    (void)fputc(']', p->to);
}

static void put_type(struct page *p, const struct schema_type *t)
{
    bool list = t->kind == DATUM_ARRAY;
    if (t->name) {
        put_named(p, t);
    } else if (t->kind == DATUM_UNION) {
        put_union(p, t);
    } else if (list || t->kind == DATUM_MAP) {
        (void)fprintf(p->to,
                      "{\"type\":\"%s\",\"%s\":", datum_kind_name(t->kind),
                      list ? "items" : "values");
        put_type(p, t->item);
        (void)fputc('}', p->to);
    } else {
        (void)fprintf(p->to, "\"%s\"", datum_kind_name(t->kind));
    }
}

enum rc schema_canonical(const struct schema *s, char **out, size_t *len,
                         struct err *e)
{
    struct page p = {.known_count = 0};
    bool failed;
    *out = NULL;
    p.to = open_memstream(out, len);
    if (!p.to) return ERR(e, RC_STOP, "schema: no memory for its form");
    put_type(&p, s->root);
    failed = ferror(p.to) != 0;
    if (fclose(p.to) == 0 && !failed) return RC_OK;
    free(*out);
    *out = NULL;
    return ERR(e, RC_STOP, "schema: no memory for its form");
}

enum rc schema_fingerprint(const struct schema *s, uint64_t *out, struct err *e)
{
    uint64_t crc = EMPTY;
    char *form;
    size_t len;
    TRY(schema_canonical(s, &form, &len, e));
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint8_t)form[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (EMPTY & (0 - (crc & 1)));
    }
    free(form);
    *out = crc;
    return RC_OK;
}
