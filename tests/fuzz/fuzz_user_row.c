/* Any bytes are a row that encodes to themselves, or are refused; the same
 * with a checksum that fits, so that what lies behind it is reached. */
#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

#include "bytes.h"
#include "train.h"
#include "user_row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(struct slice in)
{
    struct history_shape hs = {.events_max = 16,
                               .fields = TRAIN_ITEM | TRAIN_AMOUNT | TRAIN_TIME,
                               .amount_scale = 100};
    const struct windows_shape ws = {.count = 2,
                                     .length_ms = {60000, 400000},
                                     .events_max = 32,
                                     .amount_scale = 100,
                                     .has_amount = true,
                                     .has_time = true,
                                     .has_other = true,
                                     .values_max = 32};
    struct slice user = slice_str("user-1");
    struct windows *w = windows_new(&ws);
    struct history h;
    struct err e;
    history_shape_init(&hs);
    history_init(&h);
    if (user_row_decode(&hs, &ws, user, in, &h, w, &e) == RC_OK) {
        size_t size = user_row_encoded_size(&hs, &ws, &h, w);
        uint8_t *again = malloc(size);
        assert(again && size <= user_row_bytes_max(&hs, &ws));
        assert(user_row_encode(&hs, &ws, user, &h, w, again) == size);
        /* Only those of an earlier version change. */
        if (size == in.len) assert(memcmp(again, in.ptr, in.len) == 0);
        free(again);
    }
    history_fini(&hs, &h);
    windows_free(&ws, w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *fitting = malloc(size + 8);
    assert(fitting);
    decode(slice_of(data, size));
    memcpy(fitting, data, size);
    (void)put_u64(fitting + size, XXH3_64bits_withSeed(
                                      fitting, size, XXH3_64bits("user-1", 6)));
    decode(slice_of(fitting, size + 8));
    free(fitting);
    return 0;
}
