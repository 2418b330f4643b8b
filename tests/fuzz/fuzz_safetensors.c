/* Any bytes are a file of tensors inside the input's size, or refused. */
#include <assert.h>

#include "safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *s;
    struct err e;
    size_t bytes = 0;
    if (safetensors_parse(&s, slice_of(data, size), &e) != RC_OK) return 0;
    for (uint32_t i = 0; i < safetensors_count(s); i++) {
        const struct stored_tensor *t = safetensors_at(s, i);
        const uint8_t *at = t->data;
        uint8_t sum = 0;
        for (size_t k = 0; k < t->bytes; k++)
            sum = (uint8_t)(sum + at[k]);
        (void)*(volatile uint8_t *)&sum;
        bytes += t->bytes;
        assert(safetensors_find(s, t->name) == t);
    }
    assert(bytes <= size);
    safetensors_free(s);
    return 0;
}
