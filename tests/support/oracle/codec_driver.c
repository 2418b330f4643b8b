/* codec_driver.c - our side of codec_oracle.py.
 *
 * stdin    Cases: writer's schema, reader's schema, message; each a u32le
 *          length and that many bytes.
 * stdout   A line for each: the fingerprints of both schemas, then "ok HEX
 *          JSON" (the value encoded again in the reader's shape, and as Avro's
 *          JSON), or "compile TEXT" or "decode TEXT". */
#include <stdlib.h>

#include "schema_canonical.h"

enum { PART_BYTES_MAX = 1 << 20, TAPE_MAX = 1 << 16 };

struct part {
    uint8_t *at;
    size_t len;
};
static struct datum g_datums[TAPE_MAX];
static uint8_t g_out[PART_BYTES_MAX];

static bool part_read(struct part *p)
{
    uint8_t head[4];
    if (fread(head, 1, 4, stdin) != 4) return false;
    p->len = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
             (size_t)head[3] << 24;
    if (p->len > PART_BYTES_MAX) return false;
    free(p->at);
    p->at = malloc(p->len ? p->len : 1); /* exact: a sanitizer sees overruns */
    return p->at && fread(p->at, 1, p->len, stdin) == p->len;
}

static struct schema *schema_of(const struct part *p)
{
    struct schema *s = NULL;
    struct err e;
    if (schema_parse(&s, slice_of(p->at, p->len), &e) != RC_OK) {
        (void)fprintf(stderr, "codec_driver: %s: %.*s\n", e.text, (int)p->len,
                      (const char *)p->at);
        exit(1);
    }
    return s;
}

/* As its little-endian bytes. */
static void print_fingerprint(const struct schema *s)
{
    uint64_t print;
    struct err e;
    if (schema_fingerprint(s, &print, &e) != RC_OK) exit(1);
    (void)printf("%016llx ", (unsigned long long)__builtin_bswap64(print));
}

static void run(const struct decoder *d, const struct schema *reader,
                const struct part *message)
{
    struct slice in = slice_of(message->at, message->len);
    struct tape tape = {g_datums, TAPE_MAX, 0};
    size_t used;
    struct err e;
    if (decoder_decode(d, in, &tape, &e) != RC_OK) {
        (void)printf("decode %s\n", e.text);
        return;
    }
    if (encoder_encode(reader, &tape, g_out, sizeof g_out, &used, &e) !=
        RC_OK) {
        (void)printf("encode %s\n", e.text);
        return;
    }
    (void)printf("ok ");
    for (size_t i = 0; i < used; i++)
        (void)printf("%02x", g_out[i]);
    (void)putchar(' ');
    if (tape_write_json(reader, &tape, JSON_AVRO, stdout, &e) != RC_OK)
        (void)printf("json %s", e.text);
    (void)putchar('\n');
    if (decoder_measure(d, in, &used, &e) != RC_OK || used != in.len) {
        (void)fprintf(stderr, "codec_driver: measured %zu of %zu\n", used,
                      in.len);
        exit(1);
    }
}

int main(void)
{
    struct part writer = {0}, reader = {0}, message = {0};
    while (part_read(&writer) && part_read(&reader) && part_read(&message)) {
        struct schema *w = schema_of(&writer), *r = schema_of(&reader);
        struct decoder *d;
        struct err e;
        print_fingerprint(w);
        print_fingerprint(r);
        if (decoder_compile(&d, w, r, &e) == RC_OK)
            run(d, r, &message);
        else
            (void)printf("compile %s\n", e.text);
        decoder_free(d);
        schema_free(w);
        schema_free(r);
    }
    free(writer.at);
    free(reader.at);
    free(message.at);
    return 0;
}
