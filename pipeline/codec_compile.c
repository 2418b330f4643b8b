/* codec_compile.c - from writer's and reader's schema to a program.
 *
 * Resolution is that of the Avro 1.11 specification, with one choice where
 * it says "the first branch that matches": a branch of the same type is
 * preferred to one that needs a promotion, as the Java implementation does,
 * so that nothing is read less exactly than it was written.
 *
 * Logical types are matched too, so that no amount is read a hundredfold and
 * no time a thousandfold: decimals must agree in scale (the specification
 * asks for it, and for the precision, where a wider one does no harm), times
 * in unit (it says nothing). A type without a logical one matches any. */
#include "codec_program.h"

#include <assert.h>

enum {
    GROWTH_MAX = 1 << 20, /* ops, symbols, constants of one decoder */
    PAIRS_MAX = 4096,     /* named types, writer's with reader's */
    COMPILE_DEPTH_MAX = 512,
    DESCRIPTION_BYTES = 160,
};

/* Named types under way or done: their ops are copied, never made twice. */
struct pair {
    const struct schema_type *writer, *reader; /* reader NULL: skipped */
    struct op op;
};
struct compiler {
    struct decoder *d;
    struct err *e;
    struct pair *pairs;
    uint32_t pair_count, pair_max, depth;
};

enum rc decoder_grow(void *array, uint32_t count, uint32_t *max, uint32_t more,
                     size_t size, struct err *e)
{
    uint32_t want = *max ? *max : 16;
    void *old, *grown;
    if (more > GROWTH_MAX || count > GROWTH_MAX - more)
        return ERR(e, RC_STOP, "the schemas need a decoder of over %d parts",
                   GROWTH_MAX);
    if (count + more <= *max) return RC_OK;
    while (want < count + more)
        want *= 2;
    memcpy(&old, array, sizeof old);
    grown = realloc(old, want * size);
    if (!grown) return ERR(e, RC_STOP, "out of memory for a decoder");
    memset((uint8_t *)grown + *max * size, 0, (want - *max) * size);
    memcpy(array, &grown, sizeof grown);
    *max = want;
    return RC_OK;
}

static enum rc resolve(struct compiler *c, const struct schema_type *w,
                       const struct schema_type *r, struct op *out);
static enum rc skip(struct compiler *c, const struct schema_type *w,
                    struct op *out);

/* count ops side by side. They fail until they are filled in. */
static enum rc ops_take(struct compiler *c, uint32_t count, uint32_t *first)
{
    struct decoder *d = c->d;
    TRY(decoder_grow(&d->ops, d->op_count, &d->op_max, count, sizeof *d->ops,
                     c->e));
    *first = d->op_count;
    d->op_count += count;
    return RC_OK;
}

static enum rc table_take(struct compiler *c, uint32_t count, uint32_t *first)
{
    struct decoder *d = c->d;
    TRY(decoder_grow(&d->table, d->table_count, &d->table_max, count,
                     sizeof *d->table, c->e));
    *first = d->table_count;
    d->table_count += count;
    return RC_OK;
}

static const struct pair *pair_find(const struct compiler *c,
                                    const struct schema_type *w,
                                    const struct schema_type *r)
{
    for (uint32_t i = 0; i < c->pair_count; i++)
        if (c->pairs[i].writer == w && c->pairs[i].reader == r)
            return &c->pairs[i];
    return NULL;
}

static enum rc pair_put(struct compiler *c, const struct schema_type *w,
                        const struct schema_type *r, struct op op)
{
    if (c->pair_count == PAIRS_MAX)
        return ERR(c->e, RC_STOP, "the schemas combine over %d named types",
                   PAIRS_MAX);
    TRY(decoder_grow(&c->pairs, c->pair_count, &c->pair_max, 1,
                     sizeof *c->pairs, c->e));
    c->pairs[c->pair_count++] = (struct pair){w, r, op};
    return RC_OK;
}

/* --- values that the reader does not want --- */

static enum rc skip_children(struct compiler *c, const struct schema_type *w,
                             uint32_t first)
{
    for (uint32_t i = 0; i < w->count; i++) {
        const struct schema_type *child =
            w->kind == DATUM_UNION ? w->branches[i] : w->fields[i].type;
        struct op op;
        TRY(skip(c, child, &op));
        c->d->ops[first + i] = op;
    }
    return RC_OK;
}

