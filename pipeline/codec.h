/* codec.h - Avro bytes in and out, bounded, compiled once per schema pair.
 *
 * Schemas are parsed by Avro-C (after a check of our own that refuses what
 * crashes it: negative sizes, records that contain themselves, nesting
 * beyond CODEC_DEPTH_MAX). From writer's and reader's schema one decoder is
 * compiled, with resolution as the Avro 1.11 specification says; that, never
 * Avro-C, touches message bytes.
 *
 * Tape     A decoded value is a flat array in preorder (struct datum), in
 *          the reader's shape. A container's span says how many datums it
 *          covers, itself included, so a walker can step over it.
 * Bounds   No read past the input; at most datums_max datums a message;
 *          time and memory are linear in both. Trailing bytes are an error.
 * Memory   Slices on the tape point into the message, or for defaults into
 *          the decoder. Nothing is allocated after compile.
 * Threads  schema, decoder, encoder: immutable, any thread.
 * Errors   compile: RC_STOP. decode: RC_SKIP (the bytes are bad). */
#ifndef MILLRACE_CODEC_H
#define MILLRACE_CODEC_H

#include "err.h"
#include "slice.h"

enum { CODEC_DEPTH_MAX = 32 };

enum datum_kind {
    DATUM_NULL,
    DATUM_BOOLEAN,
    DATUM_INT,
    DATUM_LONG,
    DATUM_FLOAT,
    DATUM_DOUBLE,
    DATUM_BYTES,
    DATUM_STRING,
    DATUM_FIXED,
    DATUM_ENUM,   /* i: symbol index, s: symbol */
    DATUM_ARRAY,  /* count items follow */
    DATUM_MAP,    /* count pairs follow: a STRING, then the value */
    DATUM_UNION,  /* i: branch index; one datum follows */
    DATUM_RECORD, /* count fields follow, in schema order */
};

struct datum {
    uint8_t kind; /* enum datum_kind */
    uint32_t count;
    uint32_t span;
    union {
        int64_t i; /* boolean, int, long, enum, union */
        double d;  /* float (exactly), double */
    };
    struct slice s; /* bytes, string, fixed, enum symbol */
};

struct tape {
    struct datum *at;
    uint32_t max;
    uint32_t count;
};

/* "int", "record", ... */
const char *datum_kind_name(enum datum_kind kind);

struct schema;
enum rc schema_parse(struct schema **out, struct slice json,
                     struct err *e) MUST_USE;
enum rc schema_read(struct schema **out, const char *path,
                    struct err *e) MUST_USE;
void schema_free(struct schema *s);
struct slice schema_json(const struct schema *s); /* as given */

/* A field of the top-level record by dotted path ("card.number"), looking
 * through ["null", T] unions. Where it is, and of which kind. */
struct schema_field {
    uint32_t path[CODEC_DEPTH_MAX]; /* field index at each record */
    uint32_t depth;
    enum datum_kind kind;     /* of the value, null branch put aside */
    const char *logical_type; /* "" if none; e.g. timestamp-millis, decimal */
    int32_t scale;            /* of a decimal */
    uint32_t size;            /* of a fixed */
    bool nullable;
};
/* Not found: RC_STOP; the text has the nearest names. */
enum rc schema_find(const struct schema *s, const char *path,
                    struct schema_field *out, struct err *e) MUST_USE;

struct decoder;
/* reader may be the writer's schema itself. */
enum rc decoder_compile(struct decoder **out, const struct schema *writer,
                        const struct schema *reader, struct err *e) MUST_USE;
void decoder_free(struct decoder *d);
enum rc decoder_decode(const struct decoder *d, struct slice in,
                       struct tape *out, struct err *e) MUST_USE;
/* The same for a value inside a longer input (container blocks): sets
 * *used, and trailing bytes are not an error. */
enum rc decoder_decode_prefix(const struct decoder *d, struct slice in,
                              struct tape *out, size_t *used,
                              struct err *e) MUST_USE;
/* Only steps over such a value, in the writer's shape: where it ends. */
enum rc decoder_measure(const struct decoder *d, struct slice in, size_t *used,
                        struct err *e) MUST_USE;

/* The bytes of a tape in the shape of the schema. RC_SKIP where the tape
 * does not fit the schema or out is full. */
enum rc encoder_encode(const struct schema *s, const struct tape *in,
                       uint8_t *out, size_t size, size_t *used,
                       struct err *e) MUST_USE;

/* On one line, without its end (Avro's JSON encoding; plain: unions without
 * their type name, NaN as null, bytes as text where they are UTF-8). */
enum json_style { JSON_AVRO, JSON_PLAIN };
enum rc tape_write_json(const struct schema *s, const struct tape *t,
                        enum json_style style, FILE *to,
                        struct err *e) MUST_USE;

/* A text in quotes; what is not UTF-8 becomes U+FFFD. */
void json_text_write(struct slice s, FILE *to);

#endif
