/* tokenizer_tables.h - what a tokenizer consists of: filled by
 * tokenizer_files.c, read by tokenizer.c. */
#ifndef MILLRACE_TOKENIZER_TABLES_H
#define MILLRACE_TOKENIZER_TABLES_H

#include "byte_trie.h"
#include "tokenizer.h"

enum tokenizer_root {
    ROOT_FIRST, /* pieces that a word begins with */
    ROOT_NEXT,  /* those behind, without their "##" */
    ROOT_SPECIAL,
    ROOTS,
};

struct tokenizer {
    struct tokenizer_info info;
    uint32_t word_max;       /* code points; longer words are [UNK] */
    struct byte_trie pieces; /* three roots */
    uint8_t ascii[128];      /* unicode_class, which fits in a byte */
};

#endif
