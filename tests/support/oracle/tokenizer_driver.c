/* tokenizer_driver.c - our side of tokenizer_oracle.py.
 *
 * argv     The directory of a tokenizer; the most ids of a text.
 * stdin    Texts; each a u32le length and that many bytes.
 * stdout   For each: a byte that is 1 if it was cut, the number of ids u32le,
 *          the ids u32le. */
#include <stdlib.h>

#include "tokenizer.h"

enum { TEXT_BYTES_MAX = 1 << 24 };

static bool read_text(uint8_t **text, size_t *len)
{
    uint8_t head[4];
    if (fread(head, 1, 4, stdin) != 4) return false;
    *len = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
           (size_t)head[3] << 24;
    if (*len > TEXT_BYTES_MAX) return false;
    free(*text);
    *text = malloc(*len ? *len : 1); /* exact: a sanitizer sees overruns */
    return *text && fread(*text, 1, *len, stdin) == *len;
}

static void put_u32(uint32_t x)
{
    for (int i = 0; i < 4; i++)
        (void)putchar((int)(x >> (8 * i) & 0xff));
}

int main(int argc, char **argv)
{
    struct tokenizer *t;
    struct err e;
    uint8_t *text = NULL;
    size_t len;
    uint32_t room = argc == 3 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
    uint32_t *ids = calloc((size_t)room + 1, sizeof *ids);

    if (!ids || room < 2 || tokenizer_open(&t, argv[1], &e) != RC_OK) {
        (void)fprintf(stderr, "tokenizer_driver: %s\n",
                      room < 2 ? "DIR IDS" : e.text);
        return 1;
    }
    while (read_text(&text, &len)) {
        struct encoded made =
            tokenizer_encode(t, slice_of(text, len), ids, room);
        (void)putchar(made.truncated);
        put_u32(made.count);
        for (uint32_t i = 0; i < made.count; i++)
            put_u32(ids[i]);
    }
    free(text);
    free(ids);
    tokenizer_free(t);
    return 0;
}
