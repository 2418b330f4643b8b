/* schema.c - Avro schemas: read, bounded, checked, and searched by path. */
#include "schema_type.h"

#include <assert.h>
#include <avro.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "log.h"

static const char *const KIND_NAMES[] = {
    [DATUM_NULL] = "null",   [DATUM_BOOLEAN] = "boolean",
    [DATUM_INT] = "int",     [DATUM_LONG] = "long",
    [DATUM_FLOAT] = "float", [DATUM_DOUBLE] = "double",
    [DATUM_BYTES] = "bytes", [DATUM_STRING] = "string",
    [DATUM_FIXED] = "fixed", [DATUM_ENUM] = "enum",
    [DATUM_ARRAY] = "array", [DATUM_MAP] = "map",
    [DATUM_UNION] = "union", [DATUM_RECORD] = "record",
};
enum { KINDS = DATUM_RECORD + 1 };

const char *datum_kind_name(enum datum_kind kind)
{
    assert((int)kind < (int)KINDS);
    return KIND_NAMES[kind];
}

const char *schema_short_name(const char *full)
{
    const char *dot = strrchr(full, '.');
    return dot ? dot + 1 : full;
}

/* One parse: where it is, for messages and for names without namespace. */
struct parser {
    struct schema *s;
    struct err *e;
};
struct place {
    const char *space; /* enclosing namespace; "" is none */
    uint32_t depth;
};

static enum rc parse_type(struct parser *p, const json_t *json, struct place at,
                          struct schema_type **out);

static bool kind_is_primitive(int kind)
{
    return kind >= DATUM_NULL && kind <= DATUM_STRING;
}

static int kind_of_name(const char *name)
{
    for (int kind = 0; kind < KINDS; kind++)
        if (strcmp(KIND_NAMES[kind], name) == 0) return kind;
    return -1;
}

/* A letter or underscore, then letters, digits, underscores. */
static bool name_part_valid(const char *name, size_t len)
{
    if (len == 0 || (name[0] >= '0' && name[0] <= '9')) return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}

