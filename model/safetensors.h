/* safetensors.h - named tensors in one file, as Hugging Face writes them.
 *
 * Bytes    header length u64le | header: JSON, name -> {dtype, shape,
 *          data_offsets [begin, end)} | data. The tensors cover the data
 *          without hole or overlap, as the Python package demands too.
 * Hostile  Nothing in a file is believed: lengths before they are used,
 *          shapes against offsets, duplicate names, and every float is
 *          finite (a weight that is not would poison all scores silently).
 * Memory   A reader owns its tensors; safetensors_free. Data begins at a
 *          multiple of 64 bytes.
 * Threads  Immutable once read.
 * Errors   RC_STOP with the file, the tensor and what is wrong. */
#ifndef MILLRACE_SAFETENSORS_H
#define MILLRACE_SAFETENSORS_H

#include "err.h"
#include "slice.h"

enum {
    TENSOR_DIMS_MAX = 4,
    TENSOR_NAME_MAX = 255,
    SAFETENSORS_HEADER_MAX = 4 << 20,
    SAFETENSORS_COUNT_MAX = 4096,
};

enum tensor_type {
    TENSOR_F64,
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_I64,
    TENSOR_I32,
    TENSOR_I16,
    TENSOR_I8,
    TENSOR_U8,
    TENSOR_BOOL,
};

struct stored_tensor {
    const char *name;
    enum tensor_type type;
    uint32_t dims;
    uint64_t shape[TENSOR_DIMS_MAX];
    const void *data;
    size_t bytes;
};

struct safetensors;
enum rc safetensors_read(struct safetensors **out, const char *path,
                         struct err *e) MUST_USE;
/* The same from bytes in memory, which are copied. */
enum rc safetensors_parse(struct safetensors **out, struct slice in,
                          struct err *e) MUST_USE;
void safetensors_free(struct safetensors *s);

uint32_t safetensors_count(const struct safetensors *s);
const struct stored_tensor *safetensors_at(const struct safetensors *s,
                                           uint32_t i);
/* NULL if there is none of this name. */
const struct stored_tensor *safetensors_find(const struct safetensors *s,
                                             const char *name);

/* Writes count tensors, in order, and syncs the file. bytes of each must
 * agree with its shape (asserted). */
enum rc safetensors_write(const char *path, const struct stored_tensor *tensors,
                          uint32_t count, struct err *e) MUST_USE;

#endif
