#include "safetensors.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

enum { LENGTH_BYTES = 8, DATA_ALIGN = 64 };

struct safetensors {
    struct stored_tensor *at; /* (count), by ascending place in data */
    uint32_t count;
    uint8_t *data;
    size_t data_bytes;
    json_t *header; /* owns the names */
};

static const struct {
    const char *name;
    uint32_t size;
} types[] = {
    [TENSOR_F64] = {"F64", 8}, [TENSOR_F32] = {"F32", 4},
    [TENSOR_F16] = {"F16", 2}, [TENSOR_BF16] = {"BF16", 2},
    [TENSOR_I64] = {"I64", 8}, [TENSOR_I32] = {"I32", 4},
    [TENSOR_I16] = {"I16", 2}, [TENSOR_I8] = {"I8", 1},
    [TENSOR_U8] = {"U8", 1},   [TENSOR_BOOL] = {"BOOL", 1},
};
enum { TYPES = sizeof types / sizeof types[0] };

static uint64_t read_u64le(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static enum rc parse_type(const json_t *entry, struct stored_tensor *t,
                          struct err *e)
{
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    if (!text) return ERR(e, RC_STOP, "tensor %s: no dtype", t->name);
    for (int i = 0; i < TYPES; i++) {
        if (strcmp(text, types[i].name) == 0) {
            t->type = (enum tensor_type)i;
            return RC_OK;
        }
    }
    return ERR(e, RC_STOP, "tensor %s: unknown dtype %.16s", t->name, text);
}

/* Sets shape and the bytes that it implies. */
static enum rc parse_shape(const json_t *entry, struct stored_tensor *t,
                           struct err *e)
{
    const json_t *shape = json_object_get(entry, "shape");
    size_t bytes = types[t->type].size;
    if (!json_is_array(shape))
        return ERR(e, RC_STOP, "tensor %s: no shape", t->name);
    if (json_array_size(shape) > TENSOR_DIMS_MAX)
        return ERR(e, RC_STOP, "tensor %s: %zu dimensions, at most %d are read",
                   t->name, json_array_size(shape), TENSOR_DIMS_MAX);
    t->dims = (uint32_t)json_array_size(shape);
    for (uint32_t i = 0; i < t->dims; i++) {
        const json_t *size = json_array_get(shape, i);
        json_int_t n = json_integer_value(size);
        if (!json_is_integer(size) || n < 0)
            return ERR(e, RC_STOP, "tensor %s: dimension %u is not a size",
                       t->name, i);
        if (n != 0 && bytes > SIZE_MAX / 2 / (size_t)n)
            return ERR(e, RC_STOP, "tensor %s: its shape overflows", t->name);
        t->shape[i] = (uint64_t)n;
        bytes *= (size_t)n;
    }
    t->bytes = bytes;
    return RC_OK;
}

/* Sets data to where it will be, given the data's base. */
static enum rc parse_place(const json_t *entry, struct stored_tensor *t,
                           const struct safetensors *s, struct err *e)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0);
    const json_t *last = json_array_get(offsets, 1);
    uint64_t begin = (uint64_t)json_integer_value(first);
    uint64_t end = (uint64_t)json_integer_value(last);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) ||
        !json_is_integer(last))
        return ERR(e, RC_STOP, "tensor %s: no data_offsets", t->name);
    if (begin > end || end > s->data_bytes)
        return ERR(e, RC_STOP,
                   "tensor %s: data_offsets [%llu, %llu) of %zu bytes of data: "
                   "truncated or damaged",
                   t->name, (unsigned long long)begin, (unsigned long long)end,
                   s->data_bytes);
    if (end - begin != t->bytes)
        return ERR(e, RC_STOP, "tensor %s: %llu bytes, its shape needs %zu",
                   t->name, (unsigned long long)(end - begin), t->bytes);
    if (begin % types[t->type].size != 0)
        return ERR(e, RC_STOP, "tensor %s: data at %llu is not aligned",
                   t->name, (unsigned long long)begin);
    t->data = s->data + begin;
    return RC_OK;
}

static int compare_place(const void *a, const void *b)
{
    const struct stored_tensor *x = a, *y = b;
    if (x->data != y->data)
        return (const uint8_t *)x->data < (const uint8_t *)y->data ? -1 : 1;
    /* An empty tensor stands before the one that begins at its place. */
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors, sorted, cover the data exactly. */
static enum rc check_cover(const struct safetensors *s, struct err *e)
{
    const uint8_t *next = s->data;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct stored_tensor *t = &s->at[i];
        if ((const uint8_t *)t->data < next)
            return ERR(e, RC_STOP, "tensor %s: overlaps %s", t->name,
                       s->at[i - 1].name);
        if ((const uint8_t *)t->data > next)
            return ERR(e, RC_STOP, "tensor %s: a hole before its data",
                       t->name);
        next = (const uint8_t *)t->data + t->bytes;
    }
    if (next != s->data + s->data_bytes)
        return ERR(e, RC_STOP, "%zu bytes after the last tensor",
                   (size_t)(s->data + s->data_bytes - next));
    return RC_OK;
}

