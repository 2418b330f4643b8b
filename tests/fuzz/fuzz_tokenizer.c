/* Any bytes are a tokenizer or are refused; with one, any bytes have ids that
 * are within its vocabulary and no more than there is room for. The first line
 * is the text, the rest is the file: JSON if it begins with '{'. */
#include <assert.h>
#include <stdlib.h>

#include "tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM = 32 };

static void encode(const struct tokenizer *t, struct slice text, uint32_t room)
{
    uint32_t ids[ROOM];
    struct encoded made = tokenizer_encode(t, text, ids, room);
    assert(made.count >= 2 && made.count <= room);
    for (uint32_t i = 0; i < made.count; i++)
        assert(ids[i] < tokenizer_info(t).ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
    struct slice text, file;
    struct tokenizer *t;
    struct err e;
    if (!end) return 0;
    text = slice_of(data, (size_t)(end - data));
    file = slice_of(end + 1, size - text.len - 1);
    for (uint32_t bits = 0; bits < 16; bits += 5) {
        struct tokenizer_options options = {bits & 1, bits & 2, bits & 4,
                                            bits & 8};
        enum rc rc = file.len > 0 && file.ptr[0] == '{'
                         ? tokenizer_parse_json(&t, file, &e)
                         : tokenizer_parse_lines(&t, file, options, &e);
        if (rc != RC_OK) continue;
        encode(t, text, 2);
        encode(t, text, ROOM);
        tokenizer_free(t);
    }
    return 0;
}
