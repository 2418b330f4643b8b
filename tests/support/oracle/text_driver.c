/* text_driver.c - our side of text_oracle.py.
 *
 * argv     A model's directory, and one to save it to.
 * stdin    Texts; each a u32le length and that many bytes.
 * stdout   For each: the number of ids u32le, the ids u32le, the last hidden
 *          states (count, D), and the logits of [CLS] where there is a head,
 *          floats in the machine's order. */
#include <stdlib.h>

#include "text.h"

enum { TEXT_BYTES_MAX = 1 << 20, TOKENS_MAX = 256 };

static bool read_text(uint8_t *text, size_t *len)
{
    uint8_t head[4];
    if (fread(head, 1, 4, stdin) != 4) return false;
    *len = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
           (size_t)head[3] << 24;
    return *len <= TEXT_BYTES_MAX && fread(text, 1, *len, stdin) == *len;
}

static void run(const struct text_model *m, struct text_encoder *t)
{
    const struct text_info *info = text_info(m);
    uint8_t *text = malloc(TEXT_BYTES_MAX);
    uint32_t *ids = calloc(info->ids_max, sizeof *ids);
    float *hidden = calloc((size_t)info->ids_max * info->width, sizeof *hidden);
    float *logits = calloc(info->labels + 1, sizeof *logits);
    size_t len;
    while (text && ids && hidden && logits && read_text(text, &len)) {
        struct text_input in = {.ids = ids};
        (void)text_tokenize(m, slice_of(text, len), ids, info->ids_max,
                            &in.count);
        text_encode(t, &in, 1, TEXT_ALL, hidden);
        (void)fwrite(&in.count, sizeof in.count, 1, stdout);
        (void)fwrite(ids, sizeof *ids, in.count, stdout);
        (void)fwrite(hidden, sizeof *hidden, (size_t)in.count * info->width,
                     stdout);
        if (info->labels) text_classify(t, hidden, 1, logits);
        (void)fwrite(logits, sizeof *logits, info->labels, stdout);
    }
    free(text), free(ids), free(hidden), free(logits);
}

int main(int argc, char **argv)
{
    struct text_model *m = NULL;
    struct text_encoder *t = NULL;
    struct err e;
    if (argc != 3 || text_open(&m, argv[1], &e) != RC_OK ||
        text_save(m, argv[2], &e) != RC_OK ||
        text_encoder_new(&t, m, TOKENS_MAX, &e) != RC_OK) {
        (void)fprintf(stderr, "text_driver: %s\n",
                      argc == 3 ? e.text : "DIR SAVED");
        return 1;
    }
    run(m, t);
    text_encoder_free(t);
    text_free(m);
    return 0;
}
