/* schema_type.h - a parsed schema as the codec's own files see it.
 *
 * Why      Avro-C drops defaults, aliases and logical types, so the tree is
 *          ours. Texts are lent by the JSON tree, which the schema keeps.
 * Cycles   A reference to a named type is a pointer to it; no record holds
 *          itself other than through an array, a map or a union.
 * Bounds   The limits below; what goes beyond them is refused by
 *          schema_parse, so no walker needs to count what a schema holds. */
#ifndef MILLRACE_SCHEMA_TYPE_H
#define MILLRACE_SCHEMA_TYPE_H

#include <jansson.h>

#include "codec.h"
#include "codec_memory.h"

enum {
    SCHEMA_BYTES_MAX = 1 << 20, /* of the JSON text */
    SCHEMA_TYPES_MAX = 16384,
    SCHEMA_NAMED_MAX = 1024,
    SCHEMA_FIELDS_MAX = 1024,  /* of one record */
    SCHEMA_SYMBOLS_MAX = 4096, /* of one enum */
    SCHEMA_BRANCHES_MAX = 256, /* of one union */
    SCHEMA_FIXED_MAX = 1 << 20,
    /* Values nest deeper than their schema's text where a record holds
     * itself, and where a reader's union wraps a writer's plain value. */
    VALUE_DEPTH_MAX = 2 * CODEC_DEPTH_MAX,
};

struct schema_type;

struct schema_member { /* a field of a record */
    const char *name;
    struct schema_type *type;
    const json_t *aliases; /* array of texts, or NULL */
    const json_t *value;   /* the default, or NULL */
};

struct schema_type {
    enum datum_kind kind;
    uint32_t count;           /* fields, branches or symbols */
    const char *logical_type; /* "" if none */
    int32_t scale;            /* of a decimal */
    uint32_t size;            /* of a fixed */
    const char *name;         /* full; NULL for types without name */
    const char **aliases;     /* full */
    uint32_t alias_count;
    struct schema_member *fields;
    struct schema_type **branches;
    struct slice *symbols;
    int32_t symbol_default;   /* index, or -1 */
    struct schema_type *item; /* of an array or a map's values */
    uint8_t depth;            /* of records held directly; 0: not known yet */
    bool busy;
};

struct schema {
    struct slice json;
    json_t *tree;
    struct memory memory;
    struct schema_type *root;
    struct schema_type *named[SCHEMA_NAMED_MAX];
    uint32_t named_count;
    uint32_t type_count;
};

/* The part of a full name behind the last dot. */
const char *schema_short_name(const char *full);

#endif
