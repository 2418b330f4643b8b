/* Any bytes are windows that encode to themselves, or to what the version of
 * today makes of them, and go on with events and labels; or are refused. */
#include <assert.h>
#include <stdlib.h>

#include "windows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *encode(const struct windows_shape *s, const struct windows *w,
                       size_t *size)
{
    uint8_t *bytes = malloc(*size = windows_encoded_size(s, w));
    assert(bytes && *size <= windows_bytes_max(s));
    assert(windows_encode(s, w, bytes) == *size);
    return bytes;
}

static void encode_again(const struct windows_shape *s, const struct windows *w,
                         struct slice in)
{
    struct windows *back = windows_new(s);
    size_t size, again_size;
    uint8_t *bytes = encode(s, w, &size), *again;
    struct err e;
    enum rc rc = windows_decode(s, back, slice_of(bytes, size), &e);
    assert(rc == RC_OK);
    again = encode(s, back, &again_size);
    assert(again_size == size && memcmp(again, bytes, size) == 0);
    if (!windows_lack_ends(in))
        assert(in.len == size && memcmp(in.ptr, bytes, size) == 0);
    free(bytes);
    free(again);
    windows_free(s, back);
}

static void go_on(const struct windows_shape *s, struct windows *w)
{
    struct windows_view view;
    float row[WINDOW_FEATURES_MAX];
    windows_look(s, w, &view);
    for (int i = 0; i < 20; i++) {
        struct past_event ev = {.time_ms = view.newest_time_ms,
                                .event_id = (uint64_t)i + 1,
                                .item = (uint64_t)i % 3,
                                .amount = 100};
        struct window_label l;
        if (i % 3 == 1 && ev.time_ms > INT64_MIN + 30) ev.time_ms -= 30;
        (void)windows_apply(s, w, &ev, row);
        if (!s->has_labels) continue;
        l = (struct window_label){.event_id = ev.event_id,
                                  .time_ms = ev.time_ms,
                                  .known_ms = i,
                                  .fraud = i % 2};
        (void)windows_label(s, w, windows_label_offset(w) % 1000 + i, &l);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct windows_shape s = {.count = 3,
                              .length_ms = {50, 200, 1000},
                              .events_max = 16,
                              .values_max = 5,
                              .amount_scale = 100,
                              .has_amount = true,
                              .has_time = true,
                              .has_other = true,
                              .label_delay_ms = 60,
                              .label_count = 2,
                              .label_length_ms = {40, 1200}};
    for (int labels = 0; labels < 2; labels++) {
        struct windows *w;
        struct err e;
        s.has_labels = labels;
        s.entity = labels ? ENTITY_ITEM : ENTITY_USER;
        w = windows_new(&s);
        if (windows_decode(&s, w, slice_of(data, size), &e) == RC_OK) {
            encode_again(&s, w, slice_of(data, size));
            go_on(&s, w);
        }
        windows_free(&s, w);
    }
    return 0;
}
