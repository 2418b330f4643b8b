/* codec_decode.c - runs a compiled program over the bytes of one message.
 *
 * Every byte is hostile. What bounds the work: a value either takes a byte
 * of the input, or a datum of the tape, or one of the idle steps counted
 * here (nulls and empty records that are skipped). */
#include "codec_program.h"

#include <assert.h>

#include "varint.h"

/* Idle steps that any value may take. One that is stepped over in a longer
 * input gets no more, so that a file is read in time linear in its values. */
enum { IDLE_MAX = 1 << 17 };

struct run {
    const uint8_t *at, *end;
    struct datum *out;
    uint32_t count, max;
    uint64_t idle; /* skipped values that took no bytes, left */
    const struct decoder *d;
    const char *fault;
};

static bool value(struct run *r, const struct op *op, uint32_t depth);
static bool skip(struct run *r, const struct op *op, uint32_t depth);

static bool fault(struct run *r, const char *what)
{
    r->fault = what;
    return false;
}

static bool varint_long(struct run *r, int64_t *out)
{
    const uint8_t *p = r->at;
    uint64_t bits = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        uint64_t byte;
        if (p == r->end) return fault(r, "truncated");
        byte = *p++;
        if (shift == 63 && byte > 1) break;
        bits |= (byte & 0x7f) << shift;
        if (byte & 0x80) continue;
        r->at = p;
        *out = varint_unzigzag(bits);
        return true;
    }
    return fault(r, "a number longer than 64 bits");
}

/* Most are lengths and indexes of one byte. */
static inline bool varint(struct run *r, int64_t *out)
{
    if (r->at == r->end || *r->at & 0x80) return varint_long(r, out);
    *out = varint_unzigzag(*r->at++);
    return true;
}

static bool varint32(struct run *r, int64_t *out)
{
    if (!varint(r, out)) return false;
    if (*out >= INT32_MIN && *out <= INT32_MAX) return true;
    return fault(r, "an int beyond 32 bits");
}

static inline size_t left(const struct run *r)
{
    return (size_t)(r->end - r->at);
}

static bool step_over(struct run *r, int64_t bytes)
{
    if (bytes < 0) return fault(r, "a negative length");
    if ((uint64_t)bytes > left(r)) return fault(r, "truncated");
    r->at += bytes;
    return true;
}

static bool lend(struct run *r, int64_t bytes, struct slice *out)
{
    const uint8_t *from = r->at;
    if (!step_over(r, bytes)) return false;
    *out = slice_of(from, (size_t)bytes);
    return true;
}

static bool idle(struct run *r)
{
    if (r->idle == 0) return fault(r, "too many values without bytes");
    r->idle--;
    return true;
}

/* One more datum, or NULL when the tape is full. */
static inline struct datum *emit(struct run *r, const struct op *op)
{
    struct datum *datum;
    if (r->count == r->max) {
        (void)fault(r, "too many values");
        return NULL;
    }
    datum = &r->out[r->count++];
    datum->kind = op->kind;
    datum->count = 0;
    datum->span = 1;
    datum->i = 0;
    datum->s = slice_of(NULL, 0);
    return datum;
}

