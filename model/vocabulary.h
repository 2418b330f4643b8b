/* vocabulary.h - from the hash of an id to its row in an embedding table.
 *
 * Order    Most frequent first; equal counts by hash, so the same log gives
 *          the same table.
 * Texts    An id may be known by its hash alone; its text is then empty.
 * Bytes    A file of one line an entry: hash in 16 hexadecimal digits, space,
 *          length in decimal, ':', the id's bytes as they stood in the log,
 *          newline. The length makes any bytes safe, the newline keeps it
 *          readable.
 * Memory   A vocabulary owns its table and texts; vocabulary_fini.
 * Threads  Immutable once built or read. */
#ifndef MILLRACE_VOCABULARY_H
#define MILLRACE_VOCABULARY_H

#include "err.h"
#include "slice.h"

struct vocabulary {
    uint32_t count;
    uint64_t *hashes;   /* (count) */
    size_t *text_start; /* (count + 1) into texts */
    uint8_t *texts;
    uint32_t *slots; /* (slot_mask + 1) open addressing: index + 1, 0 free */
    uint32_t slot_mask;
};

/* One id with how often the log has it. */
struct vocabulary_entry {
    uint64_t hash;
    uint64_t events;
    struct slice text;
};

/* Keeps the entries_max most frequent of count entries (sorted in place).
 * Their hashes are distinct and not 0. */
enum rc vocabulary_build(struct vocabulary *v, struct vocabulary_entry *entries,
                         size_t count, uint32_t entries_max,
                         struct err *e) MUST_USE;
/* The ids of base in their order, all of them, then the most frequent of the
 * entries, none of which base has, as long as there are at most entries_max
 * ids. */
enum rc vocabulary_grow(struct vocabulary *v, const struct vocabulary *base,
                        struct vocabulary_entry *entries, size_t count,
                        uint32_t entries_max, struct err *e) MUST_USE;
void vocabulary_fini(struct vocabulary *v);

/* Row of the id, or -1. Hash 0 (no id) is never in a vocabulary. */
int32_t vocabulary_find(const struct vocabulary *v, uint64_t hash);
struct slice vocabulary_text(const struct vocabulary *v, uint32_t index);

/* Write syncs the file. Parse checks every length, that a text has the hash
 * before it, and that no id is there twice; it copies what it keeps. */
enum rc vocabulary_write(const struct vocabulary *v, const char *path,
                         struct err *e) MUST_USE;
enum rc vocabulary_parse(struct vocabulary *v, struct slice in,
                         struct err *e) MUST_USE;

#endif