/* Parts between dots. */
static bool name_valid(const char *name)
{
    const char *dot;
    while ((dot = strchr(name, '.')) != NULL) {
        if (!name_part_valid(name, (size_t)(dot - name))) return false;
        name = dot + 1;
    }
    return name_part_valid(name, strlen(name));
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* space.name, or name itself where it has dots or there is no space. */
static enum rc name_full(struct parser *p, const char *space, const char *name,
                         const char **out)
{
    size_t space_len = strlen(space), name_len = strlen(name);
    char *full;
    if (!name_valid(name))
        return ERR(p->e, RC_STOP, "schema: '%.64s' is not a name", name);
    if (strchr(name, '.') || space_len == 0) {
        *out = name;
        return RC_OK;
    }
    full = memory_take(&p->s->memory, space_len + name_len + 2, 1, p->e);
    if (!full) return RC_STOP;
    memcpy(full, space, space_len);
    full[space_len] = '.';
    memcpy(full + space_len + 1, name, name_len);
    *out = full;
    return RC_OK;
}

static struct schema_type *named_find(const struct schema *s, const char *full)
{
    for (uint32_t i = 0; i < s->named_count; i++)
        if (strcmp(s->named[i]->name, full) == 0) return s->named[i];
    return NULL;
}

static enum rc type_new(struct parser *p, enum datum_kind kind,
                        struct schema_type **out)
{
    struct schema_type *t;
    if (p->s->type_count == SCHEMA_TYPES_MAX)
        return ERR(p->e, RC_STOP, "schema: more than %d types",
                   SCHEMA_TYPES_MAX);
    t = memory_take(&p->s->memory, 1, sizeof *t, p->e);
    if (!t) return RC_STOP;
    p->s->type_count++;
    t->kind = kind;
    t->logical_type = "";
    t->symbol_default = -1;
    *out = t;
    return RC_OK;
}

/* A logical type that does not fit its type is ignored, as the
 * specification asks. */
static void logical_read(struct schema_type *t, const json_t *json)
{
    const char *logical = text_of(json, "logicalType");
    json_int_t precision, scale;
    if (!logical) return;
    if (strcmp(logical, "decimal") == 0) {
        if (t->kind != DATUM_BYTES && t->kind != DATUM_FIXED) return;
        precision = json_integer_value(json_object_get(json, "precision"));
        scale = json_integer_value(json_object_get(json, "scale"));
        if (precision < 1 || precision > INT32_MAX || scale < 0 ||
            scale > precision)
            return;
        t->scale = (int32_t)scale;
    }
    t->logical_type = logical;
}

static enum rc aliases_read(struct parser *p, struct schema_type *t,
                            const json_t *json, const char *space)
{
    const json_t *list = json_object_get(json, "aliases");
    size_t count = json_array_size(list);
    if (!list) return RC_OK;
    if (!json_is_array(list) || count > SCHEMA_BRANCHES_MAX)
        return ERR(p->e, RC_STOP,
                   "schema: aliases of '%.64s' are not a list of at most %d",
                   t->name, SCHEMA_BRANCHES_MAX);
    t->aliases = memory_take(&p->s->memory, count, sizeof *t->aliases, p->e);
    if (!t->aliases) return RC_STOP;
    for (size_t i = 0; i < count; i++) {
        const char *alias = json_string_value(json_array_get(list, i));
        if (!alias)
            return ERR(p->e, RC_STOP,
                       "schema: an alias of '%.64s' is not a text", t->name);
        TRY(name_full(p, space, alias, &t->aliases[t->alias_count++]));
    }
    return RC_OK;
}

/* Name, aliases and namespace of a record, enum or fixed; *space is the one
 * inside it. */
static enum rc named_begin(struct parser *p, struct schema_type *t,
                           const json_t *json, struct place at,
                           const char **space)
{
    const char *name = text_of(json, "name");
    const char *own = text_of(json, "namespace");
    const char *dot;
    size_t len;
    char *copy;
    if (!name)
        return ERR(p->e, RC_STOP, "schema: a %s without name",
                   datum_kind_name(t->kind));
    if (own && own[0] && !name_valid(own))
        return ERR(p->e, RC_STOP, "schema: '%.64s' is not a namespace", own);
    TRY(name_full(p, own ? own : at.space, name, &t->name));
    if (kind_of_name(t->name) >= 0)
        return ERR(p->e, RC_STOP, "schema: '%s' cannot name a type", t->name);
    if (named_find(p->s, t->name))
        return ERR(p->e, RC_STOP, "schema: '%.64s' is defined twice", t->name);
    if (p->s->named_count == SCHEMA_NAMED_MAX)
        return ERR(p->e, RC_STOP, "schema: more than %d named types",
                   SCHEMA_NAMED_MAX);
    p->s->named[p->s->named_count++] = t;
    dot = strrchr(t->name, '.');
    len = dot ? (size_t)(dot - t->name) : 0;
    copy = memory_copy(&p->s->memory, t->name, len, p->e);
    if (!copy) return RC_STOP;
    *space = copy;
    return aliases_read(p, t, json, *space);
}

static enum rc field_read(struct parser *p, struct schema_type *record,
                          uint32_t index, const json_t *json, struct place at)
{
    struct schema_member *f = &record->fields[index];
    const json_t *type = json_object_get(json, "type");
    f->name = text_of(json, "name");
    if (!f->name || !name_part_valid(f->name, strlen(f->name)))
        return ERR(p->e, RC_STOP, "schema: field %u of '%.64s' has no name",
                   index, record->name);
    for (uint32_t i = 0; i < index; i++)
        if (strcmp(record->fields[i].name, f->name) == 0)
            return ERR(p->e, RC_STOP, "schema: '%.64s' has field '%.64s' twice",
                       record->name, f->name);
    if (!type)
        return ERR(p->e, RC_STOP, "schema: field '%.64s' has no type", f->name);
    f->aliases = json_object_get(json, "aliases");
    f->value = json_object_get(json, "default");
    if (f->aliases && !json_is_array(f->aliases))
        return ERR(p->e, RC_STOP,
                   "schema: aliases of field '%.64s' are no list", f->name);
    if (parse_type(p, type, at, &f->type) != RC_OK)
        return err_context(p->e, "field '%.64s'", f->name);
    return RC_OK;
}

static enum rc record_read(struct parser *p, struct schema_type *t,
                           const json_t *json, struct place at)
{
    const json_t *fields = json_object_get(json, "fields");
    size_t count = json_array_size(fields);
    TRY(named_begin(p, t, json, at, &at.space));
    if (!json_is_array(fields))
        return ERR(p->e, RC_STOP, "schema: record '%.64s' has no fields list",
                   t->name);
    if (count > SCHEMA_FIELDS_MAX)
        return ERR(p->e, RC_STOP, "schema: record '%.64s' has over %d fields",
                   t->name, SCHEMA_FIELDS_MAX);
    t->fields = memory_take(&p->s->memory, count, sizeof *t->fields, p->e);
    if (!t->fields) return RC_STOP;
    for (t->count = 0; t->count < count; t->count++)
        TRY(field_read(p, t, t->count, json_array_get(fields, t->count), at));
    return RC_OK;
}

static enum rc enum_read(struct parser *p, struct schema_type *t,
                         const json_t *json, struct place at)
{
    const json_t *symbols = json_object_get(json, "symbols");
    const char *fallback = text_of(json, "default");
    size_t count = json_array_size(symbols);
    TRY(named_begin(p, t, json, at, &at.space));
    if (count == 0 || count > SCHEMA_SYMBOLS_MAX)
        return ERR(p->e, RC_STOP, "schema: enum '%.64s' needs 1 to %d symbols",
                   t->name, SCHEMA_SYMBOLS_MAX);
    t->symbols = memory_take(&p->s->memory, count, sizeof *t->symbols, p->e);
    if (!t->symbols) return RC_STOP;
    for (t->count = 0; t->count < count; t->count++) {
        const char *text = json_string_value(json_array_get(symbols, t->count));
        if (!text || !name_part_valid(text, strlen(text)))
            return ERR(p->e, RC_STOP, "schema: symbol %u of '%.64s' is no name",
                       t->count, t->name);
        t->symbols[t->count] = slice_str(text);
        for (uint32_t i = 0; i < t->count; i++)
            if (slice_equal(t->symbols[i], t->symbols[t->count]))
                return ERR(p->e, RC_STOP, "schema: '%.64s' has '%.64s' twice",
                           t->name, text);
        if (fallback && strcmp(fallback, text) == 0)
            t->symbol_default = (int32_t)t->count;
    }
    if (fallback && t->symbol_default < 0)
        return ERR(p->e, RC_STOP, "schema: default '%.64s' is not in '%.64s'",
                   fallback, t->name);
    return RC_OK;
}

static enum rc fixed_read(struct parser *p, struct schema_type *t,
                          const json_t *json, struct place at)
{
    const json_t *size = json_object_get(json, "size");
    json_int_t bytes = json_integer_value(size);
    TRY(named_begin(p, t, json, at, &at.space));
    if (!json_is_integer(size) || bytes < 0 || bytes > SCHEMA_FIXED_MAX)
        return ERR(p->e, RC_STOP, "schema: fixed '%.64s' needs a size of 0..%d",
                   t->name, SCHEMA_FIXED_MAX);
    t->size = (uint32_t)bytes;
    return RC_OK;
}

static enum rc item_read(struct parser *p, struct schema_type *t,
                         const json_t *json, struct place at)
{
    const char *key = t->kind == DATUM_ARRAY ? "items" : "values";
    const json_t *item = json_object_get(json, key);
    if (!item)
        return ERR(p->e, RC_STOP, "schema: %s without '%s'",
                   datum_kind_name(t->kind), key);
    return parse_type(p, item, at, &t->item);
}

/* Two branches of one kind could not be told apart, but for named types. */
static enum rc branch_check(struct parser *p, const struct schema_type *t)
{
    const struct schema_type *last = t->branches[t->count];
    if (last->kind == DATUM_UNION)
        return ERR(p->e, RC_STOP, "schema: a union directly inside a union");
    for (uint32_t i = 0; i < t->count; i++) {
        const struct schema_type *other = t->branches[i];
        if (other->kind != last->kind) continue;
        if (last->name && strcmp(last->name, other->name) != 0) continue;
        return ERR(p->e, RC_STOP, "schema: a union holds '%.64s' twice",
                   last->name ? last->name : datum_kind_name(last->kind));
    }
    return RC_OK;
}

static enum rc union_read(struct parser *p, struct schema_type *t,
                          const json_t *json, struct place at)
{
    size_t count = json_array_size(json);
    if (count == 0 || count > SCHEMA_BRANCHES_MAX)
        return ERR(p->e, RC_STOP, "schema: a union needs 1 to %d branches",
                   SCHEMA_BRANCHES_MAX);
    t->branches = memory_take(&p->s->memory, count, sizeof *t->branches, p->e);
    if (!t->branches) return RC_STOP;
    for (t->count = 0; t->count < count; t->count++) {
        TRY(parse_type(p, json_array_get(json, t->count), at,
                       &t->branches[t->count]));
        TRY(branch_check(p, t));
    }
    return RC_OK;
}

/* "int", or the name of a type defined further up in the text. */
static enum rc reference_read(struct parser *p, const char *name,
                              struct place at, struct schema_type **out)
{
    int kind = kind_of_name(name);
    const char *full;
    if (kind_is_primitive(kind)) return type_new(p, (enum datum_kind)kind, out);
    TRY(name_full(p, at.space, name, &full));
    *out = named_find(p->s, full);
    if (!*out)
        return ERR(p->e, RC_STOP,
                   "schema: type '%.64s' is not defined before its use", full);
    return RC_OK;
}

static enum rc object_read(struct parser *p, const json_t *json,
                           struct place at, struct schema_type **out)
{
    const json_t *type = json_object_get(json, "type");
    const char *name = json_string_value(type);
    int kind = name ? kind_of_name(name) : -1;
    struct schema_type *t;
    if (!type) return ERR(p->e, RC_STOP, "schema: an object without 'type'");
    if (!name) return parse_type(p, type, at, out);
    if (kind < 0) return reference_read(p, name, at, out);
    if (kind == DATUM_UNION)
        return ERR(p->e, RC_STOP, "schema: a union is written as a JSON list");
    TRY(type_new(p, (enum datum_kind)kind, out));
    t = *out;
    switch (t->kind) {
    case DATUM_RECORD:
        TRY(record_read(p, t, json, at));
        break;
    case DATUM_ENUM:
        TRY(enum_read(p, t, json, at));
        break;
    case DATUM_FIXED:
        TRY(fixed_read(p, t, json, at));
        break;
    case DATUM_ARRAY:
    case DATUM_MAP:
        TRY(item_read(p, t, json, at));
        break;
    default:
        break;
    }
    logical_read(t, json);
    return RC_OK;
}

static enum rc parse_type(struct parser *p, const json_t *json, struct place at,
                          struct schema_type **out)
{
    if (at.depth == CODEC_DEPTH_MAX)
        return ERR(p->e, RC_STOP, "schema: nested deeper than %d",
                   CODEC_DEPTH_MAX);
    at.depth++;
    if (json_is_string(json))
        return reference_read(p, json_string_value(json), at, out);
    if (json_is_object(json)) return object_read(p, json, at, out);
    if (!json_is_array(json))
        return ERR(p->e, RC_STOP,
                   "schema: a type is a text, an object or a list");
    TRY(type_new(p, DATUM_UNION, out));
    return union_read(p, *out, json, at);
}

/* Every value of a record holds its record fields, so a record that holds
 * itself has no finite value, and a long chain of them nests too deep. */
static enum rc depth_check(struct schema_type *t, struct err *e)
{
    uint32_t deepest = 0;
    if (t->kind != DATUM_RECORD || t->depth > 0) return RC_OK;
    if (t->busy)
        return ERR(e, RC_STOP, "schema: record '%.64s' contains itself",
                   t->name);
    t->busy = true;
    for (uint32_t i = 0; i < t->count; i++) {
        struct schema_type *held = t->fields[i].type;
        TRY(depth_check(held, e));
        if (held->depth > deepest) deepest = held->depth;
    }
    t->busy = false;
    if (deepest + 1 > CODEC_DEPTH_MAX)
        return ERR(e, RC_STOP, "schema: records nest deeper than %d",
                   CODEC_DEPTH_MAX);
    t->depth = (uint8_t)(deepest + 1);
    return RC_OK;
}

/* Avro-C looks at no answer of its allocator: without memory it would write
 * through a null pointer. */
static void *avro_memory(void *user, void *ptr, size_t before, size_t size)
{
    void *now;
    (void)user;
    (void)before;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    now = realloc(ptr, size);
    if (now) return now;
    LOG(ERROR, "MEMORY", "no memory for a schema (%zu bytes)", size);
    abort();
}

static void avro_begin(void)
{
    avro_set_allocator(avro_memory, NULL);
}

/* What Avro-C would refuse is no schema for anybody else either. Only a text
 * that passed our own checks gets here, since others crash it. */
static enum rc avro_check(const struct schema *s, struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    avro_schema_t parsed;
    (void)pthread_once(&once, avro_begin);
    if (avro_schema_from_json_length((const char *)s->json.ptr, s->json.len,
                                     &parsed) != 0)
        return ERR(e, RC_STOP, "schema: %.200s", avro_strerror());
    (void)avro_schema_decref(parsed);
    return RC_OK;
}

static enum rc schema_fill(struct schema *s, struct slice json, struct err *e)
{
    struct parser p = {.s = s, .e = e};
    json_error_t where;
    if (json.len > SCHEMA_BYTES_MAX)
        return ERR(e, RC_STOP, "schema: %zu bytes, the most is %d", json.len,
                   SCHEMA_BYTES_MAX);
    s->json.ptr = memory_copy(&s->memory, json.ptr, json.len, e);
    if (!s->json.ptr) return RC_STOP;
    s->json.len = json.len;
    s->tree = json_loadb((const char *)s->json.ptr, json.len,
                         JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &where);
    if (!s->tree)
        return ERR(e, RC_STOP, "schema: not JSON: line %d: %s", where.line,
                   where.text);
    TRY(parse_type(&p, s->tree, (struct place){.space = ""}, &s->root));
    for (uint32_t i = 0; i < s->named_count; i++)
        TRY(depth_check(s->named[i], e));
    return avro_check(s, e);
}

enum rc schema_parse(struct schema **out, struct slice json, struct err *e)
{
    struct schema *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return ERR(e, RC_STOP, "schema: out of memory");
    if (schema_fill(s, json, e) != RC_OK) {
        schema_free(s);
        return e->rc;
    }
    *out = s;
    return RC_OK;
}

enum rc schema_read(struct schema **out, const char *path, struct err *e)
{
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    size_t len = 0;
    *out = NULL;
    if (!file)
        return ERR(e, RC_STOP, "%s: cannot open the schema: %s", path,
                   strerror(errno));
    text = malloc(SCHEMA_BYTES_MAX + 1);
    if (!text) {
        (void)ERR(e, RC_STOP, "%s: out of memory", path);
        goto out;
    }
    len = fread(text, 1, SCHEMA_BYTES_MAX + 1, file);
    if (ferror(file)) {
        (void)ERR(e, RC_STOP, "%s: cannot read the schema: %s", path,
                  strerror(errno));
        goto out;
    }
    if (schema_parse(out, slice_of(text, len), e) != RC_OK)
        (void)err_context(e, "%s", path);
out:
    free(text);
    (void)fclose(file);
    return *out ? RC_OK : RC_STOP;
}

void schema_free(struct schema *s)
{
    if (!s) return;
    json_decref(s->tree);
    memory_free(&s->memory);
    free(s);
}

struct slice schema_json(const struct schema *s)
{
    return s->json;
}

/* ["null", T] and [T, "null"] read as T that may be missing. */
static const struct schema_type *nullable_inner(const struct schema_type *t,
                                                bool *nullable)
{
    if (t->kind != DATUM_UNION || t->count > 2) return t;
    if (t->count == 1) return t->branches[0];
    for (uint32_t i = 0; i < 2; i++)
        if (t->branches[i]->kind == DATUM_NULL) {
            *nullable = true;
            return t->branches[1 - i];
        }
    return t;
}

/* Levenshtein distance of two names, cut off at 63 bytes each. */
static uint32_t name_distance(const char *a, size_t a_len, const char *b)
{
    uint32_t row[64];
    size_t b_len = strlen(b);
    if (a_len > 63) a_len = 63;
    if (b_len > 63) b_len = 63;
    for (uint32_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 0; i < a_len; i++) {
        uint32_t diagonal = row[0];
        row[0] = (uint32_t)i + 1;
        for (size_t j = 0; j < b_len; j++) {
            uint32_t change = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = row[j] + 1 < diagonal + 1 ? row[j] + 1 : diagonal + 1;
            if (change < row[j + 1]) row[j + 1] = change;
        }
    }
    return row[b_len];
}

enum { NEAREST_NAMES = 3 };

static enum rc find_failed(const struct schema_type *record, const char *path,
                           const char *part, size_t len, struct err *e)
{
    uint32_t best[NEAREST_NAMES], found = 0;
    char names[256] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < record->count; i++) {
        uint32_t at = found < NEAREST_NAMES ? found++ : NEAREST_NAMES;
        uint32_t far = name_distance(part, len, record->fields[i].name);
        while (
            at > 0 &&
            far < name_distance(part, len, record->fields[best[at - 1]].name)) {
            if (at < NEAREST_NAMES) best[at] = best[at - 1];
            at--;
        }
        if (at < NEAREST_NAMES) best[at] = i;
    }
    for (uint32_t i = 0; i < found && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%.64s",
                                 i ? ", " : "", record->fields[best[i]].name);
    return ERR(e, RC_STOP,
               "no field '%.*s' in record '%.64s' (path '%.128s'); nearest: %s",
               (int)(len > 64 ? 64 : len), part, record->name, path,
               found ? names : "none, it has no fields");
}