static inline float load_float(const uint8_t *p)
{
    uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8 |
                    (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline double load_double(const uint8_t *p)
{
    uint64_t bits = 0;
    double d;
    for (int i = 7; i >= 0; i--)
        bits = bits << 8 | p[i];
    memcpy(&d, &bits, sizeof d);
    return d;
}

static bool floating(struct run *r, const struct op *op, struct datum *datum)
{
    size_t bytes = op->code == OP_FLOAT ? 4 : 8;
    if (left(r) < bytes) return fault(r, "truncated");
    datum->d = bytes == 4 ? (double)load_float(r->at) : load_double(r->at);
    r->at += bytes;
    return true;
}

static bool boolean(struct run *r, struct datum *datum)
{
    if (r->at == r->end) return fault(r, "truncated");
    if (*r->at > 1) return fault(r, "a boolean that is neither 0 nor 1");
    datum->i = *r->at++;
    return true;
}

static bool symbol(struct run *r, const struct op *op, struct datum *datum)
{
    uint32_t index;
    int64_t written;
    if (!varint(r, &written)) return false;
    if (written < 0 || written >= op->count)
        return fault(r, "an enum index out of range");
    index = r->d->table[op->table + written];
    if (index == NO_INDEX)
        return fault(r, "an enum symbol that the reader lacks");
    datum->i = index;
    datum->s = r->d->symbols[op->symbols + index];
    return true;
}

/* The head of a block of an array or map: how many items (0: the end), and
 * with *stop the place where a block of known size must end, else NULL. */
static bool block(struct run *r, uint64_t *items, const uint8_t **stop)
{
    int64_t count, bytes;
    *stop = NULL;
    if (!varint(r, &count)) return false;
    if (count < 0) {
        if (!varint(r, &bytes)) return false;
        if (bytes < 0) return fault(r, "a negative length");
        if ((uint64_t)bytes > left(r)) return fault(r, "truncated");
        *stop = r->at + bytes;
    }
    *items = count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
    return true;
}

/* Arrays and maps. Every item emits a datum, so the tape bounds them. */
static bool blocks(struct run *r, const struct op *op, uint32_t depth)
{
    static const struct op KEY = {.code = OP_BYTES, .kind = DATUM_STRING};
    const struct op *item = &r->d->ops[op->first];
    uint32_t head = r->count, total = 0;
    uint64_t items;
    const uint8_t *stop;
    if (!emit(r, op)) return false;
    for (;;) {
        if (!block(r, &items, &stop)) return false;
        if (items == 0) break;
        if (items > r->max - r->count) return fault(r, "too many values");
        for (uint64_t i = 0; i < items; i++) {
            if (op->code == OP_MAP && !value(r, &KEY, depth)) return false;
            if (!value(r, item, depth)) return false;
        }
        if (stop && stop != r->at)
            return fault(r, "a block of another size than it says");
        total += (uint32_t)items;
    }
    r->out[head].count = total;
    r->out[head].span = r->count - head;
    return true;
}

static bool record(struct run *r, const struct op *op, uint32_t depth)
{
    const struct op *field = &r->d->ops[op->first];
    const struct op *end = field + op->count;
    uint32_t head = r->count;
    if (!emit(r, op)) return false;
    for (; field != end; field++)
        if (!value(r, field, depth)) return false;
    r->out[head].count = op->size;
    r->out[head].span = r->count - head;
    return true;
}

static bool record_shuffled(struct run *r, const struct op *op, uint32_t depth)
{
    const struct op *ops = &r->d->ops[op->first];
    const uint32_t *from = &r->d->table[op->table];
    const uint8_t *base = r->at, *after;
    uint32_t starts[SCHEMA_FIELDS_MAX], head = r->count;
    if (!emit(r, op)) return false;
    for (uint32_t i = 0; i < op->count; i++) {
        starts[i] = (uint32_t)(r->at - base);
        if (!skip(r, &ops[i], depth)) return false;
    }
    after = r->at;
    for (uint32_t i = 0; i < op->size; i++) {
        if (from[i] != NO_INDEX) r->at = base + starts[from[i]];
        if (!value(r, &ops[op->count + i], depth)) return false;
    }
    r->at = after;
    r->out[head].count = op->size;
    r->out[head].span = r->count - head;
    return true;
}

static bool branch(struct run *r, const struct op *op, const struct op **out)
{
    int64_t index;
    if (!varint(r, &index)) return false;
    if (index < 0 || index >= op->count)
        return fault(r, "a union branch out of range");
    *out = &r->d->ops[op->first + index];
    return true;
}

static bool wrap(struct run *r, const struct op *op, uint32_t depth)
{
    uint32_t head = r->count;
    if (!emit(r, op)) return false;
    r->out[head].i = op->size;
    if (!value(r, &r->d->ops[op->first], depth)) return false;
    r->out[head].span = r->count - head;
    return true;
}

static bool constant(struct run *r, const struct op *op)
{
    if (op->count > r->max - r->count) return fault(r, "too many values");
    memcpy(&r->out[r->count], &r->d->constants[op->first],
           op->count * sizeof *r->out);
    r->count += op->count;
    return true;
}

/* Values of one datum. */
static inline bool scalar(struct run *r, const struct op *op)
{
    struct datum *datum = emit(r, op);
    int64_t number;
    if (!datum) return false;
    switch (op->code) {
    case OP_NULL:
        return true;
    case OP_BOOLEAN:
        return boolean(r, datum);
    case OP_INT:
        return varint32(r, &datum->i);
    case OP_LONG:
        return varint(r, &datum->i);
    case OP_FLOAT:
    case OP_DOUBLE:
        return floating(r, op, datum);
    case OP_LONG_TO_FLOAT:
        if (!varint(r, &number)) return false;
        datum->d = (double)(float)number;
        return true;
    case OP_INT_TO_DOUBLE:
        if (!varint32(r, &number)) return false;
        datum->d = (double)number;
        return true;
    case OP_LONG_TO_DOUBLE:
        if (!varint(r, &number)) return false;
        datum->d = (double)number;
        return true;
    case OP_BYTES:
        if (!varint(r, &number)) return false;
        return lend(r, number, &datum->s);
    case OP_FIXED:
        return lend(r, op->size, &datum->s);
    default:
        return symbol(r, op, datum);
    }
}

static bool value(struct run *r, const struct op *op, uint32_t depth)
{
    const struct op *chosen;
    if (op->code >= OP_NULL && op->code <= OP_ENUM) return scalar(r, op);
    if (op->code == OP_CONSTANT) return constant(r, op);
    if (op->code == OP_FAIL)
        return fault(r, "a union branch that the reader lacks");
    if (depth == VALUE_DEPTH_MAX) return fault(r, "nested too deep");
    switch (op->code) {
    case OP_ARRAY:
    case OP_MAP:
        return blocks(r, op, depth + 1);
    case OP_UNION:
        return branch(r, op, &chosen) && value(r, chosen, depth + 1);
    case OP_WRAP:
        return wrap(r, op, depth + 1);
    case OP_RECORD:
        return record(r, op, depth + 1);
    case OP_RECORD_SHUFFLED:
        return record_shuffled(r, op, depth + 1);
    default:
        return skip(r, op, depth);
    }
}

/* A block that says its size is jumped over. */
static bool skip_blocks(struct run *r, const struct op *op, uint32_t depth)
{
    static const struct op KEY = {.code = OP_SKIP_BYTES};
    const struct op *item = &r->d->ops[op->first];
    uint64_t items;
    const uint8_t *stop;
    for (;;) {
        if (!block(r, &items, &stop)) return false;
        if (items == 0) return true;
        if (stop) {
            r->at = stop;
            continue;
        }
        for (uint64_t i = 0; i < items; i++) {
            if (op->code == OP_SKIP_MAP && !skip(r, &KEY, depth)) return false;
            if (!skip(r, item, depth)) return false;
        }
    }
}

static bool skip(struct run *r, const struct op *op, uint32_t depth)
{
    const struct op *chosen;
    int64_t number;
    if (depth == VALUE_DEPTH_MAX) return fault(r, "nested too deep");
    switch (op->code) {
    case OP_SKIP_NULL:
        return idle(r);
    case OP_SKIP_VARINT:
        return varint(r, &number);
    case OP_SKIP_FIXED:
        return (op->size || idle(r)) && step_over(r, op->size);
    case OP_SKIP_BYTES:
        return varint(r, &number) && step_over(r, number);
    case OP_SKIP_ARRAY:
    case OP_SKIP_MAP:
        return skip_blocks(r, op, depth + 1);
    case OP_SKIP_UNION:
        return branch(r, op, &chosen) && skip(r, chosen, depth + 1);
    default:
        break;
    }
    assert(op->code == OP_SKIP_RECORD);
    if (!idle(r)) return false;
    for (uint32_t i = 0; i < op->count; i++)
        if (!skip(r, &r->d->ops[op->first + i], depth + 1)) return false;
    return true;
}

static struct run run_start(const struct decoder *d, struct slice *in)
{
    if (in->len == 0) in->ptr = (const uint8_t *)"";
    return (struct run){
        .at = in->ptr, .end = in->ptr + in->len, .idle = IDLE_MAX, .d = d};
}

static enum rc failed(const struct run *r, struct slice in, struct err *e)
{
    return ERR(e, RC_SKIP, "avro: %s, at byte %zu of %zu", r->fault,
               (size_t)(r->at - in.ptr), in.len);
}

static enum rc size_check(struct slice in, struct err *e)
{
    if (in.len <= UINT32_MAX) return RC_OK;
    return ERR(e, RC_SKIP, "avro: a message of %zu bytes", in.len);
}

enum rc decoder_decode_prefix(const struct decoder *d, struct slice in,
                              struct tape *out, size_t *used, struct err *e)
{
    struct run r = run_start(d, &in);
    out->count = 0;
    TRY(size_check(in, e));
    r.out = out->at;
    r.max = out->max;
    r.idle += VALUE_DEPTH_MAX * ((uint64_t)in.len + out->max);
    if (!value(&r, &d->root, 0)) return failed(&r, in, e);
    out->count = r.count;
    *used = (size_t)(r.at - in.ptr);
    return RC_OK;
}

enum rc decoder_decode(const struct decoder *d, struct slice in,
                       struct tape *out, struct err *e)
{
    size_t used;
    TRY(decoder_decode_prefix(d, in, out, &used, e));
    if (used == in.len) return RC_OK;
    out->count = 0;
    return ERR(e, RC_SKIP, "avro: %zu bytes too many, after byte %zu",
               in.len - used, used);
}

enum rc decoder_measure(const struct decoder *d, struct slice in, size_t *used,
                        struct err *e)
{
    struct run r = run_start(d, &in);
    TRY(size_check(in, e));
    if (!skip(&r, &d->skip, 0)) return failed(&r, in, e);
    *used = (size_t)(r.at - in.ptr);
    return RC_OK;
}
