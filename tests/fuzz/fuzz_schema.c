/* Goal: no text makes the schema parser, or Avro-C behind it, crash or take
 * long; what is accepted compiles to a decoder that stays in its bounds.
 * Method: the input is a schema, up to a zero byte; what follows is a message
 * in it. A schema must resolve to itself, or be refused with a reason. */
#include <assert.h>
#include <stdlib.h>

#include "codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TAPE_MAX = 1024 };

static void decode(const struct schema *s, struct slice message)
{
    static struct datum datums[TAPE_MAX];
    static uint8_t bytes[1 << 16];
    struct tape tape = {datums, TAPE_MAX, 0};
    struct decoder *d;
    size_t used;
    struct err e;
    if (decoder_compile(&d, s, s, &e) != RC_OK) return;
    if (decoder_decode(d, message, &tape, &e) == RC_OK &&
        encoder_encode(s, &tape, bytes, sizeof bytes, &used, &e) == RC_OK) {
        enum rc rc = decoder_decode(d, slice_of(bytes, used), &tape, &e);
        assert(rc == RC_OK);
    }
    decoder_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t len = end ? (size_t)(end - data) : size;
    struct schema_field field;
    struct schema *s;
    struct err e;
    if (schema_parse(&s, slice_of(data, len), &e) != RC_OK) {
        assert(!s && e.rc == RC_STOP);
        return 0;
    }
    (void)!schema_find(s, "a.b", &field, &e);
    (void)!schema_find(s, "user", &field, &e);
    decode(s, end ? slice_of(end + 1, size - len - 1) : slice_of(NULL, 0));
    schema_free(s);
    return 0;
}
