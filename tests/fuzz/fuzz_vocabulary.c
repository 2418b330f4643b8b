/* Any bytes are a vocabulary whose every id is found again, or refused. */
#include <assert.h>

#include "hash.h"
#include "vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vocabulary v;
    struct err e;
    if (vocabulary_parse(&v, slice_of(data, size), &e) != RC_OK) return 0;
    for (uint32_t i = 0; i < v.count; i++) {
        struct slice text = vocabulary_text(&v, i);
        assert(vocabulary_find(&v, v.hashes[i]) == (int32_t)i);
        assert(text.len == 0 || hash64(text) == v.hashes[i]);
    }
    vocabulary_fini(&v);
    return 0;
}