/* All exponent bits set means infinite or not a number, in every format. */
static size_t count_bad_16(const uint16_t *v, size_t n, uint16_t exponent)
{
    size_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad += (v[i] & exponent) == exponent;
    return bad;
}

static size_t count_bad_32(const uint32_t *v, size_t n)
{
    size_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad += (v[i] & 0x7f800000u) == 0x7f800000u;
    return bad;
}

static size_t count_bad_64(const uint64_t *v, size_t n)
{
    const uint64_t exponent = 0x7ff0000000000000u;
    size_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad += (v[i] & exponent) == exponent;
    return bad;
}

static enum rc check_finite(const struct safetensors *s, struct err *e)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct stored_tensor *t = &s->at[i];
        size_t n = t->bytes / types[t->type].size, bad = 0;
        if (t->type == TENSOR_F64) bad = count_bad_64(t->data, n);
        if (t->type == TENSOR_F32) bad = count_bad_32(t->data, n);
        if (t->type == TENSOR_F16) bad = count_bad_16(t->data, n, 0x7c00);
        if (t->type == TENSOR_BF16) bad = count_bad_16(t->data, n, 0x7f80);
        if (bad)
            return ERR(e, RC_STOP, "tensor %s: %zu of %zu values not finite",
                       t->name, bad, n);
    }
    return RC_OK;
}

static enum rc parse_header(struct safetensors *s, struct slice text,
                            struct err *e)
{
    json_error_t fault;
    const char *name;
    json_t *entry;
    s->header = json_loadb((const char *)text.ptr, text.len,
                           JSON_REJECT_DUPLICATES, &fault);
    if (!s->header) return ERR(e, RC_STOP, "header: %s", fault.text);
    if (!json_is_object(s->header))
        return ERR(e, RC_STOP, "header: not a JSON object");
    if (json_object_size(s->header) > SAFETENSORS_COUNT_MAX)
        return ERR(e, RC_STOP, "header: %zu tensors, at most %d are read",
                   json_object_size(s->header), SAFETENSORS_COUNT_MAX);
    s->at = calloc(json_object_size(s->header) + 1, sizeof *s->at);
    if (!s->at) return ERR(e, RC_STOP, "header: no memory");
    json_object_foreach(s->header, name, entry)
    {
        struct stored_tensor *t = &s->at[s->count];
        if (strcmp(name, "__metadata__") == 0) continue;
        if (strlen(name) > TENSOR_NAME_MAX)
            return ERR(e, RC_STOP, "header: a name of %zu bytes", strlen(name));
        t->name = name;
        TRY(parse_type(entry, t, e));
        TRY(parse_shape(entry, t, e));
        TRY(parse_place(entry, t, s, e));
        s->count++;
    }
    qsort(s->at, s->count, sizeof *s->at, compare_place);
    return RC_OK;
}

static enum rc check_lengths(uint64_t total, uint64_t header, struct err *e)
{
    if (header > SAFETENSORS_HEADER_MAX)
        return ERR(e, RC_STOP, "header of %llu bytes, at most %d are read",
                   (unsigned long long)header, SAFETENSORS_HEADER_MAX);
    if (header > total - LENGTH_BYTES)
        return ERR(e, RC_STOP,
                   "truncated: header of %llu bytes in a file of %llu",
                   (unsigned long long)header, (unsigned long long)total);
    return RC_OK;
}

/* An empty reader with room for the data. */
static struct safetensors *reader_new(size_t data_bytes)
{
    struct safetensors *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->data_bytes = data_bytes;
    s->data =
        aligned_alloc(DATA_ALIGN, (data_bytes / DATA_ALIGN + 1) * DATA_ALIGN);
    if (s->data) return s;
    free(s);
    return NULL;
}

static enum rc reader_finish(struct safetensors *s, struct slice header,
                             struct safetensors **out, struct err *e)
{
    enum rc rc = parse_header(s, header, e);
    if (rc == RC_OK) rc = check_cover(s, e);
    if (rc == RC_OK) rc = check_finite(s, e);
    if (rc == RC_OK)
        *out = s;
    else
        safetensors_free(s);
    return rc;
}

enum rc safetensors_parse(struct safetensors **out, struct slice in,
                          struct err *e)
{
    struct safetensors *s;
    uint64_t header;
    size_t head;
    *out = NULL;
    if (in.len < LENGTH_BYTES)
        return ERR(e, RC_STOP, "truncated: %zu bytes", in.len);
    header = read_u64le(in.ptr);
    TRY(check_lengths(in.len, header, e));
    head = LENGTH_BYTES + (size_t)header;
    s = reader_new(in.len - head);
    if (!s) return ERR(e, RC_STOP, "no memory for %zu bytes", in.len - head);
    memcpy(s->data, in.ptr + head, in.len - head);
    return reader_finish(s, slice_of(in.ptr + LENGTH_BYTES, (size_t)header),
                         out, e);
}

