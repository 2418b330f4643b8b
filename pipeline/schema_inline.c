#include "schema_inline.h"

#include <stdlib.h>

#include "schema_type.h"

/* A definition somewhere in the texts, and the namespace around it. */
struct definition {
    char *name; /* full; free() */
    const char *space;
    json_t *node;
    bool written;
};

struct inliner {
    struct definition at[SCHEMA_NAMED_MAX];
    uint32_t count;
    uint32_t nodes; /* written so far */
    struct err *e;
};

/* Where a node stands: the namespace, lent by the tree, and how deep. */
struct place {
    const char *space;
    uint32_t depth;
};

static enum rc copy_type(struct inliner *in, json_t *node, struct place at,
                         json_t **out);

static const char *text_of(const json_t *node, const char *key)
{
    return json_string_value(json_object_get(node, key));
}

static bool is_named(const json_t *node)
{
    const char *type = text_of(node, "type");
    return type && text_of(node, "name") &&
           (strcmp(type, "record") == 0 || strcmp(type, "enum") == 0 ||
            strcmp(type, "fixed") == 0);
}

/* space.name, or name itself where it has dots or there is no space. */
static char *full_name(const char *space, const char *name)
{
    char *full = NULL;
    if (strchr(name, '.') || !*space) return strdup(name);
    return asprintf(&full, "%s.%s", space, name) < 0 ? NULL : full;
}

static struct definition *find(struct inliner *in, const char *full)
{
    for (uint32_t i = 0; i < in->count; i++)
        if (strcmp(in->at[i].name, full) == 0) return &in->at[i];
    return NULL;
}

/* Inside a named type: its own namespace, that of its name, or the one
 * around it. A name with dots keeps the part before the last of them; that
 * part is cut out of the tree's own text, see own_space. */
static const char *own_space(json_t *node, const char *space)
{
    const char *name = text_of(node, "name"), *own = text_of(node, "namespace");
    const char *dot = strrchr(name, '.');
    size_t len = dot ? (size_t)(dot - name) : 0;
    if (!dot) return own ? own : space;
    /* The tree is ours: it keeps the text, once made, until the end. */
    if (!own || strncmp(own, name, len) != 0 || own[len])
        (void)json_object_set_new(node, "namespace", json_stringn(name, len));
    own = text_of(node, "namespace");
    return own ? own : "";
}

/* --- what the texts define --- */

static enum rc collect(struct inliner *in, json_t *node, struct place at);

static enum rc define(struct inliner *in, json_t *node, const char *space)
{
    const char *own = text_of(node, "namespace");
    char *name = full_name(own ? own : space, text_of(node, "name"));
    if (!name) return ERR(in->e, RC_AGAIN, "schema: no memory");
    if (find(in, name) || in->count == SCHEMA_NAMED_MAX) {
        bool known = in->count < SCHEMA_NAMED_MAX;
        free(name);
        if (known) return RC_OK; /* the same type, by way of two references */
        return ERR(in->e, RC_SKIP, "schema: more than %d named types",
                   SCHEMA_NAMED_MAX);
    }
    in->at[in->count++] =
        (struct definition){.name = name, .space = space, .node = node};
    return RC_OK;
}

static enum rc collect_list(struct inliner *in, json_t *list, struct place at)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(collect(in, json_array_get(list, i), at));
    return RC_OK;
}

static enum rc collect_fields(struct inliner *in, json_t *list, struct place at)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(collect(in, json_object_get(json_array_get(list, i), "type"), at));
    return RC_OK;
}

static enum rc collect(struct inliner *in, json_t *node, struct place at)
{
    if (at.depth == CODEC_DEPTH_MAX)
        return ERR(in->e, RC_SKIP, "schema: nested deeper than %d",
                   CODEC_DEPTH_MAX);
    at.depth++;
    if (json_is_array(node)) return collect_list(in, node, at);
    if (!json_is_object(node)) return RC_OK;
    if (is_named(node)) {
        TRY(define(in, node, at.space));
        at.space = own_space(node, at.space);
        return collect_fields(in, json_object_get(node, "fields"), at);
    }
    TRY(collect(in, json_object_get(node, "type"), at));
    TRY(collect(in, json_object_get(node, "items"), at));
    return collect(in, json_object_get(node, "values"), at);
}

