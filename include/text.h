/* text.h - a BERT encoder: texts to hidden states and labels.
 *
 * Files    A Hugging Face directory as published, of BERT or DistilBERT:
 *          config.json, vocab.txt or tokenizer.json, model.safetensors in
 *          fp32, fp16 or bf16. text_save writes the same layout.
 * Bits     What comes out for a text is the same bits alone or among a
 *          thousand (I5). Nothing is padded.
 * Memory   A model is immutable and shared by all threads. An encoder takes
 *          everything at text_encoder_new and calls no malloc afterwards.
 * Threads  text_model: any thread. An encoder belongs to one thread.
 * Errors   open, save and new can fail, RC_STOP with what is wrong and what
 *          to do; misuse asserts. */
#ifndef MILLRACE_TEXT_H
#define MILLRACE_TEXT_H

#include "err.h"
#include "slice.h"

struct text_model;   /* weights, vocabulary; read-only */
struct text_encoder; /* one thread's scratch memory */

struct text_info {
    char hash[17];      /* of weights, configuration and vocabulary, hex */
    const char *family; /* kernel family: equal names, equal bits */
    uint32_t layers;
    uint32_t width;   /* D */
    uint32_t ids;     /* size of the vocabulary */
    uint32_t ids_max; /* most ids of a text: learned positions */
    uint32_t types;   /* token types; 1 where the model has none */
    uint32_t labels;  /* L, of the classification head; 0 without one */
};

/* Reads and checks a directory. RC_STOP for anything truncated, misshapen,
 * overlapping, not finite, or of another kind of model. */
enum rc text_open(struct text_model **out, const char *dir,
                  struct err *e) MUST_USE;
void text_free(struct text_model *m);
const struct text_info *text_info(const struct text_model *m);
/* "LABEL_0" where the configuration names none. */
const char *text_label(const struct text_model *m, uint32_t label);

/* Writes dir (model_dir's rules: beside its place, exchanged by one rename),
 * weights in fp32, with the vocabulary files of the directory that m was read
 * from. */
enum rc text_save(const struct text_model *m, const char *dir,
                  struct err *e) MUST_USE;

/* The ids of a text, [CLS] first and [SEP] last, at most ids_max (2 .. the
 * model's). Returns true if the text was cut. */
bool text_tokenize(const struct text_model *m, struct slice text, uint32_t *ids,
                   uint32_t ids_max, uint32_t *count);

/* tokens_max: rows that go through the layers at once; more in a call are
 * worked off in turn. At least the model's ids_max are taken. */
enum rc text_encoder_new(struct text_encoder **out, const struct text_model *m,
                         uint32_t tokens_max, struct err *e) MUST_USE;
void text_encoder_free(struct text_encoder *e);

struct text_input {
    const uint32_t *ids;  /* (count), below the vocabulary's size */
    const uint8_t *types; /* (count), below info.types; NULL: all 0 */
    uint32_t count;       /* 1 .. info.ids_max */
};

/* Last hidden states of all tokens, text after text: out (sum of counts, D),
 * or of each text's first token only, [CLS]: out (count, D). */
enum text_rows { TEXT_ALL, TEXT_FIRST };
void text_encode(struct text_encoder *e, const struct text_input *in,
                 uint32_t count, enum text_rows rows, float *out);

/* The classification head over first rows (count, D): logits (count, L). */
void text_classify(struct text_encoder *e, const float *first, uint32_t count,
                   float *logits);

#endif
