/* tokenizer.h - WordPiece with BERT's normalisation: text to token ids.
 *
 * Same ids as the PyPI package `tokenizers` gives for the same directory
 * (oracle_tokenizer). In order:
 *   special  "[MASK]" and the like, where they stand in the text, are their
 *            own ids. Between them:
 *   clean    controls, private use and U+FFFD go, white space is a space;
 *   Chinese  ideographs stand alone;
 *   accents  canonical decomposition, marks go (where case goes, by default);
 *   case     to lower, code point by code point;
 *   words    between white space; punctuation stands alone;
 *   pieces   the longest that the vocabulary has, from the left, "##" before
 *            all but the first. A word without such a cut, or of more than
 *            100 code points, is [UNK].
 * Broken UTF-8 is read as U+FFFD (unicode.h), so it goes where cleaning is on:
 * it neither splits a word nor makes a token.
 *
 * Length   At most ids_max ids, [CLS] and [SEP] included. What does not fit is
 *          cut at the end and said so; text behind the cut is not read.
 * Memory   One block per tokenizer; encoding allocates nothing.
 * Threads  Immutable once open; encode: any thread.
 * Errors   RC_STOP with what is wrong in which file. Kinds of tokenizers other
 *          than BERT's are refused by name. */
#ifndef MILLRACE_TOKENIZER_H
#define MILLRACE_TOKENIZER_H

#include "err.h"
#include "slice.h"

enum {
    TOKENIZER_FILE_MAX = 64 << 20, /* bytes of vocab.txt or tokenizer.json */
    TOKENIZER_IDS_MAX = 1 << 20,   /* ids are below */
    TOKENIZER_WORD_MAX = 256,      /* most code points of a word, at most */
};

/* What tokenizer_config.json, or "normalizer" in tokenizer.json, says. */
struct tokenizer_options {
    bool clean, chinese, strip_accents, lower_case;
};

struct tokenizer;

struct tokenizer_info {
    uint32_t ids; /* one more than the highest id */
    uint32_t cls, sep, unk;
    struct tokenizer_options options;
};

/* Reads tokenizer.json if dir has it, else vocab.txt, with the options of
 * tokenizer_config.json if that is there. */
enum rc tokenizer_open(struct tokenizer **out, const char *dir,
                       struct err *e) MUST_USE;
/* The same from a file's bytes. In vocab.txt a line is a token, its number
 * from 0 the id; of equal lines the last one counts. */
enum rc tokenizer_parse_lines(struct tokenizer **out, struct slice vocab,
                              struct tokenizer_options options,
                              struct err *e) MUST_USE;
enum rc tokenizer_parse_json(struct tokenizer **out, struct slice json,
                             struct err *e) MUST_USE;
void tokenizer_free(struct tokenizer *t);

struct tokenizer_info tokenizer_info(const struct tokenizer *t);

struct encoded {
    uint32_t count; /* of ids; at least 2 */
    bool truncated;
};

/* ids receives [CLS], the text's, [SEP]. ids_max >= 2. */
struct encoded tokenizer_encode(const struct tokenizer *t, struct slice text,
                                uint32_t *ids, uint32_t ids_max);

#endif