/* The rest of file is the header and then the data. */
static enum rc read_parts(FILE *file, uint64_t total, struct safetensors **out,
                          struct err *e)
{
    uint8_t length[LENGTH_BYTES], *header;
    uint64_t header_bytes;
    struct safetensors *s;
    enum rc rc;
    if (total < LENGTH_BYTES ||
        fread(length, 1, sizeof length, file) != sizeof length)
        return ERR(e, RC_STOP, "truncated: %llu bytes",
                   (unsigned long long)total);
    header_bytes = read_u64le(length);
    TRY(check_lengths(total, header_bytes, e));
    header = malloc(header_bytes + 1);
    s = reader_new((size_t)(total - LENGTH_BYTES - header_bytes));
    if (!header || !s) {
        free(header);
        safetensors_free(s);
        return ERR(e, RC_STOP, "no memory for %llu bytes",
                   (unsigned long long)total);
    }
    if (fread(header, 1, header_bytes, file) != header_bytes ||
        fread(s->data, 1, s->data_bytes, file) != s->data_bytes) {
        safetensors_free(s);
        rc = ERR(e, RC_STOP, "cannot read it: %s", strerror(errno));
    } else {
        rc = reader_finish(s, slice_of(header, header_bytes), out, e);
    }
    free(header);
    return rc;
}

enum rc safetensors_read(struct safetensors **out, const char *path,
                         struct err *e)
{
    FILE *file = fopen(path, "rb");
    long total;
    enum rc rc;
    *out = NULL;
    if (!file)
        return ERR(e, RC_STOP, "cannot open %s: %s", path, strerror(errno));
    if (fseek(file, 0, SEEK_END) != 0 || (total = ftell(file)) < 0 ||
        fseek(file, 0, SEEK_SET) != 0)
        rc = ERR(e, RC_STOP, "cannot seek: %s", strerror(errno));
    else
        rc = read_parts(file, (uint64_t)total, out, e);
    (void)fclose(file);
    return rc == RC_OK ? rc : err_context(e, "%s", path);
}

void safetensors_free(struct safetensors *s)
{
    if (!s) return;
    json_decref(s->header);
    free(s->at);
    free(s->data);
    free(s);
}

uint32_t safetensors_count(const struct safetensors *s)
{
    return s->count;
}

const struct stored_tensor *safetensors_at(const struct safetensors *s,
                                           uint32_t i)
{
    assert(i < s->count);
    return &s->at[i];
}

const struct stored_tensor *safetensors_find(const struct safetensors *s,
                                             const char *name)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (strcmp(s->at[i].name, name) == 0) return &s->at[i];
    return NULL;
}

static json_t *shape_json(const struct stored_tensor *t)
{
    json_t *shape = json_array();
    size_t bytes = types[t->type].size;
    for (uint32_t i = 0; i < t->dims; i++) {
        bytes *= t->shape[i];
        (void)json_array_append_new(shape,
                                    json_integer((json_int_t)t->shape[i]));
    }
    assert(bytes == t->bytes);
    return shape;
}

/* The header's text, padded so that the data begins at a multiple of 8. */
static char *header_text(const struct stored_tensor *tensors, uint32_t count,
                         size_t *length)
{
    json_t *header = json_object();
    size_t begin = 0, used;
    char *text, *padded = NULL;
    (void)json_object_set_new(header, "__metadata__",
                              json_pack("{s:s}", "format", "pt"));
    for (uint32_t i = 0; i < count; i++) {
        const struct stored_tensor *t = &tensors[i];
        (void)json_object_set_new(
            header, t->name,
            json_pack("{s:s, s:o, s:[I, I]}", "dtype", types[t->type].name,
                      "shape", shape_json(t), "data_offsets", (json_int_t)begin,
                      (json_int_t)(begin + t->bytes)));
        begin += t->bytes;
    }
    text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (!text) return NULL;
    used = strlen(text);
    *length = (used + LENGTH_BYTES - 1) / LENGTH_BYTES * LENGTH_BYTES;
    padded = malloc(*length + 1);
    if (padded) {
        memset(padded, ' ', *length);
        memcpy(padded, text, used);
    }
    free(text);
    return padded;
}

enum rc safetensors_write(const char *path, const struct stored_tensor *tensors,
                          uint32_t count, struct err *e)
{
    uint8_t length_le[LENGTH_BYTES];
    size_t length;
    char *header = header_text(tensors, count, &length);
    FILE *file;
    bool ok;
    if (!header) return ERR(e, RC_STOP, "%s: no memory for its header", path);
    file = fopen(path, "wb");
    if (!file) {
        free(header);
        return ERR(e, RC_STOP, "cannot create %s: %s", path, strerror(errno));
    }
    for (int i = 0; i < LENGTH_BYTES; i++)
        length_le[i] = (uint8_t)(length >> (8 * i));
    ok = fwrite(length_le, 1, sizeof length_le, file) == sizeof length_le &&
         fwrite(header, 1, length, file) == length;
    for (uint32_t i = 0; ok && i < count; i++)
        ok = fwrite(tensors[i].data, 1, tensors[i].bytes, file) ==
             tensors[i].bytes;
    ok = ok && fflush(file) == 0 && fsync(fileno(file)) == 0;
    free(header);
    if (fclose(file) != 0 || !ok)
        return ERR(e, RC_STOP, "cannot write %s: %s", path, strerror(errno));
    return RC_OK;
}