static enum rc skip_record(struct compiler *c, const struct schema_type *w,
                           struct op *out)
{
    const struct pair *known = pair_find(c, w, NULL);
    if (known) {
        *out = known->op;
        return RC_OK;
    }
    out->count = w->count;
    TRY(ops_take(c, w->count, &out->first));
    TRY(pair_put(c, w, NULL, *out));
    return skip_children(c, w, out->first);
}

static enum rc skip_item(struct compiler *c, const struct schema_type *w,
                         struct op *out)
{
    struct op op;
    TRY(ops_take(c, 1, &out->first));
    TRY(skip(c, w->item, &op));
    c->d->ops[out->first] = op;
    return RC_OK;
}

static enum rc skip_union(struct compiler *c, const struct schema_type *w,
                          struct op *out)
{
    out->count = w->count;
    TRY(ops_take(c, w->count, &out->first));
    return skip_children(c, w, out->first);
}

static enum rc skip(struct compiler *c, const struct schema_type *w,
                    struct op *out)
{
    static const uint8_t CODES[] = {
        [DATUM_NULL] = OP_SKIP_NULL,   [DATUM_BOOLEAN] = OP_SKIP_FIXED,
        [DATUM_INT] = OP_SKIP_VARINT,  [DATUM_LONG] = OP_SKIP_VARINT,
        [DATUM_FLOAT] = OP_SKIP_FIXED, [DATUM_DOUBLE] = OP_SKIP_FIXED,
        [DATUM_BYTES] = OP_SKIP_BYTES, [DATUM_STRING] = OP_SKIP_BYTES,
        [DATUM_FIXED] = OP_SKIP_FIXED, [DATUM_ENUM] = OP_SKIP_VARINT,
        [DATUM_ARRAY] = OP_SKIP_ARRAY, [DATUM_MAP] = OP_SKIP_MAP,
        [DATUM_UNION] = OP_SKIP_UNION, [DATUM_RECORD] = OP_SKIP_RECORD,
    };
    enum rc rc = RC_OK;
    *out = (struct op){.code = CODES[w->kind], .kind = (uint8_t)w->kind};
    if (c->depth == COMPILE_DEPTH_MAX)
        return ERR(c->e, RC_STOP,
                   "schemas: types refer to each other deeper "
                   "than %d",
                   COMPILE_DEPTH_MAX);
    c->depth++;
    switch (w->kind) {
    case DATUM_BOOLEAN:
        out->size = 1;
        break;
    case DATUM_FLOAT:
        out->size = 4;
        break;
    case DATUM_DOUBLE:
        out->size = 8;
        break;
    case DATUM_FIXED:
        out->size = w->size;
        break;
    case DATUM_ARRAY:
    case DATUM_MAP:
        rc = skip_item(c, w, out);
        break;
    case DATUM_UNION:
        rc = skip_union(c, w, out);
        break;
    case DATUM_RECORD:
        rc = skip_record(c, w, out);
        break;
    default:
        break;
    }
    c->depth--;
    return rc;
}

/* --- which types match --- */

/* Unqualified names agree, or the reader's aliases name the writer's. */
static bool names_match(const struct schema_type *w,
                        const struct schema_type *r)
{
    if (strcmp(schema_short_name(w->name), schema_short_name(r->name)) == 0)
        return true;
    for (uint32_t i = 0; i < r->alias_count; i++)
        if (strcmp(r->aliases[i], w->name) == 0) return true;
    return false;
}

/* The op that turns a writer's primitive into a reader's; OP_FAIL if none. */
static enum op_code promotion(enum datum_kind w, enum datum_kind r)
{
    bool integer = w == DATUM_INT || w == DATUM_LONG;
    switch (r) {
    case DATUM_LONG:
        return w == DATUM_INT ? OP_INT : OP_FAIL;
    case DATUM_FLOAT:
        return integer ? OP_LONG_TO_FLOAT : OP_FAIL;
    case DATUM_DOUBLE:
        if (w == DATUM_FLOAT) return OP_FLOAT;
        if (w == DATUM_INT) return OP_INT_TO_DOUBLE;
        return w == DATUM_LONG ? OP_LONG_TO_DOUBLE : OP_FAIL;
    case DATUM_BYTES:
        return w == DATUM_STRING ? OP_BYTES : OP_FAIL;
    case DATUM_STRING:
        return w == DATUM_BYTES ? OP_BYTES : OP_FAIL;
    default:
        return OP_FAIL;
    }
}

