/* Any record of a changelog is refused, or what it says is what its bytes
 * say; the same with checksums that fit, so that what lies behind them is
 * reached. The first byte of the input is the length of the key. */
#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

#include "bytes.h"
#include "changelog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { USER_BYTES = 32 };

static void decode(struct slice key, struct slice value)
{
    const struct record in = {.partition = 1, .key = key, .value = value};
    uint8_t bytes[FAMILY_META_BYTES_MAX], again[USER_BYTES + 1];
    struct changelog_record c;
    struct err e;
    if (changelog_decode(&c, "rows", &in, USER_BYTES, &e) != RC_OK) return;
    if (c.kind == CHANGELOG_MARKER) {
        size_t len = family_meta_encode(&c.marker, bytes);
        assert(value.ptr[0] != bytes[0] || /* an older version */
               slice_equal(slice_of(bytes, len), value));
        return;
    }
    if (c.user.len > 0)
        assert(slice_equal(changelog_row_key(c.user, again), key));
    else
        assert(slice_equal(key, changelog_marker_key()));
    assert((c.kind == CHANGELOG_ROW) == (value.ptr != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice key, value, user;
    uint8_t *fitting;
    size_t key_len;
    uint64_t seed;
    if (size == 0) return 0;
    key_len = data[0] < size ? data[0] : size - 1;
    key = slice_of(data + 1, key_len);
    value = slice_of(data + 1 + key_len, size - 1 - key_len);
    decode(key, slice_of(NULL, 0));
    decode(key, value);
    fitting = malloc(value.len + 8);
    assert(fitting);
    if (value.len) memcpy(fitting, value.ptr, value.len);
    user = key.len > 0 ? slice_of(key.ptr + 1, key.len - 1) : key;
    seed = XXH3_64bits(user.ptr, user.len);
    (void)put_u64(fitting + value.len,
                  XXH3_64bits_withSeed(fitting, value.len, seed));
    decode(key, slice_of(fitting, value.len + 8));
    (void)put_u64(fitting + value.len, XXH3_64bits(fitting, value.len));
    decode(key, slice_of(fitting, value.len + 8));
    free(fitting);
    return 0;
}
