/* fuzz_family_meta.c - any bytes are refused, or are metadata that encodes to
 * the same bytes again (those of the newest version). */
#include <assert.h>
#include <string.h>

#include <xxhash.h>

#include "bytes.h"
#include "family_meta.h"

enum { INPUT_MAX = 2 * FAMILY_META_BYTES_MAX };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(struct slice in)
{
    struct family_meta m;
    uint8_t again[FAMILY_META_BYTES_MAX];
    size_t size;
    struct err e;
    if (family_meta_decode(&m, "f", in, &e) != RC_OK) return;
    assert(memchr(m.cluster_id, '\0', sizeof m.cluster_id));
    assert(memchr(m.shape, '\0', sizeof m.shape));
    assert(!family_meta_is_newer(in));
    size = family_meta_encode(&m, again);
    /* Else it was an older version, or a text with a zero in it. */
    if (size == in.len) assert(slice_equal(in, slice_of(again, size)));
}

/* As they are, and with a checksum that fits. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t fitting[INPUT_MAX + 8];
    decode(slice_of(data, size));
    if (size == 0 || size > INPUT_MAX) return 0;
    memcpy(fitting, data, size);
    (void)put_u64(fitting + size, XXH3_64bits(data, size));
    decode(slice_of(fitting, size + 8));
    return 0;
}