/* What a value counts, as far as the logical type says; "" if it does not. */
static const char *unit_of(const char *logical_type)
{
    static const char *const UNITS[] = {"-millis", "-micros", "-nanos", "date"};
    for (size_t i = 0; i < sizeof UNITS / sizeof UNITS[0]; i++) {
        const char *at = strstr(logical_type, UNITS[i]);
        if (at && strcmp(at, UNITS[i]) == 0) return UNITS[i];
    }
    return "";
}

static bool logical_match(const struct schema_type *w,
                          const struct schema_type *r)
{
    const char *written = unit_of(w->logical_type);
    const char *wanted = unit_of(r->logical_type);
    if (*written && *wanted) return strcmp(written, wanted) == 0;
    return strcmp(w->logical_type, "decimal") != 0 ||
           strcmp(r->logical_type, "decimal") != 0 || w->scale == r->scale;
}

enum match { MATCH_NONE, MATCH_PROMOTED, MATCH_RENAMED, MATCH_SAME };

static enum match match(const struct schema_type *w,
                        const struct schema_type *r)
{
    if (!logical_match(w, r)) return MATCH_NONE;
    if (w->kind != r->kind)
        return promotion(w->kind, r->kind) == OP_FAIL ? MATCH_NONE
                                                      : MATCH_PROMOTED;
    if (!w->name) return MATCH_SAME;
    if (w->kind == DATUM_FIXED && w->size != r->size) return MATCH_NONE;
    if (strcmp(w->name, r->name) == 0) return MATCH_SAME;
    return names_match(w, r) ? MATCH_RENAMED : MATCH_NONE;
}

/* "long", "record shop.Pay", "bytes (decimal of scale 2)". */
static void describe(const struct schema_type *t, char *out, size_t size)
{
    int used = snprintf(out, size, "%s%s%.64s", datum_kind_name(t->kind),
                        t->name ? " " : "", t->name ? t->name : "");
    if (strcmp(t->logical_type, "decimal") == 0)
        (void)snprintf(out + used, size - (size_t)used,
                       " (decimal of scale %d)", t->scale);
    else if (*t->logical_type)
        (void)snprintf(out + used, size - (size_t)used, " (%.32s)",
                       t->logical_type);
}

static enum rc no_match(struct compiler *c, const struct schema_type *w,
                        const struct schema_type *r)
{
    char written[DESCRIPTION_BYTES], wanted[DESCRIPTION_BYTES];
    describe(w, written, sizeof written);
    describe(r, wanted, sizeof wanted);
    return ERR(c->e, RC_STOP, "schemas: a %s was written, a %s is wanted",
               written, wanted);
}

/* --- values that the reader wants --- */

static enum rc resolve_enum(struct compiler *c, const struct schema_type *w,
                            const struct schema_type *r, struct op *out)
{
    struct decoder *d = c->d;
    out->count = w->count;
    out->symbols = d->symbol_count;
    TRY(table_take(c, w->count, &out->table));
    TRY(decoder_grow(&d->symbols, d->symbol_count, &d->symbol_max, r->count,
                     sizeof *d->symbols, c->e));
    for (uint32_t i = 0; i < r->count; i++) {
        struct slice name = r->symbols[i];
        const void *copy = memory_copy(&d->memory, name.ptr, name.len, c->e);
        if (!copy) return RC_STOP;
        d->symbols[d->symbol_count++] = slice_of(copy, name.len);
    }
    for (uint32_t i = 0; i < w->count; i++) {
        uint32_t found = 0;
        while (found < r->count &&
               !slice_equal(w->symbols[i], r->symbols[found]))
            found++;
        if (found == r->count)
            found =
                r->symbol_default < 0 ? NO_INDEX : (uint32_t)r->symbol_default;
        d->table[out->table + i] = found;
    }
    return RC_OK;
}

static bool alias_names(const json_t *aliases, const char *name)
{
    for (size_t i = 0; i < json_array_size(aliases); i++) {
        const char *alias = json_string_value(json_array_get(aliases, i));
        if (alias && strcmp(alias, name) == 0) return true;
    }
    return false;
}

/* The writer's field that a reader's field is read from: by name, else by
 * the reader's aliases. */
static uint32_t writer_field(const struct schema_type *w,
                             const struct schema_member *field)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (strcmp(w->fields[i].name, field->name) == 0) return i;
    for (uint32_t i = 0; i < w->count; i++)
        if (alias_names(field->aliases, w->fields[i].name)) return i;
    return NO_INDEX;
}