enum rc schema_find(const struct schema *s, const char *path,
                    struct schema_field *out, struct err *e)
{
    const struct schema_type *t = s->root;
    const char *part = path;
    *out = (struct schema_field){.logical_type = ""};
    for (;;) {
        size_t len = strcspn(part, ".");
        uint32_t i = 0;
        t = nullable_inner(t, &out->nullable);
        if (t->kind != DATUM_RECORD)
            return ERR(e, RC_STOP,
                       "path '%.128s': '%.64s' is looked for in a "
                       "%s, which has no fields",
                       path, part, datum_kind_name(t->kind));
        if (out->depth == CODEC_DEPTH_MAX)
            return ERR(e, RC_STOP, "path '%.128s' has over %d parts", path,
                       CODEC_DEPTH_MAX);
        while (i < t->count && !(strncmp(t->fields[i].name, part, len) == 0 &&
                                 t->fields[i].name[len] == '\0'))
            i++;
        if (i == t->count) return find_failed(t, path, part, len, e);
        out->path[out->depth++] = i;
        t = t->fields[i].type;
        if (part[len] == '\0') break;
        part += len + 1;
    }
    t = nullable_inner(t, &out->nullable);
    out->kind = t->kind;
    out->logical_type = t->logical_type;
    out->scale = t->scale;
    out->size = t->size;
    return RC_OK;
}
