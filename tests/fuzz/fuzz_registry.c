/* Goal: nothing that a registry, or whoever sits between it and us, may send
 * crashes us, takes long, or is kept as a schema without being one.
 * Method: the input is an answer's body; behind zero bytes stand those of its
 * references. What comes out of it in one piece is parsed as any schema
 * would be, and must be the same when its references are written in again. */
#include <assert.h>
#include <stdlib.h>

#include "codec.h"
#include "registry_answer.h"
#include "schema_inline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REFERENCES_MAX = 4 };

static void check_whole(struct slice text)
{
    struct schema *s, *again;
    struct err e;
    char *whole;
    size_t len;
    if (schema_parse(&s, text, &e) != RC_OK) return;
    if (schema_inline(text, NULL, 0, &whole, &len, &e) == RC_OK) {
        enum rc rc = schema_parse(&again, slice_of(whole, len), &e);
        assert(rc == RC_OK);
        schema_free(again);
        free(whole);
    }
    schema_free(s);
}

/* Takes the next body from *rest. */
static bool next_answer(struct slice *rest, struct answer_schema *out)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, 0, rest->len) : NULL;
    size_t len = end ? (size_t)(end - rest->ptr) : rest->len;
    struct slice body = slice_of(rest->ptr, len);
    char text[ANSWER_TEXT_BYTES];
    uint32_t id;
    struct err e;
    enum rc rc = answer_schema_read(out, body, &e);
    assert(rc == RC_OK || rc == RC_AGAIN || rc == RC_SKIP);
    if (answer_id_read(&id, body, &e) == RC_OK) assert(id > 0);
    (void)answer_error_read(body, text);
    for (const char *at = text; *at; at++)
        assert((unsigned char)*at >= ' ' && *at != 0x7f);
    *rest = end ? slice_of(end + 1, rest->len - len - 1) : slice_of(NULL, 0);
    return rc == RC_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size), texts[REFERENCES_MAX];
    struct answer_schema all[1 + REFERENCES_MAX];
    uint32_t count = 0;
    struct err e;
    char *whole;
    size_t len;
    do {
        if (!next_answer(&rest, &all[count])) break;
        for (uint32_t i = 0; i < all[count].reference_count; i++)
            assert(answer_reference_at(&all[count], i).version > 0);
        if (count > 0) texts[count - 1] = all[count].text;
        count++;
    } while (rest.len > 0 && count <= REFERENCES_MAX);
    if (count > 0 && schema_inline(all[0].text, texts, count - 1, &whole, &len,
                                   &e) == RC_OK) {
        check_whole(slice_of(whole, len));
        free(whole);
    }
    for (uint32_t i = 0; i < count; i++)
        answer_schema_free(&all[i]);
    return 0;
}