static enum rc constant(struct compiler *c, const struct schema_type *record,
                        const struct schema_member *f, struct op *out)
{
    *out = (struct op){.code = OP_CONSTANT, .first = c->d->constant_count};
    if (!f->value)
        return ERR(c->e, RC_STOP,
                   "schemas: field '%.64s' of '%.64s' was not written and has "
                   "no default; give it one in the reader's schema",
                   f->name, record->name);
    if (default_compile(c->d, f->type, f->value, 0, c->e) != RC_OK)
        return err_context(c->e, "schemas: field '%.64s' of '%.64s'", f->name,
                           record->name);
    out->count = c->d->constant_count - out->first;
    return RC_OK;
}

static enum rc resolve_field(struct compiler *c, const struct schema_type *w,
                             uint32_t from, const struct schema_type *r,
                             uint32_t to, uint32_t at)
{
    struct op op;
    if (from == NO_INDEX)
        TRY(constant(c, r, &r->fields[to], &op));
    else if (resolve(c, w->fields[from].type, r->fields[to].type, &op) != RC_OK)
        return err_context(c->e, "field '%.64s'", r->fields[to].name);
    c->d->ops[at] = op;
    return RC_OK;
}

/* Fields come in one order on both sides: run them straight through, with
 * skips and defaults in between. */
static enum rc record_straight(struct compiler *c, const struct schema_type *w,
                               const struct schema_type *r,
                               const uint32_t *from, const struct op *out)
{
    uint32_t at = out->first, next = 0;
    for (uint32_t i = 0; i <= r->count; i++) {
        uint32_t until = i == r->count ? w->count : from[i];
        for (; until != NO_INDEX && next < until; next++, at++) {
            struct op op;
            TRY(skip(c, w->fields[next].type, &op));
            c->d->ops[at] = op;
        }
        if (i == r->count) break;
        TRY(resolve_field(c, w, from[i], r, i, at++));
        if (from[i] != NO_INDEX) next = from[i] + 1;
    }
    assert(at == out->first + out->count);
    return RC_OK;
}

static enum rc record_shuffled(struct compiler *c, const struct schema_type *w,
                               const struct schema_type *r,
                               const uint32_t *from, const struct op *out)
{
    memcpy(&c->d->table[out->table], from, r->count * sizeof *from);
    TRY(skip_children(c, w, out->first));
    for (uint32_t i = 0; i < r->count; i++)
        TRY(resolve_field(c, w, from[i], r, i, out->first + w->count + i));
    return RC_OK;
}

static enum rc resolve_record(struct compiler *c, const struct schema_type *w,
                              const struct schema_type *r, struct op *out)
{
    uint32_t from[SCHEMA_FIELDS_MAX], defaults = 0, ops, last = 0;
    bool straight = true;
    for (uint32_t i = 0; i < r->count; i++) {
        from[i] = writer_field(w, &r->fields[i]);
        if (from[i] == NO_INDEX) {
            defaults++;
            continue;
        }
        straight = straight && from[i] >= last;
        last = from[i] + 1;
    }
    out->code = straight ? OP_RECORD : OP_RECORD_SHUFFLED;
    out->size = r->count;
    out->count = straight ? w->count + defaults : w->count;
    ops = straight ? out->count : w->count + r->count;
    TRY(ops_take(c, ops, &out->first));
    if (!straight) TRY(table_take(c, r->count, &out->table));
    TRY(pair_put(c, w, r, *out));
    return straight ? record_straight(c, w, r, from, out)
                    : record_shuffled(c, w, r, from, out);
}

static enum rc resolve_item(struct compiler *c, const struct schema_type *w,
                            const struct schema_type *r, struct op *out)
{
    struct op op;
    TRY(ops_take(c, 1, &out->first));
    TRY(resolve(c, w->item, r->item, &op));
    c->d->ops[out->first] = op;
    return RC_OK;
}

/* A branch that the reader cannot take is an error of the message that has
 * it, not of the schema. */
static enum rc resolve_writer_union(struct compiler *c,
                                    const struct schema_type *w,
                                    const struct schema_type *r, struct op *out)
{
    uint32_t usable = 0;
    *out = (struct op){.code = OP_UNION, .count = w->count};
    TRY(ops_take(c, w->count, &out->first));
    for (uint32_t i = 0; i < w->count; i++) {
        struct op op;
        if (resolve(c, w->branches[i], r, &op) != RC_OK) continue;
        c->d->ops[out->first + i] = op;
        usable++;
    }
    return usable > 0 ? RC_OK : no_match(c, w, r);
}

