/* codec_program.h - what decoder_compile makes and decoder_decode runs.
 *
 * Program  A flat array of ops; an op names its children by index. Children
 *          of a record stand side by side in the order they are run. A named
 *          type is compiled once per pair of writer's and reader's type, so
 *          a program is finite where types are recursive.
 * Order    Where the reader has a record's fields in another order than the
 *          writer, OP_RECORD_SHUFFLED first skips over them, noting where
 *          each begins, then decodes them in the reader's order.
 * Memory   Everything an op refers to (symbols, defaults) is the decoder's. */
#ifndef MILLRACE_CODEC_PROGRAM_H
#define MILLRACE_CODEC_PROGRAM_H

#include "codec_memory.h"
#include "schema_type.h"

enum op_code {
    OP_FAIL, /* zero, so an op never filled in fails */
    /* Values, as the reader wants them. kind: the datum's. */
    OP_NULL,
    OP_BOOLEAN,
    OP_INT,
    OP_LONG,
    OP_FLOAT,
    OP_DOUBLE,
    OP_LONG_TO_FLOAT, /* from int too */
    OP_INT_TO_DOUBLE,
    OP_LONG_TO_DOUBLE,
    OP_BYTES,           /* string too */
    OP_FIXED,           /* size */
    OP_ENUM,            /* count, table: reader's symbol each, symbols */
    OP_ARRAY,           /* first: the item */
    OP_MAP,             /* first: the value */
    OP_UNION,           /* count branches at first */
    OP_WRAP,            /* size: reader's branch; first: the value in it */
    OP_RECORD,          /* size: reader's fields; count ops at first */
    OP_RECORD_SHUFFLED, /* size: reader's fields; count skips at first, then
                           size ops; table: writer's field of each */
    OP_CONSTANT,        /* count datums at first: a default */
    /* Writer's values that nobody asked for. */
    OP_SKIP_NULL,
    OP_SKIP_VARINT,
    OP_SKIP_FIXED, /* size; float, double and boolean too */
    OP_SKIP_BYTES,
    OP_SKIP_ARRAY,
    OP_SKIP_MAP,
    OP_SKIP_UNION,
    OP_SKIP_RECORD,
};

enum { NO_INDEX = UINT32_MAX };

struct op {
    uint8_t code; /* enum op_code */
    uint8_t kind; /* enum datum_kind */
    uint32_t count, first, size, table, symbols;
};

struct decoder {
    struct memory memory;
    struct op *ops;
    uint32_t op_count, op_max;
    uint32_t *table;
    uint32_t table_count, table_max;
    struct slice *symbols;
    uint32_t symbol_count, symbol_max;
    struct datum *constants;
    uint32_t constant_count, constant_max;
    size_t default_work;  /* spent on defaults; bounded, since a wrong default
                             is tried against each branch of each union */
    struct op root, skip; /* the value decoded, and only stepped over */
};

/* Appends the datums of a default to d->constants (codec_default.c). */
enum rc default_compile(struct decoder *d, const struct schema_type *t,
                        const json_t *value, uint32_t depth,
                        struct err *e) MUST_USE;
/* Room for count more in a growing array. */
enum rc decoder_grow(void *array, uint32_t count, uint32_t *max, uint32_t more,
                     size_t size, struct err *e) MUST_USE;

#endif