/* --- writing it out --- */

static enum rc no_memory(struct inliner *in)
{
    return ERR(in->e, RC_AGAIN, "schema: no memory");
}

/* Replaces the member key of copy, where node has it, by its own copy. */
static enum rc copy_member(struct inliner *in, json_t *copy, const json_t *node,
                           const char *key, struct place at)
{
    json_t *value = json_object_get(node, key), *made;
    if (!value) return RC_OK;
    TRY(copy_type(in, value, at, &made));
    return json_object_set_new(copy, key, made) == 0 ? RC_OK : no_memory(in);
}

static enum rc copy_fields(struct inliner *in, json_t *copy, struct place at)
{
    const json_t *fields = json_object_get(copy, "fields");
    json_t *list = json_array();
    enum rc rc = list ? RC_OK : no_memory(in);
    for (size_t i = 0; rc == RC_OK && i < json_array_size(fields); i++) {
        const json_t *field = json_array_get(fields, i);
        json_t *made = json_copy((json_t *)(uintptr_t)field);
        rc = made && json_is_object(made)
                 ? copy_member(in, made, field, "type", at)
                 : ERR(in->e, RC_SKIP, "schema: a field is no object");
        if (json_array_append_new(list, made) != 0 && rc == RC_OK)
            rc = no_memory(in);
    }
    if (rc == RC_OK && json_object_set(copy, "fields", list) != 0)
        rc = no_memory(in);
    json_decref(list);
    return rc;
}

/* With its full name split, so that it means the same wherever it stands. */
static enum rc copy_definition(struct inliner *in, struct definition *d,
                               uint32_t depth, json_t **out)
{
    const char *dot = strrchr(d->name, '.');
    json_t *space = json_stringn(d->name, dot ? (size_t)(dot - d->name) : 0);
    json_t *copy = json_copy(d->node);
    struct place at = {.depth = depth};
    enum rc rc = RC_OK;
    if (!copy || !space || json_object_set(copy, "namespace", space) != 0 ||
        json_object_set_new(copy, "name",
                            json_string(dot ? dot + 1 : d->name)) != 0)
        rc = no_memory(in);
    d->written = true;
    at.space = own_space(d->node, d->space);
    if (rc == RC_OK && json_is_array(json_object_get(copy, "fields")))
        rc = copy_fields(in, copy, at);
    json_decref(space);
    if (rc == RC_OK)
        *out = copy;
    else
        json_decref(copy);
    return rc;
}

/* A type that the texts define: written out the first time, then by name. */
static enum rc copy_known(struct inliner *in, struct definition *d,
                          struct place at, json_t **out)
{
    if (!d->written) return copy_definition(in, d, at.depth, out);
    *out = json_string(d->name);
    return *out ? RC_OK : no_memory(in);
}

static enum rc copy_name(struct inliner *in, json_t *node, struct place at,
                         json_t **out)
{
    char *full = full_name(at.space, json_string_value(node));
    struct definition *d = full ? find(in, full) : NULL;
    /* Without a namespace of that name, as the Java implementation does. */
    if (full && !d) d = find(in, json_string_value(node));
    free(full);
    if (d) return copy_known(in, d, at, out);
    *out = json_incref(node);
    return RC_OK;
}

static enum rc copy_list(struct inliner *in, json_t *node, struct place at,
                         json_t **out)
{
    json_t *list = json_array();
    enum rc rc = list ? RC_OK : no_memory(in);
    for (size_t i = 0; rc == RC_OK && i < json_array_size(node); i++) {
        json_t *made;
        rc = copy_type(in, json_array_get(node, i), at, &made);
        if (rc == RC_OK && json_array_append_new(list, made) != 0)
            rc = no_memory(in);
    }
    if (rc == RC_OK)
        *out = list;
    else
        json_decref(list);
    return rc;
}