static enum rc resolve_reader_union(struct compiler *c,
                                    const struct schema_type *w,
                                    const struct schema_type *r, struct op *out)
{
    enum match best = MATCH_NONE;
    struct op op;
    *out = (struct op){.code = OP_WRAP, .kind = DATUM_UNION};
    for (uint32_t i = 0; i < r->count; i++) {
        enum match found = match(w, r->branches[i]);
        if (found <= best) continue;
        best = found;
        out->size = i;
    }
    if (best == MATCH_NONE) return no_match(c, w, r);
    TRY(ops_take(c, 1, &out->first));
    TRY(resolve(c, w, r->branches[out->size], &op));
    c->d->ops[out->first] = op;
    return RC_OK;
}

static enum rc resolve_same(struct compiler *c, const struct schema_type *w,
                            const struct schema_type *r, struct op *out)
{
    static const uint8_t CODES[] = {
        [DATUM_NULL] = OP_NULL,   [DATUM_BOOLEAN] = OP_BOOLEAN,
        [DATUM_INT] = OP_INT,     [DATUM_LONG] = OP_LONG,
        [DATUM_FLOAT] = OP_FLOAT, [DATUM_DOUBLE] = OP_DOUBLE,
        [DATUM_BYTES] = OP_BYTES, [DATUM_STRING] = OP_BYTES,
        [DATUM_FIXED] = OP_FIXED, [DATUM_ENUM] = OP_ENUM,
        [DATUM_ARRAY] = OP_ARRAY, [DATUM_MAP] = OP_MAP,
        [DATUM_UNION] = OP_UNION, [DATUM_RECORD] = OP_RECORD,
    };
    out->code = w->kind == r->kind ? CODES[r->kind]
                                   : (uint8_t)promotion(w->kind, r->kind);
    switch (r->kind) {
    case DATUM_FIXED:
        out->size = r->size;
        return RC_OK;
    case DATUM_ENUM:
        return resolve_enum(c, w, r, out);
    case DATUM_ARRAY:
    case DATUM_MAP:
        return resolve_item(c, w, r, out);
    case DATUM_RECORD:
        return resolve_record(c, w, r, out);
    default:
        return RC_OK;
    }
}

static enum rc resolve(struct compiler *c, const struct schema_type *w,
                       const struct schema_type *r, struct op *out)
{
    enum rc rc;
    const struct pair *known = pair_find(c, w, r);
    *out = (struct op){.kind = (uint8_t)r->kind};
    if (known) {
        *out = known->op;
        return RC_OK;
    }
    if (c->depth == COMPILE_DEPTH_MAX)
        return ERR(c->e, RC_STOP,
                   "schemas: types refer to each other deeper "
                   "than %d",
                   COMPILE_DEPTH_MAX);
    c->depth++;
    if (w->kind == DATUM_UNION)
        rc = resolve_writer_union(c, w, r, out);
    else if (r->kind == DATUM_UNION)
        rc = resolve_reader_union(c, w, r, out);
    else if (match(w, r) == MATCH_NONE)
        rc = no_match(c, w, r);
    else
        rc = resolve_same(c, w, r, out);
    c->depth--;
    return rc;
}

enum rc decoder_compile(struct decoder **out, const struct schema *writer,
                        const struct schema *reader, struct err *e)
{
    struct compiler c = {.d = calloc(1, sizeof *c.d), .e = e};
    enum rc rc;
    uint32_t first;
    *out = NULL;
    if (!c.d) return ERR(e, RC_STOP, "out of memory for a decoder");
    rc = ops_take(&c, 1, &first); /* so that there is always an array */
    if (rc == RC_OK) rc = resolve(&c, writer->root, reader->root, &c.d->root);
    if (rc == RC_OK) rc = skip(&c, writer->root, &c.d->skip);
    free(c.pairs);
    if (rc != RC_OK) {
        decoder_free(c.d);
        return rc;
    }
    *out = c.d;
    return RC_OK;
}

void decoder_free(struct decoder *d)
{
    if (!d) return;
    free(d->ops);
    free(d->table);
    free(d->symbols);
    free(d->constants);
    memory_free(&d->memory);
    free(d);
}
