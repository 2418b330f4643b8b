/* Any bytes are windows that encode to themselves and go on, or are
 * refused. */
#include <assert.h>
#include <stdlib.h>

#include "windows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct windows_shape s = {.count = 3,
                                    .length_ms = {50, 200, 1000},
                                    .events_max = 16,
                                    .amount_scale = 100,
                                    .has_amount = true,
                                    .has_time = true};
    struct windows *w = windows_new(&s);
    struct err e;
    if (windows_decode(&s, w, slice_of(data, size), &e) == RC_OK) {
        struct windows_view view;
        float row[FEATURES_MAX];
        uint8_t *again = malloc(size);
        assert(again && windows_encoded_size(&s, w) == size);
        assert(windows_encode(&s, w, again) == size);
        assert(memcmp(again, data, size) == 0);
        free(again);
        windows_look(&s, w, &view);
        for (int i = 0; i < 20; i++) {
            struct past_event ev = {.time_ms = view.newest_time_ms,
                                    .amount = 100};
            if (i % 3 == 1 && ev.time_ms > INT64_MIN + 30) ev.time_ms -= 30;
            (void)windows_apply(&s, w, &ev, row);
        }
    }
    windows_free(&s, w);
    return 0;
}
