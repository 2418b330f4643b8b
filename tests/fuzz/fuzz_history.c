/* Any bytes are a history that encodes to themselves and goes on, or are
 * refused. */
#include <assert.h>
#include <stdlib.h>

#include "history.h"
#include "train.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct history_shape s = {.events_max = 20,
                              .fields = TRAIN_ITEM | TRAIN_TYPE |
                                        TRAIN_CATEGORY | TRAIN_CHANNEL |
                                        TRAIN_AMOUNT | TRAIN_TIME,
                              .numbers = 2,
                              .categoricals = 3,
                              .amount_scale = 100};
    struct past_event ev = {.time_ms = 1500000000000, .amount = 100}, all[20];
    struct history h;
    struct err e;
    uint8_t *again;
    history_shape_init(&s);
    history_init(&h);
    if (history_decode(&s, &h, slice_of(data, size), &e) != RC_OK) return 0;
    again = malloc(size);
    assert(again && history_encoded_size(&s, &h) == size);
    assert(history_encode(&s, &h, again) == size);
    assert(memcmp(again, data, size) == 0);
    history_copy(&s, &h, h.count, 0, all);
    if (h.applied_offset < INT64_MAX)
        assert(history_apply(&s, &h, h.applied_offset + 1, &ev));
    history_copy(&s, &h, h.count, 0, all);
    history_fini(&s, &h);
    free(again);
    return 0;
}