static enum rc copy_object(struct inliner *in, json_t *node, struct place at,
                           json_t **out)
{
    const char *own = text_of(node, "namespace");
    json_t *copy;
    enum rc rc;
    if (is_named(node)) {
        char *full = full_name(own ? own : at.space, text_of(node, "name"));
        struct definition *d = full ? find(in, full) : NULL;
        free(full);
        return d ? copy_known(in, d, at, out) : no_memory(in);
    }
    copy = json_copy(node);
    if (!copy) return no_memory(in);
    rc = copy_member(in, copy, node, "type", at);
    if (rc == RC_OK) rc = copy_member(in, copy, node, "items", at);
    if (rc == RC_OK) rc = copy_member(in, copy, node, "values", at);
    if (rc == RC_OK)
        *out = copy;
    else
        json_decref(copy);
    return rc;
}

static enum rc copy_type(struct inliner *in, json_t *node, struct place at,
                         json_t **out)
{
    if (at.depth == CODEC_DEPTH_MAX || ++in->nodes > SCHEMA_TYPES_MAX)
        return ERR(in->e, RC_SKIP,
                   "schema: with its references it nests deeper than %d or "
                   "has over %d types",
                   CODEC_DEPTH_MAX, SCHEMA_TYPES_MAX);
    at.depth++;
    if (json_is_string(node)) return copy_name(in, node, at, out);
    if (json_is_array(node)) return copy_list(in, node, at, out);
    if (json_is_object(node)) return copy_object(in, node, at, out);
    *out = json_incref(node);
    return RC_OK;
}

/* --- in and out --- */

static enum rc text_load(struct inliner *in, struct slice text, json_t **out)
{
    json_error_t where;
    *out = NULL;
    if (text.len > SCHEMA_BYTES_MAX)
        return ERR(in->e, RC_SKIP, "schema: %zu bytes, the most is %d",
                   text.len, SCHEMA_BYTES_MAX);
    *out = json_loadb((const char *)text.ptr, text.len,
                      JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &where);
    if (*out) return collect(in, *out, (struct place){.space = ""});
    return ERR(in->e, RC_SKIP, "schema: not JSON: line %d: %s", where.line,
               where.text);
}

static enum rc dump(struct inliner *in, const json_t *tree, char **out,
                    size_t *len)
{
    *out = json_dumps(tree, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!*out) return no_memory(in);
    *len = strlen(*out);
    if (*len <= SCHEMA_BYTES_MAX) return RC_OK;
    free(*out);
    *out = NULL;
    return ERR(in->e, RC_SKIP,
               "schema: with its references it has %zu bytes, the most is %d",
               *len, SCHEMA_BYTES_MAX);
}

enum rc schema_inline(struct slice text, const struct slice *references,
                      uint32_t reference_count, char **out, size_t *len,
                      struct err *e)
{
    struct inliner *in = calloc(1, sizeof *in);
    json_t **trees = calloc((size_t)reference_count + 1, sizeof *trees);
    json_t *whole = NULL;
    enum rc rc = RC_OK;
    *out = NULL;
    if (!in || !trees) {
        rc = ERR(e, RC_AGAIN, "schema: no memory");
        goto out;
    }
    in->e = e;
    rc = text_load(in, text, &trees[0]);
    for (uint32_t i = 0; rc == RC_OK && i < reference_count; i++)
        rc = text_load(in, references[i], &trees[1 + i]);
    if (rc == RC_OK)
        rc = copy_type(in, trees[0], (struct place){.space = ""}, &whole);
    if (rc == RC_OK) rc = dump(in, whole, out, len);
out:
    json_decref(whole);
    for (uint32_t i = 0; trees && i <= reference_count; i++)
        json_decref(trees[i]);
    for (uint32_t i = 0; in && i < in->count; i++)
        free(in->at[i].name);
    free(trees);
    free(in);
    return rc;
}
